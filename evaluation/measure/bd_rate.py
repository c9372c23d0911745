"""Bjøntegaard deltas between two rate-distortion curves, with stated rules.

Definition: G. Bjøntegaard, "Calculation of average PSNR differences between
RD-curves", VCEG-M33 (2001), with the piecewise cubic Hermite interpolation (pchip)
that replaced his cubic polynomial in the JCT-VC/JVET reporting template.

Rules for what the definition leaves open:

* Points are sorted by rate; rates must be positive, all numbers finite, no point
  given twice. Otherwise `InputError`, with the point.
* A curve need not be monotone. A point is *dominated* when another point of its curve
  has at most its rate and at least its quality; dominated points are dropped and
  counted. What is left rises strictly in rate and in quality. This flatters a curve
  that dips, so the count stands beside each number.
* With fewer than four points left (the least that the common test conditions use)
  or without a common interval the delta is undefined: `None`, with the reason.
* The overlap, common interval over the interval that both curves span together, stands
  beside each number: the smaller it is, the less of either curve the number is about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from muzero_rc.errors import InputError

__all__ = ["MIN_POINTS", "BdPsnr", "BdRate", "Curve", "bd_psnr", "bd_rate"]

MIN_POINTS = 4
"""Fewest non-dominated points of a curve for which a delta is defined."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BdRate:
    """Mean difference in rate at equal quality.

    Attributes:
      percent: rate of the test curve against the anchor's; negative is better. None
        if undefined.
      overlap: common quality interval over the spanned one, 0..1.
      reason: why `percent` is None, empty otherwise.
      dropped: dominated points left out, of both curves.
    """

    percent: float | None
    overlap: float
    reason: str
    dropped: int


