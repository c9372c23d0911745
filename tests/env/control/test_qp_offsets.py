"""Steps by level of the pyramid, and how far a frame may be moved."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from muzero_rc.env.control.qp_offsets import QpOffsetPolicy, qindexes_with_steps, steps_by_level
from muzero_rc.env.control.recipe import QpOffsets
from muzero_rc.env.observation.builder import FRAME_COLUMNS, FRAME_FEATURES
from muzero_rc.types import NUM_QINDEX, Observation, UpdateType

OFFSETS = QpOffsets(key=1.0, leaf=2.0, base=3.0, second=4.0, deeper=5.0, overlay=6.0)


def _observation(update: UpdateType, depth: float, **more: int) -> Observation:
    frame = np.zeros(FRAME_FEATURES, np.float32)
    frame[update] = 1.0
    frame[FRAME_COLUMNS.index("layer_depth")] = depth
    empty = np.zeros((0, 1), np.float32)
    found = Observation(empty, empty, frame, empty[:0, 0], 0, 100)
    return dataclasses.replace(found, **more)


@pytest.mark.parametrize(
    ("update", "depth", "step"),
    [
        (UpdateType.KEY, 0.0, 1.0),
        (UpdateType.LEAF, 1.0, 2.0),
        (UpdateType.GOLDEN, 0.0, 3.0),
        (UpdateType.ARF, 0.25, 3.0),
        (UpdateType.ARF, 0.34, 3.0),
        (UpdateType.ARF, 0.5, 4.0),
        (UpdateType.ARF, 0.7, 5.0),
        (UpdateType.ARF, 0.8, 5.0),
        (UpdateType.OVERLAY, 1.0, 6.0),
        (UpdateType.MID_OVERLAY, 1.0, 6.0),
        (UpdateType.USE_BUF, 1.0, 6.0),
    ],
)
def test_each_level_has_its_own_step(update: UpdateType, depth: float, step: float) -> None:
    observation = _observation(update, depth)
    assert steps_by_level([observation], OFFSETS).tolist() == [step]
    moved = _observation(update, depth, rate_offset=-7)
    assert QpOffsetPolicy(OFFSETS).qindexes([moved]).tolist() == [93 + step]


def test_a_frame_moves_no_further_than_it_may() -> None:
    leaf = UpdateType.LEAF
    seen = [
        _observation(leaf, 1.0),
        _observation(leaf, 1.0, reach=5),
        _observation(leaf, 1.0, reach=0),
        _observation(leaf, 1.0, rate_offset=150),
    ]
    assert qindexes_with_steps(seen, [20.4, 20.0, 20.0, 20.0]).tolist() == [
        120, 105, 100, NUM_QINDEX - 1,
    ]  # fmt: skip
    assert qindexes_with_steps(seen, [-20, -20, -20, -249]).tolist() == [80, 95, 100, 1]


def test_no_step_makes_a_frame_lossless() -> None:
    near = [_observation(UpdateType.ARF, 1.0, rate_offset=offset) for offset in (-96, -99, -100)]
    assert qindexes_with_steps(near, [-8.0, -1.0, -8.0]).tolist() == [1, 1, 0]
    assert qindexes_with_steps(near, [6.0, 6.0, 6.0]).tolist() == [10, 7, 6]
