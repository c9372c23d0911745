"""Moments at which somebody wants a key frame: times as people write them, and chapters."""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Sequence
from fractions import Fraction

from muzero_rc.errors import InputError
from muzero_rc.video.picture import Picture
from muzero_rc.video.tools import ffprobe

__all__ = ["frames_at", "key_times", "parse_time"]

_CHAPTERS = "chapters"
_TIME = re.compile(r"(?:(?:(\d+):)?([0-5]?\d):)?(\d+(?:\.\d+)?)")
# Times are written with three or six digits, frames are at exact fractions: a frame that
# begins half a millisecond before its time is the one that is meant.
_SLACK_S = 0.0005


def parse_time(text: str) -> float:
    """Seconds of `90`, `1:30` or `0:01:30.5`.

    Raises:
      InputError: it is no time.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None or (match[2] is not None and float(match[3]) >= 60):
        raise InputError(f"{text!r} is no time; write seconds, 1:30 or 0:01:30.5")
    return 3600.0 * int(match[1] or 0) + 60.0 * int(match[2] or 0) + float(match[3])


def key_times(text: str, picture: Picture, *, max_frames: int | None = None) -> tuple[float, ...]:
    """Seconds after the start of the video at which key frames are wanted.

    Args:
      text: times with commas between them, or `chapters`.
      picture: how the source becomes frames; times are after its start.
      max_frames: that are encoded, from the first; None for all.

    Raises:
      InputError: a time cannot be read or is after the end, or there are no chapters.
    """
    info = picture.info
    if text.strip() != _CHAPTERS:
        times = [parse_time(word) for word in text.split(",")]
        end, what = info.duration_s, f"the end of {info.path}, which has"
        if max_frames is not None:
            shown = picture.first(max_frames).info
            frames_end = max_frames / float(shown.fps)
            if end is None or frames_end < end:
                end, what = frames_end, f"the first {max_frames} frames, which have"
        late = [time for time in times if end and time >= end]
        if late:
            raise InputError(f"a key frame at {late[0]:g} s is after {what} {end:.3f} s")
        return tuple(sorted(set(times)))
    report = ffprobe(info.path, "-show_chapters", "-show_format")
    start = float(report.get("format", {}).get("start_time", 0.0))
    start += picture.start_s + picture.first_s
    found = {float(chapter["start_time"]) - start for chapter in report.get("chapters", ())}
    if not found:
        raise InputError(f"{info.path} has no chapters; give times, such as 1:00,2:30")
    return tuple(sorted(time for time in found if time > 0))


def frames_at(
    times: Sequence[float],
    fps: Fraction,
    num_frames: int,
    times_ms: Sequence[int] | None = None,
) -> list[int]:
    """The first frames at or after some times, but for the very first of the video.

    Args:
      times: seconds.
      fps: frames per second.
      num_frames: of the video; what is after its end is left out.
      times_ms: of each frame, where they keep their own; None for a constant rate.
    """
    if times_ms:
        shown = [(time + times_ms[0] / 1000 - _SLACK_S) * 1000 for time in times]
        places = {bisect.bisect_left(times_ms, time) for time in shown}
        return sorted(frame for frame in places if 0 < frame < num_frames)
    found = {math.ceil((time - _SLACK_S) * fps) for time in times}
    return sorted(frame for frame in found if 0 < frame < num_frames)
