"""Groups of pictures: limits that libvpx keeps, and the choice between probes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muzero_rc.env.codec.backend import LibvpxBackend
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.codec.session import EncoderSession
from muzero_rc.env.control.baselines import BasePolicy
from muzero_rc.env.control.gop import ProbePlan, better, probe_plan_of
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.env.passes.probe import run_probes
from muzero_rc.env.passes.replay import replay_decisions
from muzero_rc.env.passes.stepper import Stepper
from muzero_rc.types import (
    EncodeLog,
    FrameDecision,
    FrameInfo,
    FrameRecord,
    FrameResult,
    GopDecision,
    GopLimits,
    UpdateType,
)

FAST = EncoderSettings(target_kbps=80, speed=5)
PROBED = EncoderSettings(target_kbps=40, speed=1, speed_profile="hierarchical", passes=3)


def _encode(
    clip: Clip, settings: EncoderSettings, gops: Sequence[GopLimits] = ()
) -> tuple[list[FrameInfo], str]:
    found = []
    with EncoderSession(clip, settings, gops=gops) as session:
        while (info := session.next()) is not None:
            found.append(info)
            session.encode(info.proposal_qindex)
        return found, session.finish().sha256


def _groups(infos: Sequence[FrameInfo]) -> list[tuple[int, int]]:
    """Where groups start, and their shown frames up to the alternate reference that ends them."""
    ends = [i.show_index for i in infos if not i.shown and i.layer_depth == 1]
    return [(start, end - start) for start, end in pairwise([0, *ends])]


@pytest.mark.parametrize("auto_alt_ref", [1, 6])
def test_no_group_is_longer_than_its_limit(carphone: Clip, auto_alt_ref: int) -> None:
    settings = FAST.replace(auto_alt_ref=auto_alt_ref)
    longest = {
        frames: max(length for _, length in _groups(_encode(carphone, settings, limits)[0]))
        for frames in (9, 21)
        for limits in ([GopLimits(frames=frames)],)
    }
    # The frame that starts a group counts, too.
    assert longest == {9: 8, 21: 20}


def test_limits_hold_from_where_they_say(carphone: Clip) -> None:
    infos, _ = _encode(carphone, FAST, [GopLimits(0, 9), GopLimits(30, 21)])
    groups = _groups(infos)
    assert max(length for start, length in groups if start < 30) == 8
    assert max(length for start, length in groups if start >= 30) > 16


def test_fewer_layers_are_what_auto_alt_ref_says(carphone: Clip) -> None:
    infos, stream = _encode(carphone, FAST, [GopLimits(layers=2)])
    assert max(i.layer_depth for i in infos if i.update_type is UpdateType.ARF) == 2
    assert stream == _encode(carphone, FAST.replace(auto_alt_ref=2))[1]
    deeper = max(i.layer_depth for i in _encode(carphone, FAST)[0] if not i.shown)
    assert deeper > 2


def _decide(
    clip: Clip, settings: EncoderSettings, choose: Callable[[FrameInfo], GopDecision]
) -> tuple[list[FrameInfo], str]:
    found = []
    with EncoderSession(clip, settings) as session:
        while (info := session.next()) is not None:
            found.append(info)
            session.encode(FrameDecision(info.proposal_qindex, next_gop=choose(info)))
        return found, session.finish().sha256


@pytest.mark.parametrize("auto_alt_ref", [0, 1, 2, 6])
def test_a_frame_tells_that_its_group_ends(carphone: Clip, auto_alt_ref: int) -> None:
    infos, _ = _encode(carphone, FAST.replace(auto_alt_ref=auto_alt_ref))
    ends = [info.ends_gop for info in infos[:-1]]
    changes = [after.gop_index <= info.gop_index for info, after in pairwise(infos)]
    assert sum(changes) > 1
    if auto_alt_ref:
        assert ends == changes
    else:  # the first group starts with a key frame
        first = changes.index(True)
        assert ends[first - 1 : first + 1] == [True, True] and not any(ends[: first - 1])
        assert ends[first:] == changes[first:]


@pytest.mark.parametrize("auto_alt_ref", [1, 6])
def test_a_decision_limits_the_next_group_alone(carphone: Clip, auto_alt_ref: int) -> None:
    settings = FAST.replace(auto_alt_ref=auto_alt_ref)
    plain = _groups(_encode(carphone, settings)[0])
    infos, _ = _decide(
        carphone,
        settings,
        lambda i: GopDecision(frames=9) if i.ends_gop and i.show_index < 20 else GopDecision(),
    )
    groups = _groups(infos)
    assert groups[0] == plain[0]
    assert groups[1][1] == 8 < plain[1][1]
    assert max(length for _, length in groups[2:]) > 8


def test_a_decision_inside_a_group_waits_for_the_next_one(carphone: Clip) -> None:
    early, late = (
        _decide(carphone, FAST, lambda i, at=at: GopDecision(9, 2) if at(i) else GopDecision())[1]
        for at in (
            lambda i: i.coding_index == 2,
            lambda i: i.ends_gop and i.show_index < 16,
        )
    )
    assert early == late != _encode(carphone, FAST)[1]


def test_group_decisions_are_replayed_from_the_log(carphone: Clip) -> None:
    settings = FAST.replace(speed_profile="hierarchical")
    with Stepper.open(
        LibvpxBackend(), carphone, settings, first_pass(carphone, settings)
    ) as stepper:
        while stepper.info is not None:
            turn = GopDecision(frames=7 + stepper.info.coding_index % 9, layers=2)
            stepper.step(stepper.base.replace(next_gop=turn))
        log = stepper.log()
    again = replay_decisions(carphone, settings.replace(speed=log.speed), log.decisions)
    assert again.sha256 == stepper.finish().sha256


def test_no_limits_change_nothing(carphone: Clip) -> None:
    assert _encode(carphone, FAST, [GopLimits()])[1] == _encode(carphone, FAST)[1]


def _probe_encode(
    psnrs: Sequence[float], bits: int, gops: GopLimits, keys: Sequence[int]
) -> EncodeLog:
    """One shown frame after the other, with key frames and a buffer shown before each of them."""
    frames: list[tuple[FrameInfo | None, FrameResult]] = []
    coding = 0
    for place, psnr in enumerate(psnrs):
        key = place in keys
        if key and place:  # counted by libvpx, coded by nobody
            coding += 1
        kind = UpdateType.KEY if key else UpdateType.LEAF
        info = FrameInfo(
            coding, place, kind, True, 0, 9, 0, 2, 9, (coding - 1,) * 3, 100, 900, 0, 255, 0
        )
        sse = round(1000 * 255**2 / 10 ** (psnr / 10))
        result = FrameResult(
            coding, place, True, 100, bits, (sse, 0, 0), (1000, 0, 0), 0, 9, 0, 0.01
        )
        frames.append((info, result))
        coding += 1
    return EncodeLog.of_pairs(frames, bits * len(psnrs) // 8, (gops,))


SHORT, LONG = GopLimits(frames=15), GopLimits(frames=21)


def test_each_section_takes_the_better_probe_encode() -> None:
    ours = _probe_encode([40.0] * 4 + [40.0] * 4, 8000, SHORT, [0, 4])
    theirs = _probe_encode([39.0] * 4 + [41.0] * 4, 8000, LONG, [0, 4])
    joined = better(ours, theirs)
    assert joined.gops == (SHORT, LONG._replace(first=4))
    assert [round(r.psnr) for r in joined.results] == [40] * 4 + [41] * 4
    assert joined.size_bytes == ours.size_bytes
    # Where one of them is better throughout, nothing is put together.
    assert better(ours, _probe_encode([39.0] * 8, 8000, LONG, [0, 4])) is ours
    assert better(ours, _probe_encode([41.0] * 8, 8000, LONG, [0, 4])).gops == (LONG,)


def test_a_joined_probe_encode_is_numbered_like_an_encode() -> None:
    ours = _probe_encode([40.0, 40.0, 40.0, 39.0, 40.0], 8000, SHORT, [0, 2, 4])
    theirs = _probe_encode([40.0, 40.0, 40.0, 41.0, 40.0], 8000, LONG, [0, 2, 4])
    # As if their first section had taken a frame more.
    moved = [
        FrameRecord(
            dataclasses.replace(
                info,
                coding_index=info.coding_index + (place > 1),
                ref_coding_indexes=tuple(r + (place > 1) for r in info.ref_coding_indexes),
            ),
            None,
            dataclasses.replace(result, coding_index=result.coding_index + (place > 1)),
        )
        for place, (info, result) in enumerate(theirs.pairs)
        if info is not None
    ]
    joined = better(ours, dataclasses.replace(theirs, frames=moved))
    assert joined.gops == (SHORT, LONG._replace(first=2), SHORT._replace(first=4))
    for (info, result), (before, _) in zip(joined.pairs, ours.pairs, strict=True):
        assert info == before and info is not None
        assert result.coding_index == info.coding_index


@given(dear=st.floats(1.0, 1.5), gain=st.floats(-1.0, 2.0))
def test_what_is_spent_is_charged(dear: float, gain: float) -> None:
    ours = _probe_encode([40.0] * 6, 8000, SHORT, [0])
    theirs = _probe_encode([40.0 + gain] * 6, round(8000 * dear), LONG, [0])
    taken = better(ours, theirs)
    # 3.5 dB for a doubling of the bits, and a bit of it for what probes cannot tell.
    price = 3.5 / 0.6931 * (dear - 1.0)
    if gain > price + 0.05:
        assert taken.gops == (LONG,)
    if gain < price - 0.05:
        assert taken is ours


def test_probe_encodes_of_different_clips_are_not_mixed() -> None:
    ours = _probe_encode([40.0] * 4, 8000, SHORT, [0])
    assert better(ours, _probe_encode([50.0] * 4, 8000, LONG, [0, 2])) is ours


def test_who_is_probed() -> None:
    deep = probe_plan_of(PROBED)
    assert len(deep.lengths) > 1 and deep.layers
    assert probe_plan_of(PROBED.replace(speed=5)) == ProbePlan()
    assert probe_plan_of(PROBED.replace(speed_profile="uniform")) == ProbePlan()
    assert probe_plan_of(PROBED.replace(auto_alt_ref=0)) == ProbePlan()
    assert probe_plan_of(PROBED.replace(auto_alt_ref=1)).layers == ()
    # A group as long as the look-ahead would have no alternate reference.
    short = probe_plan_of(PROBED.replace(speed=1, lag_in_frames=17))
    assert short.lengths and max(short.lengths) < 17
    assert probe_plan_of(PROBED.replace(lag_in_frames=9)) == ProbePlan()


def test_the_last_pass_has_the_best_probes_groups(carphone: Clip) -> None:
    stats = first_pass(carphone, PROBED)
    seen: list[FrameResult] = []
    probe_encode = run_probes(carphone, PROBED, stats, on_frame=seen.append)
    probe_plan = probe_plan_of(PROBED)
    probe_encodes = sum(r.shown for r in seen) / carphone.num_frames
    assert probe_encodes == len(probe_plan.lengths) + len(probe_plan.layers) == probe_plan.encodes
    probe = ProbeRecord.of(probe_encode)
    assert probe.gops and all(gop.frames in probe_plan.lengths for gop in probe.gops)
    with Stepper.open(LibvpxBackend(), carphone, PROBED, stats, probe=probe) as stepper:
        while stepper.info is not None:
            assert probe.matching_frame(stepper.info) is not None
            stepper.step(stepper.info.proposal_qindex)


@pytest.mark.parametrize("kbps", [15, pytest.param(75, marks=pytest.mark.slow)])
def test_a_probed_encode_meets_its_target(carphone: Clip, kbps: int) -> None:
    done = rollout(carphone, PROBED.replace(target_kbps=kbps), BasePolicy(), retry_off_target=True)
    assert abs(done.score.overshoot) < 0.015


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_clips_of_few_frames(carphone_path: Path, frames: int) -> None:
    clip = Clip.load(carphone_path, max_frames=frames)
    assert rollout(clip, PROBED, BasePolicy(), retry_off_target=True).score.shown_frames == frames


def test_parallel_probe_encodes_are_the_same(carphone: Clip) -> None:
    stats = first_pass(carphone, PROBED)
    alone, together = (run_probes(carphone, PROBED, stats, jobs=jobs) for jobs in (1, 3))
    assert ProbeRecord.of(alone) == ProbeRecord.of(together)


def test_a_failure_stops_all_probe_encodes(carphone: Clip) -> None:
    stats = first_pass(carphone, PROBED)
    seen: list[FrameResult] = []

    def failing(result: FrameResult) -> None:
        seen.append(result)
        if sum(r.shown for r in seen) > carphone.num_frames + 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_probes(carphone, PROBED, stats, jobs=3, on_frame=failing)
    assert sum(r.shown for r in seen) < 1.5 * carphone.num_frames
