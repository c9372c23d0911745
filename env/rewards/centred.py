"""Rewards of a number of dB, measured by how far it lies from the agent's recent episodes.

    R      = tanh((L - mean) / max(spread, least))
    mean   <- decay mean + (1 - decay) L
    spread <- decay spread + (1 - decay) |L - mean|          per clip and target

What every encode of a clip has in common says nothing about what the agent did, and would
fill the value's narrow support: some clips let VBR be beaten by 0.05 dB, others by 1 dB. The
mean is a control variate, which leaves what is best as it is; the spread keeps the steps
of a policy that has learned nearly everything as visible as its first. It makes of a graded
reward what self-competition makes of wins and losses. Ours; of the sources of the rewards
that use it, none has it.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from muzero_rc.env.rewards.base import BaseReward, require
from muzero_rc.env.rewards.outcome import Reference
from muzero_rc.types import EpisodeScore

__all__ = ["Centre", "CentredReward", "centred"]

_LEAST_SPREAD = 0.02  # dB; what differs by less is the same


@dataclass(frozen=True, slots=True)
class Centre:
    """Moving averages of the episodes on one clip and target.

    Attributes:
      mean: dB.
      spread: mean distance from the mean, dB.
    """

    mean: float
    spread: float


def centred(
    value: float, past: Centre | None, *, scale: float, decay: float
) -> tuple[float, Centre]:
    """The reward of a value in dB, in (-1, 1), and the averages that include it.

    On the first visit the mean is 0, VBR, and afterwards the value itself.

    Args:
      value: dB.
      past: the averages so far; None on the first visit.
      scale: spread before the first episode, dB.
      decay: weight of the past.
    """
    mean, spread = (0.0, scale) if past is None else (past.mean, past.spread)
    off = value - mean
    keep, take = decay, 1.0 - decay
    moved = Centre(
        mean=value if past is None else keep * mean + take * value,
        spread=keep * spread + take * abs(off),
    )
    return math.tanh(off / max(spread, _LEAST_SPREAD)), moved


@dataclass(kw_only=True, eq=False)
class CentredReward(BaseReward[Centre]):
    """A graded reward: a subclass says what an episode is worth in dB.

    Attributes:
      scale: spread before the first episode, dB.
      decay: weight of the past in the moving averages.
    """

    version: ClassVar[int] = 2

    scale: float = 0.1
    decay: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0.0 < self.scale < math.inf, "scale", "above 0", self.scale)
        require(0.0 <= self.decay < 1.0, "decay", "in [0, 1)", self.decay)

    @abc.abstractmethod
    def _value(self, score: EpisodeScore, reference: Reference) -> float:
        """What the episode is worth, dB."""

    def _judge(
        self, score: EpisodeScore, past: Centre | None, reference: Reference
    ) -> tuple[float, Centre]:
        value = self._value(score, reference)
        return centred(value, past, scale=self.scale, decay=self.decay)

    def _row(self, memory: Centre) -> dict[str, Any]:
        return {"mean": memory.mean, "spread": memory.spread}

    def _memory(self, row: Mapping[str, Any]) -> Centre:
        found = Centre(float(row["mean"]), float(row["spread"]))
        if not (math.isfinite(found.mean) and 0.0 <= found.spread < math.inf):
            raise ValueError(f"{found} cannot be")
        return found
