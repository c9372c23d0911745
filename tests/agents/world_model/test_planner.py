"""Plans: better, within limits, at the same rate, fast."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muzero_rc.agents.world_model.gain import FrameChanges, Objective
from muzero_rc.agents.world_model.linear import LinearModel, octaves_of_steps
from muzero_rc.agents.world_model.normal_equations import NormalEquations, Ridge
from muzero_rc.agents.world_model.planner import Plan, PlanSettings, _Search, plan
from muzero_rc.errors import InputError
from muzero_rc.types import NUM_QINDEX

SOFT = PlanSettings(step_strength=0.02)


@pytest.fixture(scope="module")
def clip(synthetic: Any) -> Any:
    return synthetic(40, groups=4)


def realised(clip: Any, law: Any, slope: float, steps: np.ndarray) -> float:
    changes = FrameChanges.between(clip.base, clip.encode(law, steps))
    return Objective(clip.base, slope).realised(changes)


def test_a_plan_gains_what_it_promises_where_the_law_is_known(clip: Any, law: Any) -> None:
    slope = clip.slope(law)
    found = plan(LinearModel(law.coefficients), clip.base, slope, SOFT)
    assert found.gain > 0.03
    assert realised(clip, law, slope, found.steps) == pytest.approx(found.gain, abs=1e-9)
    np.testing.assert_allclose(found.bits, clip.encode(law, found.steps).bits)
    assert found.rate == pytest.approx(
        np.log2((found.bits.sum() + clip.base.overhead_bits) / clip.base.total_bits)
    )


def test_a_plan_of_a_fitted_model_gains_on_a_clip_that_it_has_not_seen(
    clip: Any, law: Any, studies: Any
) -> None:
    model = sum((s.equations() for s in studies), NormalEquations.empty()).solve(
        Ridge(features=0.03, kinds=0.0003)
    )
    slope = clip.slope(law)
    found = plan(model, clip.base, slope, SOFT)
    rng = np.random.default_rng(0)
    by_chance = [realised(clip, law, slope, rng.permutation(found.steps)) for _ in range(20)]
    gained = realised(clip, law, slope, found.steps)
    assert gained > 0.8 * found.gain > 0.02
    assert gained > max(by_chance)


def test_no_single_step_is_better(clip: Any, law: Any) -> None:
    """Whole steps beside the plan's promise no more, but for rounding."""
    model, slope = LinearModel(law.coefficients), clip.slope(law)
    found = plan(model, clip.base, slope, SOFT)
    objective, response = Objective(clip.base, slope), model.response(clip.base)
    search = _Search(objective, response, SOFT, np.zeros(len(clip.base)))
    best = search.value(octaves_of_steps(clip.base, found.steps))
    for frame in range(len(clip.base)):
        for move in (-3, 3):
            steps = np.array(found.steps)
            steps[frame] = np.clip(steps[frame] + move, -16, 16)
            assert search.value(octaves_of_steps(clip.base, steps)) <= best + 1e-4


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_derivatives_of_what_is_searched(clip: Any, law: Any, seed: int) -> None:
    """The gradient is exact; the curvature is, where nothing bends upwards and rate is held."""
    rng = np.random.default_rng(seed)
    count = len(clip.base)
    theta = np.array(law.coefficients)
    objective = Objective(clip.base, 4.5)

    def searcher(bent: float) -> _Search:
        theta[:, 1] *= bent
        response = LinearModel(theta).response(clip.base)
        return _Search(objective, response, SOFT, rng.normal(0, 0.1, count))

    octaves = rng.normal(0, 0.2, count)
    search = searcher(1.0)
    gradient, _ = search.derivatives(octaves)
    for frame in rng.integers(0, count, 4):
        move = np.eye(count)[frame] * 1e-5
        numeric = (search.value(octaves + move) - search.value(octaves - move)) / 2e-5
        assert gradient[frame] == pytest.approx(numeric, abs=1e-7)

    search = searcher(0.0)
    octaves *= 0.0  # the rate's own change is nothing here, so that its square is a square
    _, curvature = search.derivatives(octaves)
    assert np.linalg.eigvalsh(curvature).min() > 0
    for frame in rng.integers(0, count, 2):
        move = np.eye(count)[frame] * 1e-5
        up, down = (search.derivatives(octaves + m)[0] for m in (move, -move))
        np.testing.assert_allclose(curvature[frame], (down - up) / 2e-5, atol=1e-4)


