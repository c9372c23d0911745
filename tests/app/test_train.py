"""Training on real clips: it runs, resumes after kill -9, repeats itself, and refuses nonsense."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from muzero_rc.agents.actions import action_of_qindex
from muzero_rc.agents.policy import load_policy
from muzero_rc.agents.world_model.plan_model import PlanModel
from muzero_rc.cli.main import main
from muzero_rc.corpus import Corpus, CorpusClip, find_videos
from muzero_rc.dataset import load_dataset
from muzero_rc.env.control.baselines import BasePolicy
from muzero_rc.env.control.qp_offsets import QpOffsetPolicy
from muzero_rc.env.observation.builder import OBSERVATION_VERSION
from muzero_rc.env.rewards import lexicographic_outcome
from muzero_rc.errors import InputError
from muzero_rc.folder_lock import FolderLock
from muzero_rc.policies.shipped import shipped_policy_path
from muzero_rc.training.config import TrainConfig
from muzero_rc.training.costs import CostLedger, StageCost
from muzero_rc.training.presets import PRESETS, configure
from muzero_rc.training.run import TrainingRun
from muzero_rc.training.stages.collect import Draw, run_study
from muzero_rc.training.stages.imitate import (
    demonstrations_of,
    explained_by,
    observed,
    planned_steps,
    study_of_view,
)
from muzero_rc.training.studies import load_studies
from muzero_rc.training.study import AT_TARGET, Study
from muzero_rc.types import Observation, QindexPolicy


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, sample_clips: dict[str, Path]) -> Path:
    """Two sources to train on; carphone's two files are one source."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = ["file,group"]
    for name in ("bikes", "carphone_pristine", "carphone_distorted"):
        path = sample_clips[name]
        shutil.copy(path, folder / path.name)
        # Names whose hash puts them on the training side.
        rows.append(f"{path.name},{'street' if name == 'bikes' else 'phone'}")
    (folder / "index.csv").write_text("\n".join(rows) + "\n")
    assert len(Corpus.open(folder).training()) == 3
    return folder


@pytest.fixture(scope="module")
def study(corpus: Path) -> Study:
    clip = next(c for c in Corpus.open(corpus).training() if c.source == "street")
    made = run_study(Draw(clip, 5, 96, (4,)), BasePolicy(), PRESETS["tiny"].collect)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def planner() -> PlanModel:
    return PlanModel.load(shipped_policy_path("planned"))


def test_a_study_survives_its_file(study: Study, tmp_path: Path) -> None:
    study.save(tmp_path / "study.npz")
    back = Study.load(tmp_path / "study.npz")
    assert back.settings == study.settings
    assert back.part == study.part
    assert np.array_equal(back.stats, study.stats) and back.slope == study.slope
    assert (back.clip, back.source, back.split) == (study.clip, "street", "training")
    assert back.encodes == study.encodes


def test_corrections_come_in_opposite_pairs(study: Study) -> None:
    pairs = [encode for encode in study.encodes if encode.name == "perturbed"]
    assert len(pairs) == 2 * PRESETS["tiny"].collect.pairs
    uncorrected = study.encode("base").frames()[0][1].qindex
    for number, (plus, minus) in enumerate(zip(pairs[::2], pairs[1::2], strict=True)):
        up = plus.frames()[0][1].qindex - uncorrected
        down = minus.frames()[0][1].qindex - uncorrected
        assert up == -down or 0 in (up + uncorrected, down + uncorrected)
        assert plus.pattern is not None and minus.pattern is not None
        assert plus.pattern == dataclasses.replace(minus.pattern, sign=1)
        assert (plus.pattern.pair, minus.pattern.sign) == (number, -1)
    found = [encode.pattern for encode in study.encodes if encode.name == "probe_pattern"]
    kinds = [pattern.kind for pattern in found if pattern]
    assert kinds == ["hadamard"] * PRESETS["tiny"].collect.probe_patterns + ["all"]


def test_one_probe_goes_ahead_of_all_encodes_of_a_study(study: Study, tmp_path: Path) -> None:
    study.save(tmp_path / "study.npz")
    back = Study.load(tmp_path / "study.npz")
    probe = back.probe
    assert probe is not None
    assert probe == study.probe
    assert all(frame.partition for frame in probe.coded.values())
    assert [e.name for e in study.encodes].count("probe") == 1
    run = [frame.proposal_qindex for frame in probe.coded.values()]
    for encode in (e for e in back.encodes if e.name in ("base", "perturbed")):
        assert [info.proposal_qindex for info, _ in encode.frames() if info] == run
    groups = [(frame.show_index, frame.update_type) for frame in probe.coded.values()]
    for encode in (e for e in back.encodes if e.name == "probe_pattern"):
        coded = [info for info, _ in encode.frames() if info]
        assert [(info.show_index, info.update_type) for info in coded] == groups
    # Its landing, made again from the file, is what the encode had; the base has no opinion.
    seen = observed(back, back.encode("base"))
    assert [result.qindex for _, _, result in seen] == [o.base_qindex for o, _, _ in seen]
    assert len({o.rate_offset for o, _, _ in seen}) > 1


