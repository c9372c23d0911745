"""Bitrate accuracy: how well encodes met the bitrate that was asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from muzero_rc.errors import InputError

__all__ = ["PERCENTILES", "REACH_TOLERANCE", "RateAccuracy", "rate_accuracy", "within_reach"]

REACH_TOLERANCE = 0.10
"""A target is marked unreachable when VBR's deviation from it is larger than this."""

PERCENTILES = (5, 25, 50, 75, 95)
"""Percentiles of the deviation that are reported."""


@dataclass(frozen=True, slots=True)
class RateAccuracy:
    """Deviation of actual from target bitrates, over a set of encodes.

    Attributes:
      n: encodes.
      share_over_0: share of encodes above their target, 0..1.
      share_over_1: share more than 1 % above.
      share_over_5: share more than 5 % above.
      mean_abs_deviation: mean of |actual / target - 1|, 0.01 is 1 %.
      mean_deviation: mean of actual / target - 1.
      worst_over: largest actual / target - 1.
      worst_under: smallest actual / target - 1.
      percentiles: of actual / target - 1, by `PERCENTILES` as text: the distribution.
    """

    n: int
    share_over_0: float
    share_over_1: float
    share_over_5: float
    mean_abs_deviation: float
    mean_deviation: float
    worst_over: float
    worst_under: float
    percentiles: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def rate_accuracy(pairs: Iterable[tuple[float, float]]) -> RateAccuracy | None:
    """Accuracy of (target, actual) bitrates; None for none at all.

    Raises:
      InputError: a target is not positive or a number is not finite.
    """
    deviations = []
    for target, actual in pairs:
        if not (math.isfinite(target) and math.isfinite(actual)) or target <= 0 or actual < 0:
            raise InputError(f"no deviation from a target of {target:g} kbit/s to {actual:g}")
        # The difference first: equal rates must give exactly 0, never a rounding error.
        deviations.append((actual - target) / target)
    if not deviations:
        return None
    deviation = np.array(deviations)  # [N]
    return RateAccuracy(
        n=len(deviations),
        share_over_0=float(np.mean(deviation > 0)),
        share_over_1=float(np.mean(deviation > 0.01)),
        share_over_5=float(np.mean(deviation > 0.05)),
        mean_abs_deviation=float(np.mean(np.abs(deviation))),
        mean_deviation=float(np.mean(deviation)),
        worst_over=float(deviation.max()),
        worst_under=float(deviation.min()),
        percentiles={str(p): float(np.percentile(deviation, p)) for p in PERCENTILES},
    )


def within_reach(target_kbps: float, vbr_kbps: float) -> bool:
    """Whether VBR meets the target within `REACH_TOLERANCE`."""
    return abs(vbr_kbps - target_kbps) <= REACH_TOLERANCE * target_kbps