def test_the_rate_is_held_as_firmly_as_is_asked(clip: Any, law: Any) -> None:
    """A slope that is a third off would have the rate drift."""
    slope = 1.3 * clip.slope(law)
    rates = [
        abs(
            plan(
                LinearModel(law.coefficients), clip.base, slope,
                replace(SOFT, rate_strength=strength),
            ).rate
        )
        for strength in (0.0, 10.0, 1000.0)
    ]  # fmt: skip
    assert rates[0] > 0.1 > 0.03 > rates[1] > rates[2]
    assert rates[2] < 0.003


def test_steps_stay_within_the_limit_and_the_qindexes(clip: Any, law: Any) -> None:
    low = replace(clip.base, qindex=np.where(clip.base.role == 5, 252, 3))
    found = plan(LinearModel(law.coefficients), low, 4.5, replace(SOFT, limit=9))
    assert np.abs(found.steps).max() == 9
    moved = low.qindex + found.steps
    assert moved.min() >= 0 and moved.max() < NUM_QINDEX


def test_strength_shrinks_to_the_centre(clip: Any, law: Any) -> None:
    model, slope = LinearModel(law.coefficients), clip.slope(law)
    centre = np.where(clip.base.role == 1, -6.0, 3.0)
    plans = [
        plan(model, clip.base, slope, PlanSettings(step_strength=strength), centre=centre)
        for strength in (0.01, 1.0, 1e4)
    ]
    away = [float(np.square(p.steps - centre).sum()) for p in plans]
    assert away[0] > away[1] > away[2] == 0
    assert plans[0].gain > plans[1].gain > plans[2].gain


def test_a_response_held_to_the_slope_promises_less_and_gives_more(clip: Any, law: Any) -> None:
    """A model whose errors answer twice as much would spend bits on everything."""
    theta = np.array(law.coefficients)
    theta[1, :2] *= 2.0
    slope = clip.slope(law)
    free, held = (
        plan(LinearModel(theta), clip.base, slope, replace(SOFT, calibrated=calibrated))
        for calibrated in (False, True)
    )
    assert held.gain < 0.5 * free.gain
    assert realised(clip, law, slope, held.steps) > realised(clip, law, slope, free.steps)
    assert realised(clip, law, slope, held.steps) > 0.8 * held.gain


def test_no_iterations_give_the_centre(clip: Any, law: Any) -> None:
    found = plan(
        LinearModel(law.coefficients), clip.base, 4.5, replace(SOFT, iterations=0),
        centre=np.full(len(clip.base), 4.0),
    )  # fmt: skip
    np.testing.assert_array_equal(found.steps, 4)


def test_fourteen_iterations_are_enough(clip: Any, law: Any) -> None:
    model, slope = LinearModel(law.coefficients), clip.slope(law)
    few = plan(model, clip.base, slope, SOFT)
    many = plan(model, clip.base, slope, replace(SOFT, iterations=200))
    assert many.gain == pytest.approx(few.gain, abs=1e-4)


def test_a_plan_of_two_hundred_frames_takes_less_than_a_second(synthetic: Any, law: Any) -> None:
    long = synthetic(99, groups=25)
    assert len(long.base) > 200
    model, slope = LinearModel(law.coefficients), long.slope(law)
    taken = []
    for _ in range(3):  # the best of three: the machine has other work
        start = time.perf_counter()
        assert isinstance(plan(model, long.base, slope, SOFT), Plan)
        taken.append(time.perf_counter() - start)
    assert min(taken) < 1.0


def test_what_cannot_be_planned(clip: Any, law: Any) -> None:
    model = LinearModel(law.coefficients)
    for strength in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="step strength must be above 0"):
            PlanSettings(step_strength=strength)
    for limit in (-1, 256):
        with pytest.raises(InputError, match="limit of a plan must be between 0 and 255"):
            PlanSettings(step_strength=1.0, limit=limit)
    with pytest.raises(InputError, match="centres"):
        plan(model, clip.base, 4.5, SOFT, centre=[1.0])
    with pytest.raises(InputError, match="slope"):
        plan(model, clip.base, -1.0, SOFT)
