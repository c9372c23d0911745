"""Ranked reward: a win is to be among the best of the last episodes.

    R = sign(episode - alpha-percentile of the last N episodes on the clip and target)

Laterre et al. 2018, "Ranked Reward" (arXiv 1807.01672), equation 4, with the episode's rank
by the lexicographic order (overshoot, then PSNR) as its score, which a percentile needs no
scale for. Two differences: the buffer is kept per clip and target, as scores of different
ones cannot be compared; and a tie is 0 instead of a coin toss, so that it is reproducible.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from muzero_rc.env.rewards.base import Result, require
from muzero_rc.env.rewards.recent import RecentReward

__all__ = ["RankedReward"]


@dataclass(kw_only=True, eq=False)
class RankedReward(RecentReward):
    """+1 above the percentile of the last N episodes on a clip and target, -1 below.

    libvpx's two-pass VBR is the first entry of every buffer.

    Attributes:
      percentile: share of the buffer that a winner leaves behind, in (0, 1).
      size: N.
    """

    kind: ClassVar[str] = "ranked"

    percentile: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0.0 < self.percentile < 1.0, "percentile", "between 0 and 1", self.percentile)

    def _against(self, own: Result, past: tuple[Result, ...]) -> float:
        return float(self._outcome(own, self._threshold(past)))

    def _threshold(self, past: Sequence[Result]) -> Result:
        """The entry that the percentile falls on: as many beat it as the rest of it says."""
        beaten = [sum(self._outcome(a, b) > 0 for b in past) for a in past]
        order = sorted(range(len(past)), key=lambda n: beaten[n])
        return past[order[min(math.floor(self.percentile * len(past)), len(past) - 1)]]
