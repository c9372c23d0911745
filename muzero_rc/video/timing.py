"""When the frames of a video are shown: the constant rate that keeps all of them."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from muzero_rc.video.tools import each_packet

__all__ = [
    "MAX_FPS",
    "FrameTimes",
    "frame_rate",
    "frame_times",
    "is_steady",
    "may_vary",
    "parse_ratio",
    "shared_slots",
    "steady_rate",
    "without_hidden",
]

MAX_FPS = 1000
"""Frames per second; the clock of WebM ticks in milliseconds."""

_USUAL_FPS = 300
# By hand, two ticks of WebM's clock: VP8's hidden pictures are a tick after the one before.
_HIDDEN_S = 0.0025
# Standard rates of film, television and screens; 120 is the highest that levels of VP9 know.
_STANDARD = tuple(
    sorted(
        {Fraction(n) for n in (24, 25, 30, 48, 50, 60, 72, 75, 90, 100, 120)}
        | {Fraction(n * 1000, 1001) for n in (24, 30, 48, 60, 120)}
    )
)


def frame_rate(average: str | None, nominal: str | None) -> Fraction | None:
    """The constant rate that a file's header tells; None if nothing sane is told.

    Args:
      average: ffprobe's avg_frame_rate, frames over duration.
      nominal: ffprobe's r_frame_rate, the coarsest rate that hits all time stamps: exact
        for a constant rate, but the field rate of interlaced video and 1000 or 90000 when
        time stamps are irregular.

    The nominal rate is taken when it is close to the average or a little above it (a
    clip at 30 that lost some frames), so that no frame is dropped; else the average.
    """
    mean, base = parse_ratio(average), parse_ratio(nominal)
    if mean is not None and mean == base and 0 < mean <= MAX_FPS:
        return _snap(mean)
    if mean is not None and not 0 < mean <= _USUAL_FPS:
        mean = None
    if base is not None and not 0 < base <= _USUAL_FPS:
        base = None
    if mean is None or base is None:
        chosen = mean or base
    else:
        chosen = base if Fraction(99, 100) * mean <= base < Fraction(19, 10) * mean else mean
    return None if chosen is None else _snap(chosen)


def may_vary(average: str | None, nominal: str | None) -> bool:
    """Whether the header does not tell one rate, so that time stamps must be looked at.

    Rates as close as a frame in a hundred are one rate: the length of a short file is rounded.
    """
    mean, base = parse_ratio(average), parse_ratio(nominal)
    if mean is None or base is None or mean <= 0:
        return True
    return abs(base / mean - 1) > Fraction(1, 100)


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """When the frames of a video are shown.

    Attributes:
      seconds: of each frame whose time is told, ascending.
      whole: every frame has a time, and no time begins anew, as where recordings were joined.
    """

    seconds: tuple[float, ...]
    whole: bool


def frame_times(path: Path, index: int) -> FrameTimes:
    """Time stamps of all frames of a video stream.

    Raises:
      InputError: the file cannot be read.
      ToolMissingError: ffprobe is not installed.
    """
    times: list[float] = []
    latest, whole = -math.inf, True

    def note(fields: list[str]) -> None:
        nonlocal latest, whole
        shown, decoded, flags = fields[:3]
        if "D" in flags:  # not shown
            return
        if shown == "N/A":
            whole = False
        else:
            times.append(float(shown))
        if decoded != "N/A":
            whole &= float(decoded) >= latest
            latest = float(decoded)

    entries = ("pts_time", "dts_time", "flags")
    each_packet(path, entries, "-select_streams", str(index), on_packet=note)
    return FrameTimes(tuple(sorted(times)), whole)


def is_steady(times: Sequence[float], rate: Fraction) -> bool:
    """Whether a constant rate drops no frame and repeats hardly one in a hundred.

    Args:
      times: of the frames, seconds, ascending.
      rate: frames per second.
    """
    if len(times) < 2 or times[-1] <= times[0]:
        return True
    mean = (len(times) - 1) / (times[-1] - times[0])
    return abs(mean / float(rate) - 1) <= 0.01 and shared_slots(times, rate) == 0


def without_hidden(times: Sequence[float]) -> tuple[float, ...]:
    """Times of the frames of VP8 that are shown, as far as times tell them from hidden ones."""
    pairs = zip(times, (-math.inf, *times), strict=False)
    return tuple(time for time, before in pairs if time - before > _HIDDEN_S)


def steady_rate(times: Sequence[float], *told: Fraction | None) -> Fraction | None:
    """The lowest constant rate at which every frame has a slot of its own.

    Tried are what the header tells, the standard rates and the whole rate of the densest
    second, none below that. If none of them separates all frames, it is the lowest that
    leaves the fewest without a slot. Of rates within a hundredth the header's counts.

    Args:
      times: of the frames, seconds, ascending.
      told: rates by the header, None where there is none.

    Returns:
      The rate; None for less than two frames.
    """
    if len(times) < 2 or times[-1] <= times[0]:
        return None
    # By a thousandth less, so that 31 frames of 30 a second are not seen in one.
    densest = max(
        bisect.bisect_left(times, time + 0.999) - first for first, time in enumerate(times)
    )
    span = times[-1] - times[0]
    least = max(Fraction(densest), Fraction((len(times) - 1) / span).limit_denominator(1001))
    if span < 1:
        least = Fraction((len(times) - 1) / span).limit_denominator(1001)
    # Time stamps are rounded to milliseconds at worst, and a film of 23.976 has 24 in a second.
    floor = min(least, Fraction(MAX_FPS)) * Fraction(99, 100)
    whole = Fraction(min(MAX_FPS, max(1, round(least))))
    tried = {rate for rate in (*_STANDARD, whole) if rate >= floor}
    hints = [rate for rate in told if rate is not None and floor <= rate <= _USUAL_FPS]
    best = min(sorted(tried.union(hints)), key=lambda rate: shared_slots(times, rate))
    for rate in hints:
        near = abs(rate / best - 1) < Fraction(1, 100)
        if near and shared_slots(times, rate) <= shared_slots(times, best):
            return _snap(rate)
    return best


def shared_slots(times: Sequence[float], rate: Fraction) -> int:
    """Frames that fall into the slot of another one at a constant rate, and are lost."""
    start, per_s = times[0], float(rate)
    slots = {int((time - start) * per_s + 0.5) for time in times}
    return len(times) - len(slots)


def _snap(rate: Fraction) -> Fraction:
    """The rate n or n*1000/1001 within 0.05%, else one with a small denominator."""
    for candidate in (
        Fraction(round(rate)),
        Fraction(round(rate * Fraction(1001, 1000)) * 1000, 1001),
    ):
        if candidate > 0 and abs(candidate / rate - 1) < Fraction(1, 2000):
            return candidate
    return rate.limit_denominator(1001) or rate


def parse_ratio(text: str | None) -> Fraction | None:
    """A fraction as ffprobe writes it, 30000/1001 or 12:11; None for 0/0 and the like."""
    numerator, _, denominator = (text or "").replace(":", "/").partition("/")
    try:
        return Fraction(int(numerator), int(denominator or 1))
    except (ValueError, ZeroDivisionError):
        return None
