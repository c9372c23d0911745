"""The difference in bitrate along the quality range: what a BD-rate is the mean of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator

from muzero_rc.errors import InputError
from muzero_rc.evaluation.measure.bd_rate import MIN_POINTS, Curve
from muzero_rc.evaluation.results import EncodeRecord

__all__ = ["Saving", "saving"]

_POINTS = 25


@dataclass(frozen=True, slots=True)
class Saving:
    """Rate of a method against the anchor's at equal quality; P points.

    Attributes:
      quality: [P] evenly over the quality that both curves reach, rising.
      percent: [P] difference in rate there; negative is better.
    """

    quality: list[float]
    percent: list[float]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def saving(
    anchor: Sequence[EncodeRecord], test: Sequence[EncodeRecord], metric: str
) -> Saving | None:
    """100 (10^(r_test(q) - r_anchor(q)) - 1) with r the pchip interpolant of log10 rate.

    The integrand of `bd_rate`, by the same rules.

    Returns:
      None where a BD-rate would be undefined.
    """
    try:
        curves = [_curve(encodes, metric) for encodes in (anchor, test)]
    except InputError:
        return None
    low = max(float(c.quality[0]) if len(c) else np.inf for c in curves)
    high = min(float(c.quality[-1]) if len(c) else -np.inf for c in curves)
    if min(map(len, curves)) < MIN_POINTS or not low < high:
        return None
    quality = np.linspace(low, high, _POINTS)  # [P]
    rates = [PchipInterpolator(c.quality, c.log_rate)(quality) for c in curves]
    percent = 100.0 * (10.0 ** (rates[1] - rates[0]) - 1.0)
    return Saving(quality.round(4).tolist(), percent.round(3).tolist())


def _curve(encodes: Sequence[EncodeRecord], metric: str) -> Curve:
    levels = {(e.actual_kbps, e.level(metric)) for e in encodes}
    points = [(rate, level) for rate, level in levels if level is not None]
    return Curve.from_points([rate for rate, _ in points], [level for _, level in points])
