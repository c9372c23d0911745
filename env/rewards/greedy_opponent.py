"""Against the greedy play of a past policy: an opponent of flesh instead of an average.

Pirnay et al. 2023, "Policy-Based Self-Competition for Planning Problems" (arXiv 2306.04403),
in its form with the scalar outcome of a greedy rollout: the opponent is a frozen copy of
the policy, played without exploration; it is replaced by the present one when that wins
more often than a share of the games. Their planning against the opponent's trajectory is
left out: an encode does not wait for another.

Who trains must play the opponent:

* `needs_opponent(clip, target)` says where it has not played yet in this generation;
  then encode the clip greedily with the frozen parameters and call `set_opponent`.
* When `generation` has gone up after a reward, freeze the parameters of now.

Generation 0 is libvpx's two-pass VBR, from the reference.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from muzero_rc.env.rewards.base import BaseReward, Result, require
from muzero_rc.env.rewards.outcome import Reference
from muzero_rc.types import EpisodeScore

__all__ = ["GreedyOpponentReward"]


@dataclass(kw_only=True, eq=False)
class GreedyOpponentReward(BaseReward[Result]):
    """+1 for beating the frozen policy's greedy encode of the clip and target, -1 for losing.

    Where the frozen policy has not played yet, libvpx's VBR stands in for it.

    Attributes:
      promotion: share of wins at which the present policy becomes the opponent.
      games: of the last games that this share is taken over.
      generation: how often the opponent was replaced.
    """

    kind: ClassVar[str] = "greedy_opponent"
    table: ClassVar[str] = "opponents"

    promotion: float = 0.6
    games: int = 50
    generation: int = field(default=0, init=False)
    _results: deque[float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0.0 < self.promotion < 1.0, "promotion", "between 0 and 1", self.promotion)
        require(self.games >= 1, "games", "1 or more", self.games)
        self._results = deque(maxlen=self.games)

    def needs_opponent(self, clip: str, target_kbps: float) -> bool:
        """Whether the frozen policy has yet to play here."""
        return self.generation > 0 and self.past(clip, target_kbps) is None

    def set_opponent(self, score: EpisodeScore) -> None:
        """Takes the frozen policy's greedy encode of a clip at a target."""
        self._past[score.clip, float(score.target_kbps)] = self._result(score)

    def _judge(
        self, score: EpisodeScore, past: Result | None, reference: Reference
    ) -> tuple[float, Result | None]:
        opponent = past or self._result(reference())
        outcome = self._outcome(self._result(score), opponent)
        self._results.append(0.5 + 0.5 * outcome)
        full = len(self._results) == self.games
        if full and sum(self._results) > self.promotion * self.games:
            self.generation += 1
            self._past.clear()
            self._results.clear()
            return float(outcome), None
        return float(outcome), opponent if self.generation == 0 else None

    def _row(self, memory: Result) -> dict[str, Any]:
        return {"psnr": memory[0], "overshoot": memory[1]}

    def _memory(self, row: Mapping[str, Any]) -> Result:
        found = (float(row["psnr"]), float(row["overshoot"]))
        if not all(map(math.isfinite, found)):
            raise ValueError(f"opponent {found}")
        return found

    def _extra(self) -> dict[str, Any]:
        return {"generation": self.generation, "results": list(self._results)}

    def _restore(self, state: Mapping[str, Any]) -> None:
        generation = int(state["generation"])
        results = [float(result) for result in state["results"]]
        if generation < 0 or not all(0.0 <= result <= 1.0 for result in results):
            raise ValueError(f"generation {generation}, results {results}")
        self.generation = generation
        self._results = deque(results, maxlen=self.games)
