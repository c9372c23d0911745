"""The teacher on libvpx: its policy, its log, and what stops it."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from muzero_rc.agents.hindsight import Plan, PlanBase, SearchProgress, TrialRunner
from muzero_rc.cli.evaluate import methods_of
from muzero_rc.compute.cancel import Cancelled, CancelToken, task_scope
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import cache_folder, first_pass
from muzero_rc.env.control.baselines import (
    BasePolicy,
    ConstantPolicy,
    ProposalPolicy,
    RandomPolicy,
    VbrPolicy,
)
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.env.passes.probe import run_probes
from muzero_rc.errors import InputError
from muzero_rc.policies.hindsight.log import SearchHeader, SearchLog, read_log
from muzero_rc.policies.hindsight.player import PlanPlayer
from muzero_rc.policies.hindsight.policy import HindsightPolicy
from muzero_rc.policies.registry import make_policy, prepare, searching
from muzero_rc.types import EncodeLog

FAST = EncoderSettings(target_kbps=60, speed=5, speed_profile="hierarchical")
LANDED = BasePolicy()


def player(clip: Clip) -> PlanPlayer:
    return PlanPlayer(clip, FAST, first_pass(clip, FAST))


def log_file() -> Path:
    (path,) = (cache_folder().parent / "searches").glob("*.jsonl")
    return path


def test_a_search_meets_its_target_and_beats_its_starts(moving_clip: Clip) -> None:
    stats = first_pass(moving_clip, FAST)
    seen: list[SearchProgress] = []
    teacher = HindsightPolicy(16)
    teacher.on_progress = seen.append
    wanted = FAST.replace(passes=3)
    assert prepare(teacher, moving_clip, FAST.replace(speed_profile="auto"), stats) == wanted
    found = teacher.result
    assert found is not None and found.on_target and found.spent <= 16
    done = rollout(moving_clip, wanted, teacher, first_pass=stats)
    # The encode repeats what the search has seen, to the bit.
    assert done.score == found.outcome.score
    assert done.score.overshoot <= 0.005
    for start_settings, policy in ((FAST, VbrPolicy()), (FAST, ProposalPolicy()), (wanted, LANDED)):
        start = rollout(moving_clip, start_settings, policy, first_pass=stats).score
        if start.overshoot <= 0.005:
            assert done.score.psnr_avg >= start.psnr_avg
    assert seen[-1].spent == found.spent and seen[-1].budget == 16


def test_the_log_resumes_a_search_also_after_a_kill(moving_clip: Clip) -> None:
    stats = first_pass(moving_clip, FAST)
    whole = HindsightPolicy(10)
    whole.prepare(moving_clip, FAST, stats)
    assert whole.result is not None and whole.result.encodes == whole.result.spent
    again = HindsightPolicy(10)
    again.prepare(moving_clip, FAST, stats)
    assert again.result is not None and again.result.encodes == 0
    assert again.result.plan == whole.result.plan
    # A kill in the middle of a line, five encodes in: after the header and the probe.
    path = log_file()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:7]) + lines[7][: len(lines[7]) // 2])
    resumed = HindsightPolicy(10)
    resumed.prepare(moving_clip, FAST, stats)
    assert resumed.result is not None
    assert resumed.result.plan == whole.result.plan
    assert resumed.result.encodes == whole.result.encodes - 5
    found = read_log(path)
    assert found.header.frames == 24 and len(found.encodes) == whole.result.encodes
    assert found.slope == whole.result.slope and found.probe is not None


def test_two_passes_are_searched_without_a_probe(moving_clip: Clip) -> None:
    stats = first_pass(moving_clip, FAST)
    teacher = HindsightPolicy(6)
    settings = prepare(teacher, moving_clip, FAST.replace(passes=2), stats)
    assert settings.passes == 2 and teacher.result is not None
    assert read_log(log_file()).probe is None
    done = rollout(moving_clip, settings, teacher, first_pass=stats)
    assert done.score == teacher.result.outcome.score


def test_a_probe_is_run_once_for_a_search(
    moving_clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats = first_pass(moving_clip, FAST)
    run: list[EncoderSettings] = []

    def counting(clip: Clip, settings: EncoderSettings, *args: Any, **more: Any) -> EncodeLog:
        run.append(settings)
        return run_probes(clip, settings, *args, **more)

    monkeypatch.setattr("muzero_rc.policies.hindsight.policy.run_probes", counting)
    first = HindsightPolicy(2)
    first.prepare(moving_clip, FAST, stats)
    again = HindsightPolicy(3)
    again.prepare(moving_clip, FAST, stats)
    assert len(run) == 1
    assert first.result is not None and again.result is not None
    assert again.result.encodes == again.result.spent - first.result.spent
    logged = read_log(log_file())
    assert logged.probe is not None and any(r.partition for _, r in logged.probe.frames)


def test_a_log_of_another_rate_control_is_not_gone_on_from(
    moving_clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats = first_pass(moving_clip, FAST)
    for build in ("build 98", "build 99"):
        monkeypatch.setattr(
            "muzero_rc.policies.hindsight.policy.build_identity", lambda _, build=build: build
        )
        teacher = HindsightPolicy(2)
        teacher.prepare(moving_clip, FAST, stats)
        assert teacher.result is not None and teacher.result.encodes == 2


def test_a_search_that_starts_from_another_policy_starts_anew(moving_clip: Clip) -> None:
    stats = first_pass(moving_clip, FAST)
    encodes = []
    for qindex in (90, 140, 90):
        teacher = HindsightPolicy(2, start=ConstantPolicy(qindex))
        teacher.prepare(moving_clip, FAST, stats)
        assert teacher.result is not None
        encodes.append(teacher.result.encodes)
    assert encodes[:2] == [2, 2] and encodes[2] < 2


def test_what_a_policy_of_no_digest_gives_is_not_reused(moving_clip: Clip) -> None:
    stats = first_pass(moving_clip, FAST)
    for _ in range(2):
        teacher = HindsightPolicy(2, start=RandomPolicy(0))
        teacher.prepare(moving_clip, FAST, stats)
        assert teacher.result is not None and teacher.result.encodes == 2


def test_logged_encodes_are_what_was_encoded(moving_clip: Clip, tmp_path: Path) -> None:
    header = SearchHeader.of(moving_clip, FAST, "build")
    log = SearchLog(tmp_path / "a" / "log.jsonl", header)
    runner = TrialRunner(player(moving_clip), 2, on_encode=log.add)
    outcomes = runner.run([Plan(PlanBase.PROPOSAL), Plan(PlanBase.FEEDBACK, shift=3.0)])
    found = read_log(log.path)
    encodes = found.encodes
    assert found.header == header and found.slope is None
    assert [encode.outcome.score for encode in encodes] == [o.score for o in outcomes if o]
    for encode, outcome in zip(encodes, outcomes, strict=True):
        assert outcome is not None
        for (info, result), (old_info, old) in zip(
            encode.outcome.frames, outcome.frames, strict=True
        ):
            assert info == old_info
            result, old = (dataclasses.replace(r, cpu_seconds=0.0) for r in (result, old))
            assert result == old
    assert SearchLog(log.path, header).known.keys() == {e.plan.identity for e in encodes}


def test_what_is_no_log_of_this_search_is_refused(moving_clip: Clip, tmp_path: Path) -> None:
    header = SearchHeader.of(moving_clip, FAST, "build")
    path = tmp_path / "log.jsonl"
    SearchLog(path, header)
    other = SearchHeader.of(moving_clip, FAST.replace(speed=4), "build")
    with pytest.raises(InputError, match="another search"):
        SearchLog(path, other)
    for text in ("", "x\n", "{}\n", '{"type": "search", "version": 99}\n'):
        path.write_text(text)
        with pytest.raises(InputError, match="no log of a search"):
            read_log(path)
    with pytest.raises(InputError, match="cannot read"):
        read_log(tmp_path / "none.jsonl")


def test_a_cache_that_takes_nothing_does_not_end_a_search(
    moving_clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats = first_pass(moving_clip, FAST)
    blocked = cache_folder().parent / "searches"
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("a file where the folder should be")
    teacher = HindsightPolicy(2)
    teacher.prepare(moving_clip, FAST, stats)
    assert teacher.result is not None and teacher.result.encodes == 2


def test_a_plan_repeats_an_encode_of_libvpx(moving_clip: Clip) -> None:
    play = player(moving_clip)
    first = play.encode(Plan(PlanBase.FEEDBACK, stretch=1.1))
    again = play.encode(Plan.frozen(first.frames))
    assert again.score == first.score
    policy = ConstantPolicy(120)
    constant = PlanPlayer(moving_clip, FAST, first_pass(moving_clip, FAST), policy=policy)
    outcome = constant.encode(Plan(PlanBase.POLICY, shift=1.0))
    assert {r.qindex for info, r in outcome.frames if info is not None} == {121}
    with pytest.raises(InputError, match="starts from a policy"):
        play.encode(Plan(PlanBase.POLICY))


def test_cancelling_stops_an_encode_within_a_frame(moving_clip: Clip) -> None:
    token = CancelToken()
    token.cancel()
    start = time.perf_counter()
    with task_scope(token), pytest.raises(Cancelled):
        player(moving_clip).encode(Plan(PlanBase.PROPOSAL))
    assert time.perf_counter() - start < 5


def test_policies_by_name() -> None:
    policy = make_policy("hindsight:7")
    assert isinstance(policy, HindsightPolicy) and policy.budget == 7
    assert make_policy("hindsight").name == "hindsight"
    for name, message in (("hindsight:x", "whole number"), ("hindsight:0", "1 to")):
        with pytest.raises(InputError, match=message):
            make_policy(name)


def test_it_is_a_method_of_the_evaluation() -> None:
    method = methods_of(["hindsight:7"])[-1]
    assert (method.name, method.spec) == ("hindsight:7", "hindsight:7")
    assert method.fingerprint != methods_of(["hindsight:8"])[-1].fingerprint


def test_what_a_search_starts_from() -> None:
    assert searching(VbrPolicy(), 5).start is None
    assert searching(ProposalPolicy()).budget == 30
    constant = ConstantPolicy(9)
    assert searching(constant, 5).start is constant
    assert searching(make_policy("hindsight:50"), 5).budget == 5
    for name in ("cq", "constant"):
        with pytest.raises(InputError, match="cannot start from"):
            searching(make_policy(name), 5)


def test_it_decides_nothing_unprepared_and_takes_no_streamed_clip(moving_clip: Clip) -> None:
    observation: Any = SimpleNamespace(history=np.zeros((0, 3)))
    with pytest.raises(InputError, match="prepared"):
        HindsightPolicy().qindexes([observation])
    streamed: Any = SimpleNamespace(in_memory=False, name="film.mkv")
    with pytest.raises(InputError, match="film.mkv is too long"):
        HindsightPolicy().prepare(streamed, FAST, first_pass(moving_clip, FAST))
