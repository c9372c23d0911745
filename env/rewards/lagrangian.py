"""The constraint priced by a multiplier that learns: what self-competition is measured against.

    gain = PSNR - PSNR_vbr                                   dB, at the same target
    O    = max(0, overshoot - tolerance)
    R    = tanh((gain - lambda O) / scale)
    lambda <- max(0, lambda + rate (O - allowed)), after each episode

Lagrangian relaxation of a constrained decision process (Altman 1999, chapter 3), the
multiplier by dual ascent as in RCPO (Tessler et al. 2018, arXiv 1805.11074, equation 9).
tanh keeps it within the value's support; scale is what one dB is worth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

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

_STATE_VERSION = 1


class LagrangianReward:
    """PSNR over VBR's, less the price of overshooting.

    Attributes:
      multiplier: lambda, dB per 100% of overshoot.
      rate: of its ascent, dB per 100% of overshoot, an episode.
      allowed: mean overshoot beyond the tolerance at which the multiplier rests.
      scale: dB at which the reward is tanh(1).
      tolerance: overshoot up to this counts as none.
      metric: the PSNR that is meant.
    """

    def __init__(
        self,
        *,
        multiplier: float = 20.0,
        rate: float = 5.0,
        allowed: float = 0.001,
        scale: float = 0.5,
        tolerance: float = DEFAULT_TOLERANCE,
        metric: PsnrKind = "psnr_avg",
    ) -> None:
        """Starts with a multiplier.

        Raises:
          InputError: a value out of range.
        """
        check_tolerance(tolerance, metric)
        for name, value in (("multiplier", multiplier), ("rate", rate), ("allowed", allowed)):
            if not 0.0 <= value < math.inf:
                raise InputError(f"{name} must be 0 or more, not {value}")
        if not 0.0 < scale < math.inf:
            raise InputError(f"scale must be above 0, not {scale}")
        self.multiplier = multiplier
        self.rate = rate
        self.allowed = allowed
        self.scale = scale
        self.tolerance = tolerance
        self.metric: PsnrKind = metric

    def __call__(self, score: EpisodeScore, reference: Reference) -> float:
        """In (-1, 1); then the multiplier moves."""
        over = excess(score.overshoot, self.tolerance)
        gain = getattr(score, self.metric) - getattr(reference(), self.metric)
        reward = math.tanh((gain - self.multiplier * over) / self.scale)
        self.multiplier = max(0.0, self.multiplier + self.rate * (over - self.allowed))
        return reward

    def state_dict(self) -> dict[str, Any]:
        """The multiplier."""
        return {"kind": "lagrangian", "version": _STATE_VERSION, "multiplier": self.multiplier}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the multiplier over.

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
        self.multiplier = multiplier
