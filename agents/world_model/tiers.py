"""Speed tiers in the response model: what a slower search changes of a frame.

A frame f that is searched at another tier than in the base has

    B_f = ... + l(k_f, t_f) - l(k_f, t0_f),    E_f = ... + m(k_f, t_f) - m(k_f, t0_f)

beside the terms of its quantizer and its references (`linear`), k being its kind and t the tier.
So what differs from clip to clip is not what a tier saves of a frame, but what that is worth:
the share of the bits that the frame has, and all that its error passes on to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.world_model.features import NUM_KINDS, REPEATED
from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.agents.world_model.gain import FrameChanges, Objective
from muzero_rc.agents.world_model.linear import NUM_OUTPUTS, Response, terms
from muzero_rc.types import TIERS

__all__ = ["TierChanges", "TierLevels", "kinds_of"]

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class TierChanges:
    """What other tiers changed of the N frames of an encode.

    Attributes:
      kind: [N] of the frames, `REPEATED` or a role.
      own: [N] tier in the base.
      tier: [N] in the encode.
      left: [NUM_OUTPUTS, N] change of log2 bits and of log2 error that neither the quantizers
        nor the references account for.
      weights: [NUM_OUTPUTS, N] what that is worth to the clip; 0 where nothing can be compared.
      octaves: [N] change of log2 of the quantizer's step.
      gain: octaves of rate that the encode really gained at equal quality.
    """

    kind: _Ints
    own: _Ints
    tier: _Ints
    left: _Floats
    weights: _Floats
    octaves: _Floats
    gain: float

    @classmethod
    def between(
        cls,
        response: Response,
        objective: Objective,
        probe: EncodeFrames,
        other: EncodeFrames,
        own: _Ints,
        tier: _Ints,
    ) -> TierChanges:
        """The changes from a base to an encode of the same frames.

        Args:
          response: of the base's frames.
          objective: of the base.
          probe: the probe encode, of the same frames.
          other: the encode.
          own: [N] tiers of the base's frames.
          tier: [N] tiers of the encode's frames.

        Raises:
          InputError: the frames are others.
        """
        base = response.base
        changes = FrameChanges.between(base, other)
        parts = terms(base, changes.octaves, changes.sse)
        left = np.stack(
            [
                changes.bits - (response.bits * parts).sum(axis=1),
                changes.sse - (response.sse * parts).sum(axis=1),
            ]
        )
        by_bits, by_sse = objective.at_base()
        worth = np.stack([-by_bits, -response.total_by_sse(by_bits, by_sse)])
        kept = changes.comparable & ~base.repeated
        return cls(
            kinds_of(probe), own, tier, left, np.maximum(worth, 0.0) * kept,
            changes.octaves, objective.realised(changes),
        )  # fmt: skip


def kinds_of(probe: EncodeFrames) -> _Ints:
    """[N] role of each frame, or `REPEATED`."""
    return np.where(probe.repeated, REPEATED, probe.role)


@dataclass(frozen=True, slots=True, eq=False)
class TierLevels:
    """Learned levels.

    Attributes:
      levels: [NUM_OUTPUTS, NUM_KINDS, TIERS] octaves over the fastest tier of the kind that was
        seen; nan for what was not.
    """

    levels: _Floats

    @classmethod
    def fit(cls, encodes: Iterable[TierChanges]) -> TierLevels:
        """The levels whose differences are nearest to what came; every encode weighs the same."""
        weights = np.zeros((NUM_OUTPUTS, NUM_KINDS, TIERS, TIERS))
        sums = np.zeros_like(weights)
        for found in encodes:
            place = found.kind, found.own, found.tier
            for output, (left, weight) in enumerate(zip(found.left, found.weights, strict=True)):
                share = weight / max(float(weight.sum()), 1e-12)
                np.add.at(weights[output], place, share)
                np.add.at(sums[output], place, share * left)
        levels = [
            [_levels(weights[output, kind], sums[output, kind]) for kind in range(NUM_KINDS)]
            for output in range(NUM_OUTPUTS)
        ]
        return cls(np.array(levels))

    def added(self, changes: TierChanges) -> _Floats:
        """What the tiers of an encode add to B and E, 0 if not known. [NUM_OUTPUTS, N]."""
        kind = changes.kind
        moved = self.levels[:, kind, changes.tier] - self.levels[:, kind, changes.own]
        return np.where(np.isfinite(moved) & (kind != REPEATED), moved, 0.0)

    def gains(self, response: Response, objective: Objective) -> _Floats:
        """Octaves of rate that each frame gains at each tier, to first order. [N, TIERS].

        nan where nothing is known. Of frames that are repeated, 0.

        Args:
          response: of the frames of a probe encode.
          objective: of it.
        """
        by_bits, by_sse = objective.at_base()
        worth = np.stack([by_bits, response.total_by_sse(by_bits, by_sse)])
        kind = kinds_of(response.base)
        gains = np.einsum("on,ont->nt", worth, self.levels[:, kind])
        gains[kind == REPEATED] = 0.0
        return np.asarray(gains)


def _levels(weights: _Floats, sums: _Floats) -> _Floats:
    """[TIERS] levels by least squares from sums by own and other tier; nan for what is unknown."""
    both = weights + weights.T
    np.fill_diagonal(both, 0.0)
    left = np.diag(both.sum(axis=1)) - both
    right = (sums - sums.T).sum(axis=0)
    places = np.flatnonzero(both.sum(axis=1) > 0.0)
    levels = np.full(TIERS, np.nan)
    if len(places):
        found = np.linalg.lstsq(left[np.ix_(places, places)], right[places], rcond=1e-9)[0]
        levels[places] = found - found[-1]
    return levels
