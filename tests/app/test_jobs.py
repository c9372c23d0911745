"""Several inputs, and pipes, by the command."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from muzero_rc.cli.jobs import PIPE, Job, jobs_of
from muzero_rc.cli.main import main
from muzero_rc.encode.progress import Progress
from muzero_rc.errors import InputError
from muzero_rc.video.containers import container_of

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


def test_a_folder_that_is_not_there_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"or \.ivf; a folder must be there before$"):
        container_of(tmp_path / "new")
    with pytest.raises(InputError, match=r"or \.ivf$"):
        container_of(tmp_path / "new.avi")


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
    assert "--keyint must be between" in capfd.readouterr().err


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


def test_a_stream_is_kept_also_of_an_encode_between_pipes(tmp_path: Path) -> None:
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.2",
         "-f", "yuv4mpegpipe", "-pix_fmt", "yuv420p", "-"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    words = ["-", "-o", "-", "--quality", "psnr=15", "--speed", "8", "-q"]
    done = subprocess.run(
        [sys.executable, "-m", "muzero_rc.cli.main", "encode", *words],
        input=raw, capture_output=True, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    told = done.stderr.decode()
    assert (done.returncode, done.stdout) == (1, b"") and "the encoded video is kept as" in told
    (folder,) = tmp_path.iterdir()
    assert os.listdir(folder) == ["stdout.ivf"]
    line = told.partition("go on with: ")[2]
    subprocess.run(f"{line.strip()} -v error", shell=True, check=True, stdin=subprocess.DEVNULL)
    assert (folder / "stdout.webm").stat().st_size > 0


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "muzero_rc.cli.main", "encode", *map(str, words), *FAST]


@pytest.fixture(scope="module")
def small(make_video: MakeVideo) -> Path:
    return make_video("small.mp4", *X264, size="64x48", seconds=0.2)


@pytest.mark.parametrize("name", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
def test_a_file_by_its_name_among_open_ones(small: Path, tmp_path: Path, name: str) -> None:
    with small.open() as file:
        done = subprocess.run(command(name, "-o", tmp_path / "a.webm"), stdin=file)
    assert done.returncode == 0 and (tmp_path / "a.webm").is_file()
    done = subprocess.run(
        command("/dev/stdin", "-o", tmp_path / "b.webm"),
        stdin=subprocess.PIPE, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and "pipe it as YUV4MPEG2 into encode -" in done.stderr


@pytest.mark.parametrize(
    ("words", "shell", "text"),
    [
        (("-", "-o", "a.webm"), "<&-", "stdin is closed"),
        (("IN", "-o", "-"), ">&-", "stdout is closed"),
        (("IN", "-o", "-"), ">/dev/full", "cannot write to stdout: No space"),
        (("IN", "-o", "a.webm"), ">/dev/full", "cannot write to stdout: No space"),
        (("IN", "-o", "a.webm", "--json"), ">/dev/full", "cannot write to stdout: No space"),
    ],
)
def test_streams_that_take_nothing_are_told_in_a_line(
    small: Path, tmp_path: Path, words: tuple[str, ...], shell: str, text: str
) -> None:
    line = command(*(small if word == "IN" else word for word in words))
    if "--json" in words:
        line.remove("-q")
    done = subprocess.run(
        ["bash", "-c", f'"$@" {shell}', "bash", *line], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and text in done.stderr


@pytest.mark.parametrize("shell", ["2>&-", "2>/dev/full", ">&- 2>&-", "2>&1 >out | true; exit 0"])
def test_an_encode_ends_well_without_anybody_who_reads_its_lines(
    make_video: MakeVideo, tmp_path: Path, shell: str
) -> None:
    source = make_video("sounds.mp4", size="64x48", seconds=0.2, sound=True)
    line = command(source, "-o", "a.ivf")  # the sound that is left out is told on stderr
    line.remove("-q")  # and so is progress
    done = subprocess.run(
        ["bash", "-c", f'"$@" {shell}', "bash", *line], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "a.ivf").stat().st_size > 0
    assert done.stdout.count("\n") == (shell in ("2>&-", "2>/dev/full"))


def test_lines_for_a_closed_stderr_get_into_no_file(small: Path, tmp_path: Path) -> None:
    for words in ((small, "-o", "-"), ("nothing.mp4", "-o", "-")):
        line = command(*words)
        told = subprocess.run([*line], cwd=tmp_path, capture_output=True)
        untold = subprocess.run(
            ["bash", "-c", '"$@" 2>&-', "bash", *line], cwd=tmp_path, capture_output=True
        )
        assert told.stderr and untold.returncode == told.returncode
        assert untold.stdout == told.stdout


def test_a_log_that_takes_no_more_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from muzero_rc.cli import display

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    monkeypatch.setattr(display, "_LOG_INTERVAL_S", -1.0)
    display.make_display("film.webm")(Progress("first pass", 50, 100))


def test_quiet_json_has_the_outcome_alone(
    small: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["encode", str(small), "-o", str(tmp_path / "a.webm"), *FAST, "--json"]) == 0
    (line,) = capfd.readouterr().out.splitlines()
    assert json.loads(line)["type"] == "result"


def test_the_bar_takes_a_name_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from muzero_rc.cli import display

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with display.make_display("[red]x[@a(].webm") as bar:
        bar(Progress("first pass", 50, 100))
    assert "[red]x[@a(].webm" in screen.getvalue()


def test_what_the_system_refuses_one_file_keeps_no_other_from_being_done(
    small: Path, make_video: MakeVideo, tmp_path: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from muzero_rc.encode import file_encode

    other = make_video("other.mp4", *X264, size="64x48", seconds=0.2)
    usual = file_encode.take_place

    def refused(new: Path, path: Path) -> None:
        if path.stem == "small":
            error = PermissionError(13, "Permission denied", str(new), None, str(path))
            error.add_note("2 finished chunks are kept")
            raise error
        usual(new, path)

    monkeypatch.setattr(file_encode, "take_place", refused)
    words = ["encode", str(small), str(other), "-o", str(tmp_path), *FAST, "--json"]
    assert main(words) == 1
    assert os.listdir(tmp_path) == ["other.webm"]
    failed, result, error = map(json.loads, capfd.readouterr().out.splitlines())
    assert (failed["type"], result["type"], error["type"]) == ("failed", "result", "error")
    message = f"{tmp_path / 'small.webm'}: Permission denied; 2 finished chunks are kept"
    assert (failed["message"], failed["exit_code"], error["exit_code"]) == (message, 1, 1)
