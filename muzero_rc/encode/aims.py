"""What an encode is to reach, other than a bitrate: a size of the file, or a quality.

An encode is tried at a bitrate, looked at, and tried again at a better one. All tries share
what was decoded, the first pass and the probe encodes. An aim is a function of the tries so
far, so that an encode that was stopped goes on with the tries that are written down.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np

from muzero_rc.encode.share import Curve, bits_for_psnr
from muzero_rc.env.control.recipe import DEFAULT_RECIPE
from muzero_rc.errors import AimMissedError, InputError, OutputError
from muzero_rc.types import FrameResult

__all__ = [
    "TOLERANCES",
    "Aim",
    "Quality",
    "QualityAim",
    "SizeAim",
    "Try",
]

Metric = Literal["psnr", "ssim", "vmaf"]

TOLERANCES: dict[Metric, float] = {"psnr": 0.1, "ssim": 0.002, "vmaf": 0.5}
"""How far the mean over frames may be off: less than anybody sees, set by hand."""

_MOST_TRIES = 6  # two are enough where the rate follows its target; set by hand
# Where the first try begins if nothing is known; what comes out does not depend on it.
_START_BITS_PER_PIXEL, _START_PSNR = 0.05, 40.0
_PERCENTILE = 5.0


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality over the shown frames of an encode.

    Attributes:
      metric: what was measured: PSNR over Y, U and V in dB, SSIM or VMAF.
      mean: over frames.
      p5: 5th percentile of frames.
    """

    metric: Metric
    mean: float
    p5: float

    @classmethod
    def of(cls, metric: Metric, values: Sequence[float]) -> Quality:
        """The quality of frames with these values."""
        return cls(metric, statistics.fmean(values), float(np.percentile(values, _PERCENTILE)))


@dataclass(frozen=True, slots=True)
class Try:
    """An encode on the way.

    Attributes:
      asked_kbps: bitrate of the video that rate control was given.
      actual_kbps: that it took.
      video_bytes: of its packets.
      quality: what was measured of it; None if nothing was.
      file_bytes: of the file that was too large; None if it was not made.
      rest_bytes: of that file without the video.
    """

    asked_kbps: float
    actual_kbps: float
    video_bytes: int
    quality: Quality | None = None
    file_bytes: int | None = None
    rest_bytes: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Try:
        """Reads what `as_dict` gave."""
        quality = values["quality"]
        return cls(**values | {"quality": None if quality is None else Quality(**quality)})


class Aim(Protocol):
    """What is to be reached."""

    @property
    def key(self) -> str:
        """All that the tries depend on."""
        ...

    @property
    def max_bytes(self) -> int | None:
        """Of the file."""
        ...

    def plan_kbps(self, pixels: int, fps: float) -> int | None:
        """Bitrate that libvpx plans the frames at; None for that of the settings."""
        ...

    def start_kbps(self, curves: Sequence[Curve], seconds: float) -> float | None:
        """Bitrate of the first try, from the probe encodes; None for that of the settings."""
        ...

    def look(
        self, results: Sequence[FrameResult], measure: Callable[[str], Sequence[float]]
    ) -> Quality | None:
        """What is to be known of an encode.

        Args:
          results: of all frames.
          measure: gives a metric of each shown frame; costs a decode.
        """
        ...

    def next_kbps(self, tries: Sequence[Try]) -> float | None:
        """Bitrate of the next try; None if the last one is good.

        Raises:
          OutputError: there is no better one.
        """
        ...


@dataclass(frozen=True, slots=True)
class SizeAim:
    """The file has at most so many bytes.

    Attributes:
      max_bytes: of the file.
    """

    max_bytes: int

    @property
    def key(self) -> str:
        """All that the tries depend on."""
        return f"size {self.max_bytes}"

    def plan_kbps(self, pixels: int, fps: float) -> int | None:
        """The settings' own."""
        return None

    def start_kbps(self, curves: Sequence[Curve], seconds: float) -> float | None:
        """The settings' own."""
        return None

    def look(
        self, results: Sequence[FrameResult], measure: Callable[[str], Sequence[float]]
    ) -> Quality | None:
        """Nothing: the file tells."""
        return None

    def next_kbps(self, tries: Sequence[Try]) -> float | None:
        """Less, by what the last one took, if its file was too large.

        Raises:
          OutputError: no encode is small enough.
        """
        last = tries[-1]
        if last.file_bytes is None:
            return None
        room = self.max_bytes - last.rest_bytes
        kbps = min(last.asked_kbps - 1.0, math.floor(last.asked_kbps * room / last.video_bytes))
        if len(tries) >= _MOST_TRIES or kbps < 1:
            raise OutputError(f"no encode fits into {self.max_bytes} bytes; give more")
        return float(kbps)