@dataclass(frozen=True, slots=True)
class BdPsnr:
    """Mean difference in quality at equal rate.

    Attributes:
      db: quality of the test curve minus the anchor's; positive is better. None if
        undefined.
      overlap: common log-rate interval over the spanned one, 0..1.
      reason: why `db` is None, empty otherwise.
      dropped: dominated points left out, of both curves.
    """

    db: float | None
    overlap: float
    reason: str
    dropped: int


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A strictly rising rate-distortion curve.

    Attributes:
      log_rate: [N] log10 of the rates, rising.
      quality: [N] quality in dB, rising.
      dropped: dominated points that were left out.
    """

    log_rate: Array
    quality: Array
    dropped: int

    @classmethod
    def from_points(cls, rates: Sequence[float], qualities: Sequence[float]) -> Curve:
        """Checks, sorts and makes monotone.

        Args:
          rates: [N] rates in one unit, any order.
          qualities: [N] quality of each, dB.

        Raises:
          InputError: lengths differ, a number is not finite, a rate is not positive,
            or a point is given twice.
        """
        rate = np.asarray(rates, dtype=np.float64)
        quality = np.asarray(qualities, dtype=np.float64)
        if rate.ndim != 1 or rate.shape != quality.shape:
            raise InputError(
                f"a curve needs one quality per rate, not {rate.shape} rates"
                f" and {quality.shape} qualities"
            )
        bad = ~(np.isfinite(rate) & np.isfinite(quality) & (rate > 0))
        if bad.any():
            index = int(np.argmax(bad))
            raise InputError(
                f"point {index} of the curve cannot be used: rate {rate[index]:g},"
                f" quality {quality[index]:g} dB (both must be finite, the rate positive)"
            )
        order = np.lexsort((-quality, rate))
        rate, quality = rate[order], quality[order]
        twice = (np.diff(rate) == 0) & (np.diff(quality) == 0)
        if twice.any():
            index = int(np.argmax(twice))
            raise InputError(
                f"the curve has the point rate {rate[index]:g}, quality {quality[index]:g} dB twice"
            )
        # Sorted by rate, then by falling quality: a point is dominated exactly when
        # it does not exceed all qualities before it.
        keep = np.ones(rate.size, dtype=bool)
        keep[1:] = quality[1:] > np.maximum.accumulate(quality)[:-1]
        return cls(np.log10(rate[keep]), quality[keep], int(rate.size - keep.sum()))

    def __len__(self) -> int:
        return int(self.quality.size)


def bd_rate(
    anchor_rates: Sequence[float],
    anchor_qualities: Sequence[float],
    test_rates: Sequence[float],
    test_qualities: Sequence[float],
    *,
    min_points: int = MIN_POINTS,
) -> BdRate:
    """Bjøntegaard delta rate of a test curve against an anchor.

    With r(q) the pchip interpolant of log10 rate over quality and [a, b] the common
    quality interval: 100 * (10 ** (∫ r_test - r_anchor dq / (b - a)) - 1).

    Args:
      anchor_rates: [N] rates of the anchor, any unit.
      anchor_qualities: [N] qualities of the anchor, dB.
      test_rates: [M] rates of the test, the same unit.
      test_qualities: [M] qualities of the test, dB.
      min_points: fewest non-dominated points of each curve, at least 2.

    Raises:
      InputError: a curve cannot be used at all (see `Curve.from_points`).
    """
    anchor = Curve.from_points(anchor_rates, anchor_qualities)
    test = Curve.from_points(test_rates, test_qualities)
    dropped = anchor.dropped + test.dropped
    delta, overlap, reason = _mean_difference(
        (anchor.quality, anchor.log_rate), (test.quality, test.log_rate), min_points, "quality"
    )
    percent = None if delta is None else 100.0 * (10.0**delta - 1.0)
    return BdRate(percent, overlap, reason, dropped)


def bd_psnr(
    anchor_rates: Sequence[float],
    anchor_qualities: Sequence[float],
    test_rates: Sequence[float],
    test_qualities: Sequence[float],
    *,
    min_points: int = MIN_POINTS,
) -> BdPsnr:
    """Bjøntegaard delta PSNR of a test curve against an anchor.

    With q(r) the pchip interpolant of quality over log10 rate and [a, b] the common
    log-rate interval: ∫ q_test - q_anchor dr / (b - a). Arguments as in `bd_rate`.

    Raises:
      InputError: a curve cannot be used at all (see `Curve.from_points`).
    """
    anchor = Curve.from_points(anchor_rates, anchor_qualities)
    test = Curve.from_points(test_rates, test_qualities)
    dropped = anchor.dropped + test.dropped
    delta, overlap, reason = _mean_difference(
        (anchor.log_rate, anchor.quality), (test.log_rate, test.quality), min_points, "rate"
    )
    return BdPsnr(delta, overlap, reason, dropped)


def _mean_difference(
    anchor: tuple[Array, Array], test: tuple[Array, Array], min_points: int, axis: str
) -> tuple[float | None, float, str]:
    """Mean of test - anchor over their common abscissa, overlap, reason if undefined."""
    if min_points < 2:
        raise InputError(f"min_points must be at least 2, not {min_points}")
    for name, (x, _) in (("anchor", anchor), ("test", test)):
        if x.size < min_points:
            return None, _overlap(anchor[0], test[0]), (
                f"the {name} curve has {x.size} usable points of the {min_points} needed"
            )  # fmt: skip
    low = max(anchor[0][0], test[0][0])
    high = min(anchor[0][-1], test[0][-1])
    if high <= low:
        return None, 0.0, f"the curves share no {axis} interval"
    areas = [float(PchipInterpolator(x, y).integrate(low, high)) for x, y in (anchor, test)]
    mean = (areas[1] - areas[0]) / (high - low)
    return float(mean), _overlap(anchor[0], test[0]), ""


def _overlap(anchor: Array, test: Array) -> float:
    """Common interval over the spanned interval, 0 if there is none."""
    if not anchor.size or not test.size:
        return 0.0
    common = min(anchor[-1], test[-1]) - max(anchor[0], test[0])
    spanned = max(anchor[-1], test[-1]) - min(anchor[0], test[0])
    return float(max(common, 0.0) / spanned) if spanned > 0 else 0.0
