"""`muzero-rc ablate`: equal frames, shared studies, resumed runs, honest intervals."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from muzero_rc.cli.main import main
from muzero_rc.errors import InputError
from muzero_rc.evaluation.measure.statistics import bootstrap_runs
from muzero_rc.evaluation.results import BdEntry, EncodeRecord, Results
from muzero_rc.training.ablation import AXES, Ablation, Curve, summarise


def _ablation(folder: Path, corpus: Path, **changes: object) -> Ablation:
    arguments: dict[str, object] = {
        "axis": "search", "corpus": corpus, "preset": "tiny", "frames": 100, "seeds": 1,
    }  # fmt: skip
    return Ablation(folder, **{**arguments, **changes})  # type: ignore[arg-type]


def test_axes_change_one_thing(tmp_path: Path) -> None:
    for axis, variants in AXES.items():
        ablation = _ablation(tmp_path, tmp_path, axis=axis)
        assert ablation.variants == list(variants)
    assert _ablation(tmp_path, tmp_path, only=("puct",)).variants == ["puct"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"axis": "weather"}, "unknown axis"),
        ({"only": ("nothing",)}, "only must name .* not nothing"),
        ({"frames": 0}, "frames must be"),
        ({"seeds": 0}, "seeds"),
        ({"settings": ("network.widht=3",)}, "did you mean"),
    ],
)
def test_nonsense_is_refused(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        _ablation(tmp_path, tmp_path, **changes)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--jobs", "0"], "--jobs must be at least 1"),
        (["--clips", "-1"], "--clips must be at least 0"),
        (["--scale", "3"], "--scale must be 16 lines or more, not 3"),
        (["--only", "foo"], " --only must name variants of "),
        (["--frames", "0"], "--frames must be at least 1, not 0"),
        (["--speed", "10"], " --speed must be between 0 and 9"),
        (["--budget", "0"], " --budget must be at least 1, not 0"),
        (["--seeds", "0"], " --seeds must be at least 1, not 0"),
        (["--studies", "1"], " --studies must be 2 or more"),
        (["--updates", "-1"], " --updates must be 0 or more"),
        (["--search.simulations", "-1"], " search.simulations must be between"),
        (["--out", "curves/curves.png/x"], "cannot write"),
        (["--out", "curves"], "is a folder"),
    ],
)
def test_what_the_evaluation_refuses_is_refused_before_the_training(
    words: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def train(*arguments: object) -> None:
        raise AssertionError("it has begun")

    monkeypatch.setattr(Ablation, "train", train)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "d.mp4").touch()  # kept for validation by the hash of its name
    (tmp_path / "curves" / "curves.png").mkdir(parents=True)
    (tmp_path / "curves" / "curves.png" / "x").touch()
    base = ["ablate", "--axis", "search", "--corpus", "clips", "--preset", "tiny"]
    assert main([*base, *([] if "--out" in words else ["--out", "out"]), *words]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_curves_are_read_from_progress(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    path.write_text("frames,win_vbr,overshoot\n10,-1,0.1\n20,0,0\n30,1,0\n40,1,0\n50,1,0\n")
    curve = Curve.read(path)
    assert curve.wins.tolist() == [0, 0.5, 1, 1, 1] and curve.end == 1.0
    path.write_text("frames,win_vbr\n1,2\n")
    with pytest.raises(InputError, match="cannot be read"):
        Curve.read(path)


def test_intervals_over_runs_and_clips() -> None:
    rng = np.random.default_rng(0)
    by_clip = bootstrap_runs(rng.normal(size=(1, 20)))
    assert by_clip is not None and by_clip.low < by_clip.high
    assert bootstrap_runs(rng.normal(size=(2, 20))) is None, "two seeds are too few"
    assert bootstrap_runs(np.zeros((1, 1))) is None and bootstrap_runs(np.zeros((3, 2))) is None
    # Seeds that differ much make the interval wide, however many clips there are.
    alike = bootstrap_runs(np.zeros((3, 50)) + rng.normal(size=(1, 50)) * 0.1)
    apart = bootstrap_runs(np.array([[-5.0], [0.0], [5.0]]) + rng.normal(size=(1, 50)) * 0.1)
    assert alike is not None and apart is not None
    assert apart.high - apart.low > 20 * (alike.high - alike.low)


def _entry(clip: str, method: str, percent: float | None) -> BdEntry:
    return BdEntry(
        clip=clip, method=method, metric="psnr_avg", percent=percent, overlap=1.0, db=0.0,
        reason="", dropped=0,
    )  # fmt: skip


def test_variants_are_compared_on_the_same_clips() -> None:
    encodes: list[EncodeRecord] = []
    bd = [
        _entry("a", "x/0", -1.0), _entry("b", "x/0", -9.0),
        _entry("a", "y/0", -2.0), _entry("b", "y/0", None),
    ]  # fmt: skip
    curve = Curve(np.arange(3.0), np.ones(3), np.zeros(3))
    found = summarise(
        Results(settings={}, encodes=encodes, bd_rate=bd), {"x": [curve], "y": [curve]},
        ["x", "y"], [0],
    )  # fmt: skip
    assert [s.bd_rate for s in found] == [-1.0, -2.0] and found[0].clips == 1
    assert found[0].win_interval is None and found[0].bd_interval is None


@pytest.mark.slow
def test_an_ablation_from_beginning_to_end_and_again(
    tmp_path: Path, sample_clips: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, out = tmp_path / "corpus", tmp_path / "out"
    corpus.mkdir()
    rows = ["file,group"]
    # "d" is kept for validation by the hash of its name, "street" is trained on.
    for name, group in (("bikes", "street"), ("carphone_pristine", "d")):
        shutil.copy(sample_clips[name], corpus / f"{name}.mp4")
        rows.append(f"{name}.mp4,{group}")
    (corpus / "index.csv").write_text("\n".join(rows) + "\n")
    words = [
        "ablate", "--axis", "search", "--corpus", str(corpus), "--out", str(out), "--preset",
        "tiny", "--budget", "120", "--seeds", "1", "--only", "gumbel", "none", "--studies", "2",
        "--updates", "2", "--clips", "1", "--scale", "96", "--frames", "30", "--quiet",
    ]  # fmt: skip
    assert main(words) == 0
    table = capsys.readouterr().out
    assert "gumbel" in table and "none" in table and "one seed" in table
    studies = [
        sorted(p.name for p in out.glob(f"runs/{v}/seed-0/studies/*")) for v in AXES["search"]
    ]
    assert studies[0] == studies[2] and len(studies[0]) == 2, "made once"
    for variant in ("gumbel", "none"):
        with (out / "runs" / variant / "seed-0" / "progress.csv").open() as file:
            frames = [int(row["frames"]) for row in csv.DictReader(file)]
        assert frames[-1] >= 120 and (len(frames) == 1 or frames[-2] < 120)
    stamp = (out / "runs" / "gumbel" / "seed-0" / "policy.npz").stat().st_mtime_ns
    assert main(words) == 0
    assert (out / "runs" / "gumbel" / "seed-0" / "policy.npz").stat().st_mtime_ns == stamp
    assert len(json.loads((out / "ablation.json").read_text())["variants"]) == 2
    assert (out / "curves.png").stat().st_size > 1000
    other = [w if w != "120" else "240" for w in words]
    assert main(other) == 2, "another budget is another ablation"
