"""Self-competition at equal rate: the share of an agent's recent encodes that this one beats.

    Q_i = PSNR_i - s log2(rate_i / target)                s: dB per doubling of the rate
    R   = 1 / K sum_k outcome(episode, k)                 k: the last K episodes

An outcome is 1, 0 or -1 by the order of self-competition (Mandhane et al. 2022, arXiv
2202.06626): first by overshoot, then by quality. The quality is Q, PSNR carried along the
curve of PSNR over rate to the target. Without that an encode wins that leaves fewer bits unused,
and differences of 1% in rate, 0.05 dB, hide what was decided. The rank among K encodes in the
place of one comparison with a mean is Ranked Reward's idea (Laterre et al. 2018, arXiv
1807.01672) without its threshold: a graded reward has less noise. Ours in all other respects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from muzero_rc.env.rewards.base import Result
from muzero_rc.env.rewards.outcome import DB_PER_DOUBLING
from muzero_rc.env.rewards.recent import RecentReward
from muzero_rc.types import EpisodeScore

__all__ = ["EqualRateReward"]


@dataclass(kw_only=True, eq=False)
class EqualRateReward(RecentReward):
    """Wins less losses among the last episodes of a clip and target, over their number.

    Attributes:
      size: K, episodes that are compared with.
    """

    kind: ClassVar[str] = "equal_rate"

    def _result(self, score: EpisodeScore) -> Result:
        psnr, overshoot = super()._result(score)
        return psnr - DB_PER_DOUBLING * math.log2(1.0 + overshoot), overshoot

    def _against(self, own: Result, past: tuple[Result, ...]) -> float:
        return sum(self._outcome(own, other) for other in past) / len(past)
