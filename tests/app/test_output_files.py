"""Permissions of outputs: kept where a file is replaced, the umask's where it is new."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from muzero_rc.checkpoint import write_arrays
from muzero_rc.cli.main import main
from muzero_rc.encode.film import encode
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import OutputError
from muzero_rc.output_files import check_output, output, replacing, write_text
from muzero_rc.plots import plot_curves
from muzero_rc.policies.registry import make_policy
from muzero_rc.training.checkpoints import write_json
from muzero_rc.training.progress import ProgressFile


def _media(path: Path) -> None:
    with output(path) as temporary:
        temporary.write_text("new")


def _arrays(path: Path) -> None:
    write_arrays(path, {"x": np.zeros(3)})


def _progress(path: Path) -> None:
    with ProgressFile(path, 0):
        pass


def _picture(path: Path) -> None:
    plot_curves(path, {"a": [(np.arange(3.0), np.ones(3))]}, title="a")


WRITERS: dict[str, Callable[[Path], None]] = {
    "texts": lambda path: write_text(path, "new"),
    "streams and pictures": _media,
    "policies and data sets": _arrays,
    "runs": lambda path: write_json(path, {}),
    "progress": _progress,
    "pictures of curves": _picture,
}


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("mode", [0o600, 0o664, 0o444])
def test_a_file_keeps_its_mode_and_a_new_one_has_the_umasks(
    tmp_path: Path, name: str, mode: int
) -> None:
    path = tmp_path / "file"
    WRITERS[name](path)
    assert _mode(path) == 0o640
    if name == "progress" and mode == 0o444:
        return  # it is written on
    path.write_text("")
    path.chmod(mode)
    WRITERS[name](path)
    assert _mode(path) == mode
    assert path.stat().st_size > 0
    assert os.listdir(tmp_path) == ["file"]


def test_a_picture_that_cannot_be_drawn_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "curves.png"
    path.write_text("the last one")

    def full(figure: Figure, file: Path, **options: object) -> None:
        Path(file).write_text("half of")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OutputError, match="No space left"):
        _picture(path)
    assert path.read_text() == "the last one" and os.listdir(tmp_path) == ["curves.png"]


def test_whether_a_file_can_be_written_is_known_before_the_work(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    check_output(path)
    assert os.listdir(path.parent) == []
    path.write_text("kept")
    check_output(path)
    assert path.read_text() == "kept" and os.listdir(path.parent) == ["file"]
    with pytest.raises(OutputError, match="is a folder"):
        check_output(path.parent)
    with pytest.raises(OutputError, match="cannot write"):
        check_output(path / "in a file")


@pytest.mark.parametrize("command", ["fit", "fit --tiers", "dataset"])
def test_a_command_tells_of_its_output_before_it_reads(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    end = "json" if "--tiers" in command else "npz"
    words = [*command.split(), *(["tiers.npz"] if "--tiers" in command else [])]
    words += [str(tmp_path), "--out", str(tmp_path / "file" / f"out.{end}")]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "cannot write" in error and error.count("\n") == 1


def test_what_is_private_is_so_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250 + ".webm")
    path.touch(0o600)
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        assert _mode(temporary) == 0o600
        assert temporary.suffix == ".webm"
        _ = 1 / 0
    assert os.listdir(tmp_path) == [path.name]


def test_an_encode_keeps_the_mode_of_its_output(clip_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.webm"
    modes = set()

    def look(_: object) -> None:
        modes.update(_mode(path) for path in tmp_path.glob(".*"))

    settings = EncoderSettings(target_kbps=60, speed=8)
    encode(clip_file, out, settings, make_policy("proposal"), on_progress=look)
    assert _mode(out) == 0o640
    assert modes == {0o700}, "what is not finished lies in a folder of its owner"
    out.chmod(0o600)
    modes.clear()
    encode(clip_file, out, settings, make_policy("proposal"), on_progress=look)
    assert _mode(out) == 0o600
    assert modes == {0o700}
    assert os.listdir(tmp_path) == ["out.webm"]
