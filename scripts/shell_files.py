"""Writes shell completions and the man page from the command line's own parser.

The build runs it (`CMakeLists.txt`), so they are in the wheel and, after `make setup`, in
`.venv/share`. It needs no more than tyro and argparse-manpage, and imports nothing compiled.

- Completions are tyro's own, for bash, zsh and fish.
- argparse-manpage makes the page. It wants a parser of argparse: one is made of what tyro's
  `get_parser` tells, whose classes are a copy of argparse's.

    python scripts/shell_files.py FOLDER VERSION
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import re
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Union

import tyro
from argparse_manpage.manpage import Manpage

from muzero_rc.cli.main import COMMANDS, parser_config

COMPLETIONS = {
    "bash": "bash-completion/completions/muzero-rc",
    "zsh": "zsh/site-functions/_muzero-rc",
    "fish": "fish/vendor_completions.d/muzero-rc.fish",
}
# tyro completes files after an option that takes a path, and nothing else; inputs are files, too.
FILES_TOO = {
    "bash": ("complete -F", "complete -o bashdefault -o default -F"),
    "zsh": ('if [[ "$completions" ==', 'if [[ -z "$completions" || "$completions" =='),
    "fish": ("complete --no-files", "complete"),
}
MAN_PAGE = "man/man1/muzero-rc.1"
DESCRIPTION = "VP9 rate control by a learned agent: encodes that meet their bitrate."
EPILOG = (
    "Exit status: 0 done, 1 failed, 2 bad input or usage, 130 stopped by Ctrl-C, 143 by SIGTERM."
)

_SPEC = re.compile(r"^COMPLETION_SPEC = .*$", re.MULTILINE)
# An option whose value is one of some words, which its metavar says: tyro offers files there.
_WORDS = re.compile(
    r"""('description':\ \\?['"](?P<words>[a-z0-9]+(?:\|[a-z0-9]+)+)\ •(?:(?!'flags':).)*?)
    'type':\ '(?:path|value)'""",
    re.VERBOSE,
)
_NO_DEFAULT = re.compile(r"\s*\((default: (None|False|)|required)\)$")


def all_commands() -> Any:
    """A type for tyro: any of the commands with its arguments."""
    kinds = []
    for command, (name, about) in COMMANDS.items():
        kind = getattr(importlib.import_module(f"muzero_rc.cli.{command}"), name)
        kinds.append(Annotated[kind, tyro.conf.subcommand(command, description=about)])
    return Union[tuple(kinds)]  # noqa: UP007  # there is no | of a list


def write_completions(folder: Path) -> None:
    """Writes the completions of all shells."""
    for shell, name in COMPLETIONS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        words = ["--tyro-write-completion", shell, str(path)]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            tyro.cli(all_commands(), prog="muzero-rc", args=words, config=parser_config())
        text, (nothing, files) = path.read_text(), FILES_TOO[shell]
        if nothing not in text:
            raise SystemExit(f"tyro's completion for {shell} has no {nothing!r} any more")
        path.write_text(_SPEC.sub(_completed, text.replace(nothing, files)))


def _completed(spec: re.Match[str]) -> str:
    """The spec as the scripts need it.

    Descriptions have no line ends: the scripts take each line for a word to offer. Options of
    which one of some words is given offer those.
    """
    return _WORDS.sub(_choice, spec[0].replace(r"\n", " "))


def _choice(option: re.Match[str]) -> str:
    return f"{option[1]}'type': 'choice', 'choices': {option['words'].split('|')}"


def plain_parser() -> argparse.ArgumentParser:
    """The command line as a parser of argparse, to be read and not to parse with."""
    with warnings.catch_warnings():
        # Deprecated in favour of tyro's completions; there is nothing else for other tools.
        warnings.simplefilter("ignore", DeprecationWarning)
        found = tyro.extras.get_parser(all_commands(), config=parser_config())
    parser = argparse.ArgumentParser("muzero-rc", description=DESCRIPTION, epilog=EPILOG)
    version = "versions of this package and of its encoder"
    parser.add_argument("--version", "-V", action="version", help=version)
    _copy(found, parser)
    return parser


def _copy(source: Any, parser: argparse.ArgumentParser) -> None:
    for action in source._actions:
        help_text = _NO_DEFAULT.sub("", action.help or "").replace("%", "%%")
        if isinstance(action.choices, dict):
            commands = parser.add_subparsers(metavar="COMMAND", title="commands")
            for name, child in action.choices.items():
                about = str(child.description or "")
                _copy(child, commands.add_parser(name, help=about, description=about))
        elif "--help" in action.option_strings:
            continue
        elif not action.option_strings:
            name = str(action.metavar or action.dest)
            parser.add_argument(name, nargs=action.nargs, help=help_text)
        elif action.nargs == 0:
            parser.add_argument(*action.option_strings, action="store_true", help=help_text)
        else:
            metavar = str(action.metavar or "VALUE")
            parser.add_argument(*action.option_strings, metavar=metavar, help=help_text)


def write_man_page(folder: Path, version: str) -> None:
    """Writes the man page."""
    page = Manpage(plain_parser())
    page.source, page.manual = f"muzero-rc {version}", "User Commands"
    page.description = "encode video as VP9 at a bitrate, and train what decides"
    path = folder / MAN_PAGE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(page))


def main() -> None:
    """Writes all of them."""
    folder, version = Path(sys.argv[1]), sys.argv[2]
    write_completions(folder)
    write_man_page(folder, version)


if __name__ == "__main__":
    main()
