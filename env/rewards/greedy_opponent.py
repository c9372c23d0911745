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

__all__ = ["GreedyOpponentReward"]

_STATE_VERSION = 1


class GreedyOpponentReward:
    """+1 for beating the frozen policy's greedy encode of the clip and target, -1 for losing.

    Attributes:
      promotion: share of wins at which the present policy becomes the opponent.
      games: of the last games that this share is taken over.
      generation: how often the opponent was replaced.
      tolerance: overshoot up to this counts as none.
      metric: the PSNR that is compared.
    """

    def __init__(
        self,
        *,
        promotion: float = 0.6,
        games: int = 50,
        tolerance: float = DEFAULT_TOLERANCE,
        metric: PsnrKind = "psnr_avg",
    ) -> None:
        """Starts against libvpx.

        Raises:
          InputError: a value out of range.
        """
        check_tolerance(tolerance, metric)
        if not 0.0 < promotion < 1.0:
            raise InputError(f"promotion must be between 0 and 1, not {promotion}")
        if games < 1:
            raise InputError(f"games must be 1 or more, not {games}")
        self.promotion = promotion
        self.games = games
        self.generation = 0
        self.tolerance = tolerance
        self.metric: PsnrKind = metric
        self._opponents: dict[tuple[str, float], tuple[float, float]] = {}
        self._results: deque[float] = deque(maxlen=games)

    def needs_opponent(self, clip: str, target_kbps: float) -> bool:
        """Whether the frozen policy has yet to play here."""
        return self.generation > 0 and (clip, float(target_kbps)) not in self._opponents

    def set_opponent(self, score: EpisodeScore) -> None:
        """Takes the frozen policy's greedy encode of a clip at a target."""
        key = (score.clip, float(score.target_kbps))
        self._opponents[key] = (float(getattr(score, self.metric)), score.overshoot)

    def __call__(self, score: EpisodeScore, reference: Reference) -> float:
        """-1, 0 or 1; may replace the opponent.

        Where the frozen policy has not played yet, libvpx's VBR stands in for it.
        """
        opponent = self._opponents.get((score.clip, float(score.target_kbps)))
        if opponent is None:
            vbr = reference()
            opponent = (float(getattr(vbr, self.metric)), vbr.overshoot)
            if self.generation == 0:
                self.set_opponent(vbr)
        own = float(getattr(score, self.metric))
        outcome = lexicographic_outcome(own, score.overshoot, *opponent, tolerance=self.tolerance)
        self._results.append(0.5 + 0.5 * outcome)
        full = len(self._results) == self.games
        if full and sum(self._results) > self.promotion * self.games:
            self.generation += 1
            self._opponents.clear()
            self._results.clear()
        return float(outcome)

    def state_dict(self) -> dict[str, Any]:
        """Generation, opponents' scores and the last games."""
        return {
            "kind": "greedy_opponent",
            "version": _STATE_VERSION,
            "generation": self.generation,
            "results": list(self._results),
            "opponents": [
                {"clip": clip, "target_kbps": target, "psnr": psnr, "overshoot": overshoot}
                for (clip, target), (psnr, overshoot) in self._opponents.items()
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes all of it over.

        Raises:
          CheckpointError: of another reward or version, or damaged.
        """
        check_state(state, "greedy_opponent", _STATE_VERSION)
        try:
            generation = int(state["generation"])
            results = [float(result) for result in state["results"]]
            opponents = {
                (str(row["clip"]), float(row["target_kbps"])): (
                    float(row["psnr"]),
                    float(row["overshoot"]),
                )
                for row in state["opponents"]
            }
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"damaged memory of greedy_opponent: {error!r}") from error
        numbers = [number for pair in opponents.values() for number in pair]
        if (
            generation < 0
            or not all(0.0 <= result <= 1.0 for result in results)
            or not all(map(math.isfinite, numbers))
        ):
            raise CheckpointError("damaged memory of greedy_opponent: a number out of range")
        self.generation = generation
        self._results = deque(results, maxlen=self.games)
        self._opponents = opponents
