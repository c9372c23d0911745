"""The descent over steps of whole kinds of frames."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from muzero_rc.agents.hindsight import Outcome, Plan, PlanBase
from muzero_rc.agents.hindsight.families import BASE_REFERENCES, DEEP_REFERENCES, KEYS, descend
from muzero_rc.types import EpisodeScore, UpdateType

START = Plan(PlanBase.FEEDBACK)
LEAF = (int(UpdateType.LEAF), 1)


def outcome(psnr: float) -> Outcome:
    return Outcome(EpisodeScore("", 100.0, 100.0, 1, psnr, psnr, psnr, 1, 1), ())


def value(found: Outcome) -> float:
    return found.score.psnr_avg


class Hill:
    """Highest where each of some kinds has a step of its own; notes what was run."""

    def __init__(self, tops: dict[tuple[int, int], float], curvature: float = 1e-3) -> None:
        self.tops = tops
        self.plans: list[Plan] = []
        self._curvature = curvature

    def height(self, plan: Plan) -> float:
        off = (plan.by_kind.get(kind, 0.0) - top for kind, top in self.tops.items())
        return 40.0 - self._curvature * sum(x * x for x in off)

    def run(self, plans: Sequence[Plan]) -> list[Outcome | None]:
        self.plans += plans
        return [outcome(self.height(plan)) for plan in plans]


tops = st.floats(-24.0, 24.0)


@hypothesis_settings(deadline=None)
@given(base=tops, leaf=tops, key=tops, deep=tops, width=st.sampled_from([1, 2, 4, 16]))
def test_it_finds_the_top_of_a_hill(
    base: float, leaf: float, key: float, deep: float, width: int
) -> None:
    hill = Hill({BASE_REFERENCES[0]: base, LEAF: leaf, KEYS[0]: key, DEEP_REFERENCES[0]: deep})
    start = (START, outcome(hill.height(START)))
    plan, found = descend(hill.run, value, start, lambda: len(hill.plans) < 70, width)
    assert value(found) == hill.height(plan) > 40.0 - 0.02
    # All kinds of a family have one step, and no other kind has any.
    assert len({plan.by_kind.get(kind, 0.0) for kind in BASE_REFERENCES}) == 1


def test_a_few_encodes_bring_most_of_it() -> None:
    hill = Hill({BASE_REFERENCES[0]: 14.0, LEAF: -5.0, KEYS[0]: -9.0})
    start = (START, outcome(hill.height(START)))
    _, found = descend(hill.run, value, start, lambda: len(hill.plans) < 12)
    room = 40.0 - hill.height(START)
    assert value(found) - hill.height(START) > 0.95 * room


def test_many_cores_are_kept_busy() -> None:
    hill = Hill({BASE_REFERENCES[0]: 14.0, LEAF: -5.0, KEYS[0]: -9.0})
    rounds = 0

    def run(plans: Sequence[Plan]) -> list[Outcome | None]:
        nonlocal rounds
        rounds += 1
        return hill.run(plans)

    _, found = descend(run, value, (START, outcome(hill.height(START))), lambda: rounds < 2, 10)
    assert (rounds, len(hill.plans)) == (2, 11)  # all kinds either way, then all tops at once
    assert value(found) > 40.0 - 0.02


def test_where_nothing_helps_it_ends_and_keeps_the_start() -> None:
    hill = Hill({KEYS[0]: 0.0, BASE_REFERENCES[0]: 0.0, LEAF: 0.0})
    start = (START, outcome(40.0))
    assert descend(hill.run, value, start, lambda: True) == start
    assert 10 < len(hill.plans) < 60


@pytest.mark.parametrize("most", [0, 1, 5])
def test_it_plays_no_more_than_it_may(most: int) -> None:
    ran = 0

    def run(plans: Sequence[Plan]) -> list[Outcome | None]:
        nonlocal ran
        answers: list[Outcome | None] = []
        for plan in plans:
            taken = ran < most
            ran += taken
            answers.append(outcome(40.0 + plan.by_kind.get(LEAF, 0.0)) if taken else None)
        return answers

    start = (START, outcome(40.0))
    best = descend(run, value, start, lambda: ran < most)
    assert ran == most
    assert (best[0] is START) == (most < 3)  # the first two were of other frames
