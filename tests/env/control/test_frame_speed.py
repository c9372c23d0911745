"""Search speed profile by frame: what a speed for one frame changes, and what it does not."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path

import pytest

from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.session import EncoderSession
from muzero_rc.env.control.baselines import ProposalPolicy
from muzero_rc.env.control.frame_speed import (
    Search,
    frame_search,
    is_quick,
    stream_speed,
)
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.types import (
    STREAM_SPEED,
    EncodeLog,
    FrameDecision,
    FrameInfo,
    SpeedFeatures,
    UpdateType,
)

_LEAF = FrameInfo(
    5, 3, UpdateType.LEAF, True, 5, 17, 3, 3, 99, (-1, -1, -1), 100, 1000, 0, 255, 0
)  # fmt: skip
_KEY = dataclasses.replace(_LEAF, update_type=UpdateType.KEY, layer_depth=0)
_BASE = dataclasses.replace(_LEAF, update_type=UpdateType.ARF, shown=False, layer_depth=1)
_SECOND = dataclasses.replace(_BASE, layer_depth=2)
_DEEP = dataclasses.replace(_BASE, layer_depth=3)
_DEEPEST = dataclasses.replace(_BASE, layer_depth=7)
_KINDS = (_KEY, _BASE, _SECOND, _DEEP, _DEEPEST, _LEAF)


def _bytes(clip: Clip, settings: EncoderSettings, speed: int, features: int = 0) -> str:
    """SHA-256 of the proposals fed back with one speed for all frames, asked frame by frame."""
    with EncoderSession(clip, settings) as session:
        while (info := session.next()) is not None:
            session.submit(FrameDecision(info.proposal_qindex, speed, SpeedFeatures(features)))
            session.result()
        return session.finish().sha256


@pytest.mark.parametrize("speed", range(10))
def test_a_uniform_profile_leaves_every_frame_at_the_streams_speed(speed: int) -> None:
    for info in _KINDS:
        assert frame_search("uniform", speed, info) == Search(STREAM_SPEED)


@pytest.mark.parametrize("speed", range(10))
def test_between_frames_no_stream_is_worked_at_faster_than_asked(speed: int) -> None:
    assert stream_speed("uniform", speed) == speed
    assert stream_speed("hierarchical", speed) == min(speed, 4)


@pytest.mark.parametrize("speed", range(10))
def test_what_others_are_predicted_from_is_never_searched_faster(speed: int) -> None:
    given = [frame_search("hierarchical", speed, info).speed for info in _KINDS]
    assert given == sorted(given)
    assert 0 <= given[0] and given[-1] <= 5
    golden = dataclasses.replace(_LEAF, update_type=UpdateType.GOLDEN, layer_depth=1)
    assert frame_search("hierarchical", speed, golden).speed == given[1]


def test_slower_streams_have_no_faster_frame() -> None:
    for slow, fast in itertools.pairwise(range(10)):
        for info in _KINDS:
            slower, faster = (frame_search("hierarchical", speed, info) for speed in (slow, fast))
            assert slower.speed <= faster.speed
            assert slower.features & faster.features == faster.features


@pytest.mark.parametrize("speed", [1, 3, 5])
def test_a_frames_own_speed_given_back_changes_no_byte(carphone: Clip, speed: int) -> None:
    settings = EncoderSettings(target_kbps=80, speed=speed)
    assert _bytes(carphone, settings, speed) == _bytes(carphone, settings, STREAM_SPEED)


def test_quick_frames_are_searched_faster_than_libvpxs_fastest(carphone: Clip) -> None:
    for info in _KINDS:
        assert frame_search("quick", 5, info) == Search(4, SpeedFeatures.QUICK_MOTION)
    assert stream_speed("quick", 9) == 4
    assert [speed for speed in range(10) if is_quick("uniform", speed)] == [5, 6, 7, 8, 9]
    assert not is_quick("hierarchical", 9)
    settings = EncoderSettings(target_kbps=80, speed=4, rc_mode="q", cq_level=40)
    quick = settings.replace(speed_profile="quick", tpl=False)
    plain, fast = (rollout(carphone, one, ProposalPolicy()) for one in (settings, quick))

    def work(log: EncodeLog) -> int:
        return sum(sum(frame.work) for frame in log.results)

    # What is searched is counted, the same on any machine; the bits hardly change.
    assert work(fast.log) < 0.9 * work(plain.log)
    assert fast.log.size_bytes == pytest.approx(plain.log.size_bytes, rel=0.05)


def test_another_speed_changes_the_frame_and_only_from_there_on(carphone: Clip) -> None:
    settings = EncoderSettings(target_kbps=80, speed=5)
    coded = []
    for chosen in (STREAM_SPEED, 1):
        with EncoderSession(carphone, settings) as session:
            while (info := session.next()) is not None:
                later = chosen if info.coding_index == 3 else STREAM_SPEED
                session.submit(FrameDecision(info.proposal_qindex, speed=later))
                session.result()
            coded.append([(r.bits, r.sse) for r in session.results if r.qindex >= 0])
    assert coded[0][:3] == coded[1][:3]
    assert coded[0][3] != coded[1][3]


def test_hierarchical_encodes_repeat_themselves(carphone: Clip, fast: EncoderSettings) -> None:
    layered = fast.replace(speed_profile="hierarchical")
    first, second = (rollout(carphone, layered, ProposalPolicy()) for _ in range(2))
    assert first.stream.sha256 == second.stream.sha256
    assert first.stream.sha256 != rollout(carphone, fast, ProposalPolicy()).stream.sha256


def test_the_first_pass_does_not_depend_on_the_speed_profile(fast: EncoderSettings) -> None:
    assert fast.first_pass_key() == fast.replace(speed_profile="hierarchical").first_pass_key()


@pytest.mark.parametrize("speed", [pytest.param(3, marks=pytest.mark.slow), 5])
def test_a_hierarchical_profile_saves_bits(carphone: Clip, speed: int) -> None:
    """At least 3% at equal PSNR, with 5 dB an octave, on the mean of three targets."""
    saved = []
    for target in (40, 80, 160):
        settings = EncoderSettings(target_kbps=target, speed=speed)
        even = rollout(carphone, settings, ProposalPolicy()).score
        layered = rollout(
            carphone, settings.replace(speed_profile="hierarchical"), ProposalPolicy()
        ).score
        octaves = math.log2(even.actual_kbps / layered.actual_kbps)
        saved.append(octaves + (layered.psnr_avg - even.psnr_avg) / 5.0)
    assert sum(saved) / 3 > math.log2(1.03)


@pytest.mark.parametrize("part", [SpeedFeatures.ALL_MODES, SpeedFeatures.ALL_TRANSFORMS])
def test_speed_feature_overrides_change_the_encode_where_the_speed_takes_that_shortcut(
    carphone_path: Path, part: SpeedFeatures
) -> None:
    carphone = Clip.load(carphone_path, max_frames=20)
    fast = EncoderSettings(target_kbps=80, speed=4)
    assert _bytes(carphone, fast, 4) != _bytes(carphone, fast, 4, part)
    slow = EncoderSettings(target_kbps=80, speed=0)
    assert _bytes(carphone, slow, 0) == _bytes(carphone, slow, 0, part)
