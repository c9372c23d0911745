"""Corpora built out of real files: what is kept, what is not and why; killed, stopped, resumed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from muzero_rc import video
from muzero_rc.cli.main import main
from muzero_rc.corpus import Corpus
from muzero_rc.corpus.build import Step, build_corpus
from muzero_rc.corpus.manifest import MANIFEST, Manifest
from muzero_rc.corpus.plan import BuildSettings
from muzero_rc.env.codec.clip import Clip
from muzero_rc.errors import InputError, OutputError

MakeVideo = Callable[..., Path]
SETTINGS = BuildSettings(height=72, min_frames=20, max_frames=40, augment=1)
OPTIONS = ("--height", "72", "--min-frames", "20", "--max-frames", "40", "--augment", "1")


@pytest.fixture(scope="module")
def videos(
    tmp_path_factory: pytest.TempPathFactory,
    scenes_file: Path,
    scenes_again_file: Path,
    clip_file: Path,
    damaged_file: Path,
) -> Path:
    """Files for every reason to be left out, of sources on both sides."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "more").mkdir()
    shutil.copy(scenes_file, folder / "a scenes.mp4")
    shutil.copy(scenes_file, folder / "more" / "same.mp4")
    shutil.copy(scenes_again_file, folder / "again.mp4")
    shutil.copy(clip_file, folder / "card.mp4")
    shutil.copy(damaged_file, folder / "damaged.mp4")
    (folder / "text.mp4").write_text("no video\n")
    rows = ["file,group", "a scenes.mp4,film", "same.mp4,film", "card.mp4,s7"]
    (folder / "index.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def built(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus of those, two files at a time; tests that change it take a copy."""
    out = tmp_path_factory.mktemp("built") / "corpus"
    build_corpus([videos], out, SETTINGS, jobs=2)
    return out


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and time of change."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_what_is_kept_and_what_is_not(built: Path) -> None:
    manifest = Manifest.read(built / MANIFEST)
    plain = [e for e in manifest.kept() if not e.augmentation]
    assert [(e.origin, e.scene, e.start_frame, e.end_frame) for e in plain] == [
        ("a scenes.mp4", 0, 0, 40), ("a scenes.mp4", 1, 50, 85), ("card.mp4", 0, 0, 25),
    ]  # fmt: skip
    out = {(e.origin, e.reason) for e in manifest.rejected()}
    assert out == {
        ("a scenes.mp4", "static"), ("again.mp4", "duplicate"), ("damaged.mp4", "broken"),
        ("more/same.mp4", "duplicate"), ("text.mp4", "broken"),
    }  # fmt: skip
    assert {e.split for e in plain if e.source == "s7"} == {"validation"}
    variants = [e for e in manifest.kept() if e.augmentation]
    assert [e.split for e in variants] == ["training"] * 2  # never of what is validated on
    assert {e.parents.split()[0] for e in variants} == {e.file for e in plain[:2]}
    text = (built / MANIFEST).read_text()
    assert str(built.parent.parent) not in text  # no folder of this machine


def test_the_manifest_is_true_of_the_files(built: Path, videos: Path) -> None:
    for entry in Manifest.read(built / MANIFEST).kept():
        path = built / entry.file
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256
        assert path.stat().st_size == entry.bytes
        clip = Clip.load(path)
        assert clip.sha256 == entry.frames_sha256
        assert (clip.width, clip.height, clip.num_frames) == (
            entry.width, entry.height, entry.frames,
        )  # fmt: skip
        assert clip.fps == Fraction(entry.fps)
        if entry.augmentation:
            continue
        origin = videos / entry.origin
        assert hashlib.sha256(origin.read_bytes()).hexdigest() == entry.origin_sha256
        with video.open_decoder(origin, height=72) as decoder:
            wanted = list(decoder.frames())[entry.start_frame : entry.end_frame]
        with video.open_decoder(path) as decoder:
            assert list(decoder.frames()) == wanted


def test_a_corpus_is_what_training_and_evaluation_take(built: Path) -> None:
    corpus = Corpus.open(built)
    assert len(corpus.training()) == 4
    assert [clip.source for clip in corpus.validation()] == ["s7"]
    assert {clip.path.parent.name for clip in corpus.training()} == {"training"}
    # Studies know a clip by its file's name alone.
    assert len({clip.path.name for clip in corpus.clips}) == len(corpus.clips)


def test_a_second_run_does_nothing(built: Path, videos: Path) -> None:
    before = state(built)
    result = build_corpus([videos], built, SETTINGS)
    assert (result.looked, result.made) == (0, 0)
    assert state(built) == before


def test_a_corpus_grows_shrinks_and_mends(
    built: Path, videos: Path, make_video: MakeVideo, tmp_path: Path
) -> None:
    out = tmp_path / "corpus"
    shutil.copytree(built, out)
    extra = make_video("extra.mp4", "-vf", "hflip,negate", "-c:v", "libx264")
    lost = Manifest.read(out / MANIFEST).kept()[0].file
    (out / lost).unlink()
    for place in ("training", ".build", ".build/clips"):
        (out / place / ".half.partial").touch()
    result = build_corpus([videos, extra], out, SETTINGS)
    # The new file and its variant if it is trained on, and what was lost.
    new = [e for e in result.manifest.kept() if e.source == "extra"]
    assert new and result.looked == 1 and result.made == len(new) + 1
    assert not list(out.rglob("*.partial"))
    assert (out / lost).exists()
    result = build_corpus([videos], out, SETTINGS)
    assert (result.looked, result.made) == (0, 0)
    assert (out / MANIFEST).read_bytes() == (built / MANIFEST).read_bytes()
    files = {path.relative_to(out).as_posix() for path in out.rglob("*.mp4")}
    assert files == {entry.file for entry in result.manifest.kept()}


def build_command(videos: Path, out: Path) -> list[str]:
    words = ["corpus", "build", str(videos), "--out", str(out), *OPTIONS, "--jobs", "1"]
    return [sys.executable, "-m", "muzero_rc.cli.main", *words]


def wait_for(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, "it ended before it could be stopped"
        assert time.monotonic() < limit
        time.sleep(0.005)


def test_a_killed_build_goes_on(built: Path, videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    with subprocess.Popen(build_command(videos, out), stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: list(out.glob(".build/clips/*.json")), process)
        process.kill()
    assert not (out / MANIFEST).exists()
    done = {path: path.stat().st_mtime_ns for path in out.glob("*/*.mp4")}
    looks = {path: path.stat().st_mtime_ns for path in out.glob(".build/looks/*.json")}
    steps: list[Step] = []
    result = build_corpus([videos], out, SETTINGS, on_step=steps.append)
    assert result.looked == 0
    assert result.made <= len(result.manifest.kept()) - 1
    # Only the clip in work was lost: at most one file without its record is made again.
    changed = [path for path, at in done.items() if path.stat().st_mtime_ns != at]
    assert len(changed) <= 1
    assert all(path.stat().st_mtime_ns == at for path, at in looks.items())
    assert [step.phase for step in steps][-1] == "augment"
    # One file at a time, in two goes: the same corpus.
    assert (out / MANIFEST).read_bytes() == (built / MANIFEST).read_bytes()


def test_ctrl_c_leaves_nothing_half_done(scenes_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    with subprocess.Popen(
        build_command(scenes_file, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        wait_for(lambda: list(out.glob("training/.*.partial")), process)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == 130
    assert stdout == b""
    text = stderr.decode()
    assert text.count("muzero-rc: error: stopped") == 1
    assert "the same command goes on from there" in text
    assert "Traceback" not in text
    assert not list(out.rglob("*.partial"))
    assert not (out / MANIFEST).exists()


def test_no_space_left_is_one_line(scenes_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    command = " ".join(f"'{word}'" for word in build_command(scenes_file, out))
    # Files of at most 48 KiB: what was seen of a file fits, a clip does not.
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 48; {command} --quiet"], capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == f"muzero-rc: error: no space left in {out / 'training'}; free some or " \
        "write elsewhere\n"  # fmt: skip
    assert not list(out.rglob("*.partial"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 64}, "was built with height 72; give the same settings"),
        ({"augment": 2, "seed": 1}, "was built with augment 1, seed 0; give the same"),
    ],
)
def test_other_settings_need_another_folder(
    built: Path, videos: Path, change: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build_corpus([videos], built, replace(SETTINGS, **change))  # type: ignore[arg-type]


def test_two_builds_do_not_write_one_corpus(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    answers: list[str] = []

    def again(step: Step) -> None:
        if not answers:
            with pytest.raises(InputError) as refused:
                build_corpus([videos], out, SETTINGS)
            answers.append(str(refused.value))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_corpus([videos / "card.mp4"], out, SETTINGS, on_step=again)
    assert answers == [f"{out} is being built by another process"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("bild",), "did you mean build?"),
        (("build", "--out", "OUT"), "no video given"),
        (("build", "MISSING", "--out", "OUT"), "no such file or folder"),
        (("build", "EMPTY", "--out", "OUT"), "no video files in"),
        (("build", "VIDEOS", "--out", "INSIDE"), "where clips are looked for"),
        (("build", "VIDEOS", "--out", "FULL"), "is there and no corpus"),
        (("build", "VIDEOS", "--out", "FILE"), "cannot write"),
        (("build", "VIDEOS", "--out", "OUT", "--height", "4"), "--height must be 16"),
        (("build", "VIDEOS", "--out", "OUT", "--min-frames", "1"), "must be 2 or more"),
        (("build", "VIDEOS", "--out", "OUT", "--max-frames", "9"), "not below it"),
        (("build", "VIDEOS", "--out", "OUT", "--max-fps", "fast"), "not a frame rate"),
        (("build", "VIDEOS", "--out", "OUT", "--max-fps", "0"), "must be above 0"),
        (("build", "VIDEOS", "--out", "OUT", "--jobs", "0"), "at least 1, not 0"),
        (("build", "VIDEOS", "--out", "OUT", "--per-file", "0"), "1 or more, not 0"),
        (("build", "VIDEOS", "--out", "OUT", "--static-below", "-1"), "0 to 255, not -1"),
        (("build", "VIDEOS", "--out", "OUT", "--augment", "-1"), "must not be negative"),
        (("list", "MISSING"), "no such folder"),
        (("stats", "VIDEOS"), "is no built corpus"),
    ],
)
def test_nonsense_is_refused_in_one_line(
    videos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").touch()
    (tmp_path / "file").touch()
    names = {
        "OUT": tmp_path / "out", "MISSING": tmp_path / "missing", "EMPTY": tmp_path / "empty",
        "VIDEOS": videos, "INSIDE": videos / "corpus", "FULL": tmp_path / "full",
        "FILE": tmp_path / "file" / "corpus",
    }  # fmt: skip
    assert main(["corpus", *(str(names.get(word, word)) for word in words)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1 and message in captured.err
    assert not (tmp_path / "out").exists() and not (videos / "corpus").exists()


def test_list_and_stats(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Manifest.read(built / MANIFEST)
    assert main(["corpus", "list", str(built)]) == 0
    text = capsys.readouterr().out
    assert all(Path(entry.file).name in text for entry in manifest.kept())
    assert main(["corpus", "list", str(built), "--rejected"]) == 0
    text = capsys.readouterr().out
    assert "the same file as a scenes.mp4" in text and "levels of change" in text
    assert main(["corpus", "list", str(built / MANIFEST), "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [e.as_dict() for e in manifest.kept()]
    assert main(["corpus", "stats", str(built)]) == 0
    captured = capsys.readouterr()
    assert "left out: duplicate (2), broken (2), static (1)" in captured.out
    assert main(["corpus", "stats", str(built), "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["sides"]["training"]["clips"] == 4
    assert numbers["sides"]["training"]["augmented"] == 2
    assert numbers["sides"]["validation"]["frames"] == 25


def test_progress_and_result_as_json(
    built: Path, videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["corpus", "build", str(videos), "--out", str(built), *OPTIONS, "--json"]
    assert main(words) == 0
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines()]
    assert lines[0]["type"] == "progress" and lines[0]["phase"] == "look"
    assert lines[-1]["type"] == "corpus" and lines[-1]["made"] == 0
    assert captured.err == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(videos: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot write"):
        build_corpus([videos], tmp_path / "corpus", SETTINGS)
