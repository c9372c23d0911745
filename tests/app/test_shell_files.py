"""Shell completions and the man page, made of the command line's own parser."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from muzero_rc.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shell_files() -> ModuleType:
    spec = importlib.util.spec_from_file_location("shell_files", ROOT / "scripts/shell_files.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(shell_files: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("share")
    shell_files.write_completions(folder)
    shell_files.write_man_page(folder, "1.2.3")
    return folder


def options_of(command: str, shell_files: ModuleType) -> set[str]:
    """Long options, as the parser has them."""
    import argparse

    parser = shell_files.plain_parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    actions = commands.choices[command]._actions
    return {text for a in actions for text in a.option_strings if text.startswith("--")}


def test_the_man_page_has_every_command_and_option(made: Path, shell_files: ModuleType) -> None:
    page = (made / "man/man1/muzero-rc.1").read_text().replace("\\-", "-")
    assert '"muzero-rc 1.2.3"' in page.splitlines()[0]
    for command in COMMANDS:
        assert f"muzero-rc {command}" in page
    options = options_of("encode", shell_files)
    assert {"--bitrate", "--quality", "--keyframes", "--start", "--json"} <= options
    assert all(re.search(rf"\\fB.*{option}\\fR", page) for option in options - {"--help"})
    assert "(default: None)" not in page


def complete(script: Path, *words: str) -> list[str]:
    """What bash offers for the last of the words."""
    quoted = " ".join(f"'{word}'" for word in words)
    lines = [
        f"source '{script}'",
        f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}",
        "_tyro_muzero_rc",
        'printf "%s\\n" "${COMPREPLY[@]}"',
    ]
    done = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_options_and_files(made: Path, tmp_path: Path) -> None:
    script = made / "bash-completion/completions/muzero-rc"
    assert complete(script, "muzero-rc", "en") == ["encode"]
    assert complete(script, "muzero-rc", "encode", "--keyi") == ["--keyint"]
    # The description of the second has two lines.
    assert complete(script, "muzero-rc", "encode", "--sp") == ["--speed", "--speed-profile"]
    # One of some words, and no files.
    assert complete(script, "muzero-rc", "encode", "--audio", "") == [
        "auto", "copy", "opus", "none",
    ]  # fmt: skip
    assert complete(script, "muzero-rc", "encode", "--effort", "s") == ["search"]
    assert complete(script, "muzero-rc", "encode", "--passes", "") == ["2", "3"]
    # An input: nothing of ours, so that bash goes on with files.
    assert complete(script, "muzero-rc", "encode", str(tmp_path / "fil")) == []
    assert "complete -o bashdefault -o default -F _tyro_muzero_rc muzero-rc" in script.read_text()


def test_all_shells_know_the_commands(made: Path) -> None:
    for name in ("zsh/site-functions/_muzero-rc", "fish/vendor_completions.d/muzero-rc.fish"):
        text = (made / name).read_text()
        assert all(f"'{command}'" in text for command in COMMANDS)
        assert "'choices': ['auto', 'copy', 'opus', 'none']" in text
    assert (made / "zsh/site-functions/_muzero-rc").read_text().startswith("#compdef muzero-rc")


def test_they_are_installed(shell_files: ModuleType) -> None:
    """The build has put them beside the interpreter's bin."""
    for name in (*shell_files.COMPLETIONS.values(), shell_files.MAN_PAGE):
        assert all(c in Path(sys.prefix, "share", name).read_text() for c in COMMANDS)
