"""The quantizer's steps are those of the VP9 specification."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from muzero_rc.agents.world_model.quantizer import AC_STEPS, SMALLEST, log2_step, qindex_of
from muzero_rc.types import NUM_QINDEX


def test_points_of_the_specification() -> None:
    assert len(AC_STEPS) == NUM_QINDEX
    points = {0: 4, 1: 8, 95: 102, 96: 104, 120: 152, 128: 176, 192: 550, 255: 1828}
    assert {q: int(AC_STEPS[q]) for q in points} == points
    assert int(AC_STEPS.sum()) == 98156


@given(st.floats(0, 255))
def test_there_and_back(qindex: float) -> None:
    assert abs(float(qindex_of(log2_step(qindex))) - qindex) < 1e-6


def test_the_ends_hold() -> None:
    np.testing.assert_array_equal(log2_step([-5, 300]), np.log2([4 + SMALLEST, 1828 + SMALLEST]))
