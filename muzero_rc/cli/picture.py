"""The options of `encode` that say what of a video is encoded, and what becomes of its frames."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated

import tyro

from muzero_rc.errors import InputError

if TYPE_CHECKING:
    from muzero_rc.video import Picture, VideoInfo

__all__ = ["PictureArgs", "parse_rate", "parse_time", "picture_for"]

_TIME = re.compile(r"(?:(?:(\d+):)?([0-5]?\d):)?(\d+(?:\.\d*)?|\.\d+)")


@dataclass(frozen=True)
class PictureArgs:
    """What of the video is encoded, and how its frames are made."""

    start: Annotated[str | None, tyro.conf.arg(metavar="TIME")] = None
    """Where to start: seconds, M:S or H:M:S. Sound, subtitles and chapters are cut likewise."""

    end: Annotated[str | None, tyro.conf.arg(metavar="TIME")] = None
    """Where to end, likewise."""

    vf: Annotated[str | None, tyro.conf.arg(metavar="FILTERS")] = None
    """ffmpeg's filters, such as crop=1920:800 or bwdif,hqdn3d; tried before the encode."""

    fps: Annotated[str | None, tyro.conf.arg(metavar="RATE")] = None
    """A constant rate of frames, such as 25 or 30000/1001; frames are dropped or shown again.
    If not given, each frame of a varying rate keeps its own time."""

    eight_bit: Annotated[bool, tyro.conf.arg(name="8bit")] = False
    """Make video of more than 8 bits 8 bits, for old players; tones of HDR are mapped to SDR
    if ffmpeg has zscale and tonemap."""


def parse_time(text: str, name: str) -> float:
    """Seconds of 90, 1:30 or 0:01:30.5.

    Raises:
      InputError: it is none of these.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise InputError(f"{name} takes seconds, M:S or H:M:S, not {text!r}")
    hours, minutes, seconds = found.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)


def parse_rate(text: str) -> Fraction:
    """Frames per second of 25, 30000/1001 or 29.97, which means 30000/1001.

    Raises:
      InputError: it is none of these, or not above 0.
    """
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise InputError(f"--fps takes frames per second such as 25, not {text!r}") from None
    if rate <= 0:
        raise InputError(f"--fps must be above 0, not {text}")
    television = Fraction(math.ceil(rate) * 1000, 1001)
    close = "." in text and abs(rate - television) < Fraction(1, 200)
    return television if close else rate.limit_denominator(1001)


def picture_for(args: PictureArgs, info: VideoInfo) -> Picture:
    """How a video becomes frames.

    Raises:
      InputError: an option makes no sense for it, or a filter fails.
    """
    from muzero_rc import video

    return video.picture_of(
        info,
        start_s=0.0 if args.start is None else parse_time(args.start, "--start"),
        end_s=None if args.end is None else parse_time(args.end, "--end"),
        filters=args.vf or None,
        fps=None if args.fps is None else parse_rate(args.fps),
        eight_bits=args.eight_bit,
    )
