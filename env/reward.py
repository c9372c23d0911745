"""Rewards: pure functions of an episode's raw score.

The default is self-competition: +1 or -1 by comparing the episode with the policy's
own past on the same clip and target, first by overshoot, then by PSNR. That order is
the published one (Mandhane et al. 2022, arXiv 2202.06626); the formula below, moving
averages as the past, is a reconstruction, as the paper's appendix could not be read:

    O   = max(0, overshoot - tolerance)
    R   = sign(O_ema - O)          if O > 0 or O_ema > 0
          sign(PSNR - PSNR_ema)    otherwise
    ema <- ema + (1 - decay) (episode - ema), after the comparison

Three choices are ours: overshoot is relative to the target instead of in kbit/s; the
tolerance, without which one overshoot long ago would keep O_ema above zero for ever
and PSNR would never count again; and the first opponent, libvpx's two-pass VBR.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from muzero_rc.errors import CheckpointError, InputError
from muzero_rc.types import EpisodeScore

__all__ = [
    "DB_PER_DOUBLING",
    "DEFAULT_DECAY",
    "DEFAULT_TOLERANCE",
    "PastScore",
    "PsnrKind",
    "Reward",
    "SelfCompetitionReward",
    "excess",
    "lexicographic_outcome",
    "psnr_gain_at_equal_rate",
    "score_outcome",
]

PsnrKind = Literal["psnr_avg", "psnr_overall", "psnr_y"]

DEFAULT_DECAY = 0.9
"""Weight of the past in the moving averages: about ten episodes. Ours, not the paper's."""

DEFAULT_TOLERANCE = 0.005
"""Overshoot up to 0.5% of the target counts as none."""

DB_PER_DOUBLING = 3.4
"""PSNR that doubling the rate gives, dB: mean of VBR on four small clips (2.8 to 4.3)."""

_STATE_VERSION = 1


class Reward(Protocol):
    """Gives the reward of a finished episode."""

    def __call__(self, score: EpisodeScore, reference: Callable[[], EpisodeScore]) -> float:
        """The episode's reward.

        Args:
          score: raw score of the episode.
          reference: gives the score of libvpx's two-pass VBR on the same clip and
            target. It may have to encode the clip: call it only where it is needed.
        """
        ...


def excess(overshoot: float, tolerance: float = DEFAULT_TOLERANCE) -> float:
    """The part of a signed relative overshoot that counts as a violation, >= 0."""
    return max(0.0, overshoot - tolerance)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def lexicographic_outcome(
    psnr: float,
    overshoot: float,
    opponent_psnr: float,
    opponent_overshoot: float,
    *,
    tolerance: float = DEFAULT_TOLERANCE,
) -> int:
    """Who met the bitrate, then who had the higher PSNR.

    Args:
      psnr: dB.
      overshoot: actual / target - 1.
      opponent_psnr: dB.
      opponent_overshoot: actual / target - 1.
      tolerance: overshoot up to this counts as none.

    Returns:
      1 for a win, -1 for a loss, 0 for a tie. Two that violate equally tie, whatever
      their PSNR: the rule has no second criterion there.
    """
    own, other = excess(overshoot, tolerance), excess(opponent_overshoot, tolerance)
    if own > 0 or other > 0:
        return _sign(other - own)
    return _sign(psnr - opponent_psnr)


def score_outcome(
    score: EpisodeScore,
    opponent: EpisodeScore,
    *,
    tolerance: float = DEFAULT_TOLERANCE,
    metric: PsnrKind = "psnr_avg",
) -> int:
    """`lexicographic_outcome` of two episodes on the same clip and target."""
    return lexicographic_outcome(
        getattr(score, metric),
        score.overshoot,
        getattr(opponent, metric),
        opponent.overshoot,
        tolerance=tolerance,
    )


def psnr_gain_at_equal_rate(
    score: EpisodeScore,
    reference: EpisodeScore,
    *,
    metric: PsnrKind = "psnr_avg",
    db_per_doubling: float = DB_PER_DOUBLING,
) -> float:
    """PSNR gained over a reference, had the reference had the episode's rate, in dB.

    PSNR - (PSNR_ref + slope log2(rate / rate_ref)): a straight line through one point,
    so only good for rates that are close. For the truth use BD-rate.
    """
    moved = db_per_doubling * math.log2(score.actual_kbps / reference.actual_kbps)
    return float(getattr(score, metric)) - (float(getattr(reference, metric)) + moved)


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
        """The averages after one more episode."""
        return PastScore(
            psnr=_toward(self.psnr, psnr, decay),
            overshoot=_toward(self.overshoot, max(0.0, overshoot), decay),
            episodes=self.episodes + 1,
        )


def _toward(average: float, value: float, decay: float) -> float:
    # Clamped: rounding must not carry an average past the values it is made of.
    moved = average + (1.0 - decay) * (value - average)
    return min(max(moved, min(average, value)), max(average, value))


class SelfCompetitionReward:
    """Reward against the policy's own past, kept per clip and target.

    On the first visit of a clip and target the opponent is the reference, libvpx's
    two-pass VBR. The object is the history: `state_dict` goes into checkpoints.

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
        if not 0.0 <= tolerance < math.inf:
            raise InputError(f"tolerance must be 0 or more, not {tolerance}")
        if metric not in ("psnr_avg", "psnr_overall", "psnr_y"):
            raise InputError(f"metric must be psnr_avg, psnr_overall or psnr_y, not {metric!r}")
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

    def __call__(self, score: EpisodeScore, reference: Callable[[], EpisodeScore]) -> float:
        """-1, 0 or 1 against the past; then the episode becomes part of the past.

        Args:
          score: raw score of the episode.
          reference: gives two-pass VBR's score; called on the first visit only.
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
            if state["version"] != _STATE_VERSION:
                raise CheckpointError(
                    f"self-competition history has version {state['version']}, "
                    f"this program reads {_STATE_VERSION}"
                )
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
        except CheckpointError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"damaged self-competition history: {error!r}") from error
        self.decay, self.tolerance, self.metric = fresh.decay, fresh.tolerance, fresh.metric
        self._past = past