def test_trajectories_hold_every_encode_at_the_target(study: Study, planner: PlanModel) -> None:
    found = list(demonstrations_of(study, planner, "proposal"))
    # But those at another target, and probes.
    taught = [e for e in study.encodes if e.name in AT_TARGET]
    assert len(found) == len(taught) == 3 + 2 * PRESETS["tiny"].collect.pairs
    trajectories = [imitated.trajectory for imitated in found]
    for trajectory, encode in zip(trajectories, taught, strict=True):
        assert len(trajectory) == encode.coded_frames == len(observed(study, encode))
        known = trajectory.policy_weights > 0
        assert np.allclose(trajectory.policies[known].astype(np.float32).sum(axis=1), 1, atol=1e-2)
        assert trajectory.outcome in (-1, 0, 1)
    # Against the base policy, which nearly all beat VBR with: outcomes must tell encodes apart.
    base = study.encode("base")
    assert trajectories[taught.index(base)].outcome == 0
    target = study.settings.target_kbps
    assert [trajectory.outcome for trajectory in trajectories] == [
        lexicographic_outcome(
            e.psnr_avg, e.kbps / target - 1, base.psnr_avg, base.kbps / target - 1
        )
        for e in taught
    ]


def test_the_head_learns_the_plans_steps_beside_those_of_landed(
    study: Study, planner: PlanModel
) -> None:
    plan = planned_steps(study, planner)
    assert len({planned.step for planned in plan.values()}) > 3
    number = [e.name for e in study.encodes if e.name in AT_TARGET].index("base")
    imitated = list(demonstrations_of(study, planner, "proposal"))[number]
    seen = observed(study, study.encode("base"))
    landed = QpOffsetPolicy().qindexes([observation for observation, _, _ in seen])
    for step, (observation, info, _), unplanned, policy in zip(
        imitated.steps, seen, landed, imitated.trajectory.policies, strict=True
    ):
        assert (plan[info.coding_index].show_index, observation.show_index) == (
            info.show_index,
            info.show_index,
        )
        wanted = min(max(int(unplanned) + plan[info.coding_index].step, 0), 255)
        assert observation.base_qindex + step == wanted
        action = action_of_qindex(wanted, observation.base_qindex, "proposal")
        assert int(policy.argmax()) == int(action)

    class Perfect(QindexPolicy):
        """Answers with the plan; one that answers with nothing explains less than nothing."""

        name = "perfect"

        def __init__(self, share: float) -> None:
            self._share = share

        def qindexes(self, observations: Sequence[Observation]) -> np.ndarray:
            steps = self._share * imitated.steps
            return np.array([o.base_qindex for o in observations]) + np.rint(steps)

    known = explained_by(Perfect(1.0), [imitated])
    assert known["head"] == 1.0 > known["levels"] > 0.0
    assert explained_by(Perfect(0.0), [imitated])["head"] <= 0.0
    assert known["rms"] == pytest.approx(np.sqrt(np.mean(imitated.steps**2)))


def test_without_a_probe_or_a_plan_the_head_learns_nothing(
    study: Study, planner: PlanModel
) -> None:
    rest = [encode for encode in study.encodes if encode.name != "probe"]
    blind = dataclasses.replace(study, encodes=rest)
    for found in (
        demonstrations_of(blind, planner, "proposal"),
        demonstrations_of(study, None, "proposal"),
    ):
        for imitated in found:
            assert not imitated.trajectory.policy_weights.any()
            assert np.isnan(imitated.steps).all() and np.isfinite(imitated.trajectory.bits).all()


def test_gain_is_zero_against_itself_and_antisymmetric_in_rate(study: Study) -> None:
    vbr, high = study.encode("vbr"), study.encode("vbr_high")
    assert study.gain_db(vbr, vbr) == 0
    assert abs(study.gain_db(high, vbr)) < 1e-6 or study.slope in (1.0, 8.0)


