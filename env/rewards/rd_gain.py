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
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator

from muzero_rc.env.rewards.centred import Centred
from muzero_rc.env.rewards.outcome import (
    DB_PER_DOUBLING,
    DEFAULT_TOLERANCE,
    PsnrKind,
    Reference,
    check_state,
    check_tolerance,
    excess,
)
from muzero_rc.errors import InputError
from muzero_rc.types import EpisodeScore

__all__ = ["RdGainReward", "curve_psnr"]

_STATE_VERSION = 2
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


class RdGainReward:
    """PSNR over VBR's at equal rate, less a price for missing the target.

    Attributes:
      rates: multiples of the target at which VBR's curve is taken.
      price: of missing the target by 100%, dB.
      tolerance: a deviation from the target up to this counts as none.
      metric: the PSNR that is meant.
    """

    def __init__(
        self,
        *,
        rates: Sequence[float] = (1.0, 1.25),
        scale: float = 0.1,
        decay: float = 0.9,
        price: float = 20.0,
        tolerance: float = DEFAULT_TOLERANCE,
        metric: PsnrKind = "psnr_avg",
    ) -> None:
        """Keeps VBR's points for each clip and target; `scale` and `decay` as of `Centred`.

        Raises:
          InputError: a value out of range.
        """
        check_tolerance(tolerance, metric)
        if not rates or not all(0.0 < rate < math.inf for rate in rates):
            raise InputError(f"rates must be above 0 and at least one, not {tuple(rates)}")
        if not 0.0 <= price < math.inf:
            raise InputError(f"price must be 0 or more, not {price}")
        self.rates = tuple(rates)
        self.price = price
        self.tolerance = tolerance
        self.metric: PsnrKind = metric
        self._centred = Centred(scale, decay)
        self._curves: dict[tuple[str, float], list[tuple[float, float]]] = {}

    def __call__(self, score: EpisodeScore, reference: Reference) -> float:
        """In (-1, 1)."""
        key = (score.clip, float(score.target_kbps))
        if key not in self._curves:
            found = [reference(rate) for rate in self.rates]
            self._curves[key] = [(s.actual_kbps, float(getattr(s, self.metric))) for s in found]
        gain = getattr(score, self.metric) - curve_psnr(self._curves[key], score.actual_kbps)
        missed = excess(abs(score.overshoot), self.tolerance)
        return self._centred(score.clip, score.target_kbps, gain - self.price * missed)

    def state_dict(self) -> dict[str, Any]:
        """What episodes were worth of late; VBR's curves can be measured again."""
        past = self._centred.state_dict()
        return {"kind": "rd_gain", "version": _STATE_VERSION, "past": past}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the memory over.

        Raises:
          CheckpointError: of another reward or version, or damaged.
        """
        check_state(state, "rd_gain", _STATE_VERSION)
        self._centred.load_state_dict(state.get("past"))
