"""Rewards that compare an episode with the last ones on its clip and target, one by one."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from muzero_rc.env.rewards.base import BaseReward, Result, require
from muzero_rc.env.rewards.outcome import Reference
from muzero_rc.types import EpisodeScore

__all__ = ["RecentReward"]


@dataclass(kw_only=True, eq=False)
class RecentReward(BaseReward[tuple[Result, ...]]):
    """Keeps the last episodes of a clip and target; a subclass compares with them.

    The first entry of every memory is the reference.

    Attributes:
      size: episodes that are kept.
    """

    size: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.size >= 1, "size", "1 or more", self.size)

    @abc.abstractmethod
    def _against(self, own: Result, past: tuple[Result, ...]) -> float:
        """The reward of an episode after these; there is at least one."""

    def _judge(
        self, score: EpisodeScore, past: tuple[Result, ...] | None, reference: Reference
    ) -> tuple[float, tuple[Result, ...]]:
        past = past or (self._result(reference()),)
        own = self._result(score)
        return self._against(own, past), (*past, own)[-self.size :]

    def _row(self, memory: tuple[Result, ...]) -> dict[str, Any]:
        return {"episodes": [list(episode) for episode in memory]}

    def _memory(self, row: Mapping[str, Any]) -> tuple[Result, ...]:
        found = tuple((float(quality), float(over)) for quality, over in row["episodes"])
        if not found or not all(math.isfinite(number) for pair in found for number in pair):
            raise ValueError(f"episodes {found}")
        return found[-self.size :]
