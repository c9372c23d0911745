"""Macro-actions: what a state is worth, and that the search finds what is best."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from muzero_rc.agents.world_model.gain import Objective
from muzero_rc.agents.world_model.linear import LinearModel, octaves_of_steps
from muzero_rc.agents.world_model.macro_search import (
    KINDS,
    MacroSettings,
    groups_of,
    kinds_of,
    search_steps,
    worth,
)
from muzero_rc.agents.world_model.planner import PlanSettings
from muzero_rc.errors import InputError

SOFT = PlanSettings(step_strength=0.02)
SMALL = MacroSettings(simulations=32, steps=(-8, 0, 8))


def with_groups(base: Any) -> Any:
    """The made-up clip has groups of eight after its key frame; its rows do not say so."""
    place = np.zeros(len(base), np.int64)
    place[1:] = 1 + (np.arange(len(base) - 1) % 8)
    return replace(base, gop_index=place)


@pytest.fixture(scope="module")
def clip(synthetic: Any) -> Any:
    made = synthetic(40, groups=2)
    made.base = with_groups(made.base)
    return made


@pytest.fixture(scope="module")
def response(clip: Any, law: Any) -> Any:
    return LinearModel(law.coefficients).response(clip.base)


def applied(base: Any, actions: list[tuple[int, ...]], steps: tuple[int, ...]) -> np.ndarray:
    """Steps of these actions, one for each group."""
    levels = np.array(steps)[np.array(actions)]  # [groups, KINDS]
    return np.asarray(levels[groups_of(base), kinds_of(base)])


def test_groups_begin_where_the_place_in_the_group_starts_anew(clip: Any) -> None:
    assert groups_of(clip.base).tolist() == [0] * 9 + [1] * 8


def test_key_and_base_frames_are_one_kind_and_leaves_another(clip: Any) -> None:
    kinds, base = kinds_of(clip.base), clip.base
    assert kinds[0] == 0 and kinds[1] == 0  # key frame, base ARF
    assert set(kinds[(base.layer_depth == 2) | (base.layer_depth == 3)]) == {1}
    assert set(kinds[base.layer_depth == 4]) == {2}
    assert kinds.max() == KINDS - 1


def test_worth_is_the_gain_of_the_steps_once_their_rate_is_landed(
    clip: Any, law: Any, response: Any
) -> None:
    """The same in numpy: one Newton step of a common change, by finite differences."""
    slope = clip.slope(law)
    objective = Objective(clip.base, slope)
    rng = np.random.default_rng(0)
    for _ in range(5):
        steps = rng.integers(-12, 13, len(clip.base))
        centre = rng.integers(-4, 5, len(clip.base))
        octaves = octaves_of_steps(clip.base, steps)

        def rate(common: float, octaves: np.ndarray = octaves) -> float:
            return objective.rate(response.changes(octaves + common)[0])

        landed = octaves - rate(0.0) / ((rate(1e-4) - rate(-1e-4)) / 2e-4)
        bits, errors = response.changes(landed)
        away = octaves - octaves_of_steps(clip.base, centre)
        expected = objective.gain(bits, objective.shown(errors))
        expected -= SOFT.step_strength * np.mean(away**2)
        found = worth(response, slope, SOFT, steps, centre=centre)
        assert found == pytest.approx(expected, abs=2e-4)


def test_a_common_step_is_worth_nothing_but_its_penalty(clip: Any, law: Any, response: Any) -> None:
    free = PlanSettings(step_strength=1e-9)
    slope = clip.slope(law)
    assert worth(response, slope, free, np.full(len(clip.base), 6)) == pytest.approx(0, abs=3e-3)
    assert worth(response, slope, free, np.zeros(len(clip.base))) == pytest.approx(0, abs=1e-5)


def test_the_search_finds_nearly_the_best_of_all_pairs_of_actions(
    clip: Any, law: Any, response: Any
) -> None:
    slope = clip.slope(law)
    found = search_steps(response, slope, SOFT, SMALL)
    actions = list(itertools.product(range(3), repeat=KINDS))
    rng = np.random.default_rng(1)
    pairs = list(itertools.product(actions, repeat=2))
    chosen = [pairs[n] for n in rng.permutation(len(pairs))[:120]]
    values = [
        worth(response, slope, SOFT, applied(clip.base, list(pair), SMALL.steps)) for pair in chosen
    ]
    reached = worth(response, slope, SOFT, found)
    assert reached > 0.02
    # Better than nearly all of 120 pairs drawn at random of the 729 that there are.
    assert np.mean(reached >= np.array(values) - 1e-6) > 0.95


def test_the_search_is_repeatable_and_keeps_the_limit(clip: Any, law: Any, response: Any) -> None:
    slope = clip.slope(law)
    start = np.full(len(clip.base), 5)
    tight = replace(SOFT, limit=7)
    first = search_steps(response, slope, tight, SMALL, start=start)
    assert np.array_equal(first, search_steps(response, slope, tight, SMALL, start=start))
    assert set(first) <= {-3, 5, 7}


def test_settings_and_steps_that_cannot_be_used_are_refused(
    clip: Any, law: Any, response: Any
) -> None:
    with pytest.raises(InputError, match="out of range"):
        MacroSettings(simulations=0)
    with pytest.raises(InputError, match="as many steps"):
        search_steps(response, 4.0, SOFT, SMALL, centre=np.zeros(3))
