"""Plans: what they decide, that they stay valid, that equal ones are known as equal."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from muzero_rc.agents.hindsight import Plan, PlanBase, frame_key
from muzero_rc.types import FrameInfo, FrameResult, UpdateType


def info(show: int, kind: UpdateType = UpdateType.LEAF, proposal: int = 100) -> FrameInfo:
    return FrameInfo(
        coding_index=show, show_index=show, update_type=kind, shown=True, gop_index=1, gop_size=8,
        layer_depth=2, max_layer_depth=2, frames_to_key=9, ref_coding_indexes=(-1, -1, -1),
        proposal_qindex=proposal, proposal_bits=1, min_qindex=0, max_qindex=255, boost=0,
    )  # fmt: skip


def result(show: int, qindex: int) -> FrameResult:
    return FrameResult(show, show, True, qindex, 9, (1, 1, 1), (4, 1, 1), 0, 1, 0, 0.0)


plans = st.builds(
    Plan,
    st.sampled_from(PlanBase),
    st.dictionaries(st.tuples(st.integers(0, 20), st.integers(0, 5)), st.integers(-30, 255)),
    st.dictionaries(st.tuples(st.integers(0, 5), st.integers(0, 5)), st.floats(-30, 30)),
    st.floats(0.2, 2.0),
    st.floats(0, 255),
    st.floats(-255, 255),
)


@given(plan=plans)
def test_files_keep_plans(plan: Plan) -> None:
    again = Plan.from_dict(json.loads(json.dumps(plan.as_dict())))
    assert again == plan and again.identity == plan.identity


@given(plan=plans, show=st.integers(0, 40), base=st.integers(0, 255))
def test_every_frame_gets_a_qindex(plan: Plan, show: int, base: int) -> None:
    for kind in UpdateType:
        assert 0 <= plan.qindex(info(show, kind), base) <= 255


def test_plans_of_older_logs_are_read() -> None:
    """Their base is called anchor."""
    plan = Plan(PlanBase.FEEDBACK, stretch=1.1)
    old = plan.as_dict()
    old["anchor"] = old.pop("base")
    assert Plan.from_dict(old) == plan


def test_a_base_without_steps_is_the_base() -> None:
    for base in (0, 77, 255):
        assert Plan(PlanBase.PROPOSAL).qindex(info(3), base) == base


def test_fractions_are_dithered() -> None:
    for fraction in (0.0, 0.25, 0.5, 0.9):
        plan = Plan(PlanBase.FIXED, {(s, 1): 60 for s in range(400)}).shifted(fraction)
        values = np.array(list(plan.values.values()))
        assert set(values) <= {60, 61}
        assert abs(values.mean() - 60 - fraction) < 0.01


def test_a_frozen_plan_repeats_and_fills_gaps_by_the_nearest_of_its_type() -> None:
    frames = [
        (info(0, UpdateType.KEY), result(0, 40)),
        (info(8, UpdateType.ARF), result(8, 50)),
        (info(1), result(1, 90)),
        (info(5), result(5, 110)),
        (None, result(8, -1)),
    ]
    plan = Plan.frozen(frames)
    assert [plan.qindex(i, 0) for i, _ in frames if i is not None] == [40, 50, 90, 110]
    assert plan.repeats(frames)
    assert not plan.moved({frame_key(info(5)): 1}).repeats(frames)
    assert plan.moved({(77, 1): 5}) == plan  # a frame that it has not
    assert plan.qindex(info(2), 0) == 90
    assert plan.qindex(info(4), 0) == 110
    assert plan.qindex(info(30, UpdateType.ARF), 0) == 50
    assert plan.qindex(info(6, UpdateType.GOLDEN), 0) == 110  # no golden: the nearest of all
    assert Plan(PlanBase.FIXED).qindex(info(6), 33) == 33


def test_only_certain_repetitions_count() -> None:
    frames = [(info(1, proposal=90), result(1, 90))]
    assert Plan(PlanBase.PROPOSAL).repeats(frames)
    assert not Plan(PlanBase.PROPOSAL, shift=1.0).repeats(frames)
    for base in (PlanBase.VBR, PlanBase.FEEDBACK, PlanBase.POLICY):
        assert not Plan(base).repeats(frames)


def test_moves_stay_in_range() -> None:
    plan = Plan(PlanBase.FIXED, {(1, 1): 250})
    assert plan.moved({(1, 1): 16}).values == {(1, 1): 255}
    offsets = Plan(PlanBase.PROPOSAL).moved({(1, 1): 16}).moved({(1, 1): -4})
    assert offsets.values == {(1, 1): 12}
    assert offsets.qindex(info(1), 250) == 255
