"""The gain over the clip's own rate-distortion curve, as a number instead of a win.

    gain = PSNR - D_vbr(log rate)        D_vbr through VBR's points on this clip, dB
    M    = max(0, |overshoot| - tolerance)
    L    = gain - price M
    R    = L against the agent's own of late, see `centred`

What self-competition cannot say, by how much; the criticism and the idea are those of a
later patent application (CN 122205083 A). The price keeps the target, from both sides: as
the curve forgives bits, without it an agent goes to whatever rate it gains most at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from scipy.interpolate import PchipInterpolator

from muzero_rc.env.rewards.base import require
from muzero_rc.env.rewards.centred import CentredReward
from muzero_rc.env.rewards.outcome import DB_PER_DOUBLING, Reference, excess
from muzero_rc.types import EpisodeScore

__all__ = ["RdGainReward", "curve_psnr"]

_LEAST_OCTAVES = 0.05  # points that are closer say nothing about a slope


def curve_psnr(points: Sequence[tuple[float, float]], kbps: float) -> float:
    """PSNR of a rate-distortion curve at a rate, dB.

    Monotone cubic (pchip) over log2 rate between three points or more, a straight line
    between two; beyond the ends the nearest slope goes on, with `DB_PER_DOUBLING` where one
    point is all there is. Points that lie closer than 0.05 octaves to the one before, or
    whose PSNR falls, are dropped.

    Args:
      points: (kbit/s, dB), in any order, at least one.
      kbps: kbit/s.
    """
    kept: list[tuple[float, float]] = []
    for rate, psnr in sorted((math.log2(rate), psnr) for rate, psnr in points):
        if not kept or (rate - kept[-1][0] >= _LEAST_OCTAVES and psnr > kept[-1][1]):
            kept.append((rate, psnr))
    x, y = np.array(kept).T
    at = math.log2(kbps)
    if len(x) == 1:
        return float(y[0] + DB_PER_DOUBLING * (at - x[0]))
    if at <= x[0] or at >= x[-1] or len(x) == 2:
        near = slice(0, 2) if at <= x[0] else slice(-2, None)
        (x0, x1), (y0, y1) = x[near], y[near]
        return float(y0 + (y1 - y0) * (at - x0) / (x1 - x0))
    return float(PchipInterpolator(x, y)(at))


@dataclass(kw_only=True, eq=False)
class RdGainReward(CentredReward):
    """PSNR over VBR's at equal rate, less a price for missing the target.

    VBR's curves are not part of the state: they can be measured again.

    Attributes:
      rates: multiples of the target at which VBR's curve is taken.
      price: of missing the target by 100%, dB, beyond the tolerance on either side.
    """

    kind: ClassVar[str] = "rd_gain"

    rates: Sequence[float] = (1.0, 1.25)
    price: float = 20.0
    _curves: dict[tuple[str, float], list[tuple[float, float]]] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rates = tuple(self.rates)
        usable = bool(self.rates) and all(0.0 < rate < math.inf for rate in self.rates)
        require(usable, "rates", "above 0 and at least one", self.rates)
        require(0.0 <= self.price < math.inf, "price", "0 or more", self.price)

    def _value(self, score: EpisodeScore, reference: Reference) -> float:
        key = (score.clip, float(score.target_kbps))
        if key not in self._curves:
            found = [reference(rate) for rate in self.rates]
            self._curves[key] = [(s.actual_kbps, self._result(s)[0]) for s in found]
        gain = getattr(score, self.metric) - curve_psnr(self._curves[key], score.actual_kbps)
        return float(gain - self.price * excess(abs(score.overshoot), self.tolerance))
