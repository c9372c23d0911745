"""A budget of work: the best moves first, what is left given anew, films at one price."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muzero_rc.env.control.work_plan import TierOptions, WorkPlan, share_work
from muzero_rc.types import FrameInfo, UpdateType

_INFO = FrameInfo(0, 0, UpdateType.LEAF, True, 0, 8, 0, 3, 99, (-1, -1, -1), 90, 1, 0, 255, 0)


def _options(work: list[list[float]], gain: list[list[float]], noise: float = 4.0) -> TierOptions:
    table = np.array(work, np.float64)
    return TierOptions(np.arange(len(work)), table, table, np.array(gain, np.float64), noise)


def _info(index: int) -> FrameInfo:
    return dataclasses.replace(_INFO, coding_index=index)


def _run(plan: WorkPlan, factor: float = 1.0) -> tuple[list[int], float]:
    """The tiers of an encode whose frames take `factor` times what is expected, and its work."""
    spender = plan.spender()
    tiers = []
    for index in range(len(plan.options.work)):
        tier = spender.tier(_info(index))
        assert tier is not None
        tiers.append(tier)
        spender.record(factor * float(plan.options.work[index, tier]))
    return tiers, spender.spent


# Frame 0: 1 s at tier 1, 3 s for a gain of 4 at tier 0. Frame 1: 1 s, 2 s for a gain of 3.
_TWO = _options([[3.0, 1.0], [2.0, 1.0]], [[4.0, 0.0], [3.0, 0.0]])


@pytest.mark.parametrize(
    ("budget", "tiers"), [(2.0, [1, 1]), (3.0, [1, 0]), (5.0, [0, 0]), (1.0, [1, 1]), (9.0, [0, 0])]
)
def test_the_budget_goes_where_a_second_gains_most(budget: float, tiers: list[int]) -> None:
    assert _run(WorkPlan(_TWO, budget))[0] == tiers


def test_least_and_most_are_all_frames_at_their_fastest_and_slowest() -> None:
    plan = WorkPlan(_TWO, 3.0)
    assert (plan.least, plan.most) == (2.0, 5.0)


def test_a_tier_off_the_hull_and_one_that_gains_nothing_are_left_out() -> None:
    # Tier 1 gains 1 for 2 s where tier 0 gains 5 for 3 s; of the second frame tier 0 loses.
    plan = WorkPlan(
        _options([[4.0, 3.0, 1.0], [9.0, 2.0, 1.0]], [[5.0, 1.0, 0.0], [0.5, 1.0, 0.0]]), 0
    )
    assert sorted(zip(plan.moves.row.tolist(), plan.moves.tier.tolist(), strict=True)) == [
        (0, 0), (1, 1)
    ]  # fmt: skip
    assert plan.most == 6.0


def test_an_unknown_tier_is_never_moved_to() -> None:
    unknown = float("inf")
    plan = WorkPlan(_options([[unknown, 2.0, 1.0]], [[-unknown, 1.0, 0.0]]), 99.0)
    assert _run(plan)[0] == [1]
    assert plan.most == 2.0


def test_frames_that_are_alike_take_turns() -> None:
    plan = WorkPlan(_options([[2.0, 1.0]] * 20, [[1.0, 0.0]] * 20), 30.0)
    tiers = np.array(_run(plan)[0])
    assert tiers.sum() == 10
    assert all(3 <= part.sum() <= 7 for part in tiers.reshape(2, 10))


def test_prices_may_go_by_the_mean_of_frames_where_work_is_their_own() -> None:
    work = np.array([[3.0, 1.0], [2.0, 1.0]])
    mean = np.tile(work.mean(axis=0), (2, 1))
    gain = np.array([[1.0, 0.0], [1.0, 0.0]])
    moves = TierOptions(np.arange(2), work, mean, gain, 1.0).moves()
    assert moves.price.tolist() == pytest.approx([1 / 1.5, 1 / 1.5])
    assert sorted(moves.work.tolist()) == [1.0, 2.0]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), factor=st.floats(0.7, 1.4), share=st.floats(0.3, 0.7))
def test_an_encode_ends_near_its_budget_whatever_its_frames_take(
    seed: int, factor: float, share: float
) -> None:
    rng = np.random.default_rng(seed)
    added = rng.uniform(0.2, 1.0, (80, 4))
    work = 0.3 + np.cumsum(added, axis=1)[:, ::-1]
    gain = np.cumsum(rng.uniform(0.1, 1.0, (80, 4)), axis=1)[:, ::-1]
    options = _options(work.tolist(), gain.tolist())
    plan = WorkPlan(options, 1.0)
    budget = factor * (plan.least + share * (plan.most - plan.least))
    _, spent = _run(WorkPlan(options, budget), factor)
    assert spent == pytest.approx(budget, rel=0.02)


def test_a_frame_that_is_not_in_the_plan_keeps_its_speed() -> None:
    spender = WorkPlan(_TWO, 3.0).spender()
    assert spender.tier(_info(7)) is None
    spender.record(0.4)
    assert spender.spent == 0.4
    # It took less than half of the second that the slower frame adds.
    assert spender.tier(_info(0)) == 1
    spender.record(1.0)
    assert spender.tier(_info(1)) == 0


def test_chunks_share_a_films_work_at_one_price() -> None:
    dear = WorkPlan(_options([[3.0, 1.0]], [[1.0, 0.0]]), 0.0)
    cheap = WorkPlan(_options([[2.0, 1.0]], [[1.0, 0.0]]), 0.0)
    assert share_work([dear, cheap], 3.0) == [1.0, 2.0]
    assert share_work([dear, cheap], 4.0) == [2.0, 2.0]
    assert share_work([dear, cheap], 1.0) == [0.5, 0.5]
    assert share_work([dear, cheap], 9.0) == [3.0, 2.0]
