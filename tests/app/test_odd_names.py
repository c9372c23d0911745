"""Outputs that cannot be, and names that are odd: one clear line, and nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from muzero_rc.cli.main import main

MakeVideo = Callable[..., Path]
FAST = ("-b", "100k", "--speed", "8", "--policy", "proposal", "-q")


@pytest.fixture
def source(make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """in.mp4 in an empty folder, which is the one that commands run in."""
    monkeypatch.chdir(tmp_path)
    made = make_video("odd.mp4", "-c:v", "libx264", size="64x48", seconds=0.2)
    Path("in.mp4").write_bytes(made.read_bytes())
    return Path("in.mp4")


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("new/", "the output folder new/ does not exist; create it first"),
        ("x.webm/", "the output folder x.webm/ does not exist; create it first"),
        ("new", "must end in .webm, .mkv, .mp4 or .ivf; a folder must be there before"),
        ("new/x.webm", "new does not exist; create it first"),
        ("in.mp4/x.webm", "the output cannot lie in "),
        ("soft.mp4", "is the input"),
        ("hard.mp4", "is the input"),
        ("./in.mp4", "is the input"),
        ("loop.webm", "Too many levels of symbolic links"),
        ("x.avi", "must end in .webm"),
        ("", "the output has no name"),
        ("-x.avi", "Missing value"),
    ],
)
def test_outputs_that_cannot_be(
    source: Path, capsys: pytest.CaptureFixture[str], out: str, says: str
) -> None:
    os.symlink("in.mp4", "soft.mp4")
    os.symlink("loop.webm", "loop.webm")
    os.link("in.mp4", "hard.mp4")
    before, files = source.read_bytes(), sorted(os.listdir())
    words = ["encode", str(source), "-o", out, *FAST]
    if says == "Missing value":  # the parser's own words
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
    else:
        assert main(words) == 2
    told = capsys.readouterr()
    assert told.out == "" and says in told.err
    assert says == "Missing value" or told.err.count("\n") == 1
    assert source.read_bytes() == before and sorted(os.listdir()) == files


def test_an_output_without_permission(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    access = os.access

    def none_to_write(path: Path, mode: int) -> bool:  # root may write everywhere
        return not mode & os.W_OK and access(path, mode)

    monkeypatch.setattr(os, "access", none_to_write)
    assert main(["encode", str(source), "-o", "x.webm", *FAST]) == 2
    assert "no permission to write" in capsys.readouterr().err
    assert os.listdir() == ["in.mp4"]


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_no_output_replaces_a_later_input(
    source: Path, capsys: pytest.CaptureFixture[str], link: Callable[[str, str], None]
) -> None:
    os.mkdir("out")
    Path("out/in.webm").write_bytes(source.read_bytes())
    link("out/in.webm", "other.webm")
    assert main(["encode", str(source), "other.webm", "-o", "out", *FAST]) == 2
    assert "the output out/in.webm is the input other.webm" in capsys.readouterr().err
    assert Path("out/in.webm").read_bytes() == source.read_bytes()
    assert os.listdir("out") == ["in.webm"]


@pytest.mark.parametrize("name", ["-x.webm", "x%03d.webm", "a\nb.webm", "a:b.webm", "x [1].webm"])
def test_outputs_with_odd_names(
    source: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["encode", str(source), "-o", name, *FAST]) == 0
    told = capsys.readouterr().out
    assert told.startswith(name.replace("\n", "\\n")) and told.count("\n") == 1
    assert sorted(os.listdir()) == sorted(["in.mp4", name])


@pytest.mark.parametrize("name", ["-n.mp4", "n%03d.mp4", "a\nb.mp4"])
def test_inputs_with_odd_names(source: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    os.mkdir("out")
    source.rename(name)
    assert main(["encode", name, "-o", "out", *FAST, "--audio-bitrate", "96k"]) == 0
    told = capsys.readouterr()
    assert told.out.count("\n") == 1 and told.err.count("\n") == 1
    assert told.err.startswith(f"muzero-rc: {name.removeprefix('./')}: ".replace("\n", "\\n"))
    assert os.listdir("out") == [f"{name.removesuffix('.mp4')}.webm"]
