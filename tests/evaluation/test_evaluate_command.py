"""`muzero-rc evaluate` with libvpx, on a real clip at a tiny size."""

import json
import shutil
from fractions import Fraction
from pathlib import Path

import pytest

from muzero_rc.cli.main import main
from muzero_rc.cli.methods import methods_of
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.errors import InputError
from muzero_rc.evaluation.results import Results
from muzero_rc.folder_lock import FolderLock
from muzero_rc.policies.registry import make_policy

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="session")
def clip_path(sample_clips: dict[str, Path]) -> Path:
    """176x144, 29.97 fps, 120 frames."""
    return sample_clips["carphone_pristine"]


def evaluate(*words: object) -> int:
    return main(["evaluate", *map(str, words)])


def test_a_folder_that_another_process_evaluates_into_is_refused(
    clip_path, tmp_path, capsys
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    lock = FolderLock.take(out)
    assert lock is not None
    with lock:
        assert evaluate(clip_path, "--scale", 96, "--frames", 4, "--out", out) == 2
    assert f"{out} is in use by another process" in capsys.readouterr().err
    assert list(out.iterdir()) == []


def test_a_real_clip_end_to_end(clip_path, tmp_path, capfd) -> None:
    out = tmp_path / "out"
    words = (
        clip_path, "--policy", "constant:120", "--policy", "cq:20", "--targets", "60,240",
        "--scale", 96, "--frames", 30, "--speed", 5, "--lag", 20, "--no-tpl", "--out", out,
    )  # fmt: skip
    assert evaluate(*words) == 0
    printed = capfd.readouterr()
    assert "proposal" in printed.out
    assert "undefined BD-rates: 3" in printed.out
    assert "evaluate: 9/9" in printed.err
    assert printed.err.startswith("a BD-rate takes 4 targets and there are 2")
    results = Results.load(out)
    grid = [(t, m) for t in (60, 240) for m in ("vbr", "proposal", "constant:120", "cq:20")]
    assert [(e.target_kbps, e.method) for e in results.encodes] == grid
    assert results.failures == []
    assert {b.reason for b in results.bd_rate} == {
        "the anchor curve has 2 usable points of the 4 needed"
    }
    by_method = {(e.target_kbps, e.method): e for e in results.encodes}
    constant = by_method[240, "constant:120"]
    assert set(constant.qindex) == {120}
    assert len(constant.qindex) == constant.coded_frames >= constant.frames == 30
    assert by_method[240, "cq:20"].settings["rc_mode"] == "cq"
    assert by_method[240, "cq:20"].settings["cq_level"] == 20

    clip = Clip.load(clip_path, height=96, max_frames=30)
    (described,) = results.settings["clips"]
    assert described["sha256"] == clip.sha256
    assert (described["height"], Fraction(described["fps"])) == (96, clip.fps)
    settings = EncoderSettings(target_kbps=240, speed=5, lag_in_frames=20, tpl=False)
    for method in ("vbr", "proposal"):
        record = by_method[240, method]
        assert EncoderSettings(**record.settings) == settings
        direct = rollout(clip, settings, make_policy(method))
        assert record.sha256 == direct.stream.sha256
        assert record.qindex == direct.qindexes
        assert record.bytes == direct.stream.size_bytes
        assert record.psnr_overall == direct.score.psnr_overall
    for record in results.encodes:
        # Indexes of superframes are in the packets but belong to no frame.
        assert record.actual_kbps == pytest.approx(
            8 * record.bytes / clip.duration_s / 1000, rel=0.02
        )
        assert record.psnr_worst <= record.psnr_p5 <= record.psnr_avg <= record.psnr_y + 6
        assert 0 < record.decision_seconds < record.seconds

    stored = {p: p.stat().st_mtime_ns for p in (out / "encodes").iterdir()}
    assert len(stored) == 8
    assert evaluate(*words, "--jobs", 1, "--quiet") == 0
    assert {p: p.stat().st_mtime_ns for p in (out / "encodes").iterdir()} == stored
    assert Results.load(out).encodes == results.encodes
    assert capfd.readouterr().err == ""


def test_metrics_an_a_a_run_and_tables_for_a_document(clip_path, tmp_path, capfd) -> None:
    out = tmp_path / "out"
    words = (
        clip_path, "--policy", "proposal", "--targets", "60,90,140,220", "--scale", 96,
        "--frames", 6, "--speed", 8, "--lag", 5, "--jobs", 1, "--metrics", "psnr,ssim",
        "--aa", "--out", out,
    )  # fmt: skip
    assert evaluate(*words, "--format", "csv") == 0
    printed = capfd.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == "table,row,column,value"
    assert any(x.startswith("bd_rate_measured,mean,vbr-aa SSIM,") for x in lines)
    assert str(out / "results.json") in printed.err
    results = Results.load(out)
    assert {e.method for e in results.encodes} == {"vbr", "proposal", "vbr-aa"}
    for record in results.encodes:
        assert set(record.quality) == {"ssim"}
        moved = abs(record.asked_kbps - record.target_kbps)
        assert moved <= 2 and (moved > 0) == (record.method == "vbr-aa")
        assert set(record.buffer["sizes"]) == {"0.5", "1", "2"}
    assert results.settings["measured_by"]
    assert results.settings["clips"][0]["source"] == clip_path.stem
    # Again, from what is on disk, for a pull request.
    assert evaluate(*words, "--format", "md", "--quiet") == 0
    printed = capfd.readouterr()
    assert "| clip " in printed.out
    assert printed.err == ""
    assert main(["lottery", str(out)]) == 2
    assert "the lottery needs at least 2" in capfd.readouterr().err


def test_constant_without_a_value_keeps_to_the_target(clip_path, tmp_path, capfd) -> None:
    out = tmp_path / "out"
    assert evaluate(
        clip_path, "--policy", "constant", "--targets", "150", "--scale", 64, "--frames", 8,
        "--speed", 5, "--jobs", 1, "--out", out, "--quiet",
    ) == 0  # fmt: skip
    found = Results.load(out)
    (record,) = (e for e in found.encodes if e.method == "constant")
    assert record.actual_kbps <= 150
    assert record.preparation_seconds > record.seconds
    # The search is part of the time, else a gain would look free of it.
    (vbr,) = (e for e in found.encodes if e.method == "vbr")
    ours, theirs = (e.seconds + e.preparation_seconds for e in (record, vbr))
    assert found.summary["constant"]["time"]["of_anchor"] == pytest.approx(ours / theirs)
    assert len(set(record.qindex)) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no clip given; name a video file"),
        (["missing.mp4"], "missing.mp4: no such file or folder"),
        (["CLIP", "--targets", "0"], "target '0' is not a bitrate: give whole kbit/s"),
        (["CLIP", "--targets", "abc"], "target 'abc' is not a bitrate"),
        (["CLIP", "--targets=-256,384"], "target '-256' is not a bitrate"),
        (["CLIP", "--policy", "propsal"], "unknown policy 'propsal': did you mean proposal?"),
        (["CLIP", "--policy", "none.npz"], "policy file none.npz does not exist"),
        (["CLIP", "--policy", "TEXT"], "text"),
        (["CLIP", "--policy", "cq:99"], "level of cq must be between 0 and 63"),
        (["CLIP", "--speed", "11"], " --speed must be between 0 and 9, not 11"),
        (["CLIP", "--lag", "99"], " --lag must be between 0 and 25"),
        (["CLIP", "--aq-mode", "9"], " --aq-mode must be between 0 and 4"),
        (["CLIP", "--speeds", "2", "12"], " --speeds must be between 0 and 9, not 12"),
        (["CLIP", "--frames", "0"], "--frames must be at least 1, not 0"),
        (["CLIP", "--jobs", "0"], "--jobs must be at least 1, not 0"),
        (["TEXT"], "text"),
        (["CLIP", "--scale", "-3"], "--scale must be 16"),
        (["CLIP", "--metrics", "vmf"], "unknown metric 'vmf' in --metrics"),
        (["CLIP", "--out", "TEXT/out"], "cannot write to the folder"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    clip_path, tmp_path, monkeypatch, capfd, words, says
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("no video, no policy\n")
    words = [w.replace("CLIP", str(clip_path)).replace("TEXT", "text") for w in words]
    if "--policy" not in words:
        words += ["--policy", "proposal"]
    if "--out" not in words:
        words += ["--out", "out"]
    assert evaluate(*words, "--quiet") == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert says in printed.err
    assert printed.err.count("\n") == 1, printed.err
    assert [p.name for p in tmp_path.iterdir()] == ["text"]


def test_a_damaged_clip_among_others_is_recorded(clip_path, tmp_path, capfd) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    shutil.copy(clip_path, folder / "good.mp4")
    (folder / "bad.mp4").write_bytes(clip_path.read_bytes()[:3000])
    out = tmp_path / "out"
    status = evaluate(
        folder, "--policy", "proposal", "--targets", "100", "--scale", 64, "--frames", 5,
        "--speed", 8, "--jobs", 1, "--out", out,
    )  # fmt: skip
    assert status == 1
    results = json.loads((out / "results.json").read_text())
    assert [f["clip"] for f in results["failures"]] == ["bad"]
    assert {e["clip"] for e in results["encodes"]} == {"good"}
    printed = capfd.readouterr()
    assert "failed: 1\n  bad: " in printed.out
    assert "1 failed, see above" in printed.err


def test_methods_have_names_apart_and_follow_the_files(tmp_path) -> None:
    (tmp_path / "a").mkdir()
    paths = [tmp_path / "mine.npz", tmp_path / "a" / "mine.npz", tmp_path / "other.npz"]
    for path in paths:
        path.write_text(path.name)
    found = methods_of(["vbr", *map(str, paths), "cq:5", str(paths[0])])
    assert [m.name for m in found] == [
        "vbr", "proposal", str(paths[0]), str(paths[1]), "other", "cq:5",
    ]  # fmt: skip
    assert found[2].fingerprint == found[3].fingerprint != found[4].fingerprint
    paths[1].write_text("changed")
    assert methods_of([str(paths[1])])[2].fingerprint != found[3].fingerprint
    with pytest.raises(InputError, match="unknown policy"):
        methods_of(["nonsense"])
