"""Plans: what all frames of a last pass are to be, decided when the probe encode is known.

A plan is part of the controller's proposals, not a correction of them, so that the rate
controller keeps its account by the bits that are expected with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from muzero_rc.env.codec.backend import ClipShape
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.types import EncodeLog, EpisodeScore

__all__ = ["DoubtsPlans", "PlannedFrame", "Plans"]


class PlannedFrame(NamedTuple):
    """What a plan says of a frame.

    Attributes:
      step: qindexes that are added to what the controller would propose.
      bits: that the frame would take in the probe encode, moved by the step.
    """

    step: int
    bits: float


@runtime_checkable
class Plans(Protocol):
    """A policy that plans the whole last pass before it begins."""

    def plan(
        self, clip: ClipShape, settings: EncoderSettings, probe: EncodeLog
    ) -> Mapping[int, PlannedFrame]:
        """The plan for the frames of a probe encode, by coding index; others are not moved.

        Args:
          clip: what is encoded.
          settings: of the encode.
          probe: the probe encode.
        """


@runtime_checkable
class DoubtsPlans(Plans, Protocol):
    """A policy that tells of an encode whether its plan may have done harm."""

    def doubts(self, score: EpisodeScore, probe: EpisodeScore, settings: EncoderSettings) -> bool:
        """Whether the encode is worth making again without the plan.

        Args:
          score: of the last pass with the plan.
          probe: of the probe encode.
          settings: of the encode.
        """
        ...

    def gained(self, ours: EpisodeScore, theirs: EpisodeScore) -> float:
        """Octaves of rate that an encode saves against another one of the clip."""
        ...
