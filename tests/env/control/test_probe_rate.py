"""The landing with a probe's costs in hand, against costs that are made up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muzero_rc.env.control.probe_record import ProbeFrame, ProbeRecord
from muzero_rc.env.control.rate.probe import ProbeRateController, ProbeShift, next_probe_step
from muzero_rc.types import FrameInfo, FrameResult, UpdateType

PIXELS = 176 * 144
BUDGET = 2000.0


def _info(index: int, kind: UpdateType, qindex: int = 100) -> FrameInfo:
    return FrameInfo(
        index, index, kind, True, 1, 9, 1, 2, 99, (-1, -1, -1), qindex, 2000, 0, 255, 0
    )


def _result(index: int, qindex: int, bits: int) -> FrameResult:
    return FrameResult(index, index, True, qindex, bits, (1, 1, 1), (64, 16, 16), 0, 1, 0, 0.01)


def _kind(index: int) -> UpdateType:
    return UpdateType.LEAF if index else UpdateType.KEY


def _probe(costs: list[int], qindex: int = 100, shift: int = 0) -> ProbeRecord:
    frames = [
        ProbeFrame(_kind(i), i, True, qindex, qindex + shift, bits) for i, bits in enumerate(costs)
    ]
    return ProbeRecord(tuple(frames), dict(enumerate(frames)), shift, 0)


def _fly(costs: list[int], slope: float, dearer: float) -> tuple[float, list[int]]:
    """Encodes that follow a law of bits: overshoot and the steps."""
    feedback = ProbeRateController(BUDGET, _probe(costs), len(costs), PIXELS)
    spent, steps = 0.0, []
    for index, bits in enumerate(costs):
        info = _info(index, _kind(index))
        step = feedback.step(info)
        steps.append(step)
        cost = round(bits * dearer * 2 ** (-slope * step))
        spent += cost
        feedback.record(info, _result(index, 100 + step, cost))
    return spent / (BUDGET * len(costs)) - 1, steps


@pytest.mark.parametrize("factor", [0.8, 1.3, 2.5])
@pytest.mark.parametrize("slope", [1 / 45, 1 / 28, 1 / 18])
def test_it_meets_its_target_whatever_the_law_of_bits(factor: float, slope: float) -> None:
    rng = np.random.default_rng(0)
    costs = [20000, *(factor * rng.lognormal(7.3, 0.4, 149)).astype(int).tolist()]
    overshoot, steps = _fly(costs, slope, 0.9)
    assert abs(overshoot) < 0.02
    over = 0.9 * sum(costs) / (BUDGET * len(costs)) - 1
    if abs(over) < 0.01:
        assert abs(steps[5]) <= 1
    else:
        assert np.sign(steps[5]) == np.sign(over)


def test_a_probe_on_target_is_left_alone() -> None:
    overshoot, steps = _fly([2222] * 100, 1 / 28, 0.9)  # last passes are that much cheaper
    assert abs(overshoot) < 0.01
    assert max(map(abs, steps)) <= 3


@given(octaves=st.floats(-2.5, 2.5), shift=st.integers(-20, 20))
def test_a_probe_far_from_its_target_is_run_again_on_it(octaves: float, shift: int) -> None:
    bits = round(BUDGET * 2**octaves)
    probe = _probe([bits] * 60, shift=shift)
    step = next_probe_step(probe, BUDGET, 60, PIXELS)
    first = ProbeRateController(BUDGET, probe, 60, PIXELS).step(_info(0, UpdateType.KEY))
    way = shift + round(0.75 * (first - shift))
    assert step == (way if abs(first - shift) >= 20 else None)
    if abs(octaves) < 0.15:
        assert step is None
    if abs(octaves) > 1.0:
        assert step is not None and (step > shift) == (octaves > 0)


def test_the_step_stays_where_it_was_right_however_far_from_the_probe() -> None:
    """Half of the probe's bits are asked for; hidden frames are paid for before the rest."""
    spent, steps = 0.0, []
    kinds = [UpdateType.KEY, *([UpdateType.ARF, *[UpdateType.LEAF] * 9] * 15)]
    bits = [40000 if k is UpdateType.KEY else 12000 if k is UpdateType.ARF else 2500 for k in kinds]
    shown = [k is not UpdateType.ARF for k in kinds]
    shows = np.cumsum([0, *shown])[:-1].tolist()
    frames = [
        ProbeFrame(kind, show, is_shown, 60, 60, cost)
        for kind, show, is_shown, cost in zip(kinds, shows, shown, bits, strict=True)
    ]
    probe = ProbeRecord(tuple(frames), dict(enumerate(frames)), 0, 0)
    budget = 0.5 * sum(bits) / sum(shown)
    feedback = ProbeRateController(budget, probe, sum(shown), PIXELS)
    law = {UpdateType.KEY: 0.7, UpdateType.ARF: 0.85, UpdateType.LEAF: 1.35}
    for index, (kind, show) in enumerate(zip(kinds, shows, strict=True)):
        info = FrameInfo(
            index, show, kind, shown[index], 1, 9, 1, 2, 99, (-1, -1, -1), 60, 2000, 0, 255, 0
        )
        step = feedback.step(info)
        steps.append(step)
        finer = np.log2(68) - np.log2(min(60 + step, 96) + 8) - 0.0258 * max(step - 36, 0)
        cost = round(bits[index] * 0.9 * 2 ** (law[kind] * float(finer)))
        spent += cost
        feedback.record(
            info,
            FrameResult(
                index, show, shown[index], 60 + step, cost, (1, 1, 1), (64, 16, 16), 0, 1, 0, 0.01
            ),
        )
    assert abs(spent / (budget * sum(shown)) - 1) < 0.01
    assert min(steps[:20]) > 20
    assert max(steps) - min(steps) <= 10


def test_dear_frames_to_come_are_paid_for_from_the_start() -> None:
    even = [1500] * 100
    late = [1500] * 60 + [6000] * 40
    assert _fly(late, 1 / 28, 1.0)[1][1] > _fly(even, 1 / 28, 1.0)[1][1] + 10


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=40), st.integers(0, 255))
def test_steps_are_bounded_whatever_frames_cost(costs: list[int], qindex: int) -> None:
    feedback = ProbeRateController(BUDGET, _probe(costs, qindex), len(costs), PIXELS)
    for index, bits in enumerate(costs):
        info = _info(index, _kind(index), qindex)
        step = feedback.step(info)
        assert isinstance(step, int) and -255 <= step <= 255
        assert feedback.step(info) == step  # to look twice changes nothing
        feedback.record(info, _result(index, qindex, bits))
    assert isinstance(feedback.step(info), int)  # after the last frame


def test_the_probes_own_shift_is_one_for_all_frames() -> None:
    shift = ProbeShift(BUDGET, PIXELS)
    first = shift.step(_info(0, UpdateType.KEY, 150))
    assert first > 0 > ProbeShift(BUDGET, PIXELS).step(_info(0, UpdateType.KEY, 20))
    assert shift.step(_info(1, UpdateType.LEAF, 20)) == first
