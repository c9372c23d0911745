"""Self-competition: the reward against the policy's own past.

+1 or -1 by comparing the episode with the policy's past on the same clip and target, first
by overshoot, then by PSNR. That order is the published one (Mandhane et al. 2022, arXiv
2202.06626); the formula below, moving averages as the past, is a reconstruction, as the
paper's appendix could not be read:

    O   = max(0, overshoot - tolerance)
    R   = sign(O_ema - O)          if O > 0 or O_ema > 0
          sign(PSNR - PSNR_ema)    otherwise
    ema <- ema + max(1 - decay, 1 / (n + 1)) (episode - ema), after the comparison,
           n episodes being in it

Four choices are ours: overshoot is relative to the target instead of in kbit/s; the
tolerance, without which one overshoot long ago would keep O_ema above zero for ever
and PSNR would never count again; the first opponent, whatever `Reference` gives, libvpx's
two-pass VBR in the environment; and the weights of the first episodes, which make the
averages means until there are as many as the decay remembers. With 1 - decay from the
start an opponent that is far behind stays one for dozens of visits, each of them a win.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from muzero_rc.env.rewards.outcome import (
    DEFAULT_TOLERANCE,
    PsnrKind,
    Reference,
    check_state,
    check_tolerance,
    lexicographic_outcome,
)
from muzero_rc.errors import CheckpointError, InputError
from muzero_rc.types import EpisodeScore

__all__ = ["DEFAULT_DECAY", "PastScore", "SelfCompetitionReward"]

DEFAULT_DECAY = 0.9
"""Weight of the past in the moving averages: about ten episodes. Ours, not the paper's."""

_STATE_VERSION = 1


@dataclass(frozen=True, slots=True)
class PastScore:
    """Moving averages of the episodes on one clip and target.

    Attributes:
      psnr: dB.
      overshoot: positive part of actual / target - 1, before the tolerance.
      episodes: episodes in the averages, the first opponent not counted.
    """

    psnr: float
    overshoot: float
    episodes: int = 0

    def updated(self, psnr: float, overshoot: float, decay: float) -> PastScore:
        """The averages after one more episode; the first opponent goes with the first."""
        weight = max(1.0 - decay, 1.0 / (self.episodes + 1))
        return PastScore(
            psnr=_toward(self.psnr, psnr, weight),
            overshoot=_toward(self.overshoot, max(0.0, overshoot), weight),
            episodes=self.episodes + 1,
        )


def _toward(average: float, value: float, weight: float) -> float:
    # Clamped: rounding must not carry an average past the values it is made of.
    moved = average + weight * (value - average)
    return min(max(moved, min(average, value)), max(average, value))


class SelfCompetitionReward:
    """Reward against the policy's own past, kept per clip and target.

    On the first visit of a clip and target the opponent is the reference, on the second
    that first visit. The object is the history: `state_dict` goes into checkpoints.

    Attributes:
      decay: weight of the past in the moving averages, in [0, 1).
      tolerance: overshoot up to this counts as none.
      metric: the PSNR that is compared.
    """

    def __init__(
        self,
        *,
        decay: float = DEFAULT_DECAY,
        tolerance: float = DEFAULT_TOLERANCE,
        metric: PsnrKind = "psnr_avg",
    ) -> None:
        """Starts without a past.

        Raises:
          InputError: decay is not in [0, 1), tolerance is negative, or the metric
            is unknown.
        """
        if not 0.0 <= decay < 1.0:
            raise InputError(f"decay must be in [0, 1), not {decay}")
        check_tolerance(tolerance, metric)
        self.decay = decay
        self.tolerance = tolerance
        self.metric: PsnrKind = metric
        self._past: dict[tuple[str, float], PastScore] = {}

    def __len__(self) -> int:
        """Pairs of clip and target that have a past."""
        return len(self._past)

    def past(self, clip: str, target_kbps: float) -> PastScore | None:
        """The opponent on a clip and target, None before the first visit."""
        return self._past.get((clip, float(target_kbps)))

    def __call__(self, score: EpisodeScore, reference: Reference) -> float:
        """-1, 0 or 1 against the past; then the episode becomes part of the past.

        Args:
          score: raw score of the episode.
          reference: gives the first opponent's score; called on the first visit only.
        """
        key = (score.clip, float(score.target_kbps))
        past = self._past.get(key)
        if past is None:
            first = reference()
            past = PastScore(getattr(first, self.metric), max(0.0, first.overshoot))
        psnr = getattr(score, self.metric)
        outcome = lexicographic_outcome(
            psnr, score.overshoot, past.psnr, past.overshoot, tolerance=self.tolerance
        )
        self._past[key] = past.updated(psnr, score.overshoot, self.decay)
        return float(outcome)

    def state_dict(self) -> dict[str, Any]:
        """The whole history as plain JSON values."""
        return {
            "kind": "self_competition",
            "version": _STATE_VERSION,
            "decay": self.decay,
            "tolerance": self.tolerance,
            "metric": self.metric,
            "past": [
                {"clip": clip, "target_kbps": target, **dataclasses.asdict(past)}
                for (clip, target), past in self._past.items()
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replaces history and parameters by those of `state_dict`.

        Raises:
          CheckpointError: not a state of this version, or damaged.
        """
        try:
            check_state(state, "self_competition", _STATE_VERSION)
            fresh = SelfCompetitionReward(
                decay=float(state["decay"]),
                tolerance=float(state["tolerance"]),
                metric=state["metric"],
            )
            past = {
                (str(row["clip"]), float(row["target_kbps"])): PastScore(
                    float(row["psnr"]), float(row["overshoot"]), int(row["episodes"])
                )
                for row in state["past"]
            }
            for known in past.values():
                sane = math.isfinite(known.psnr) and 0.0 <= known.overshoot < math.inf
                if not sane or known.episodes < 0:
                    raise ValueError(f"{known} cannot be")
        except CheckpointError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"damaged self-competition history: {error!r}") from error
        self.decay, self.tolerance, self.metric = fresh.decay, fresh.tolerance, fresh.metric
        self._past = past
