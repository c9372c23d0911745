"""Studies: several encodes of one clip at one target, to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.world_model.features import features_of
from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.agents.world_model.gain import FrameChanges, Objective
from muzero_rc.agents.world_model.normal_equations import NormalEquations

__all__ = ["Study", "equations_by_source"]

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """Encodes of one clip.

    Attributes:
      source: of the clip; what is held out is held out by source.
      slope: of the clip's curve of quality over rate at the base, dB per octave.
      base: what changes are relative to.
      encodes: of the same frames with other qindexes: all that were tried, not the best of
        them, which is flattered by its luck.
      features: [N, NUM_FEATURES] of the base's frames as a probe saw them; None takes the
        base's own.
    """

    source: str
    slope: float
    base: EncodeFrames
    encodes: Sequence[EncodeFrames]
    features: _Floats | None = None

    @property
    def known_features(self) -> _Floats:
        """The features that are used. [N, NUM_FEATURES]."""
        return features_of(self.base) if self.features is None else self.features

    def changes(self) -> list[FrameChanges]:
        """Of every encode.

        Raises:
          InputError: an encode has other frames than the base.
        """
        return [FrameChanges.between(self.base, encode) for encode in self.encodes]

    def gains(self, average_share: float = 0.5) -> _Floats:
        """What every encode really gained, octaves of rate. [encodes].

        Raises:
          InputError: an encode has other frames than the base.
        """
        objective = Objective(self.base, self.slope, average_share)
        return np.array([objective.realised(changes) for changes in self.changes()])

    def equations(
        self, encodes: slice = slice(None), average_share: float = 0.5
    ) -> NormalEquations:
        """Normal equations of some of the encodes.

        Raises:
          InputError: an encode has other frames than the base.
        """
        return NormalEquations.of(
            self.base, self.encodes[encodes], self.slope, self.known_features, average_share
        )


def equations_by_source(
    studies: Sequence[Study], average_share: float = 0.5
) -> dict[str, NormalEquations]:
    """Normal equations of each source; their sum less one holds that one out."""
    sums: dict[str, NormalEquations] = {}
    for study in studies:
        known = sums.get(study.source, NormalEquations.empty())
        sums[study.source] = known + study.equations(average_share=average_share)
    return sums
