"""Bitrates as people write them."""

from __future__ import annotations

import re

from muzero_rc.errors import InputError

__all__ = ["parse_bitrate"]

_NUMBER = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)(?P<unit>[kKmMgG]?)")
_FACTOR = {"": 1e-3, "k": 1.0, "m": 1e3, "g": 1e6}
_MIN_KBPS, _MAX_KBPS = 1, 1_000_000


def parse_bitrate(text: str) -> int:
    """Kilobits per second of `400k`, `0.4M` or `400000`: as ffmpeg, bit/s if no unit.

    Raises:
      InputError: not a number with an optional k, M or G, or out of any useful range.
    """
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise InputError(
            f"bitrate {text!r} is not a positive number of bit/s; write it like 400k or 1.5M"
        )
    kbps = float(match["number"]) * _FACTOR[match["unit"].lower()]
    if kbps == 0:
        raise InputError(f"bitrate {text!r} is zero; give a positive one such as 400k or 1.5M")
    if not _MIN_KBPS <= round(kbps) <= _MAX_KBPS:
        hint = f"; did you mean {text.strip()}k?" if not match["unit"] and kbps < _MIN_KBPS else ""
        raise InputError(f"bitrate {text!r} is {kbps:g} kbit/s; it must be 1k to 1G bit/s{hint}")
    return round(kbps)
