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
from typing import Any

from muzero_rc.env.rewards.centred import Centred
from muzero_rc.env.rewards.outcome import (
    DEFAULT_TOLERANCE,
    PsnrKind,
    Reference,
    check_state,
    check_tolerance,
    excess,
)
from muzero_rc.errors import CheckpointError, InputError
from muzero_rc.types import EpisodeScore

__all__ = ["LagrangianReward"]

_STATE_VERSION = 2


class LagrangianReward:
    """PSNR over VBR's, less the price of overshooting.

    Attributes:
      multiplier: lambda, dB per 100% of overshoot.
      rate: of its ascent, dB per 100% of overshoot, an episode.
      allowed: mean overshoot beyond the tolerance at which the multiplier rests.
      limit: the largest multiplier; by default one percent over costs one dB, twenty times
        what that percent is worth as bits.
      tolerance: overshoot up to this counts as none.
      metric: the PSNR that is meant.
    """

    def __init__(
        self,
        *,
        multiplier: float = 20.0,
        rate: float = 5.0,
        allowed: float = 0.001,
        limit: float = 100.0,
        scale: float = 0.1,
        decay: float = 0.9,
        tolerance: float = DEFAULT_TOLERANCE,
        metric: PsnrKind = "psnr_avg",
    ) -> None:
        """Starts with a multiplier; `scale` and `decay` are those of `Centred`.

        Raises:
          InputError: a value out of range.
        """
        check_tolerance(tolerance, metric)
        for name, value in (
            ("multiplier", multiplier), ("rate", rate), ("allowed", allowed), ("limit", limit)
        ):  # fmt: skip
            if not 0.0 <= value < math.inf:
                raise InputError(f"{name} must be 0 or more, not {value}")
        self.multiplier = min(multiplier, limit)
        self.rate = rate
        self.allowed = allowed
        self.limit = limit
        self.tolerance = tolerance
        self.metric: PsnrKind = metric
        self._centred = Centred(scale, decay)

    def __call__(self, score: EpisodeScore, reference: Reference) -> float:
        """In (-1, 1); then the multiplier moves."""
        over = excess(score.overshoot, self.tolerance)
        gain = getattr(score, self.metric) - getattr(reference(), self.metric)
        value = gain - self.multiplier * over
        moved = self.multiplier + self.rate * (over - self.allowed)
        self.multiplier = min(self.limit, max(0.0, moved))
        return self._centred(score.clip, score.target_kbps, value)

    def state_dict(self) -> dict[str, Any]:
        """The multiplier, and what episodes were worth of late."""
        return {
            "kind": "lagrangian",
            "version": _STATE_VERSION,
            "multiplier": self.multiplier,
            "past": self._centred.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the memory over.

        Raises:
          CheckpointError: of another reward or version, or damaged.
        """
        check_state(state, "lagrangian", _STATE_VERSION)
        try:
            multiplier = float(state["multiplier"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"damaged memory of lagrangian: {error!r}") from error
        if not 0.0 <= multiplier < math.inf:
            raise CheckpointError(f"damaged memory of lagrangian: multiplier {multiplier}")
        self._centred.load_state_dict(state.get("past"))
        self.multiplier = min(multiplier, self.limit)
