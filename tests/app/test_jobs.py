"""Several inputs, and pipes, by the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from muzero_rc.cli.jobs import PIPE, Job, jobs_of
from muzero_rc.cli.main import main
from muzero_rc.errors import InputError

MakeVideo = Callable[..., Path]
X264 = ("-c:v", "libx264", "-preset", "ultrafast")
FAST = ("-b", "100k", "--speed", "8", "--policy", "proposal", "-q")


def test_outputs_of_several_inputs(tmp_path: Path) -> None:
    inputs = [Path("x/a.mp4"), Path("b.c.mkv")]
    jobs = jobs_of(inputs, tmp_path)
    assert [job.out for job in jobs] == [tmp_path / "a.webm", tmp_path / "b.c.webm"]
    assert jobs_of([Path("a")], Path("b.mkv")) == [Job(Path("a"), Path("b.mkv"))]
    assert jobs_of([PIPE], PIPE) == [Job(PIPE, PIPE)]
    for bad, out, text in (
        (inputs, Path("c.webm"), "need a folder"),
        ([Path("a.mp4"), Path("y/a.mkv")], tmp_path, "would both become"),
        ([PIPE], tmp_path, "needs a name"),
    ):
        with pytest.raises(InputError, match=text):
            jobs_of(bad, out)


def test_one_that_fails_is_told_and_the_rest_is_done(
    make_video: MakeVideo, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good = make_video("one.mp4", *X264, size="64x48", seconds=0.2)
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    words = ["encode", str(bad), str(good), "-o", str(tmp_path), *FAST, "--json"]
    assert main(words) == 2
    assert sorted(os.listdir(tmp_path)) == ["bad.mp4", "one.webm"]
    told = capfd.readouterr()
    lines = [json.loads(line) for line in told.out.splitlines()]
    kinds = [line["type"] for line in lines if line["type"] != "progress"]
    assert kinds == ["failed", "result", "error"]
    assert "1 of 2 encodes failed" in told.err


def test_key_frames_are_no_farther_apart_than_asked(
    make_video: MakeVideo, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source, out = make_video("keys.mp4", *X264, size="64x48"), tmp_path / "out.webm"
    assert main(["encode", str(source), "-o", str(out), *FAST, "--keyint", "9"]) == 0
    flags = subprocess.run(
        ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "packet=flags",
         "-of", "csv=p=0", out], capture_output=True, check=True, text=True,
    ).stdout.split()  # fmt: skip
    keys = [number for number, flag in enumerate(flags) if "K" in flag]
    assert len(flags) == 25 and keys[0] == 0
    assert max(b - a for a, b in zip(keys, [*keys[1:], 25], strict=True)) <= 9
    assert main(["encode", str(source), "-o", str(out), *FAST, "--keyint", "-1"]) == 2
    assert "kf_max_dist must be between" in capfd.readouterr().err


def test_from_pipe_to_pipe(make_video: MakeVideo, tmp_path: Path) -> None:
    source = make_video("pipe.mp4", *X264, size="64x48", seconds=0.2)
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", source, "-f", "yuv4mpegpipe", "-"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    command = [sys.executable, "-m", "muzero_rc.cli.main", "encode", "-", "-o", "-", *FAST]
    done = subprocess.run(command, input=raw, capture_output=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"5 frames" in done.stderr
    told = subprocess.run(
        ["ffprobe", "-v", "error", "-count_packets", "-show_entries",
         "stream=codec_name,nb_read_packets", "-of", "csv=p=0", "-"],
        input=done.stdout, capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert told.decode().strip() == "vp9,5"
    broken = subprocess.run(command, input=raw[:100], capture_output=True, timeout=120)
    assert (broken.returncode, broken.stdout) == (2, b"")
