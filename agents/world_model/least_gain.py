"""The least that an encode should gain over its probe encode: what a plan is doubted by.

A plan loses little where the model is a little wrong, and much where a frame answers to its step
as no frame in the data did: one alternate reference can take a quarter of a clip's bits. Such an
encode shows: it gains less over its probe encode than nearly all encodes without a plan do. With

    gain = (h dPSNR_avg + (1 - h) dPSNR_overall) / slope - dlog2(rate)

in octaves of rate, the least gain at a speed is a low quantile of the gains that `landed` had over
its probe encodes in training. An encode below it is made again without its plan, and the better
one stays. The quantile is the share of encodes without a plan that would be made again, so it is
the time that doubting may take. Ours; the paper has neither probe nor plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from muzero_rc.errors import InputError

__all__ = ["DOUBTED_SHARE", "LeastGain", "Scored", "octaves_gained"]

DOUBTED_SHARE = 0.05
"""Of encodes without a plan, those that would be doubted. A price in time, set by hand."""

_Floats = npt.NDArray[np.float64]


class Scored(Protocol):
    """What is compared: PSNR in dB, bitrate in kbit/s."""

    @property
    def psnr_avg(self) -> float:
        """Mean PSNR of the frames."""
        ...

    @property
    def psnr_overall(self) -> float:
        """PSNR of the summed error."""
        ...

    @property
    def actual_kbps(self) -> float:
        """Actual bitrate."""
        ...


def octaves_gained(ours: Scored, theirs: Scored, slope: float, average_share: float) -> float:
    """Octaves of rate that an encode saves against another at equal quality.

    Args:
      ours: the encode.
      theirs: another one of the same clip.
      slope: of the clip's curve of quality over rate, dB per octave.
      average_share: h, of PSNR avg in the quality; the rest is overall PSNR.
    """
    average = ours.psnr_avg - theirs.psnr_avg
    overall = ours.psnr_overall - theirs.psnr_overall
    quality = average_share * average + (1.0 - average_share) * overall
    return float(quality / slope - np.log2(ours.actual_kbps / theirs.actual_kbps))


@dataclass(frozen=True, slots=True, eq=False)
class LeastGain:
    """The least gain over the probe encode, by speed.

    Attributes:
      speeds: [S] that were seen, ascending.
      octaves: [S] of rate.
    """

    speeds: npt.NDArray[np.int64]
    octaves: _Floats

    @classmethod
    def fit(cls, gains: Iterable[tuple[int, float]], share: float = DOUBTED_SHARE) -> LeastGain:
        """The quantile at each speed.

        Args:
          gains: speed of an encode without a plan, and its gain over its probe encode.
          share: of them that lie below.

        Raises:
          InputError: there are none.
        """
        by_speed: dict[int, list[float]] = {}
        for speed, gain in gains:
            by_speed.setdefault(speed, []).append(gain)
        if not by_speed:
            raise InputError("the least gain cannot be fitted to no encodes")
        speeds = sorted(by_speed)
        return cls(
            np.array(speeds, np.int64),
            np.array([float(np.quantile(by_speed[speed], share)) for speed in speeds]),
        )

    def at(self, speed: int) -> float:
        """Octaves of rate; the nearest speed that was seen stands in for another."""
        return float(self.octaves[int(np.argmin(np.abs(self.speeds - speed)))])

    def as_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Plain arrays, for files."""
        return {"speeds": np.asarray(self.speeds), "octaves": np.asarray(self.octaves)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> LeastGain:
        """What `as_arrays` gave.

        Raises:
          InputError: an array is missing, of another length, or not finite.
        """
        try:
            speeds = np.asarray(arrays["speeds"], np.int64)
            octaves = np.asarray(arrays["octaves"], np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the least gains are damaged: {error}") from error
        fits = speeds.ndim == 1 and speeds.size and speeds.shape == octaves.shape
        if not fits or not np.isfinite(octaves).all():
            raise InputError("the least gains are damaged: a finite number for each speed is asked")
        return cls(speeds, octaves)
