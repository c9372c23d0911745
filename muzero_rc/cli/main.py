"""`muzero-rc`: picks the command, and turns errors and signals into one line and a status.

Exit status: 0 done, 1 failed, 2 bad input or usage, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import difflib
import importlib
import io
import itertools
import json
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, suppress
from typing import Any

from muzero_rc.cli.renamed import modern_arguments
from muzero_rc.cli.standard_streams import standard_streams
from muzero_rc.errors import InputError, MuzeroRcError, PolicyWarning, noted, told
from muzero_rc.signals import Stopped, raising_signals

__all__ = ["COMMANDS", "main", "parser_config"]

COMMANDS: dict[str, tuple[str, str]] = {
    "encode": ("EncodeArgs", "encode a video as VP9 in WebM at a bitrate"),
    "evaluate": ("EvaluateArgs", "compare policies with two-pass VBR: BD-rate, bitrate accuracy"),
    "lottery": ("LotteryArgs", "what a verdict owes to the choice of clips, metric and targets"),
    "report": ("ReportArgs", "show an evaluation as a page that opens from disk"),
    "corpus": ("CorpusArgs", "build a corpus out of videos; list it, count it"),
    "speeds": ("SpeedsArgs", "picture of BD-rate over encoding time, at several speeds"),
    "replay": ("ReplayArgs", "encode again from recorded qindexes and compare the bytes"),
    "cache": ("CacheArgs", "show or clear what is kept on disk to save time"),
    "train": ("TrainArgs", "train a policy on a folder of videos"),
    "dataset": ("DatasetArgs", "make a run's studies one file to learn from without an encoder"),
    "fit": ("FitArgs", "fit the model that plans qindexes to a data set"),
    "policy": ("PolicyArgs", "print a policy's card: what it is, saw, cost, and its limits"),
    "ablate": ("AblateArgs", "train variants of one setting alike and compare them"),
    "demo": ("DemoArgs", "encode a sample clip with three policies, with table and picture"),
    "doctor": ("DoctorArgs", "show versions of everything found, and what is missing"),
}
"""Name of each command's arguments in `muzero_rc.cli.<command>`, and what it does."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Options whose value may start with a minus sign by mistake; the command says it better.
_VALUE_OPTIONS = frozenset({"--bitrate", "-b"})


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    json_lines = "--json" in words
    with standard_streams():
        return _status(words, json_lines, last=argv is None)


def _status(words: list[str], json_lines: bool, *, last: bool) -> int:
    """Runs one command; every error and signal is a line and a status.

    Args:
      words: of the command line.
      json_lines: errors are told as JSON, too.
      last: the process ends then.
    """
    try:
        with raising_signals(_SIGNALS, last=last), _warnings_as_lines():
            return _run(words)
    except MuzeroRcError as error:
        return _fail(*told(error), json_lines)
    except KeyboardInterrupt as error:
        return _fail(noted("stopped", error), 130, json_lines)
    except Stopped as stop:
        name = signal.Signals(stop.number).name
        return _fail(noted(f"stopped by {name}", stop), 128 + stop.number, json_lines)
    except BrokenPipeError:
        # The reader of stdout went away (muzero-rc ... | head); Python must not complain
        # about it again while it shuts down.
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(*told(error), json_lines)


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if words else 2
    if words[0] in ("--version", "-V", "version"):
        print(_version())
        return 0
    command = words[0]
    if command not in COMMANDS:
        close = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"; did you mean {close[0]}?" if close else f"; give one of {', '.join(COMMANDS)}"
        what = "option" if command.startswith("-") else "command"
        return _fail(f"unknown {what} {command!r}{hint}", 2, False)
    module = importlib.import_module(f"muzero_rc.cli.{command}")
    rewrite = getattr(module, "rewrite", list)  # a command's own way with its words
    words = modern_arguments(words[1:], lambda line: print(f"muzero-rc: {line}", file=sys.stderr))
    arguments = _parse(getattr(module, COMMANDS[command][0]), command, rewrite(words))
    status: int = module.run(arguments)
    return status


def parser_config() -> tuple[Any, ...]:
    """How tyro makes options of the arguments' fields, for all commands."""
    import tyro

    return tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes


def _parse(kind: type[Any], command: str, words: list[str]) -> Any:
    import tyro

    joined: list[str] = []
    for word in words:
        # argparse takes "-400k" for an option and would answer with the whole usage.
        if joined and joined[-1] in _VALUE_OPTIONS and word.startswith("-"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    box = io.StringIO()
    with redirect_stderr(box) if "--json" in words else nullcontext():
        try:
            return tyro.cli(kind, prog=f"muzero-rc {command}", args=joined, config=parser_config())
        except SystemExit as end:
            # Readers of JSON lines get one of type error here, too.
            if not end.code or "--json" not in words:
                raise
    raise InputError(_unboxed(box.getvalue()))


def _unboxed(text: str) -> str:
    """What a box of tyro's says, in one line: its title is no news, its last part is help."""
    lines = [line.strip("\u2502 ") for line in text.splitlines()[1:]]
    told = itertools.takewhile(lambda line: not line.startswith("\u2500"), lines)
    return " ".join(line for line in told if line) or "the options cannot be read"


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """What is to be said of a policy, in one line."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, PolicyWarning):
                print(f"muzero-rc: warning: {message}", file=sys.stderr)
            else:
                usual(message, category, *rest, **more)

        warnings.showwarning = show
        yield


def _fail(message: str, status: int, as_json: bool) -> int:
    # What cannot be told here, the status tells.
    if as_json:
        with suppress(OSError):
            print(
                json.dumps({"type": "error", "message": message, "exit_code": status}), flush=True
            )
    with suppress(OSError):
        print(f"muzero-rc: error: {message}", file=sys.stderr)
    return status


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: muzero-rc COMMAND [OPTIONS]",
            "",
            "VP9 rate control by a learned agent: two-pass encodes that meet their bitrate.",
            "",
            "commands:",
            *lines,
            "",
            "options:",
            "  -h, --help  this text; after a command, that command's options",
            "  --version   versions of this package and of its encoder",
            "",
            "example: muzero-rc encode film.mp4 -o film.webm --bitrate 400k",
        ]
    )


def _version() -> str:
    from muzero_rc import __version__

    try:
        from muzero_rc.env.codec import _native
    except ImportError:
        build = "encoder not built: run make setup"
    else:
        build = str(_native.build_id())
    return f"muzero-rc {__version__} ({build})"


if __name__ == "__main__":
    sys.exit(main())
