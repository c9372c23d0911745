"""`muzero-rc encode --effort search`: the file, progress, Ctrl-C, mistakes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muzero_rc.cli import main as cli

MakeVideo = Callable[..., Path]


def words(source: Path, out: Path, *more: str) -> list[str]:
    return ["encode", str(source), "-o", str(out), "-b", "60k", "-p", "proposal", "--speed", "6",
            "--frames", "12", *more]  # fmt: skip


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_best_file_at_the_size(
    clip_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.webm"
    plain = words(clip_file, tmp_path / "plain.webm", "--json")
    assert cli.main(plain) == 0
    before = lines_of(capsys.readouterr().out)[-1]
    assert before["search"] is None
    assert cli.main(words(clip_file, out, "--effort", "search", "--budget", "9", "--json")) == 0
    *steps, result = lines_of(capsys.readouterr().out)
    assert out.stat().st_size == result["file_bytes"]
    assert result["policy"] == "hindsight"
    assert result["search"]["budget"] == 9 and result["search"]["on_target"]
    assert result["search"]["spent"] == result["search"]["encodes"] <= 9
    assert result["deviation"] <= 0.005
    if before["deviation"] <= 0.005:
        assert result["psnr_avg"] >= before["psnr_avg"]
    searched = [step for step in steps if "encodes_done" in step]
    assert searched and searched[-1]["encodes"] == 9 and "gain" in searched[-1]
    # The same again costs no encode: the log has them all.
    assert cli.main(words(clip_file, out, "--effort", "search", "--budget", "9", "--json")) == 0
    again = lines_of(capsys.readouterr().out)[-1]
    assert again["search"]["encodes"] == 0 and again["sha256"] == result["sha256"]
    assert sorted(os.listdir(tmp_path)) == ["out.webm", "plain.webm"]


def test_the_result_line_tells_the_gain(
    clip_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--effort", "search", "--budget", "3", "-q")
    assert cli.main(words(clip_file, tmp_path / "o.webm", *more)) == 0
    assert "3 encodes saved " in capsys.readouterr().out


def test_the_default_policy_can_be_searched_from(
    clip_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = words(clip_file, tmp_path / "o.webm", "--effort", "search", "--budget", "3", "--json")
    place = given.index("-p")
    del given[place : place + 2]
    assert cli.main(given) == 0
    result = lines_of(capsys.readouterr().out)[-1]
    assert result["policy"] == "hindsight" and result["search"]["spent"] == 3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--budget", "9"), "give --effort search"),
        (("--effort", "much"), "must be normal or search"),
        (("--effort", "search", "--budget", "0"), "must be 1 to"),
        (("--effort", "search", "-p", "cq"), "cannot start from the policy cq"),
    ],
)
def test_mistakes(
    clip_file: Path,
    tmp_path: Path,
    more: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(words(clip_file, tmp_path / "o.webm", *more)) == 2
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_ctrl_c_keeps_the_best_so_far(
    clip_file: Path, tmp_path: Path, number: int, status: int
) -> None:
    """SIGTERM does not: whoever sends it wants an end."""
    command = words(
        clip_file, tmp_path / "o.webm", "--effort", "search", "--budget", "90000", "--json"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "muzero_rc.cli.main", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path.parent,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        # The first start is in: more than one for every thread.
        while True:
            line = json.loads(process.stdout.readline())
            if line.get("encodes_done", 0) >= 3:
                break
        process.send_signal(number)
        rest, errors = process.communicate(timeout=240)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == status, errors
    last = lines_of(rest)[-1]
    if status:
        assert last["type"] == "error" and os.listdir(tmp_path) == []
    else:
        assert last["search"]["interrupted"]
        assert os.listdir(tmp_path) == ["o.webm"]
