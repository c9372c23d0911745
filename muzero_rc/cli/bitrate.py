"""Bitrates and sizes as people write them."""

from __future__ import annotations

import math
import re

from muzero_rc.errors import InputError

__all__ = ["check_bitrate", "parse_bitrate", "parse_buffer", "parse_size"]

_NUMBER = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)(?P<unit>[kKmMgG]?)")
_SIZE = re.compile(
    r"(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>[kKmMgG]?)(?P<binary>i(?=[bB]))?[bB]?"
)
_SECONDS = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*s")
_FACTOR = {"": 1e-3, "k": 1.0, "m": 1e3, "g": 1e6}
_MIN_KBPS, _MAX_KBPS = 1, 1_000_000
_MOST_BYTES = 2**63 - 1  # what a file's offset can be
# Below it a number without a letter is a forgotten k, and no video of a usual size is watchable.
_LEAST_USUAL_KBPS = 10
_LEAST_USUAL_PIXELS = 176 * 144  # QCIF, the smallest size that every H.261 decoder has


def parse_bitrate(text: str, name: str = "bitrate") -> int:
    """Kilobits per second of `400k`, `0.4M` or `400000`: as ffmpeg, bit/s if no unit.

    Args:
      text: what was given.
      name: what it is called in messages.

    Raises:
      InputError: not a number with an optional k, M or G, out of any useful range, or so few
        bit/s without a letter that one was forgotten.
    """
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise InputError(
            f"{name} {text!r} is not a positive number of bit/s; write it like 400k or 1.5M"
        )
    kbps = float(match["number"]) * _FACTOR[match["unit"].lower()]
    if kbps == 0:
        raise InputError(f"{name} {text!r} is zero; give a positive one such as 400k or 1.5M")
    # A number of 310 digits is infinite, which cannot be rounded.
    if kbps > 2 * _MAX_KBPS or not _MIN_KBPS <= round(kbps) <= _MAX_KBPS:
        hint = _hint(text, match, kbps)
        raise InputError(f"{name} {text!r} is {kbps:g} kbit/s; it must be 1k to 1G bit/s{hint}")
    if hint := _hint(text, match, kbps):
        raise InputError(f"{name} {text!r} without a letter is {kbps:g} kbit/s{hint}")
    return round(kbps)


def parse_size(text: str) -> int:
    """Bytes of `10M`, `700k`, `1.5G` or `8MiB`; k, M and G are thousands, KiB and so on 1,024s.

    Raises:
      InputError: not a positive number with one of these, or more than any file has.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or float(match["number"]) == 0:
        raise InputError(f"size {text!r} is not a number of bytes; write it like 10M or 700k")
    base = 1024 if match["binary"] else 1000
    power = " kmg".index((match["unit"] or " ").lower())
    size = float(match["number"]) * base**power
    if size > _MOST_BYTES:
        raise InputError(f"size {text!r} is more than a file can have; write it like 10M or 700k")
    return int(size)


def parse_buffer(text: str, kbps: float) -> float:
    """Seconds of `2s`, or of `800k` bits at a bitrate in kbit/s.

    Raises:
      InputError: neither a time nor a number of bits.
    """
    match = _SECONDS.fullmatch(text.strip())
    if match is None:
        if _NUMBER.fullmatch(text.strip()) is None:
            raise InputError(
                f"--buffer {text!r} is no time and no number of bits; write it like 2s or 800k"
            )
        return parse_bitrate(text, "--buffer") / kbps
    if (seconds := float(match[1])) == 0:
        raise InputError("a buffer of 0 s holds nothing; write it like 2s or 800k")
    if math.isinf(seconds):
        raise InputError(f"a buffer of {text.strip()} is no time; write it like 2s or 800k")
    return seconds


def _hint(text: str, match: re.Match[str], kbps: float) -> str:
    forgotten = not match["unit"] and kbps < _LEAST_USUAL_KBPS
    return f"; did you mean {text.strip()}k?" if forgotten else ""


def check_bitrate(kbps: int, width: int, height: int) -> None:
    """Refuses a bitrate that can only be a mistake for pictures of this size, in pixels.

    Raises:
      InputError: less than 10 kbit/s for 176x144 or more.
    """
    if kbps < _LEAST_USUAL_KBPS and width * height >= _LEAST_USUAL_PIXELS:
        raise InputError(
            f"a bitrate of {kbps} kbit/s is too low for {width}x{height} pixels; did you mean "
            f"{kbps}M? Give {_LEAST_USUAL_KBPS}k or more, or a smaller --scale"
        )
