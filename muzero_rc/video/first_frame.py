"""What a video's first frame tells that the header of its file does not, or tells wrongly."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muzero_rc.errors import InputError
from muzero_rc.video.tools import ffprobe

__all__ = ["FirstFrame", "first_frame", "left_of_side_data"]

_HDR_TRANSFERS = frozenset({"smpte2084", "arib-std-b67"})
# Codecs whose frames say by themselves whether they are interlaced, and carry captions.
_TELLING = frozenset({
    "cavs", "dnxhd", "dvvideo", "h264", "hevc", "mjpeg", "mpeg2video", "mpeg4", "prores", "vc1",
    "wmv3",
})  # fmt: skip
_FIELDS_APART = frozenset({"hevc"})  # its pictures are fields, which no filter here joins
# What ffprobe calls side data that goes into no output, and what people call it.
_LEFT = {
    "ATSC A53 Part 4 Closed Captions": "closed captions in the pictures are",
    "Active format description": "the active format description is",
    "ICC Profile": "the ICC profile is",
    "ICC profile": "the ICC profile is",
    "Spherical Mapping": "the projection of a 360-degree video is",
    "Stereo 3D": "the layout of a 3D video is",
}
_CAPTIONS = _LEFT["ATSC A53 Part 4 Closed Captions"]


@dataclass(frozen=True, slots=True)
class FirstFrame:
    """The first frame of a video, as far as anybody asks.

    Attributes:
      side_data: as ffprobe tells it.
      interlaced: the frame is marked as two fields.
    """

    side_data: Sequence[Mapping[str, Any]] = ()
    interlaced: bool = False


def first_frame(path: Path, stream: Mapping[str, Any], now: os.stat_result) -> FirstFrame:
    """Decodes the first frame where the codec or the transfer is one that tells more there.

    Headers of AVI, MP4 and Matroska often call interlaced video progressive, or say nothing.
    HEVC tells of its screen in the frame.

    Args:
      path: the file.
      stream: the video, as ffprobe tells it.
      now: of the file, so that one that was changed is looked at anew.

    Raises:
      ToolMissingError: ffprobe is not installed.
    """
    codec = str(stream.get("codec_name"))
    if codec not in _TELLING and stream.get("color_transfer") not in _HDR_TRANSFERS:
        return FirstFrame()
    unchanged = (now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
    frame = _decoded(path, int(stream["index"]), *unchanged)
    return FirstFrame(
        side_data=tuple(frame.get("side_data_list", ())),
        interlaced=bool(frame.get("interlaced_frame")) and codec not in _FIELDS_APART,
    )


@functools.lru_cache(maxsize=4)
def _decoded(path: Path, index: int, *unchanged: int) -> dict[str, Any]:
    """What ffprobe tells of the frame; an encode asks for it up to three times."""
    try:
        told = ffprobe(
            path, "-select_streams", str(index), "-read_intervals", "%+#1", "-show_frames"
        )
    except InputError:  # the decoder tells better what is wrong
        return {}
    frames: list[dict[str, Any]] = told.get("frames", [])
    return frames[0] if frames else {}


def left_of_side_data(
    stream: Mapping[str, Any], side_data: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    """What of a stream's and its first frame's side data no output has, as begun sentences."""
    found = [_LEFT.get(str(data.get("side_data_type"))) for data in side_data]
    if stream.get("closed_captions"):
        found.append(_CAPTIONS)
    return tuple(dict.fromkeys(name for name in found if name is not None))
