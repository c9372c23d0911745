"""A Matroska file of one VP9 stream: what IVF cannot tell ffmpeg, this can.

IVF has a constant clock and no place for HDR metadata, and ffmpeg takes neither from its command
line. So a stream with times of its own, or of HDR, goes to ffmpeg in this file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from muzero_rc.errors import EncoderError
from muzero_rc.video.hdr import HdrMetadata
from muzero_rc.video.ivf import read_ivf

__all__ = ["write_matroska"]

_MILLISECOND, _MICROSECOND = 1_000_000, 1000  # nanoseconds
_LONGEST_CLUSTER = 30_000  # ticks; a block's time is 16 bits in its cluster
# Identifiers of the Matroska specification.
_EBML, _SEGMENT, _INFO, _TRACKS, _CLUSTER = (
    0x1A45DFA3, 0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675
)  # fmt: skip
_COLOUR_IDS = (
    0x55D1, 0x55D2, 0x55D3, 0x55D4, 0x55D5, 0x55D6, 0x55D7, 0x55D8,
)  # fmt: skip
_LUMINANCE_MAX, _LUMINANCE_MIN = 0x55D9, 0x55DA


@dataclass(frozen=True, slots=True)
class _Frame:
    time: int  # ticks
    data: bytes


def write_matroska(
    ivf: Path,
    out: Path,
    *,
    times_ms: Sequence[int] | None = None,
    hdr: HdrMetadata | None = None,
) -> None:
    """Writes a stream's packets with their times and metadata.

    Args:
      ivf: the stream, a packet a frame.
      out: the file, replaced if it is there.
      times_ms: of each frame, milliseconds, ascending; None for the stream's constant rate.
      hdr: of the screen that it was made on.

    Raises:
      EncoderError: the stream is damaged, or has another number of frames.
      OSError: the disk is full.
    """
    with ivf.open("rb") as file:
        header, packets = read_ivf(file, ivf)
        rate = Fraction(header.rate, header.scale)
        tick = _MICROSECOND if times_ms is None else _MILLISECOND
        default = _uint(0x23E383, round(1_000_000_000 / rate)) if times_ms is None else b""
        with out.open("wb") as written:
            written.write(_master(_EBML, _ebml_header()))
            # Of unknown size, as in a live stream: nothing has to be filled in afterwards.
            written.write(_SEGMENT.to_bytes(4, "big") + b"\x01" + b"\xff" * 7)
            written.write(_master(_INFO, _uint(0x2AD7B1, tick) + _text(0x4D80, "m")
                                  + _text(0x5741, "m")))  # fmt: skip
            video = _uint(0xB0, header.width) + _uint(0xBA, header.height) + _colour(hdr)
            entry = (
                _uint(0xD7, 1) + _uint(0x73C5, 1) + _uint(0x83, 1) + _text(0x86, "V_VP9")
                + default + _master(0xE0, video)
            )  # fmt: skip
            written.write(_master(_TRACKS, _master(0xAE, entry)))
            written.writelines(_clusters(_timed(packets, times_ms, rate, ivf)))


def _timed(
    packets: Iterable[bytes], times_ms: Sequence[int] | None, rate: Fraction, path: Path
) -> Iterator[_Frame]:
    count = 0
    for data in packets:
        if times_ms is None:
            yield _Frame(round(count * 1_000_000 / rate), data)
        elif count < len(times_ms):
            yield _Frame(times_ms[count], data)
        count += 1
    if times_ms is not None and count != len(times_ms):
        raise EncoderError(f"{path} has {count} frames, {len(times_ms)} have a time")


def _clusters(frames: Iterable[_Frame]) -> Iterator[bytes]:
    blocks: list[bytes] = []
    start = 0
    for frame in frames:
        if blocks and frame.time - start > _LONGEST_CLUSTER:
            yield _cluster(start, blocks)
            blocks = []
        if not blocks:
            start = frame.time
        flags = 0x80 if _is_key(frame.data) else 0
        blocks.append(_element(0xA3, b"\x81" + struct.pack(">hB", frame.time - start, flags)
                               + frame.data))  # fmt: skip
    if blocks:
        yield _cluster(start, blocks)


def _cluster(start: int, blocks: Sequence[bytes]) -> bytes:
    return _master(_CLUSTER, _uint(0xE7, start) + b"".join(blocks))


def _is_key(packet: bytes) -> bool:
    """By VP9's uncompressed header: marker 2 bits, profile 2, show_existing 1, frame type 1."""
    return bool(packet) and packet[0] & 0xC0 == 0x80 and not packet[0] & 0x0C


def _colour(hdr: HdrMetadata | None) -> bytes:
    if hdr is None:
        return b""
    mastering = b""
    if hdr.primaries is not None:
        pairs = zip(_COLOUR_IDS, hdr.primaries, strict=True)
        mastering += b"".join(_float(number, value) for number, value in pairs)
    if hdr.luminances is not None:
        mastering += _float(_LUMINANCE_MAX, hdr.luminances[1])
        mastering += _float(_LUMINANCE_MIN, hdr.luminances[0])
    colour = b""
    if hdr.max_content is not None:
        colour += _uint(0x55BC, hdr.max_content)
    if hdr.max_average is not None:
        colour += _uint(0x55BD, hdr.max_average)
    if mastering:
        colour += _master(0x55D0, mastering)
    return _master(0x55B0, colour)


def _ebml_header() -> bytes:
    return _text(0x4282, "matroska") + _uint(0x4287, 4) + _uint(0x4285, 2)


def _id(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _element(number: int, data: bytes) -> bytes:
    return _id(number) + (1 << 56 | len(data)).to_bytes(8, "big") + data


_master = _element


def _uint(number: int, value: int) -> bytes:
    return _element(number, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def _float(number: int, value: float) -> bytes:
    return _element(number, struct.pack(">d", value))


def _text(number: int, value: str) -> bytes:
    return _element(number, value.encode())
