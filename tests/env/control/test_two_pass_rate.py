"""The feedback that lands an encode: signs, bounds, and that it lands real encodes."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.control.baselines import ProposalPolicy
from muzero_rc.env.control.rate.two_pass import TwoPassRateController, reach
from muzero_rc.env.control.recipe import DEFAULT_RECIPE
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.types import FrameInfo, FrameResult, Observation, QindexPolicy, UpdateType


def _frame(index: int, bits: int, planned: int, kind: UpdateType) -> tuple[FrameInfo, FrameResult]:
    info = FrameInfo(
        index, index, kind, True, 1, 9, 1, 2, 99, (-1, -1, -1), 100, planned, 0, 255, 0
    )
    result = FrameResult(index, index, True, 100, bits, (1, 1, 1), (64, 16, 16), 0, 1, 0, 0.01)
    return info, result


def _feedback(costs: list[int], planned: int, frames: int = 60) -> TwoPassRateController:
    feedback = TwoPassRateController(1000.0, np.full(frames, 500.0))
    for index, bits in enumerate(costs):
        feedback.record(*_frame(index, bits, planned, UpdateType.LEAF))
    return feedback


def test_starts_without_a_step() -> None:
    assert _feedback([], 1000).step() == 0


def test_on_plan_there_is_no_step() -> None:
    assert abs(_feedback([1000] * 30, 1000).step()) <= 1


def test_dear_frames_make_later_ones_coarser_and_cheap_ones_finer() -> None:
    assert _feedback([2000] * 20, 1000).step() > 5
    assert _feedback([500] * 20, 1000).step() < -5


@given(st.lists(st.integers(0, 10**6), max_size=60), st.integers(0, 10**6))
def test_step_is_bounded(costs: list[int], planned: int) -> None:
    step = _feedback(costs, planned, frames=40).step()
    assert isinstance(step, int)
    assert abs(step) <= DEFAULT_RECIPE.two_pass.max_offset


@given(st.integers(1, 59), st.integers(1100, 10000))
def test_paying_more_never_asks_for_finer_frames(count: int, bits: int) -> None:
    assert _feedback([bits] * count, 1000).step() >= _feedback([1000] * count, 1000).step()


class _Anchor(QindexPolicy):
    """The feedback alone."""

    name = "anchor"

    def qindexes(self, observations: list[Observation]) -> np.ndarray:
        return np.array([o.base_qindex for o in observations], np.int32)


def test_a_real_clip_meets_its_target_that_the_proposals_miss(carphone: Clip) -> None:
    missed, landed = [], []
    for target in (40, 80, 160):
        settings = EncoderSettings(target_kbps=target, speed=5)
        missed.append(abs(rollout(carphone, settings, ProposalPolicy()).score.overshoot))
        landed.append(abs(rollout(carphone, settings, _Anchor()).score.overshoot))
    assert np.mean(landed) < 0.7 * np.mean(missed)


def test_static_groups_are_out_of_reach() -> None:
    info, _ = _frame(0, 1, 1, UpdateType.KEY)
    assert reach(info) > 255
    assert reach(dataclasses.replace(info, gop_size=77)) == 0
