"""The constraint priced by a multiplier that learns: what self-competition is measured against.

    gain = PSNR - PSNR_vbr                                   dB, at the same target
    O    = max(0, overshoot - tolerance)
    L    = gain - lambda O
    R    = L against the agent's own of late, see `centred`
    lambda <- min(limit, max(0, lambda + rate (O - allowed))), after each episode

Lagrangian relaxation of a constrained decision process (Altman 1999, chapter 3), the
multiplier by dual ascent as in RCPO (Tessler et al. 2018, arXiv 1805.11074, equation 9).
Centring keeps it within the value's support. The limit is ours, too:
an agent that has yet to learn what things cost overshoots by whatever exploring adds, and
a multiplier that rose by that would hide the gain for as long as it takes to fall again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from muzero_rc.env.rewards.base import require
from muzero_rc.env.rewards.centred import CentredReward
from muzero_rc.env.rewards.outcome import Reference, excess
from muzero_rc.types import EpisodeScore

__all__ = ["LagrangianReward"]


@dataclass(kw_only=True, eq=False)
class LagrangianReward(CentredReward):
    """PSNR over VBR's, less the price of overshooting.

    Attributes:
      multiplier: lambda, dB per 100% of overshoot; moves after each episode.
      multiplier_rate: of its ascent, dB per 100% of overshoot, an episode.
      allowed: mean overshoot beyond the tolerance at which the multiplier rests.
      multiplier_limit: the largest multiplier; by default one percent over costs one dB,
        twenty times what that percent is worth as bits.
    """

    kind: ClassVar[str] = "lagrangian"

    multiplier: float = 20.0
    multiplier_rate: float = 5.0
    allowed: float = 0.001
    multiplier_limit: float = 100.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("multiplier", "multiplier_rate", "allowed", "multiplier_limit"):
            value = getattr(self, name)
            require(0.0 <= value < math.inf, name, "0 or more", value)
        self.multiplier = min(self.multiplier, self.multiplier_limit)

    def _value(self, score: EpisodeScore, reference: Reference) -> float:
        over = excess(score.overshoot, self.tolerance)
        gain = getattr(score, self.metric) - getattr(reference(), self.metric)
        value = gain - self.multiplier * over
        moved = self.multiplier + self.multiplier_rate * (over - self.allowed)
        self.multiplier = min(self.multiplier_limit, max(0.0, moved))
        return float(value)

    def _extra(self) -> dict[str, Any]:
        return {"multiplier": self.multiplier}

    def _restore(self, state: Mapping[str, Any]) -> None:
        multiplier = float(state["multiplier"])
        if not 0.0 <= multiplier < math.inf:
            raise ValueError(f"multiplier {multiplier}")
        self.multiplier = min(multiplier, self.multiplier_limit)
