"""Which subtitle tracks of an MP4 file are shown unasked.

A track's header has a flag that it is enabled, which players take for their default. ffmpeg's
muxer sets it for the first subtitle track where none is to have it, and has no option against
that. So the flag is written anew into the finished file (ISO/IEC 14496-12, 8.3.2).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

__all__ = ["enable_subtitles"]

_ENABLED = 0x000001
# Handlers of ffmpeg's muxer; "text" is that of chapters.
_SUBTITLES = frozenset({b"sbtl", b"subp", b"clcp"})


def enable_subtitles(path: Path, enabled: Sequence[bool]) -> bool:
    """Writes which subtitle tracks are enabled, unless the file has another number of them.

    Args:
      path: an MP4 file.
      enabled: of each subtitle track, in the order of the file.

    Returns:
      Whether it was written.
    """
    with path.open("r+b") as file:
        flags = [flag for handler, flag in _tracks(file) if handler in _SUBTITLES]
        if len(flags) != len(enabled):
            return False
        for place, wanted in zip(flags, enabled, strict=True):
            file.seek(place)
            (now,) = file.read(1)
            file.seek(place)
            file.write(bytes([now | _ENABLED if wanted else now & ~_ENABLED]))
    return True


def _tracks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Of each track, its handler and where the last byte of its header's flags is."""
    file.seek(0, 2)
    for kind, start, end in _boxes(file, 0, file.tell()):
        if kind != b"moov":
            continue
        for track, first, last in _boxes(file, start, end):
            if track != b"trak":
                continue
            inner = {name: (a, b) for name, a, b in _boxes(file, first, last)}
            media = {name: a for name, a, _ in _boxes(file, *inner[b"mdia"])}
            file.seek(media[b"hdlr"] + 8)  # after version, flags, and a field that is 0
            # A version of one byte stands before the three bytes of flags.
            yield file.read(4), inner[b"tkhd"][0] + 3


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes between two places: kind, and where what is in them begins and ends."""
    while start + 8 <= end:
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        header = 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            header = 16
        size = size or end - start
        if size < header:  # damaged
            return
        yield kind, start + header, start + size
        start += size
