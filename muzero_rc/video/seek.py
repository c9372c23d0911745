"""Where a decode can begin within a video and have the frames of one from its start.

ffmpeg seeks to the key frame before a time, decodes on from there, and drops what comes before that
time. Frames then count time from there. Two things must not change by that:

- With a constant rate, the filter `fps` puts frames into slots that begin with the stretch. A
  decode begins at a slot a whole number of milliseconds after it. That is a whole number of ticks
  of files' clocks, which count milliseconds or parts of a frame. So no slot moves.
- With times of their own, a decode begins in the middle between two frames.

In both cases it begins a second before the frame that is wanted. That takes in what a slot repeats
from before it, and frames after a key frame that refer to others before it.

Nobody can know whether a file has the frames that it promises after a seek. Whoever seeks compares
them with what they were (`env.codec.parts`).
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from fractions import Fraction

from muzero_rc.video.picture import Picture

__all__ = ["Seek", "seek_before"]

_RUN_UP_S = 1  # by hand: more than a slot repeats, or frames lie behind a key frame, nearly always
_CLOCK_HZ = 1000  # Matroska's, the coarsest in use
_LEAST_GAP_MS = 2  # between frames, so that times rounded to milliseconds keep them apart


@dataclass(frozen=True, slots=True)
class Seek:
    """Where a decode begins.

    Attributes:
      frame: the first one that comes out, counted from the start of the stretch.
      after_s: seconds after the start of the stretch that ffmpeg seeks to.
    """

    frame: int
    after_s: float


def seek_before(picture: Picture, frame: int) -> Seek | None:
    """The place to begin at for a frame; None where frames from there may be other ones.

    Where formats have no exact seeking, and where frames depend on all before them: after filters
    of the user, and where it is deinterlaced.

    Args:
      picture: how the video becomes frames.
      frame: that is wanted, counted from the start of the stretch.
    """
    source = picture.source
    if source.rebased or picture.joins or picture.filters is not None or picture.deinterlace:
        return None
    if picture.times_ms is not None:
        return _between(picture.times_ms, frame)
    if source.start_s is None:  # the first frame is where slots begin, and nobody knows when
        return None
    rate = picture.info.fps
    # So many slots are a whole number of ticks.
    step = rate.numerator // math.gcd(rate.numerator, _CLOCK_HZ * rate.denominator)
    first = math.floor((frame - rate * _RUN_UP_S) / step) * step
    return None if first <= 0 else Seek(first, float(Fraction(first) / rate))


def _between(times_ms: tuple[int, ...], frame: int) -> Seek | None:
    if frame >= len(times_ms):
        return None
    latest = times_ms[frame] - 1000 * _RUN_UP_S
    first = bisect.bisect_right(times_ms, latest) - 1
    while first > 0 and times_ms[first] - times_ms[first - 1] < _LEAST_GAP_MS:
        first -= 1
    if first <= 0:
        return None
    return Seek(first, (times_ms[first - 1] + times_ms[first]) / 2000)
