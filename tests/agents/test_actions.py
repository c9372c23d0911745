"""Actions and qindexes: inverse of each other on what is valid, in both frames."""

from __future__ import annotations

import numpy as np
import pytest

from muzero_rc.agents.actions import (
    CENTRE,
    NUM_ACTIONS,
    action_of_qindex,
    imitation_target,
    qindex_of_action,
    valid_actions,
)

FRAMES = ("proposal", "absolute")


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("proposal", [0, 1, 100, 127, 128, 129, 254, 255])
def test_each_reachable_qindex_has_exactly_one_valid_action(frame: str, proposal: int) -> None:
    valid = np.flatnonzero(valid_actions(proposal, frame))
    qindexes = qindex_of_action(valid, proposal, frame)
    assert len(set(qindexes.tolist())) == len(valid) > 0
    np.testing.assert_array_equal(action_of_qindex(qindexes, proposal, frame), valid)
    low, high = (0, 255) if frame == "absolute" else (proposal - 128, proposal + 127)
    assert sorted(qindexes) == list(range(max(low, 0), min(high, 255) + 1))


def test_the_centre_is_the_proposal_and_always_valid() -> None:
    proposals = np.arange(256)
    np.testing.assert_array_equal(qindex_of_action(CENTRE, proposals, "proposal"), proposals)
    assert valid_actions(proposals, "proposal")[:, CENTRE].all()
    assert valid_actions(proposals, "proposal").shape == (256, NUM_ACTIONS)


@pytest.mark.parametrize("frame", FRAMES)
def test_any_qindex_maps_to_the_nearest_valid_action(frame: str) -> None:
    for proposal in (0, 77, 255):
        actions = action_of_qindex(np.arange(256), proposal, frame)
        assert valid_actions(proposal, frame)[actions].all()
        reached = qindex_of_action(np.flatnonzero(valid_actions(proposal, frame)), proposal, frame)
        nearest = [np.abs(reached - q).min() for q in range(256)]
        got = np.abs(qindex_of_action(actions, proposal, frame) - np.arange(256))
        np.testing.assert_array_equal(got, nearest)


def test_imitation_target_is_a_valid_bump_around_the_teacher() -> None:
    target = imitation_target(250, 251, "proposal", sigma=3.0)
    assert target.dtype == np.float32 and target.sum() == pytest.approx(1.0, abs=1e-6)
    assert target.argmax() == CENTRE - 1
    assert (target[~valid_actions(251, "proposal")] == 0).all()
    ratio = target[CENTRE - 4] / target[CENTRE - 1]
    assert ratio == pytest.approx(np.exp(-0.5), rel=1e-5)
    one_hot = imitation_target(3, 200, "absolute", sigma=0)
    assert one_hot[3] == 1 and one_hot.sum() == 1


@pytest.mark.parametrize("frame", ["proposal", "absolute"])
@pytest.mark.parametrize("proposal", [0, 3, 128, 255])
@pytest.mark.parametrize("reach", [0, 2, 300])
def test_reach_bounds_the_step_from_the_proposal(frame: str, proposal: int, reach: int) -> None:
    valid = valid_actions(proposal, frame, reach)
    reached = qindex_of_action(np.flatnonzero(valid), proposal, frame)
    assert valid.any()
    assert np.abs(reached - proposal).max() <= reach
    assert proposal in reached
