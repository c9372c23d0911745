"""The stage of self-play: it resumes, stops on what is not finite, and is set by name."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from muzero_rc.agents.muzero.learner import Learner, load_batch
from muzero_rc.agents.muzero.replay import Replay
from muzero_rc.agents.policy import load_policy
from muzero_rc.cli.main import main
from muzero_rc.cli.train import rewrite
from muzero_rc.corpus import Corpus
from muzero_rc.env.control.baselines import ProposalPolicy
from muzero_rc.env.observation.builder import OBSERVATION_VERSION
from muzero_rc.env.rewards import GreedyOpponentReward, RewardConfig, make_reward
from muzero_rc.errors import CheckpointError, InputError, MuzeroRcError
from muzero_rc.policies.shipped import shipped_policy_path
from muzero_rc.training import checkpoints
from muzero_rc.training.actors import make_player
from muzero_rc.training.config import TrainConfig
from muzero_rc.training.costs import CostLedger
from muzero_rc.training.log import RunLog
from muzero_rc.training.player import SelfPlay
from muzero_rc.training.presets import PRESETS, apply_settings, configure
from muzero_rc.training.run import TrainingRun
from muzero_rc.training.scorer import Scorer
from muzero_rc.training.stages.collect import Draw, run_study
from muzero_rc.training.stages.self_play import SelfPlayStage
from muzero_rc.training.stages.start import start_params
from muzero_rc.training.tasks import Task, TaskClips


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, sample_clips: dict[str, Path]) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    shutil.copy(sample_clips["carphone_pristine"], folder / "carphone.mp4")
    (folder / "index.csv").write_text("file,group\ncarphone.mp4,phone\n")
    return folder


@pytest.fixture(scope="module")
def config() -> TrainConfig:
    small = PRESETS["tiny"]
    play = dataclasses.replace(small.self_play, episodes=4, sessions=2, updates_per_episode=1)
    return dataclasses.replace(small, self_play=play)


@pytest.fixture(scope="module")
def task(corpus: Path) -> Task:
    clip = Corpus.open(corpus).training()[0]
    for seed in range(20):  # not every draw has a target that VBR can meet
        draw = Draw(clip, speed=5, height=96, seed=(seed,))
        study = run_study(draw, ProposalPolicy(), PRESETS["tiny"].collect)
        if study is not None:
            return Task(0, study, clip.path)
    raise AssertionError("no study of the clip")


def _run(
    folder: Path,
    config: TrainConfig,
    task: Task,
    keep: Callable[[Learner, checkpoints.Counters], None] = lambda learner, counters: None,
) -> tuple[Learner, checkpoints.Counters]:
    trajectories = Replay(config.agent.network, config.agent.replay, config.agent.loss)
    log = RunLog(folder / "events", quiet=True)
    with CostLedger(folder / "costs.json").stage("self-play") as meter:
        stage = SelfPlayStage(folder, config, [task], trajectories, log, meter, keep)
        return stage.run(Learner(config.agent))


def test_what_is_not_finite_stops_the_run_with_its_batch_kept(
    task: Task, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = Replay.batch

    def broken(self: Replay, *arguments: object) -> object:
        batch = draw(self, *arguments)  # type: ignore[arg-type]
        return batch._replace(frame_rd=np.full_like(batch.frame_rd, np.inf))

    monkeypatch.setattr(Replay, "batch", broken)
    with pytest.raises(MuzeroRcError, match="not finite; its batch is in .*bad_batch.npz"):
        _run(tmp_path, config, task)
    kept = load_batch(tmp_path / "bad_batch.npz")
    assert np.isinf(kept.frame_rd).all()


@pytest.mark.parametrize(
    "kind", [pytest.param("greedy_opponent", marks=pytest.mark.slow), "ranked"]
)
def test_a_resumed_run_has_the_same_counters_optimizer_and_opponents(
    task: Task, config: TrainConfig, tmp_path: Path, kind: str
) -> None:
    reward = RewardConfig(kind=kind, games=1, promotion=0.1)
    config = dataclasses.replace(config, reward=reward)
    learner, counters = _run(tmp_path, config, task)
    assert counters.episodes == 4 and counters.updates == learner.steps == 4
    with (tmp_path / "progress.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["episodes"]) for row in rows] == [1, 2, 3, 4]
    assert int(rows[-1]["frames"]) == counters.frames

    def scorer() -> Scorer:
        return Scorer(make_reward(reward), [task], lambda params: None)  # type: ignore[arg-type,return-value]

    agent, replay, judged = (
        config.agent,
        Replay(config.agent.network, config.agent.replay, config.agent.loss),
        scorer(),
    )
    restored, again = checkpoints.restore(tmp_path, agent, Learner(agent), replay, judged)
    assert again.episodes == 4 and again.frames == counters.frames and len(replay) == 4
    assert restored.steps == 4
    if isinstance(judged.reward, GreedyOpponentReward) and judged.reward.generation:
        assert judged.opponent is not None
    state = json.loads((tmp_path / "checkpoint" / "state.json").read_text())
    assert judged.reward.state_dict() == state["reward"]
    # Rows beyond the checkpoint, of a run that was killed after them, are dropped.
    with (tmp_path / "progress.csv").open("a") as file:
        file.write("5,999,9,1,1,1,0,0,0\n")
    more = dataclasses.replace(config, self_play=dataclasses.replace(config.self_play, episodes=5))
    _, after = _run(tmp_path, more, task)
    assert after.episodes == 5
    cost = CostLedger(tmp_path / "costs.json").stages()["self-play"]
    opposed = kind == "greedy_opponent"
    assert cost.encodes >= 5 + opposed and cost.updates == 5
    assert cost.encoder_frames >= after.frames and cost.gpu_minutes == 0
    with (tmp_path / "progress.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert int(last["episodes"]) == 5 and int(last["frames"]) == after.frames != 999


def test_a_task_is_played_so_often_in_a_row(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TaskClips, "open", lambda self, task: None)
    policy = make_player(config.agent, Learner(config.agent).params, 1, 0)
    drawn = SelfPlay(range(100), policy, 1, 0, repeats=3)  # type: ignore[arg-type]
    played = [drawn._start().task for _ in range(30)]
    rows = [played[place : place + 3] for place in range(0, 30, 3)]
    assert all(len(set(row)) == 1 for row in rows) and len(set(played)) > 5


def test_policies_of_moments_are_kept_and_play(
    task: Task, config: TrainConfig, corpus: Path, tmp_path: Path
) -> None:
    play = dataclasses.replace(config.self_play, policy_every=2)
    run = TrainingRun(
        tmp_path, dataclasses.replace(config, self_play=play), (), RunLog(tmp_path, quiet=True)
    )
    kept = []

    def keep(learner: Learner, counters: checkpoints.Counters) -> None:
        run.keep(learner, counters)
        kept.append((counters.episodes, learner.steps))

    _run(tmp_path, run.config, task, keep)
    files = sorted((tmp_path / "policies").glob("*.npz"))
    assert [int(path.stem) for path in files] == [episodes for episodes, _ in kept]
    assert 1 <= len(kept) <= 2 and kept[-1][0] <= 4
    # A run that goes on keeps none twice.
    _run(tmp_path, run.config, task, keep)
    assert sorted((tmp_path / "policies").glob("*.npz")) == files
    for path, (episodes, updates) in zip(files, kept, strict=True):
        meta = load_policy(path, observation_version=OBSERVATION_VERSION).meta["training"]
        assert (meta["self_play_episodes"], meta["updates"]) == (episodes, updates)


def test_self_play_ends_when_its_time_is_over(
    task: Task, config: TrainConfig, tmp_path: Path
) -> None:
    play = dataclasses.replace(config.self_play, episodes=1000, minutes=0.01)
    _, counters = _run(tmp_path, dataclasses.replace(config, self_play=play), task)
    assert counters.episodes < 100 and (tmp_path / "checkpoint" / "state.json").exists()


def test_a_run_begins_with_the_networks_of_a_policy(tmp_path: Path) -> None:
    network = PRESETS["competition"].agent.network
    assert start_params("", network) is None
    begun = start_params("muzero", network)
    shipped = load_policy(shipped_policy_path("muzero")).params
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), begun, shipped))
    with pytest.raises(InputError, match="another action_frame than the run's"):
        start_params("muzero", PRESETS["paper"].agent.network)
    with pytest.raises(InputError, match=r"nobody\.npz does not exist"):
        start_params(str(tmp_path / "nobody.npz"), network)


def test_a_run_of_another_environment_is_refused(corpus: Path, tmp_path: Path) -> None:
    TrainingRun.create(tmp_path, configure("tiny"), corpus, ())
    path = tmp_path / "config.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "env_id": "muzero_rc/VP9RateControl-v9"}))
    with pytest.raises(CheckpointError, match="VP9RateControl-v9"):
        TrainingRun.resume(tmp_path, RunLog(tmp_path / "events", quiet=True))


# ---------------------------------------------------------------- settings by name


def test_every_setting_goes_by_its_name() -> None:
    config = apply_settings(
        PRESETS["tiny"],
        [
            "network.representation=hip", "search.algorithm=puct", "search.simulations=32",
            "reward.kind=lagrangian", "loss.n_step=5", "self_play.actors=3",
            "collect.heights=[96, 120]", "optimizer.learning_rate=0.01",
        ],
    )  # fmt: skip
    assert config.agent.network.representation == "hip"
    assert config.agent.network.block_columns == 4, "reading blocks is what it is for"
    assert (config.agent.search.algorithm, config.agent.search.simulations) == ("puct", 32)
    assert config.reward.kind == "lagrangian" and config.agent.loss.n_step == 5
    assert config.self_play.actors == 3 and config.collect.heights == (96, 120)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config
    assert make_player(config.agent, Learner(PRESETS["tiny"].agent).params, 1, 0) is not None


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("network.representatoin=hip", "did you mean network.representation"),
        ("network.representation=cnn", "must be one of perceiver_io"),
        ("search.simulations=many", "must be like 4"),
        ("search.simulations", "needs a value"),
        ("reward.kind=ssim", "reward.kind must be"),
        ("self_play.sessions=0", "self_play.sessions must be between 1"),
        ("self_play.repeats=0", "self_play.repeats must be between 1"),
        ("self_play.platform=tpu", "self_play.platform must be cpu or gpu"),
        ("loss.reward=1", "go together"),
        ("evaluate.speeds=[5, 10]", "evaluate.speeds must be between 0 and 9, not 10"),
        ("evaluate.speeds=5 2", "evaluate.speeds must be like"),
        ("collect.heights=[144, null]", "collect.heights must be like"),
        ("optimizer.learning_rate=NaN", "optimizer.learning_rate must be like"),
        ("evaluate.height=8", "evaluate.height must be 16 lines or more, not 8"),
    ],
)
def test_wrong_settings_get_one_line(setting: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        apply_settings(PRESETS["tiny"], [setting])


def test_a_seed_that_jax_cannot_take_is_refused() -> None:
    assert configure("tiny", seed=2**63 - 1).seed == 2**63 - 1
    with pytest.raises(InputError, match="seed must be between 0 and"):
        configure("tiny", seed=2**63)


def test_a_run_in_the_place_of_a_file_gets_one_line(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    words = ["train", "--corpus", str(corpus), "--out", str(tmp_path / "file"), "--preset", "tiny"]
    assert main(words) == 2
    assert "cannot make the folder" in capsys.readouterr().err


def test_dotted_options_are_settings(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rewrite(["--out", "x", "--loss.n_step", "5", "--reward.kind=ranked"]) == [
        "--out", "x", "--set", "loss.n_step=5", "--set", "reward.kind=ranked",
    ]  # fmt: skip
    words = ["train", "--corpus", str(corpus), "--out", str(tmp_path / "run")]
    assert main([*words, "--network.widht", "32"]) == 2
    error = capsys.readouterr().err.strip()
    assert "did you mean network.width?" in error and "\n" not in error
    assert not (tmp_path / "run").exists()
