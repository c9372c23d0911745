"""What makes one encode better than another, and what a reward is.

The order, first by overshoot, then by PSNR, is the published one (Mandhane et al. 2022,
arXiv 2202.06626). Overshoot relative to the target instead of in kbit/s, and the tolerance,
are ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from muzero_rc.types import EpisodeScore

__all__ = [
    "DB_PER_DOUBLING",
    "DEFAULT_TOLERANCE",
    "PSNR_KINDS",
    "PsnrKind",
    "Reference",
    "Reward",
    "excess",
    "lexicographic_outcome",
    "psnr_gain_at_equal_rate",
    "score_outcome",
]

PsnrKind = Literal["psnr_avg", "psnr_overall", "psnr_y"]

PSNR_KINDS = ("psnr_avg", "psnr_overall", "psnr_y")

DEFAULT_TOLERANCE = 0.005
"""Overshoot up to 0.5% of the target counts as none."""

DB_PER_DOUBLING = 3.4
"""PSNR that doubling the rate gives, dB: mean of VBR on four small clips (2.8 to 4.3)."""


class Reference(Protocol):
    """Gives whom an episode is measured against on its clip: libvpx's two-pass VBR.

    It may have to encode the clip: call it only where it is needed. In training
    self-competition, which only asks for its first opponent, gets the policy that the clip's
    study was made around (`muzero_rc.training.scorer`).
    """

    def __call__(self, rate: float = 1.0) -> EpisodeScore:
        """VBR's score at the episode's target times `rate`."""
        ...


class Reward(Protocol):
    """Gives the reward of a finished episode: a function of scores, with a memory.

    The memory is `state_dict`, which goes into checkpoints; a reward that was given is
    never computed again, since the memory has moved on.
    """

    def __call__(self, score: EpisodeScore, reference: Reference) -> float:
        """The episode's reward, in [-1, 1].

        Args:
          score: raw score of the episode.
          reference: scores of another on the same clip, libvpx's own as a rule.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """The memory as plain JSON values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replaces the memory by that of `state_dict`.

        Raises:
          CheckpointError: of another reward or version, or damaged.
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
