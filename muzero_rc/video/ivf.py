"""IVF, the file of packets that libvpx's tools write."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

__all__ = ["refine_clock"]

_HEADER = struct.Struct("<4sHH4sHHIIII")
_FRAME = struct.Struct("<IQ")  # bytes, time stamp
_MOST = 1 << 31


def refine_clock(path: Path, factor: int = 1000) -> None:
    """Makes the clock of a file tick so many times as fast; its frames stay where they are.

    ffmpeg rounds a shift in time to the clock, which ticks once a frame.
    """
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        header = list(_HEADER.unpack_from(data))
        ticks = header[6]
        while ticks * factor >= _MOST:
            factor //= 10
        header[6] = ticks * factor
        _HEADER.pack_into(data, 0, *header)
        at = header[2]
        while at + _FRAME.size <= len(data):
            size, stamp = _FRAME.unpack_from(data, at)
            _FRAME.pack_into(data, at, size, stamp * factor)
            at += _FRAME.size + size
