"""Speed tiers in the response model, by hand on three frames, and learned from encodes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from muzero_rc.agents.world_model.features import NUM_KINDS, REPEATED
from muzero_rc.agents.world_model.gain import Objective
from muzero_rc.agents.world_model.linear import NUM_OUTPUTS, NUM_TERMS, Response
from muzero_rc.agents.world_model.study import Study
from muzero_rc.agents.world_model.tiers import TierChanges, TierLevels, kinds_of
from muzero_rc.types import TIERS, FrameRole


def _known(role: FrameRole, bits: list[float], sse: list[float]) -> TierLevels:
    levels = np.full((NUM_OUTPUTS, NUM_KINDS, TIERS), np.nan)
    levels[0, role], levels[1, role] = bits, sse
    return TierLevels(levels)


def _response(study: Study, passed: float) -> Response:
    """Frames pass on a part of their references' error, and nothing else."""
    base = study.base
    coefficients = np.zeros((NUM_OUTPUTS, len(base), NUM_TERMS))
    coefficients[1, :, 2] = passed
    return Response(base, coefficients)


def test_a_tier_is_worth_its_bits_and_all_that_its_error_passes_on_to(studies: list[Study]) -> None:
    study = studies[0]
    response = _response(study, 0.5)
    objective = Objective(study.base, study.slope)
    by_bits, by_sse = objective.at_base()
    role = FrameRole(int(study.base.role[-1]))
    levels = _known(role, [-0.2, -0.1, 0.0, 0.0, 0.0], [-0.3, 0.0, 0.0, 0.0, 0.0])
    gains = levels.gains(response, objective)
    last = len(study.base) - 1
    # Nothing refers to the last frame: its error is worth what it is worth itself.
    assert gains[last, 1] == pytest.approx(-0.1 * by_bits[last])
    assert gains[last, 0] == pytest.approx(-0.2 * by_bits[last] - 0.3 * by_sse[last])
    assert gains[last, 4] == 0.0
    # By hand: what frame 0 is worth is its own and half of what all that refer to it are worth.
    total = by_sse.copy()
    for frame in range(last, -1, -1):
        reference = int(study.base.references[frame, 0])
        if reference >= 0:
            total[reference] += 0.5 * total[frame]
    of_key = _known(FrameRole(int(study.base.role[0])), [0.0] * 5, [-1.0, 0.0, 0.0, 0.0, 0.0])
    assert of_key.gains(response, objective)[0, 0] == pytest.approx(-total[0])
    assert abs(total[0]) > abs(by_sse[0])


def test_what_was_not_seen_is_not_known(studies: list[Study]) -> None:
    study = studies[0]
    none = _known(FrameRole.OVERLAY, [0.0] * 5, [0.0] * 5)
    gains = none.gains(_response(study, 0.5), Objective(study.base, study.slope))
    coded = kinds_of(study.base) != REPEATED
    assert np.isnan(gains[coded & (study.base.role != FrameRole.OVERLAY)]).all()
    assert (gains[~coded] == 0.0).all()


def _changes(own: list[int], tier: list[int], levels: np.ndarray[Any, Any]) -> TierChanges:
    kind = np.full(len(own), int(FrameRole.LEAF))
    left = np.stack([levels[o][tier] - levels[o][own] for o in range(NUM_OUTPUTS)])
    count = len(own)
    return TierChanges(
        kind, np.array(own), np.array(tier), left, np.ones((NUM_OUTPUTS, count)), np.zeros(count), 0
    )


def test_levels_are_found_again_from_their_differences() -> None:
    levels = np.array([[-0.5, -0.3, -0.2, -0.1, 0.0], [-0.2, -0.1, -0.1, 0.0, 0.0]])
    # No encode has all tiers, and none says more than differences.
    found = TierLevels.fit(
        [_changes([1, 1, 1], [0, 2, 1], levels), _changes([3, 3], [2, 4], levels)]
    )
    assert found.levels[:, FrameRole.LEAF] == pytest.approx(levels)
    assert np.isnan(found.levels[:, FrameRole.KEY]).all()


def test_frames_that_cannot_be_compared_say_nothing() -> None:
    levels = np.array([[-0.5, -0.3, -0.2, -0.1, 0.0], [-0.2, -0.1, -0.1, 0.0, 0.0]])
    true, wrong = _changes([1], [2], levels), _changes([1], [2], 5.0 * levels)
    none = dataclasses.replace(wrong, weights=np.zeros((NUM_OUTPUTS, 1)))
    found = TierLevels.fit([true, none]).levels[0, FrameRole.LEAF]
    assert found[1] - found[2] == pytest.approx(-0.1)
