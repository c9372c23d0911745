"""Breaks in an MPEG transport stream: where recordings were joined, and where packets are lost.

The packets of each stream are counted from 0 to 15. Where recordings are joined the count breaks
before a packet that begins a picture; where a packet is lost it mostly breaks within one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["count_joins"]

_SYNC = 0x47
_SIZES = {188: 0, 192: 4, 204: 0}  # bytes of a packet, and where its sync byte is
_CHUNK_PACKETS = 1 << 18


def count_joins(path: Path, pid: int) -> int | None:
    """Breaks in the count of one stream's packets, all before a packet that begins a picture.

    Args:
      path: the file.
      pid: the stream's number in it.

    Returns:
      How many; None if one is elsewhere, or the file is no clean transport stream.

    Raises:
      OSError: it cannot be read.
    """
    joins, last = 0, -1
    with path.open("rb") as file:
        found = _layout(file.read(5 * max(_SIZES)))
        if found is None:
            return None
        size, at = found
        file.seek(0)
        while data := file.read(_CHUNK_PACKETS * size):
            packets = np.frombuffer(data[: len(data) // size * size], np.uint8).reshape(-1, size)
            packets = packets[:, at : at + 6]
            if (packets[:, 0] != _SYNC).any():
                return None
            numbers = (packets[:, 1].astype(np.int32) & 0x1F) << 8 | packets[:, 2]
            broken, last = _breaks(packets[numbers == pid], last)
            if broken is None:
                return None
            joins += broken
    return joins


def _layout(head: bytes) -> tuple[int, int] | None:
    for size, at in _SIZES.items():
        syncs = head[at::size]
        if len(syncs) > 1 and set(syncs) == {_SYNC}:
            return size, at
    return None


def _breaks(packets: npt.NDArray[np.uint8], last: int) -> tuple[int | None, int]:
    """Breaks in the count of these packets of one stream; the last count."""
    if not len(packets):
        return 0, last
    control = packets[:, 3]
    has_payload = control & 0x10 != 0
    # Told by the stream itself: the count starts anew here.
    anew = (control & 0x20 != 0) & (packets[:, 4] > 0) & (packets[:, 5] & 0x80 != 0)
    counts = (control & 0x0F).astype(np.int32)
    before = np.concatenate([[last], counts[:-1]])
    expected = np.where(has_payload, before + 1 & 0x0F, before)
    broken = (before >= 0) & ~anew & (counts != expected)
    begins = packets[:, 1] & 0x40 != 0
    damaged = packets[:, 1] & 0x80 != 0
    if damaged.any() or (broken & ~begins).any():
        return None, int(counts[-1])
    return int(broken.sum()), int(counts[-1])
