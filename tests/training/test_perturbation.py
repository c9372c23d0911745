"""Steps in blocks: opposite in pairs, balanced in rate, of alternate groups, on any base."""

from __future__ import annotations

import dataclasses
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muzero_rc.env.control.baselines import ConstantPolicy, VbrPolicy
from muzero_rc.env.observation.builder import FRAME_FEATURES, GLOBAL_FEATURES
from muzero_rc.training.perturbation import (
    FrameKey,
    PatternFrame,
    SteppedPolicy,
    Steps,
    arf_steps,
    block_steps,
    hadamard_steps,
    opposite,
    pattern_frames,
)
from muzero_rc.types import (
    KEEP,
    EncodeLog,
    FrameDecision,
    FrameInfo,
    FrameResult,
    FrameRole,
    Observation,
    UpdateType,
)

_ARFS = (FrameRole.BASE_ARF, FrameRole.SECOND_ARF, FrameRole.DEEPER_ARF)
_INFO = FrameInfo(0, 0, UpdateType.KEY, True, 0, 8, 0, 3, 99, (-1, -1, -1), 90, 1, 0, 255, 0)
_RESULT = FrameResult(0, 0, True, 90, 800, (1, 1, 1), (4, 1, 1), 1, 0, 0, 0.0)
_SIZES = st.sampled_from((8, 16))
_SEEDS = st.integers(0, 2**31)


