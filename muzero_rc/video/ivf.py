"""IVF, the file of packets that libvpx's tools write: joined, and given a finer clock."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from muzero_rc.errors import EncoderError

__all__ = [
    "IvfHeader",
    "ivf_packet_bits",
    "ivf_stamps",
    "join_ivf",
    "read_ivf",
    "refine_clock",
    "set_times",
]

_HEADER = struct.Struct("<4sHH4sHHIIII")  # signature .. height, rate, scale, frames, unused
_FRAME = struct.Struct("<IQ")  # bytes, time stamp
_MOST = 1 << 31


class IvfHeader(NamedTuple):
    """Of an IVF file: size in pixels, and rate over scale in frames per second."""

    width: int
    height: int
    rate: int
    scale: int


def read_ivf(file: BinaryIO, path: Path) -> tuple[IvfHeader, Iterator[bytes]]:
    """The header of a file, and its packets one by one.

    Raises:
      EncoderError: it is damaged.
    """
    header = _header(file, path)
    return IvfHeader(*header[4:8]), _packets(file, path)  # type: ignore[arg-type]  # numbers


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


def set_times(path: Path, times_ms: Sequence[int]) -> None:
    """Gives each packet of a file its own time, milliseconds.

    Raises:
      EncoderError: it has another number of packets.
    """
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        header = list(_HEADER.unpack_from(data))
        header[6:8] = 1000, 1
        _HEADER.pack_into(data, 0, *header)
        at, count = header[2], 0
        while at + _FRAME.size <= len(data):
            size, _ = _FRAME.unpack_from(data, at)
            if count < len(times_ms):
                _FRAME.pack_into(data, at, size, times_ms[count])
            at += _FRAME.size + size
            count += 1
    if count != len(times_ms):
        raise EncoderError(f"{path} has {count} packets, not {len(times_ms)}")


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


def ivf_packet_bits(path: Path) -> list[int]:
    """Bits of each packet, one for each shown frame: [T], in display order.

    Raises:
      EncoderError: the file is no whole IVF stream.
      OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return [8 * len(packet) for packet in read_ivf(file, path)[1]]


def ivf_stamps(file: BinaryIO) -> tuple[int, list[int]]:
    """The length that a file's header tells, and the time stamps of its whole packets.

    Only the heads of packets are read. A file whose own head is cut off has neither.
    """
    head = file.read(_HEADER.size)
    if len(head) < _HEADER.size:
        return 0, []
    header = _HEADER.unpack(head)
    stamps: list[int] = []
    size = os.fstat(file.fileno()).st_size
    at = file.seek(max(header[2], _HEADER.size))
    while len(packet := file.read(_FRAME.size)) == _FRAME.size:
        length, stamp = _FRAME.unpack(packet)
        at += _FRAME.size + length
        if at > size:
            break
        stamps.append(stamp)
        file.seek(at)
    return int(header[8]), stamps


def _header(part: BinaryIO, path: Path) -> tuple[object, ...]:
    head = part.read(_HEADER.size)
    if len(head) < _HEADER.size or not head.startswith(b"DKIF"):
        raise EncoderError(f"{path} is no IVF stream")
    return _HEADER.unpack(head)


def _packets(file: BinaryIO, path: Path) -> Iterator[bytes]:
    for _, data in _stamped_packets(file, path):
        yield data


def _stamped_packets(part: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    """Time stamp and content of all packets that follow."""
    while head := part.read(_FRAME.size):
        if len(head) < _FRAME.size:
            raise EncoderError(f"{path} is cut short")
        length, stamp = _FRAME.unpack(head)
        data = part.read(length)
        if len(data) < length:
            raise EncoderError(f"{path} is cut short")
        yield stamp, data


def _copy(part: BinaryIO, joined: BinaryIO, first: int, path: Path) -> tuple[int, int]:
    """Copies all packets; their number, and their bytes."""
    count = size = 0
    for stamp, data in _stamped_packets(part, path):
        joined.write(_FRAME.pack(len(data), stamp + first))
        joined.write(data)
        count += 1
        size += len(data)
    return count, size
