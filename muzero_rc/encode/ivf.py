"""IVF streams put together: chunks of a film, one after the other, as one stream."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from muzero_rc.errors import EncoderError

__all__ = ["join_ivf"]

_HEADER = struct.Struct("<4sHH4sHHIIII")  # signature .. height, rate, scale, frames, unused
_PACKET = struct.Struct("<IQ")  # bytes, time stamp


def join_ivf(parts: Iterable[tuple[Path, int]], out: Path) -> int:
    """Writes streams one after the other, their time stamps in frames going on.

    Packets stay as they are: a hidden frame is in one packet with a shown one, and a key frame
    at the start of each part lets decoders begin anew.

    Args:
      parts: file and shown frames of each; all of one size and rate.
      out: written, or replaced.

    Returns:
      Bytes of all packets.

    Raises:
      EncoderError: a part is damaged, or has another number of packets.
      OSError: the disk is full, or a file cannot be read.
    """
    frames = packets = 0
    first: tuple[object, ...] | None = None
    with out.open("wb") as joined:
        joined.write(bytes(_HEADER.size))
        for path, shown in parts:
            with path.open("rb") as part:
                header = _header(part, path)
                first = first or header
                if header[:8] != first[:8]:
                    raise EncoderError(f"{path} is a stream of another size or rate")
                count, size = _copy(part, joined, frames, path)
            if count != shown:
                raise EncoderError(f"{path} has {count} packets, {shown} frames were coded")
            frames += shown
            packets += size
        if first is None:
            raise EncoderError("there is no stream to join")
        joined.seek(0)
        joined.write(_HEADER.pack(*first[:8], frames, 0))
    return packets


def _header(part: BinaryIO, path: Path) -> tuple[object, ...]:
    head = part.read(_HEADER.size)
    if len(head) < _HEADER.size or not head.startswith(b"DKIF"):
        raise EncoderError(f"{path} is no IVF stream")
    return _HEADER.unpack(head)


def _copy(part: BinaryIO, joined: BinaryIO, first: int, path: Path) -> tuple[int, int]:
    """Copies all packets; their number, and their bytes."""
    count = size = 0
    while head := part.read(_PACKET.size):
        if len(head) < _PACKET.size:
            raise EncoderError(f"{path} is cut short")
        length, stamp = _PACKET.unpack(head)
        data = part.read(length)
        if len(data) < length:
            raise EncoderError(f"{path} is cut short")
        joined.write(_PACKET.pack(length, stamp + first))
        joined.write(data)
        count += 1
        size += length
    return count, size
