"""The shape that every reward shares: its settings, a memory of each clip and target, a state."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from muzero_rc.env.rewards.outcome import (
    DEFAULT_TOLERANCE,
    PSNR_KINDS,
    PsnrKind,
    Reference,
    lexicographic_outcome,
)
from muzero_rc.errors import CheckpointError, InputError
from muzero_rc.types import EpisodeScore

__all__ = ["BaseReward", "Result", "require"]

Memory = TypeVar("Memory")

Result = tuple[float, float]
"""PSNR of the configured metric, dB, and actual / target - 1."""


def require(holds: bool, name: str, condition: str, value: object) -> None:
    """Refuses a setting that does not hold its condition.

    Raises:
      InputError: `holds` is false; the message says "NAME must be CONDITION, not VALUE".
    """
    if not holds:
        raise InputError(f"{name} must be {condition}, not {value}")


@dataclass(kw_only=True, eq=False)
class BaseReward(abc.ABC, Generic[Memory]):
    """A reward that keeps one memory for each clip and target.

    A subclass gives the reward of one episode (`_judge`) and the JSON form of a memory
    (`_row`, `_memory`).

    Attributes:
      tolerance: overshoot up to this counts as none.
      metric: the PSNR that is compared.

    Raises:
      InputError: a setting is out of range.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    table: ClassVar[str] = "past"  # key of the memories in the state

    tolerance: float = DEFAULT_TOLERANCE
    metric: PsnrKind = "psnr_avg"
    _past: dict[tuple[str, float], Memory] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        require(0.0 <= self.tolerance < float("inf"), "tolerance", "0 or more", self.tolerance)
        require(self.metric in PSNR_KINDS, "metric", " or ".join(PSNR_KINDS), repr(self.metric))

    def __len__(self) -> int:
        """Number of pairs of clip and target that have a memory."""
        return len(self._past)

    def past(self, clip: str, target_kbps: float) -> Memory | None:
        """The memory of a clip and target, None before the first episode."""
        return self._past.get((clip, float(target_kbps)))

    def __call__(self, score: EpisodeScore, reference: Reference) -> float:
        """The episode's reward, in [-1, 1]; then its memory moves on.

        Args:
          score: raw score of the episode.
          reference: scores of the encode that it is measured against.
        """
        reward, memory = self._judge(score, self.past(score.clip, score.target_kbps), reference)
        if memory is not None:
            self._past[score.clip, float(score.target_kbps)] = memory
        return reward

    @abc.abstractmethod
    def _judge(
        self, score: EpisodeScore, past: Memory | None, reference: Reference
    ) -> tuple[float, Memory | None]:
        """The reward, and the memory that replaces `past`; None keeps it."""

    @abc.abstractmethod
    def _row(self, memory: Memory) -> dict[str, Any]:
        """A memory as plain JSON values."""

    @abc.abstractmethod
    def _memory(self, row: Mapping[str, Any]) -> Memory:
        """Reads `_row` back; a KeyError, TypeError or ValueError says that it is damaged."""

    def _extra(self) -> dict[str, Any]:
        """What belongs to the state besides the memories."""
        return {}

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Reads `_extra` back; raises as `_memory` does, and then changes nothing."""

    def _result(self, score: EpisodeScore) -> Result:
        return float(getattr(score, self.metric)), score.overshoot

    def _outcome(self, own: Result, other: Result) -> int:
        return lexicographic_outcome(*own, *other, tolerance=self.tolerance)

    def state_dict(self) -> dict[str, Any]:
        """The memories as plain JSON values."""
        rows = [
            {"clip": clip, "target_kbps": target, **self._row(memory)}
            for (clip, target), memory in self._past.items()
        ]
        return {"kind": self.kind, "version": self.version, **self._extra(), self.table: rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replaces the memories by those of `state_dict`.

        Raises:
          CheckpointError: of another reward or version, or damaged; nothing is changed.
        """
        if not isinstance(state, Mapping):
            raise CheckpointError(f"the memory of {self.kind} is damaged: it is no table")
        # The first memories, of self-competition alone, did not say their kind.
        kind, version = state.get("kind", "self_competition"), state.get("version")
        if kind != self.kind:
            raise CheckpointError(f"the reward's memory is of {kind}, not of {self.kind}")
        if version != self.version:
            raise CheckpointError(
                f"the memory of {kind} has version {version}, this program reads {self.version}"
            )
        try:
            past = {
                (str(row["clip"]), float(row["target_kbps"])): self._memory(row)
                for row in state[self.table]
            }
            self._restore(state)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"damaged memory of {self.kind}: {error!r}") from error
        self._past = past
