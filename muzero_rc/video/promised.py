"""Files whose header promises more than is there: ffmpeg takes them for whole ones that end."""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO

from muzero_rc.errors import InputError
from muzero_rc.video.ivf import ivf_stamps

__all__ = ["check_promised_end"]

_IVF, _FLV = b"DKIF", b"FLV"
_NO_COUNT = (0, 0xFFFFFFFF)  # of a stream whose writer could not go back to its header
_FLV_TAG, _FLV_AFTER = struct.Struct(">B3s3sB3x"), 4
_FLV_KINDS = _AUDIO, _VIDEO, _SCRIPT = 8, 9, 18
_LEAST_SLACK_S = 1.0  # by hand: writers round lengths


def check_promised_end(path: Path | str) -> None:
    """Refuses an IVF or FLV file that ends before its header says; other files pass.

    One that was cut between two packets has no other sign of it. Without a promise, as of a live
    recording, a file passes.

    The length of an FLV file in time is rounded by its writers, to whole seconds by some. Where it
    is the only promise, a cut between two tags in the last second passes: nothing tells it from
    rounding. A cut within a tag is always seen. Metadata of more than the length tell more: the
    bytes of the file, places of key frames, or the time of the last tag.

    Raises:
      InputError: it does, or cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            head = file.peek(len(_IVF))[: len(_IVF)]
            if head == _IVF:
                missing = _of_ivf(file)
            elif head.startswith(_FLV):
                missing = _of_flv(file)
            else:
                return
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    if missing is not None:
        raise InputError(f"{path} is cut off: {missing}; get it whole")


def _of_ivf(file: BinaryIO) -> str | None:
    promised, times = ivf_stamps(file)
    if promised in _NO_COUNT or not times:
        return None  # of a file without packets the decoder tells better what is wrong
    # libvpx writes the number of packets, ffmpeg the length in ticks: one of them is enough.
    step = (max(times) - min(times)) // max(1, len(times) - 1)
    if len(times) >= promised or max(times) + max(1, step) >= promised:
        return None
    return f"its header promises {promised} frames, {len(times)} are there"


def _of_flv(file: BinaryIO) -> str | None:
    size = os.fstat(file.fileno()).st_size
    head = file.read(9)
    if len(head) < 9:
        return None
    at = int.from_bytes(head[5:9], "big") + _FLV_AFTER
    duration = promised_size = last = last_told = longest_step = 0.0
    told, key_frame = False, 0
    file.seek(at)
    while len(tag := file.read(_FLV_TAG.size)) == _FLV_TAG.size:
        kind, length, low, high = _FLV_TAG.unpack(tag)
        kind &= 0x1F
        if kind not in _FLV_KINDS:
            return None  # the decoder tells better what is wrong
        if kind == _SCRIPT and not told:
            data = file.read(int.from_bytes(length, "big"))
            duration, promised_size = _number(data, b"duration"), _number(data, b"filesize")
            last_told, key_frame = _number(data, b"lasttimestamp"), _last_key_frame(data)
            told = b"onMetaData" in data
        elif kind != _SCRIPT:
            if duration <= 0:
                return None
            time = (high << 24 | int.from_bytes(low, "big")) / 1000
            longest_step = max(longest_step, time - last)
            last = max(last, time)
        at += _FLV_TAG.size + int.from_bytes(length, "big") + _FLV_AFTER
        file.seek(at)
    if duration <= 0:
        return None
    # Some writers leave out the four bytes after the last tag; a few more bytes may be anything.
    if at - _FLV_AFTER > size or (tag and tag[0] in _FLV_KINDS):
        return "it ends within a tag"
    if size >= promised_size > 0:
        return None  # a length of bytes is exact where it is true
    if key_frame >= size:
        return f"its header promises a key frame at byte {key_frame}, it has {size} bytes"
    if last + longest_step < last_told:
        return f"its header promises a tag at {last_told:.2f} s, the last one is at {last:.2f}"
    # That of time is the last frame's end, and pictures may stand for long.
    slack = 0.0 if size < promised_size else max(_LEAST_SLACK_S, longest_step)
    if last + slack >= duration:
        return None
    return f"its header promises {duration:.2f} s, it ends at {last:.2f}"


def _last_key_frame(data: bytes) -> int:
    """Where the last key frame of the metadata's index begins, byte; 0 without an index."""
    name = b"filepositions\n"  # an array of AMF: its count, then a mark and a number of each
    at = data.find(name)
    if at < 0:
        return 0
    start = at + len(name) + 4
    count = int.from_bytes(data[start - 4 : start], "big")
    if not count or len(data) < start + 9 * count:
        return 0
    places = (place for _, place in struct.iter_unpack(">Bd", data[start : start + 9 * count]))
    return int(max(filter(math.isfinite, places), default=0))


def _number(data: bytes, name: bytes) -> float:
    """A number of the metadata's, 0 if it is not told."""
    at = data.find(len(name).to_bytes(2, "big") + name + b"\0")
    value = data[at + len(name) + 3 : at + len(name) + 11]
    return float(struct.unpack(">d", value)[0]) if at >= 0 and len(value) == 8 else 0.0
