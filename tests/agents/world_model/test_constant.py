"""Mean steps of kinds, by speed and target."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muzero_rc.agents.world_model.constant import (
    NUM_STEP_KINDS,
    MeanSteps,
    PlannedSteps,
    log2_target_of,
    step_kinds,
)
from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.errors import InputError
from muzero_rc.types import FrameRole

WEAK = 1e-9


@pytest.fixture(scope="module")
def bases(studies: Any) -> list[EncodeFrames]:
    """The same frames at targets an octave apart and more."""
    return [
        replace(study.base, bits=study.base.bits * 2.0**n, overhead_bits=0.0)
        for n, study in enumerate(studies[:4])
    ]


def planned(base: EncodeFrames, speed: int, shift: float = 0.0) -> PlannedSteps:
    """A rule: one number for each kind, a line over the target, another at each speed."""
    by_kind = np.arange(NUM_STEP_KINDS) - 4.0
    steps = by_kind[step_kinds(base)] + 2.0 * log2_target_of(base) + speed + shift
    return PlannedSteps(base, steps, speed)


def test_repeated_frames_are_kinds_of_their_own(bases: list[EncodeFrames]) -> None:
    base = bases[0]
    np.testing.assert_array_equal(step_kinds(base), base.role)
    repeated = replace(base, repeated=base.role == FrameRole.LEAF)
    assert set(step_kinds(repeated)[repeated.repeated]) == {2 * len(FrameRole) - 1}


def test_a_target_is_bits_per_pixel(bases: list[EncodeFrames]) -> None:
    base = bases[0]
    expected = base.total_bits / (176 * 144) / base.weight.sum()
    assert 2 ** log2_target_of(base) == pytest.approx(expected)


def test_a_rule_by_kind_speed_and_target_is_found_again(bases: list[EncodeFrames]) -> None:
    examples = [planned(base, speed) for base in bases for speed in (2, 5)]
    means = MeanSteps.fit(examples, WEAK)
    for example in examples:
        np.testing.assert_allclose(
            means.steps_of(example.frames, example.speed), example.steps, atol=1e-4
        )


def test_long_clips_count_no_more(synthetic: Any) -> None:
    short, long = synthetic(1, groups=1).base, synthetic(2, groups=6).base
    means = MeanSteps.fit(
        [
            PlannedSteps(short, np.full(len(short), 6.0), 2),
            PlannedSteps(long, np.full(len(long), 2.0), 2),
        ],
        strength=1e9,
    )
    np.testing.assert_allclose(means.steps_of(short, 2), 4.0, atol=1e-6)


def test_beyond_what_was_seen(bases: list[EncodeFrames]) -> None:
    """The nearest speed; targets beyond the ends as the ends; kinds never seen stay."""
    means = MeanSteps.fit([planned(base, speed) for base in bases for speed in (2, 5)], WEAK)
    base = bases[1]
    np.testing.assert_array_equal(means.steps_of(base, 0), means.steps_of(base, 2))
    np.testing.assert_array_equal(means.steps_of(base, 9), means.steps_of(base, 5))
    ends = [log2_target_of(b) for b in bases]
    np.testing.assert_array_equal(means.steps_of(base, 2, 99.0), means.steps_of(base, 2, max(ends)))
    np.testing.assert_array_equal(
        means.steps_of(base, 2, -99.0), means.steps_of(base, 2, min(ends))
    )
    unseen = replace(base, role=np.full(len(base), int(FrameRole.OVERLAY)))
    np.testing.assert_array_equal(means.steps_of(unseen, 2), 0.0)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 10), st.floats(-5, 5))
def test_strength_shrinks_a_speed_to_all_speeds(
    bases: list[EncodeFrames], strength: float, shift: float
) -> None:
    """Of a speed with one plan the mean lies between its own and that of all."""
    examples = [planned(base, 2) for base in bases[:3]] + [planned(bases[3], 5, shift)]
    loose, firm = (MeanSteps.fit(examples, s) for s in (WEAK, strength))
    everything = MeanSteps.fit(examples, 1e12)
    own, mixed, common = (m.steps[1] for m in (loose, firm, everything))
    seen = np.unique(step_kinds(bases[3]))
    np.testing.assert_allclose(
        mixed[seen], (own[seen] + strength * common[seen]) / (1 + strength), atol=1e-5
    )


def test_arrays_there_and_back(bases: list[EncodeFrames]) -> None:
    means = MeanSteps.fit([planned(base, 2) for base in bases])
    again = MeanSteps.of_arrays(means.as_arrays())
    np.testing.assert_array_equal(again.steps_of(bases[0], 2), means.steps_of(bases[0], 2))
    with pytest.raises(InputError, match="damaged"):
        MeanSteps.of_arrays({})
    with pytest.raises(InputError, match="tilt of shape"):
        MeanSteps.of_arrays({**means.as_arrays(), "tilt": np.zeros(3)})


def test_what_cannot_be_fitted(bases: list[EncodeFrames]) -> None:
    with pytest.raises(InputError, match="no plans"):
        MeanSteps.fit([])
    with pytest.raises(InputError, match="as many steps"):
        MeanSteps.fit([PlannedSteps(bases[0], np.zeros(3), 2)])