def _log(groups: int, length: int = 8) -> EncodeLog:
    """A key frame, then groups of a base ARF, two below it, and leaves; overlays only show."""
    rng = np.random.default_rng(groups)
    frames: list[tuple[FrameInfo | None, FrameResult]] = []

    def add(show: int, kind: UpdateType, depth: int, scale: int) -> None:
        number = len(frames)
        info = dataclasses.replace(
            _INFO, coding_index=number, show_index=show, update_type=kind, layer_depth=depth
        )
        bits = int(scale * rng.lognormal())
        frames.append(
            (info, dataclasses.replace(_RESULT, coding_index=number, show_index=show, bits=bits))
        )

    add(0, UpdateType.KEY, 0, 40_000)
    for group in range(groups):
        start = 1 + group * length
        add(start + length - 1, UpdateType.ARF, 1, 30_000)
        add(start + length // 2, UpdateType.ARF, 2, 5_000)
        add(start + length // 4, UpdateType.ARF, 3, 2_000)
        for show in range(start, start + length - 1):
            add(show, UpdateType.LEAF, 4, 1_000)
        shown = dataclasses.replace(_RESULT, coding_index=-1, qindex=-1, bits=8)
        frames.append((None, dataclasses.replace(shown, show_index=start + length - 1)))
    return EncodeLog.of_pairs(frames, 1000)


def _frames(groups: int) -> list[PatternFrame]:
    return pattern_frames(_log(groups))


def _off(frames: list[PatternFrame], steps: Steps) -> float:
    """Mean step over bits, in qindexes."""
    bits = sum(frame.bits for frame in frames)
    return sum(frame.bits * steps.get(frame.key, 0) for frame in frames) / bits


def test_groups_begin_with_their_reference_and_the_first_has_the_key_frame() -> None:
    frames = _frames(3)
    assert [f.group for f in frames] == [0] * 11 + [1] * 10 + [2] * 10
    assert [f.role for f in frames[:4]] == [FrameRole.KEY, *_ARFS]
    assert len({frame.key for frame in frames}) == len(frames)


@settings(deadline=None)
@given(groups=st.integers(1, 6), parity=st.integers(0, 1), size=_SIZES, seed=_SEEDS)
def test_blocks_of_alternate_groups_move_and_leaves_each_by_itself(
    groups: int, parity: int, size: int, seed: int
) -> None:
    frames = _frames(groups)
    steps = block_steps(frames, np.random.default_rng(seed), size, parity)
    moved = {frame.group for frame in frames if frame.key in steps}
    assert moved == (set(range(parity, groups, 2)) or {0})
    by_block: dict[tuple[int, FrameRole], list[int]] = defaultdict(list)
    for frame in frames:
        if frame.group in moved:
            by_block[frame.group, frame.role].append(steps[frame.key])
    for (_, role), found in by_block.items():
        if role is FrameRole.LEAF:
            assert {abs(step) for step in found} <= {size // 2, size + size // 2}
            assert len({step > 0 for step in found}) == 1
        else:
            assert len(set(found)) == 1 and abs(found[0]) == size


@settings(deadline=None)
@given(groups=st.integers(1, 6), parity=st.integers(0, 1), size=_SIZES, seed=_SEEDS)
def test_single_references_move_and_nothing_else(
    groups: int, parity: int, size: int, seed: int
) -> None:
    frames = _frames(groups)
    steps = arf_steps(frames, np.random.default_rng(seed), size, parity)
    moved = [frame for frame in frames if frame.key in steps]
    assert len(steps) == len(moved) == len({frame.group for frame in moved})
    assert all(frame.role in _ARFS for frame in moved)
    assert {abs(step) for step in steps.values()} == {size}


def test_signs_are_those_that_balance_rate_best() -> None:
    frames = _frames(5)
    rng = np.random.default_rng(0)
    chosen = [abs(_off(frames, block_steps(frames, rng, 16, n % 2))) for n in range(40)]
    assert float(np.mean(chosen)) < 1.5


@settings(deadline=None)
@given(groups=st.integers(1, 6), seed=_SEEDS)
def test_probe_patterns_are_zero_in_the_mean_of_rate_and_apart(groups: int, seed: int) -> None:
    frames = _frames(groups)
    patterns = hadamard_steps(frames, np.random.default_rng(seed), 12, 2)
    assert len(patterns) == 2 and patterns[0] != patterns[1]
    for steps in patterns:
        assert steps.keys() == {frame.key for frame in frames}, "every frame is moved"
        assert abs(_off(frames, steps)) <= 0.5, "rounded to whole qindexes"
        assert len(set(steps.values())) == 2 and max(steps.values()) > 0 > min(steps.values())


def _observation(show_index: int, kind: UpdateType) -> Observation:
    row = np.zeros(FRAME_FEATURES, np.float32)
    row[kind] = 1.0
    return Observation(
        clip=np.zeros((1, 1), np.float32),
        history=np.zeros((0, 1), np.float32),
        frame=row,
        globals=np.zeros(GLOBAL_FEATURES, np.float32),
        show_index=show_index,
        proposal_qindex=50,
    )


@pytest.mark.parametrize("qindex", [0, 3, 128, 255])
def test_steps_are_added_to_any_policys_choice_and_a_pair_is_opposite(qindex: int) -> None:
    frames = _frames(2)
    steps = block_steps(frames, np.random.default_rng(1), 8, 0)
    seen = [_observation(*frame.key) for frame in frames]
    base = [FrameDecision(7, speed=3)] * len(seen)
    plus = SteppedPolicy(ConstantPolicy(qindex), steps).decide(seen, base)
    minus = SteppedPolicy(ConstantPolicy(qindex), opposite(steps)).decide(seen, base)
    for frame, up, down in zip(frames, plus, minus, strict=True):
        step = steps.get(frame.key, 0)
        assert up.qindex == min(max(qindex + step, 0), 255)
        assert down.qindex == min(max(qindex - step, 0), 255)
        assert up.speed == down.speed == 3
    assert any(up.qindex != down.qindex for up, down in zip(plus, minus, strict=True))


def test_what_is_left_to_libvpx_stays_so() -> None:
    frames = _frames(1)
    steps = {frame.key: 8 for frame in frames}
    seen = [_observation(*frames[0].key), _observation(99, UpdateType.LEAF)]
    base = [FrameDecision(7), FrameDecision(7)]
    assert [d.qindex for d in SteppedPolicy(VbrPolicy(), steps).decide(seen, base)] == [KEEP] * 2
    assert FrameKey(99, UpdateType.LEAF) not in steps
    moved = SteppedPolicy(ConstantPolicy(50), steps).decide(seen, base)
    assert [decision.qindex for decision in moved] == [58, 50]
