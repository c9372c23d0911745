"""`encode --time`: the work that was asked for, in one piece and in chunks, or one clear line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muzero_rc.cli import main as cli
from muzero_rc.encode import cut as cut_module
from muzero_rc.encode.passes import chunk_store
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.control.settings import EncoderSettings

MakeVideo = Callable[..., Path]


@pytest.fixture(scope="module")
def source(make_video: MakeVideo) -> Path:
    """64x48, 44 frames in noise."""
    return make_video(
        "time.mkv", "-vf", "noise=alls=12:allf=t", "-c:v", "ffv1", "-pix_fmt", "yuv420p",
        size="64x48", seconds=1.76,
    )  # fmt: skip


def _encode(
    source: Path, out: Path, *options: str, capsys: pytest.CaptureFixture[str]
) -> tuple[int, dict[str, Any]]:
    """The exit status and the last JSON line."""
    status = cli.main(
        ["encode", str(source), "-o", str(out), "--bitrate", "100k", "--policy", "landed", "--json",
         *options]
    )  # fmt: skip
    return status, json.loads(capsys.readouterr().out.splitlines()[-1])


def _middle(refusal: str) -> float:
    """A time in the middle of those that a refusal says can be kept."""
    found = re.search(r"takes ([0-9.]+) to ([0-9.]+) times VBR's time; ask for", refusal)
    assert found is not None, refusal
    return round(0.5 * (float(found[1]) + float(found[2])), 2)


def test_an_encode_takes_the_work_that_was_asked_for(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--frames", "16", "--speed", "5"
    status, refused = _encode(source, tmp_path / "a.webm", *options, "--time", "50", capsys=capsys)
    # What can be kept is in the line.
    assert status == 2 and not (tmp_path / "a.webm").exists()
    middle = _middle(refused["message"])
    _, found = _encode(source, tmp_path / "b.webm", *options, "--time", f"{middle}", capsys=capsys)
    assert found["time"]["asked"] == middle == found["settings"]["time"]
    assert found["time"]["counted"] == pytest.approx(middle, rel=0.05)


@pytest.mark.slow
def test_chunks_share_the_time_of_a_film(
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cut_module, "WHOLE_FRAMES", 24)
    monkeypatch.setattr(cut_module, "LEAST_FRAMES", 12)
    options = "--keyint", "14", "--speed", "5"
    _, refused = _encode(source, tmp_path / "a.webm", *options, "--time", "50", capsys=capsys)
    middle = _middle(refused["message"])
    out = tmp_path / "b.webm"
    _, found = _encode(source, out, *options, "--time", f"{middle}", capsys=capsys)
    assert found["chunks"] > 1
    # A chunk that is made again for the film's bitrate comes on top.
    if not found["chunks_again"]:
        assert found["time"]["counted"] == pytest.approx(middle, rel=0.05)


def test_another_time_does_not_go_on_from_these_chunks(source: Path, tmp_path: Path) -> None:
    clip = Clip.load(source, max_frames=2)
    settings = EncoderSettings(target_kbps=40, speed=5)
    folders = {
        chunk_store(
            tmp_path / "out.webm", clip, settings.replace(time=time), "landed", None, (), None
        ).folder
        for time in (None, 1.5, 2.0)
    }
    assert len(folders) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--speed", "4"], "--speed 1, 2, 3, 5, not at 4"),
        (["--speed", "5", "--passes", "2"], "a probe encode"),
        (["--speed", "5", "--policy", "vbr"], "a probe encode"),
        (["--speed", "5", "--effort", "search"], "leave out --effort search"),
        (["--speed", "5", "--speed-profile", "uniform"], "leave --speed-profile out"),
        (["--speed", "5", "--time", "0"], "time must be a number above 0"),
    ],
)
def test_where_it_cannot_be_kept_one_line_says_why(
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    words: str,
) -> None:
    out = tmp_path / "out.webm"
    given = ["--frames", "4", "--time", "2", *options]
    status, line = _encode(source, out, *given, capsys=capsys)
    assert status == 2 and line["type"] == "error" and words in line["message"]
    assert list(tmp_path.iterdir()) == []
