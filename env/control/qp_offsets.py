"""Steps by level of the pyramid, `Recipe.qp_offsets`, that `landed` adds to the controller's.

A policy sees a frame as an observation. Its level is read from the first columns of
`Observation.frame`: the one-hot update type, then the depth over that of the leaves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from muzero_rc.env.control.recipe import DEFAULT_RECIPE, QpOffsets
from muzero_rc.types import NUM_QINDEX, Observation, QindexPolicy, UpdateType

__all__ = [
    "ConstantQualityPolicy",
    "QpOffsetPolicy",
    "is_base",
    "qindexes_with_steps",
    "steps_by_level",
]

_TYPES = len(UpdateType)  # the first columns of Observation.frame
_DEPTH_COLUMN = _TYPES + 1  # depth in the ARF pyramid over its greatest depth
_SHALLOW, _DEEP = 0.34, 0.7  # of two to six layers: the first, those between, the last


def steps_by_level(
    observations: Sequence[Observation], offsets: QpOffsets = DEFAULT_RECIPE.qp_offsets
) -> npt.NDArray[np.float64]:
    """The offset of each observation's frame, in qindexes. [B]."""
    update, depth = _types_and_depths(observations)
    arf = update == UpdateType.ARF
    base = _is_golden_or_first(update, depth)
    return np.select(
        [
            update == UpdateType.KEY,
            update == UpdateType.LEAF,
            base,
            arf & (depth > _SHALLOW) & (depth < _DEEP),
            arf,
        ],
        [offsets.key, offsets.leaf, offsets.base, offsets.second, offsets.deeper],
        offsets.overlay,
    )


def _types_and_depths(
    observations: Sequence[Observation],
) -> tuple[npt.NDArray[np.int_], npt.NDArray[np.float32]]:
    """Update types of frames, and their depths over the greatest one. [B], [B]."""
    frames = np.stack([observation.frame for observation in observations])
    return frames[:, :_TYPES].argmax(axis=1), frames[:, _DEPTH_COLUMN]


def _is_golden_or_first(
    update: npt.NDArray[np.int_], depth: npt.NDArray[np.float32]
) -> npt.NDArray[np.bool_]:
    """Golden frames, which are too few to stand alone, and the first layer of ARFs."""
    return (update == UpdateType.GOLDEN) | ((update == UpdateType.ARF) & (depth <= _SHALLOW))


def is_base(observations: Sequence[Observation]) -> npt.NDArray[np.bool_]:
    """Key frames, golden frames and the first layer of ARFs: a group begins with one. [B]."""
    update, depth = _types_and_depths(observations)
    return (update == UpdateType.KEY) | _is_golden_or_first(update, depth)


def qindexes_with_steps(
    observations: Sequence[Observation], steps: npt.ArrayLike
) -> npt.NDArray[np.int32]:
    """The controller's qindexes, moved as far as they may be. [B] int32.

    Args:
      observations: B of them.
      steps: [B] qindexes to add.
    """
    anchors = np.array([o.base_qindex for o in observations])
    bounds = np.array([o.reach for o in observations])
    near = np.clip(np.asarray(steps, np.float64), -bounds, bounds)
    # A step makes a frame finer, never lossless (qindex 0): nobody knows what that would take.
    return np.clip(anchors + np.rint(near), np.minimum(anchors, 1), NUM_QINDEX - 1).astype(np.int32)


class QpOffsetPolicy(QindexPolicy):
    """The controller's qindex plus the offset of the frame's level: `landed` without its passes."""

    name = "landed"

    def __init__(self, offsets: QpOffsets = DEFAULT_RECIPE.qp_offsets) -> None:
        """Takes the offsets of the levels."""
        self._offsets = offsets

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        """qindex for each observation. [B] int32."""
        return qindexes_with_steps(observations, steps_by_level(observations, self._offsets))


class ConstantQualityPolicy(QindexPolicy):
    """libvpx's proposals of constant quality, all shifted alike, plus the offsets of the levels.

    The shift may lie between two qindexes: then as many shown frames have the one and the other
    as make the mean. Where libvpx proposes no loss (qindex 0) and there is no shift, all frames are
    lossless.

    In stretches with a lossless base layer key frames, golden frames and the first layer of
    alternate references are lossless, too. What stands still is then shown again by all frames
    that refer to them, and costs nothing there. Of finer and coarser steps each of them would have
    to mend what is left.
    """

    name = "constant quality"

    def __init__(
        self,
        shift: float,
        offsets: QpOffsets = DEFAULT_RECIPE.qp_offsets,
        *,
        lossless: Sequence[Sequence[int]] = (),
    ) -> None:
        """Takes the qindexes to add, the offsets, and the stretches.

        Args:
          shift: qindexes to add.
          offsets: of the levels.
          lossless: the stretches with a lossless base layer: the first shown frame of each, and
            the one after its last.
        """
        self._shift = shift
        self._offsets = offsets
        self._lossless = np.array(lossless, np.float64).reshape(-1, 2)

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        """qindex for each observation. [B] int32."""
        shown = np.array([o.show_index for o in observations], np.float64)
        shifts = np.floor(self._shift * (shown + 1.0)) - np.floor(self._shift * shown)
        steps = np.rint(steps_by_level(observations, self._offsets))
        proposals = np.array([o.proposal_qindex for o in observations], np.float64)
        # No step makes a frame lossless, nor one lossy where all are to be lossless.
        lossless = (proposals == 0.0) & (self._shift == 0.0)
        first, end = self._lossless[:, :1], self._lossless[:, 1:]
        lossless |= is_base(observations) & ((first <= shown) & (shown < end)).any(axis=0)
        lossy = np.clip(proposals + shifts + steps, 1, NUM_QINDEX - 1)
        return np.where(lossless, 0, lossy).astype(np.int32)