def test_validation_sources_are_a_fixed_fifth() -> None:
    clips = [CorpusClip(Path("x"), f"source {number}") for number in range(2000)]
    share = sum(clip.validation for clip in clips) / len(clips)
    assert 0.17 < share < 0.23
    assert [c.validation for c in clips] == [CorpusClip(c.path, c.source).validation for c in clips]


def test_find_videos_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        find_videos([tmp_path / "missing"])
    with pytest.raises(InputError, match="no video files"):
        find_videos([tmp_path])


def test_index_without_its_columns_is_refused(corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path / "c")
    (tmp_path / "c" / "index.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="columns file and group"):
        Corpus.open(tmp_path / "c")


def test_configuration_survives_json() -> None:
    config = configure("laptop", studies=7, imitation_updates=9, episodes=11, seed=5)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config
    with pytest.raises(InputError, match="studies must be 2 or more"):
        configure("laptop", studies=1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--out", "OUT"], "give --corpus"),
        (["--corpus", "MISSING", "--out", "OUT"], "no such folder"),
        (["--out", "OUT", "--resume"], "holds no run"),
        (["--corpus", "EMPTY", "--out", "OUT"], "no video files"),
        (["--corpus", "EMPTY", "--out", "OUT", "--studies", "0"], " --studies must be 2 or more"),
        (["--corpus", "CLIPS", "--out", "OUT", "--evaluate"], "no source of the corpus is kept"),
        (["--corpus", "CLIPS", "--out", "OUT", "--imitate.start", "x"], "x does not exist"),
        (["--dataset", "CLIPS/street.mp4", "--out", "OUT"], "not a file of this program"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(TrainingRun, "run", lambda run: pytest.fail("it has begun"))
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "CLIPS").mkdir()
    (tmp_path / "CLIPS" / "street.mp4").write_text("no data set either")
    words = [str(tmp_path / w) if w[:2].isupper() else w for w in arguments]
    assert main(["train", *words]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error
    assert "\n" not in error
    assert not (tmp_path / "OUT").exists()


@pytest.mark.parametrize("stored", [None, "{"])
def test_resume_writes_nothing_where_it_cannot(
    stored: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if stored is not None:
        (tmp_path / "config.json").write_text(stored)
    before = sorted(tmp_path.iterdir())
    assert main(["train", "--out", str(tmp_path), "--resume"]) != 0
    said = "holds no run" if stored is None else "is damaged"
    assert said in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_a_run_that_another_process_works_at_is_refused(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    TrainingRun.create(out, PRESETS["tiny"], corpus, ())
    (out / "progress.csv").write_text("episodes\n1\n")
    lock = FolderLock.take(out)
    assert lock is not None
    with lock:
        for more in ([], ["--until", "collect"]):
            assert main(["train", "--out", str(out), "--resume", "--quiet", *more]) == 2
            told = capsys.readouterr().err
            assert f"{out} is in use by another process; wait for it" in told
            assert "settings" not in told
        more = ["--episodes", "3", "--exclude", "someone", "--collect.passes", "2"]
        main(["train", "--out", str(out), "--resume", "--quiet", *more])
        told = capsys.readouterr().err
        assert "goes on with its own settings, without --exclude, --episodes, --set\n" in told
    assert (out / "progress.csv").read_text() == "episodes\n1\n"
    assert list((out / "studies").iterdir()) == [] and not (out / "costs.json").exists()


def _train(corpus: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "muzero_rc.cli.main", "train", "--out", str(out)]
    if "--resume" not in more:
        command += ["--corpus", str(corpus), "--preset", "tiny"]
    return subprocess.Popen([*command, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_killed_training_resumes_to_the_same_counters(corpus: Path, tmp_path: Path) -> None:
    """kill -9 in self-play; the resumed run ends where an uninterrupted one does."""
    out = tmp_path / "run"
    checkpoint = out / "checkpoint" / "state.json"
    with _train(corpus, out) as process:
        deadline = time.monotonic() + 240
        while not checkpoint.exists() and process.poll() is None:
            assert time.monotonic() < deadline, "no checkpoint in time"
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    before = json.loads(checkpoint.read_text())["counters"]
    spent = CostLedger(out / "costs.json").stages()
    assert list(spent) == ["collect", "fit", "imitate", "self-play"]
    assert spent["self-play"].encodes >= before["episodes"]
    assert before["episodes"] == PRESETS["tiny"].self_play.checkpoint_every
    with _train(corpus, out, "--resume") as process:
        output, text = process.communicate(timeout=240)
        assert process.returncode == 0, text.decode()
    printed = output.decode()
    counters = json.loads(checkpoint.read_text())["counters"]
    play = PRESETS["tiny"].self_play
    assert counters["episodes"] == play.episodes
    assert counters["updates"] == play.episodes * play.updates_per_episode
    assert counters["frames"] > before["frames"]
    past = json.loads(checkpoint.read_text())["reward"]["past"]
    assert sum(row["episodes"] for row in past) == play.episodes
    policy = load_policy(out / "policy.npz", observation_version=OBSERVATION_VERSION)
    assert policy.meta["training"]["stage"] == "self-play"
    assert policy.meta["training"]["self_play_episodes"] == play.episodes
    costs = CostLedger(out / "costs.json").stages()
    assert costs["collect"].encodes == spent["collect"].encodes  # nothing was made again
    assert costs["collect"].encodes >= policy.meta["training"]["studied_encodes"]
    studies = [Study.load(path) for path in (out / "studies").glob("*.npz")]
    coded = sum(encode.coded_frames for study in studies for encode in study.encodes)
    assert costs["collect"].encoder_frames >= coded > 0
    assert costs["imitate"].updates == PRESETS["tiny"].imitation_updates
    assert costs["self-play"].encodes >= play.episodes
    assert costs["self-play"].updates >= counters["updates"]
    for name, cost in costs.items():
        assert cost.core_hours > 0 and cost.wall_minutes > spent[name].wall_minutes
        assert cost.gpu_minutes == 0
    recorded = {
        name: StageCost.from_dict(v) for name, v in policy.meta["training"]["costs"].items()
    }
    assert recorded == costs
    table = [line for line in printed.splitlines() if line.strip().startswith("all ")]
    assert len(table) == 1 and f"{sum(c.encoder_frames for c in costs.values()):,}" in table[0]
    assert list((out / "events").iterdir())
    assert main(["train", "--corpus", str(corpus), "--out", str(out)]) == 2  # not overwritten


def test_studies_can_be_made_alone_and_the_rest_later(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["train", "--out", str(out), "--quiet"]
    more = ["--corpus", str(corpus), "--preset", "tiny", "--studies", "2", "--collect.pairs", "1"]
    assert main([*words, *more, "--until", "collect"]) == 0
    assert f"next: muzero-rc train --out {out} --resume" in capsys.readouterr().out
    assert len(list((out / "studies").glob("*.npz"))) == 2
    assert not (out / "policy.npz").exists()
    assert main(["dataset", str(out), "-o", str(tmp_path / "d.npz"), "--quiet"]) == 0
    dataset = load_dataset(tmp_path / "d.npz")
    made = list(load_studies(out / "studies"))
    assert [s.identity for s in dataset.studies] == [s.identity for s in made] != ["", ""]
    for ours, study in zip(dataset.studies, made, strict=True):
        # Without an encoder the same is observed, but for the rounding of errors.
        again, base = study_of_view(ours), study.encode("base")
        for (theirs, info, _), (seen, same, _) in zip(
            observed(study, base), observed(again, again.encode("base")), strict=True
        ):
            assert info == dataclasses.replace(
                same, tpl_intra_cost=info.tpl_intra_cost, tpl_mc_dep_cost=info.tpl_mc_dep_cost
            )
            assert (seen.base_qindex, seen.reach) == (theirs.base_qindex, theirs.reach)
            for name in ("clip", "history", "frame", "globals"):
                assert np.allclose(getattr(seen, name), getattr(theirs, name), atol=1e-3), name
        assert (ours.clip, ours.set, ours.slope) == (study.clip, "train", study.slope)
        for view, encode in zip(ours.encodes, study.encodes, strict=True):
            assert (view.name, view.kbps) == (encode.name, encode.kbps)
            assert view["bits"].tolist() == [r.bits for r in encode.log.results]
            assert view["qindex"].tolist() == [r.qindex for r in encode.log.results]
            infos = [frame.info for frame in encode.log.frames]
            assert (view["update_type"] >= 0).tolist() == [info is not None for info in infos]
            references = [list(info.ref_coding_indexes) if info else [0] * 3 for info in infos]
            assert view["ref_coding_indexes"].tolist() == references
            sse = np.array([result.sse for result in encode.log.results])
            assert (np.abs(view["sse"] - sse) <= 0.5 + 1.7e-4 * (1 + sse)).all()
    costs = CostLedger(out / "costs.json").stages()
    assert list(costs) == ["collect"] and costs["collect"].core_hours > 0
    assert main([*words, "--resume", "--until", "collect"]) == 0
    assert CostLedger(out / "costs.json").stages()["collect"].encodes == costs["collect"].encodes
