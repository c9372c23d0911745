"""The rate of a video by the times of its frames, where its header may be wrong."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from muzero_rc.video.timing import (
    FrameTimes,
    frame_times,
    is_steady,
    shared_slots,
    steady_rate,
    without_hidden,
)

__all__ = ["measured_rate", "rate_holds"]

_LONGEST_GAP_S = 10.0  # ffmpeg's dts_delta_threshold: it closes longer ones where stamps wrap


def measured_rate(
    path: Path, index: int, told: Fraction | None, nominal: Fraction | None
) -> tuple[Fraction | None, tuple[Fraction, Fraction] | None, int]:
    """The rate of frames that a file has.

    Args:
      path: the file.
      index: of the stream.
      told: average rate by the header.
      nominal: its other rate.

    Returns:
      Rate at which no frame is lost, (average, rate) if it is not constant, frames lost yet.
    """
    times = _times(path, index).seconds
    rate = steady_rate(times, nominal, told)
    if rate is None:
        return told, None, 0
    mean = Fraction((len(times) - 1) / (times[-1] - times[0])).limit_denominator(1001)
    lost = shared_slots(times, rate)
    return rate, (mean, rate) if abs(mean / rate - 1) > Fraction(1, 100) else None, lost


def rate_holds(path: Path, stream: Mapping[str, Any], rate: Fraction, rebased: bool) -> bool:
    """Whether frames come at a rate that a header tells, as far as their times can be trusted.

    Args:
      path: the file.
      stream: what ffprobe tells of it.
      rate: by the header.
      rebased: ffmpeg counts time from the first stream that is mapped.
    """
    told = _times(path, int(stream["index"]))
    gaps = itertools.pairwise(told.seconds) if rebased else ()
    if not told.whole or any(after - time > _LONGEST_GAP_S for time, after in gaps):
        return True
    hides = stream.get("codec_name") == "vp8"
    return is_steady(without_hidden(told.seconds) if hides else told.seconds, rate)


def _times(path: Path, index: int) -> FrameTimes:
    status = path.stat()
    return _read_times(path, index, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _read_times(path: Path, index: int, size: int, changed_ns: int) -> FrameTimes:
    """Time stamps of a file of this size, last changed then; a clip is probed several times."""
    return frame_times(path, index)
