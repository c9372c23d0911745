"""Old names of options and policies work for one release, and say what they are called now."""

import pytest

from muzero_rc.cli.main import main
from muzero_rc.cli.renamed import modern_arguments


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["--no-repeats"], ["--no-show-existing"]),
        (["--explore.heights", "[96]"], ["--collect.heights", "[96]"]),
        (["--explore.pairs=1"], ["--collect.pairs=1"]),
        (["-p", "layered"], ["-p", "hierarchical"]),
        (["--policy=teacher:30"], ["--policy=hindsight:30"]),
        (["--policy", "muzero@repeats=0,speed=3"], ["--policy", "muzero@show_existing=0,speed=3"]),
        (["-p", "x@effort=layered"], ["-p", "x@speed_profile=hierarchical"]),
    ],
)
def test_old_names_are_replaced_with_a_line(old: list[str], new: list[str]) -> None:
    lines: list[str] = []
    assert modern_arguments(old, lines.append) == new
    changed = next((a, b) for a, b in zip(old, new, strict=True) if a != b)
    assert len(lines) == 1 and all(word in lines[0] for word in changed)


@pytest.mark.parametrize(
    "words", [["layered"], ["-p", "layered.npz"], ["-p", "./teacher"], ["-o", "teacher.webm"]]
)
def test_files_keep_their_names(words: list[str]) -> None:
    assert modern_arguments(words, pytest.fail) == words


def test_the_line_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    main(["encode", "missing.mp4", "-o", "x.webm", "--bitrate", "100k", "--no-repeats"])
    assert "--no-repeats is called --no-show-existing now" in capsys.readouterr().err
