"""What the search asks of an encoder: encode this plan, and say what came of it."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Protocol

from muzero_rc.agents.hindsight.plan import FrameKey, Plan, frame_key
from muzero_rc.types import EpisodeScore, FrameInfo, FrameResult

__all__ = ["Outcome", "PlanEncoder"]


@dataclass(frozen=True)
class Outcome:
    """What encoding by a plan gave.

    Attributes:
      score: of the whole clip.
      frames: description and result of each frame in coding order; the description is
        None for frames that only show a buffer.
    """

    score: EpisodeScore
    frames: tuple[tuple[FrameInfo | None, FrameResult], ...]

    @property
    def octaves(self) -> float:
        """log2 of actual over target bitrate."""
        return math.log2(max(self.score.actual_kbps, 1e-9) / self.score.target_kbps)

    @functools.cached_property
    def structure(self) -> tuple[FrameKey | None, ...]:
        """The frames' keys in coding order, None for buffers shown again."""
        return tuple(None if info is None else frame_key(info) for info, _ in self.frames)


class PlanEncoder(Protocol):
    """Encodes one clip at one target with any plan; equal plans give equal outcomes."""

    def encode(self, plan: Plan) -> Outcome:
        """Encodes; a task of a scheduler, several at a time.

        Raises:
          Cancelled: the task was cancelled; `check_cancelled` tells at every frame.
        """
        ...
