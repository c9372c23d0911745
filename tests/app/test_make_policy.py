"""All that is learned by one command: from a data set, and from a corpus to a table and a card."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from muzero_rc.agents.world_model.plan_model import PlanModel
from muzero_rc.checkpoint import read_meta
from muzero_rc.cli.main import main
from muzero_rc.corpus import Corpus, CorpusClip
from muzero_rc.dataset import load_dataset
from muzero_rc.errors import InputError
from muzero_rc.evaluation.grid.encoder import Method
from muzero_rc.evaluation.results import Results
from muzero_rc.policies.registry import make_policy
from muzero_rc.signals import Stopped
from muzero_rc.training.costs import CostLedger
from muzero_rc.training.presets import PRESETS
from muzero_rc.training.run import TrainingRun
from muzero_rc.training.stages.evaluate import COLUMNS, _methods, result_rows, results_page
from muzero_rc.training.stages.plan import RIDGES, fit_plan_model

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data" / "studies.npz"


def test_a_run_of_a_data_set_fits_imitates_and_leaves_sources_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = load_dataset(DATA)
    few = dataclasses.replace(whole, studies=whole.studies[:3])
    reads: list[Path] = []
    for module in ("run", "stages.teacher"):
        monkeypatch.setattr(
            f"muzero_rc.training.{module}.load_dataset", lambda path: reads.append(path) or few
        )
    # Which ridge is chosen is tested elsewhere; to try all of them takes most of a fit.
    monkeypatch.setitem(fit_plan_model.__kwdefaults__, "ridges", RIDGES[:1])
    left_out = few.studies[1].source
    out = tmp_path / "run"
    words = ["train", "--dataset", str(DATA), "--out", str(out), "--preset", "tiny", "--quiet"]
    more = ["--updates", "0", "--exclude", left_out, "--imitate.step_strength", "10"]
    assert main([*words, *more]) == 0
    assert len(reads) == 1
    plan = PlanModel.load(out / "plan.npz")
    assert plan.settings.step_strength == 10.0 and plan.meta["excluded"] == [left_out]
    assert plan.meta["sources"] == 2
    told = read_meta(out / "policy.npz")["training"]
    assert (told["stage"], told["studies"], told["sources"]) == ("imitation", 2, 2)
    assert told["excluded"] == [left_out] and told["teacher"]["plans"]["step_strength"] == 10.0
    # Nothing is learned yet: the untrained head stays at the controller's qindexes.
    assert told["plans_explained"]["head"] <= 0.0 < told["plans_explained"]["levels"]
    assert list(CostLedger(out / "costs.json").stages()) == ["fit", "imitate"]
    for name, file in (("muzero", "policy.npz"), ("planned", "plan.npz")):
        assert make_policy(str(out / file)).name == name  # and without a warning
    capsys.readouterr()
    assert main(["policy", str(out / "policy.npz")]) == 0
    card = capsys.readouterr().out
    assert "imitates a planner, the linear response model of 2 studies, at step strength 10" in card
    assert f"sources left out | 1: {left_out}" in card
    assert "--dataset DATASET --out RUN --preset tiny --updates 0 --episodes 0" in card
    assert "nothing in it was learned from a reward" in card
    views = [view for view in few.studies if view.source != left_out]
    for name, column in (("heights", 0), ("frames", 2)):
        found = sorted({view.part[column] for view in views})
        assert told["seen"][name] in (found, [found[0], found[-1]])
    assert f"frames, scaled down to {views[0].part[0]} lines" in card
    # It is finished: the same again does nothing.
    before = (out / "policy.npz").read_bytes()
    assert main(["train", "--out", str(out), "--resume", "--quiet"]) == 0
    assert (out / "policy.npz").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--dataset", str(DATA), "--episodes", "3"], "self-play needs --corpus"),
        (["--dataset", str(DATA), "--network.representation", "hip"], "hip needs --corpus"),
        (["--dataset", str(DATA), "--evaluate"], "--evaluate needs --corpus"),
        (["--dataset", str(DATA), "--corpus", "clips"], "or --dataset"),
        (["--dataset", "gone.npz"], "gone.npz: no such file"),
        (["--dataset", str(DATA), "--imitate.head", "median"], "mode or mean"),
        (["--dataset", str(DATA), "--imitate.step_strength", "0.0"], "must be above 0"),
        (["--dataset", str(DATA), "--evaluate.clips", "0"], "evaluate.clips must be 1 or more"),
    ],
)
def test_what_a_data_set_cannot_give_is_one_line(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--out", str(tmp_path / "run"), *words]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and "\n" not in error
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_given_teacher_must_not_have_seen_what_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = load_dataset(DATA).sources[0]
    words = ["train", "--dataset", str(DATA), "--preset", "tiny", "--quiet", "--exclude", source]
    for teacher, says in (("planned", "may have seen"), ("gone.npz", "does not exist")):
        out = str(tmp_path / teacher)
        assert main([*words, "--out", out, "--imitate.teacher", teacher]) == 2
        assert says in capsys.readouterr().err
        assert not (tmp_path / teacher).exists(), "told before anything is made"


@pytest.mark.parametrize("command", ["train", "fit", "corpus", "ablate"])
def test_a_source_that_is_not_there_cannot_be_left_out(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A misspelt one would be trained on, and then measured as held out.
    name = load_dataset(DATA).sources[0]
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / f"{name}.mp4").touch()
    out = tmp_path / "out"
    words = {
        "train": ["train", "--dataset", str(DATA), "--out", str(out)],
        "fit": ["fit", str(DATA), "-o", str(out.with_suffix(".npz"))],
        "corpus": ["train", "--corpus", str(clips), "--out", str(out)],
        "ablate": [
            "ablate",
            "--axis",
            "reward",
            "--corpus",
            str(clips),
            "--out",
            str(out),
            "--clips",
            "0",
        ],
    }[command]
    assert main([*words, "--exclude", f"{name}x"]) == 2
    said = f"no source {name}x to leave out; did you mean {name}?"
    assert said in capsys.readouterr().err
    assert not (out / "config.json").exists() and not out.with_suffix(".npz").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Stopped(signal.SIGTERM)])
@pytest.mark.parametrize("command", ["train", "ablate"])
def test_who_stops_a_run_is_told_how_it_goes_on(
    command: str,
    error: BaseException,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(run: TrainingRun) -> None:
        raise error

    monkeypatch.setattr(TrainingRun, "run", stop)
    clips, out = tmp_path / "clips", tmp_path / "out"
    clips.mkdir()
    (clips / "b.mp4").touch()
    more = ["--axis", "reward", "--clips", "0"] if command == "ablate" else ["--preset", "tiny"]
    words = [command, "--corpus", str(clips), "--out", str(out), "--quiet", *more]
    assert main(words) == 128 + (2 if isinstance(error, KeyboardInterrupt) else signal.SIGTERM)
    how = {
        "train": f"muzero-rc train --out {out} --resume goes on from there",
        "ablate": "the same command goes on from there",
    }[command]
    assert capsys.readouterr().err.rstrip().endswith(how)


def test_validation_clips_are_taken_of_each_source_in_turn() -> None:
    names = (("a1", "a"), ("a2", "a"), ("b1", "b"), ("t1", "t"))
    clips = [
        CorpusClip(Path(f"{name}.mp4"), source, "training" if source == "t" else "validation")
        for name, source in names
    ]
    picked = [clip.path.stem for clip in Corpus(clips).spread_validation(9)]
    assert picked == ["a1", "b1", "a2"]
    assert [clip.path.stem for clip in Corpus(clips).spread_validation(2)] == ["a1", "b1"]
    with pytest.raises(InputError, match="no source of the corpus is kept"):
        Corpus(clips[-1:]).spread_validation(1)


def test_every_way_to_decide_is_evaluated_and_stands_in_the_card(tmp_path: Path) -> None:
    assert [method.name for method in _methods(tmp_path)] == ["vbr", "proposal", "landed"]
    for name in ("plan.npz", "policy.npz"):
        (tmp_path / name).write_bytes(name.encode())
    methods: list[Method] = list(_methods(tmp_path))
    assert [method.name for method in methods[3:]] == ["const", "planned", "head"]
    assert methods[3].spec == f"{methods[4].spec}:const"
    assert len({method.fingerprint for method in methods}) == 6
    known = {"mean": -1.234, "interval": [-2.0, 0.5], "n": 3, "n_sources": 2}
    entry = {
        "psnr_avg": known, "psnr_overall": {"mean": None}, "time": {"of_anchor": 1.5},
        "landing": {"mean_abs_deviation": 0.004},
    }  # fmt: skip
    rows = result_rows({5: Results(settings={}, encodes=[], summary={"vbr": {}, "head": entry})})
    assert rows == [("head", "5", "3 of 2", "-1.2", "-2.0 to +0.5", "-", "1.50", "0.4%")]
    page = results_page(rows, PRESETS["tiny"])
    assert "20 frames of each clip at 96 lines" in page
    assert page.splitlines()[-1] == f"| {' | '.join(rows[0])} |" and len(rows[0]) == len(COLUMNS)


def _make(corpus: Path, run: Path) -> subprocess.Popen[str]:
    """`make policy` without the set-up, in a group of processes of its own."""
    words = ["make", "-o", "setup", "policy", f"CORPUS={corpus}", f"RUN={run}", "PRESET=tiny",
             'ARGS=--studies 2 --episodes 4 --updates 20 --collect.pairs 1']  # fmt: skip
    return subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


@pytest.mark.slow
def test_make_policy_from_a_corpus_to_a_card_and_on_after_a_kill(
    sample_clips: dict[str, Path], tmp_path: Path
) -> None:
    corpus, run = tmp_path / "corpus", tmp_path / "run"
    corpus.mkdir()
    rows = ["file,group,set"]
    for name, side in (("bikes", "train"), ("carphone_pristine", "train"), ("bigbuckbunny", "dev")):
        shutil.copy(sample_clips[name], corpus)
        rows.append(f"{sample_clips[name].name},{name},{side}")
    (corpus / "index.csv").write_text("\n".join(rows) + "\n")
    process = _make(corpus, run)
    deadline = time.monotonic() + 900
    while not list(run.glob("evaluation/*/encodes/*")) and process.poll() is None:
        assert time.monotonic() < deadline, "no evaluation in time"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    policy = (run / "policy.npz").read_bytes()
    made = {path.name for path in run.glob("evaluation/*/encodes/*.json")}
    with _make(corpus, run) as process:
        printed, error = process.communicate()
    assert process.returncode == 0, error
    assert (run / "policy.npz").read_bytes() == policy  # nothing was trained again
    assert made <= {path.name for path in run.glob("evaluation/*/encodes/*.json")}
    stages = [line.split()[0] for line in printed.splitlines() if line.strip()]
    for stage in ("collect", "fit", "imitate", "self-play", "evaluate", "all"):
        assert stages.count(stage) == 1, printed
    for method in ("proposal", "landed", "const", "planned", "head"):
        assert stages.count(method) == 1, printed
    card = (run / "policy.md").read_text()
    assert "It has played 4 episodes" not in card and "it played 4 episodes" in card
    assert card.count("| head | 5 |") == 1
