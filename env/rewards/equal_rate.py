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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from muzero_rc.env.rewards.base import BaseReward, Result, require
from muzero_rc.env.rewards.outcome import DB_PER_DOUBLING, Reference
from muzero_rc.types import EpisodeScore

__all__ = ["EqualRateReward"]


@dataclass(kw_only=True, eq=False)
class EqualRateReward(BaseReward[tuple[Result, ...]]):
    """Wins less losses among the last episodes of a clip and target, over their number.

    The first entry of every memory is the reference.

    Attributes:
      size: K, episodes that are compared with.
    """

    kind: ClassVar[str] = "equal_rate"

    size: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.size >= 1, "size", "1 or more", self.size)

    def _result(self, score: EpisodeScore) -> Result:
        psnr, overshoot = super()._result(score)
        return psnr - DB_PER_DOUBLING * math.log2(1.0 + overshoot), overshoot

    def _judge(
        self, score: EpisodeScore, past: tuple[Result, ...] | None, reference: Reference
    ) -> tuple[float, tuple[Result, ...]]:
        past = past or (self._result(reference()),)
        own = self._result(score)
        outcomes = [self._outcome(own, other) for other in past]
        return sum(outcomes) / len(outcomes), (*past, own)[-self.size :]

    def _row(self, memory: tuple[Result, ...]) -> dict[str, Any]:
        return {"episodes": [list(episode) for episode in memory]}

    def _memory(self, row: Mapping[str, Any]) -> tuple[Result, ...]:
        found = tuple((float(quality), float(over)) for quality, over in row["episodes"])
        if not found or not all(math.isfinite(number) for pair in found for number in pair):
            raise ValueError(f"episodes {found}")
        return found[-self.size :]
