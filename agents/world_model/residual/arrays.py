"""Studies as padded arrays of one shape, for JAX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.world_model.features import NUM_KINDS
from muzero_rc.agents.world_model.frames import NO_REFERENCE
from muzero_rc.agents.world_model.gain import Objective
from muzero_rc.agents.world_model.gain_arrays import GainArrays
from muzero_rc.agents.world_model.linear import LinearModel
from muzero_rc.agents.world_model.normal_equations import worth_of_errors
from muzero_rc.agents.world_model.study import Study

__all__ = ["ClipArrays", "Scale", "StudyArrays", "study_arrays"]

_Array = npt.NDArray[np.float32]
_MULTIPLE = 32  # frames are padded to, so that few shapes are compiled


class ClipArrays(NamedTuple):
    """What is known of B clips before their last pass, N frames each at most.

    Attributes:
      tokens: [B, N, NUM_FEATURES] standardised features, 0 in padding.
      linear: [B, NUM_OUTPUTS, N, NUM_TERMS] coefficients of the linear model.
      references: [B, N, REFERENCES] positions, 0 for none.
      real: [B, N, REFERENCES] 1 where there is a reference.
      frames: [B, N] 1 for frames, 0 for padding.
    """

    tokens: _Array
    linear: _Array
    references: npt.NDArray[np.int32]
    real: _Array
    frames: _Array


class StudyArrays(NamedTuple):
    """B studies with K encodes each at most.

    Attributes:
      clip: what is known beforehand.
      gains: what the clips' gains are computed from.
      worth: [B, N] weight of an error, with the sum 1.
      octaves: [B, K, N] g of each encode.
      bits: [B, K, N] B.
      sse: [B, K, N] E.
      kept: [B, K, N] 1 where both encodes coded the frame.
      gain: [B, K] octaves of rate that came.
      encodes: [B, K] 1 for encodes, 0 for padding.
    """

    clip: ClipArrays
    gains: GainArrays
    worth: _Array
    octaves: _Array
    bits: _Array
    sse: _Array
    kept: _Array
    gain: _Array
    encodes: _Array


class Scale(NamedTuple):
    """Standardises features; kinds stay as they are. [NUM_FEATURES] each."""

    mean: _Array
    deviation: _Array

    @classmethod
    def of(cls, studies: Sequence[Study]) -> Scale:
        """Over the frames of all studies."""
        rows = np.concatenate([study.known_features for study in studies])
        mean, deviation = rows.mean(axis=0), rows.std(axis=0)
        mean[:NUM_KINDS], deviation[:NUM_KINDS] = 0.0, 1.0
        deviation = np.where(deviation > 1e-6, deviation, 1.0)
        return cls(mean.astype(np.float32), deviation.astype(np.float32))

    def tokens(self, features: npt.NDArray[np.float64]) -> _Array:
        """[N, NUM_FEATURES], cut off where no clip of the fit was."""
        return np.clip((features - self.mean) / self.deviation, -5.0, 5.0).astype(np.float32)


def study_arrays(
    studies: Sequence[Study], models: Sequence[LinearModel], scale: Scale, average_share: float
) -> StudyArrays:
    """Studies with the model that each is corrected of.

    Args:
      studies: B of them.
      models: one for each, which had better not have seen the study.
      scale: of the features.
      average_share: as of `Objective`.
    """
    frames = -(-max(len(study.base) for study in studies) // _MULTIPLE) * _MULTIPLE
    most = max(len(study.encodes) for study in studies)
    rows = [
        _one(study, model, scale, average_share, frames, most)
        for study, model in zip(studies, models, strict=True)
    ]
    clips = ClipArrays(*(np.stack(parts) for parts in zip(*(r.clip for r in rows), strict=True)))
    gains = GainArrays(*(np.stack(parts) for parts in zip(*(r.gains for r in rows), strict=True)))
    rest = [np.stack(parts) for parts in zip(*(row[2:] for row in rows), strict=True)]
    return StudyArrays(clips, gains, *rest)


def _one(
    study: Study, model: LinearModel, scale: Scale, average_share: float, frames: int, most: int
) -> StudyArrays:
    """One study without the axis B, padded to `frames` frames and `most` encodes."""
    base, changes, features = study.base, study.changes(), study.known_features
    response = model.response(base, features)
    real = base.references != NO_REFERENCE
    objective = Objective(base, study.slope, average_share)
    worth = worth_of_errors(base)

    def pad(values: npt.NDArray[np.generic], axis: int = 0) -> _Array:
        width = [(0, 0)] * values.ndim
        width[axis] = (0, frames - len(base))
        return np.pad(values, width).astype(np.float32)

    def pads(rows: Sequence[npt.NDArray[np.generic]]) -> _Array:
        found = np.zeros((most, frames), np.float32)
        for place, row in enumerate(rows):
            found[place, : len(row)] = row
        return found

    gain = np.zeros(most, np.float32)
    gain[: len(changes)] = [objective.realised(change) for change in changes]
    clip = ClipArrays(
        tokens=pad(scale.tokens(features)),
        linear=pad(np.stack([response.bits, response.sse]), axis=1),
        references=pad(np.where(real, base.references, 0)).astype(np.int32),
        real=pad(real),
        frames=pad(np.ones(len(base))),
    )
    return StudyArrays(
        clip=clip,
        gains=GainArrays.of(base, study.slope, average_share, frames),
        worth=pad(worth / worth.sum()),
        octaves=pads([change.octaves for change in changes]),
        bits=pads([change.bits for change in changes]),
        sse=pads([change.sse for change in changes]),
        kept=pads([change.comparable for change in changes]),
        gain=gain,
        encodes=(np.arange(most) < len(changes)).astype(np.float32),
    )