@dataclass(frozen=True, slots=True)
class QualityAim:
    """The mean over frames has a value.

    Quality in dB, 10 log10 of 1 over what is missing of the best value, grows with the
    logarithm of the bitrate. The first step goes by the recipe's dB per octave, later ones
    by the line through the two tries that are nearest, between those that are nearest on both
    sides if there are such.

    Attributes:
      metric: psnr, ssim or vmaf.
      value: of it.
    """

    metric: Metric
    value: float

    @classmethod
    def parse(cls, text: str) -> QualityAim:
        """Reads `psnr=42`, `ssim=0.98` or `vmaf=93`.

        Raises:
          InputError: it is none of them, or no quality that a picture can have.
        """
        name, _, number = text.partition("=")
        metric = name.strip().lower()
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if metric not in TOLERANCES or not math.isfinite(value):
            raise InputError(
                f"quality {text!r} cannot be read; write psnr=42, ssim=0.98 or vmaf=93"
            )
        low, high = {"psnr": (15.0, 60.0), "ssim": (0.3, 0.998), "vmaf": (10.0, 99.0)}[metric]
        if not low <= value <= high:
            raise InputError(f"{metric} must be between {low:g} and {high:g}, not {value:g}")
        return cls(metric, value)

    @property
    def key(self) -> str:
        """All that the tries depend on."""
        return f"{self.metric}={self.value!r}"

    @property
    def tolerance(self) -> float:
        """How far the mean may be off."""
        return TOLERANCES[self.metric]

    @property
    def max_bytes(self) -> int | None:
        """Of the file: any."""
        return None

    def plan_kbps(self, pixels: int, fps: float) -> int | None:
        """What is usual for the size of the picture, and more for more quality."""
        octaves = (self._psnr - _START_PSNR) / DEFAULT_RECIPE.db_per_octave
        return max(1, round(_START_BITS_PER_PIXEL * 2.0**octaves * pixels * fps / 1000.0))

    def start_kbps(self, curves: Sequence[Curve], seconds: float) -> float | None:
        """By the probe encodes' curves; for SSIM and VMAF, which they don't tell, a usual PSNR."""
        return bits_for_psnr(curves, self._psnr) / seconds / 1000.0

    def look(
        self, results: Sequence[FrameResult], measure: Callable[[str], Sequence[float]]
    ) -> Quality | None:
        """PSNR is known from the encode; all else is measured on its stream."""
        if self.metric == "psnr":
            values: Sequence[float] = [result.psnr for result in results if result.shown]
        else:
            values = measure(self.metric)
        return Quality.of(self.metric, values)

    def next_kbps(self, tries: Sequence[Try]) -> float | None:
        """By the line through the nearest tries.

        Raises:
          AimMissedError: the quality cannot be reached.
        """
        last = tries[-1]
        assert last.quality is not None
        if abs(last.quality.mean - self.value) <= self.tolerance:
            return None
        wanted = self._rate(tries)
        # As rate control missed what it was asked for, so it will again.
        kbps = wanted * last.asked_kbps / last.actual_kbps
        if len(tries) >= _MOST_TRIES or abs(kbps / last.asked_kbps - 1.0) < 1e-3:
            best = min(tries, key=lambda one: abs(_mean(one) - self.value))
            raise AimMissedError(
                f"{self.metric}={self.value:g} was not met in {len(tries)} encodes: "
                f"the nearest has {_mean(best):.4g} at {best.actual_kbps:.0f} kbit/s"
            )
        return kbps

    def _rate(self, tries: Sequence[Try]) -> float:
        """Bitrate at which the quality is expected, kbit/s."""
        goal = _decibels(self.metric, self.value)
        points = [
            (_decibels(self.metric, one.quality.mean), math.log2(one.actual_kbps))
            for one in tries
            if one.quality is not None
        ]
        points.sort(key=lambda point: abs(point[0] - goal))
        near, rate = points[0]
        others = [point for point in points if (point[0] > goal) != (near > goal)]
        if others:  # between the two that are nearest, and never at one of them again
            far, other = others[0]
            part = (goal - near) / (far - near)
            second, before = points[1]
            if second != near and (second > goal) == (near > goal):
                # The two nearest are on one side: where the curve bends, the line through them
                # tells more than one to a try that is far off on the other side.
                line = (goal - near) * (before - rate) / ((second - near) * (other - rate))
                part = line if 0.1 <= line <= 0.9 else part
            part = min(max(part, 0.1), 0.9)
            return float(2.0 ** (rate + part * (other - rate)))
        slope = 1.0 / DEFAULT_RECIPE.db_per_octave
        if len(points) > 1:
            far, other = points[1]
            measured = (other - rate) / (far - near) if far != near else slope
            # Two tries that are close together tell a slope badly.
            slope = min(max(measured, 0.25 * slope), 4.0 * slope)
        return float(2.0 ** (rate + slope * (goal - near)))

    @property
    def _psnr(self) -> float:
        return self.value if self.metric == "psnr" else _START_PSNR


def _mean(one: Try) -> float:
    return math.inf if one.quality is None else one.quality.mean


def _decibels(metric: Metric, value: float) -> float:
    if metric == "psnr":
        return value
    missing = 1.0 - (value / 100.0 if metric == "vmaf" else value)
    return -10.0 * math.log10(max(missing, 1e-3))
