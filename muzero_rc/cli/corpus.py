"""`muzero-rc corpus`: build a corpus out of videos, list it, count it."""

from __future__ import annotations

import difflib
import json
import os
import sys
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from muzero_rc.cli.display import clock
from muzero_rc.errors import InputError

if TYPE_CHECKING:
    from muzero_rc.corpus.build import Step
    from muzero_rc.corpus.statistics import CorpusStatistics

__all__ = ["CorpusArgs", "rewrite", "run"]

_ACTIONS = ("build", "list", "stats")
_LOG_INTERVAL_S = 10.0
_PLAIN_WIDTH = 300  # columns: a file has no edge to fold at
_PHASES = {"look": "looking", "cut": "cutting", "augment": "augmenting"}


@dataclass(frozen=True)
class BuildArgs:
    """Cut videos into clips for training, without duplicates, divided by source.

    The same command goes on after an interruption, and does nothing when all is done.
    """

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="VIDEO|DIR...")]
    """Videos, or folders of them; an index.csv in a folder (file, group) tells the sources."""

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="CORPUS")]
    """Folder of the corpus: manifest.csv, training/, validation/."""

    height: Annotated[int | None, tyro.conf.arg(metavar="H")] = 480
    """Scale down to this many lines; None keeps the videos' own."""

    max_fps: Annotated[str | None, tyro.conf.arg(metavar="FPS")] = None
    """Above this rate take every second, third ... frame only."""

    min_frames: Annotated[int, tyro.conf.arg(metavar="N")] = 30
    """Leave out scenes that are shorter."""

    max_frames: Annotated[int, tyro.conf.arg(metavar="N")] = 150
    """Divide scenes that are longer."""

    per_file: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Take at most N clips of each video, evenly spread."""

    static_below: Annotated[float, tyro.conf.arg(metavar="X")] = 0.01
    """Leave out parts whose frames differ by less on average, in 8-bit luma levels."""

    keep_cuts: bool = False
    """Do not cut at scenes, so that clips have cuts inside."""

    augment: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Make N variants of each clip to train on: cropped, reversed, with a cut, noise ..."""

    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Of the variants."""

    jobs: Annotated[int, tyro.conf.arg(aliases=["-j"], metavar="N")] = os.cpu_count() or 1
    """Videos at a time."""

    json: bool = False
    """JSON lines on stdout: progress, and the numbers of the corpus at the end."""

    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """Show no progress."""


@dataclass(frozen=True)
class ListArgs:
    """List the clips of a corpus."""

    corpus: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CORPUS")]
    """Folder of the corpus, or a manifest."""

    rejected: bool = False
    """List what was left out, and why, instead."""

    json: bool = False
    """A JSON object for each line of the manifest."""


@dataclass(frozen=True)
class StatsArgs:
    """Count the clips of a corpus."""

    corpus: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CORPUS")]
    """Folder of the corpus, or a manifest."""

    json: bool = False
    """As one JSON object."""


CorpusArgs = (
    Annotated[BuildArgs, tyro.conf.subcommand("build")]
    | Annotated[ListArgs, tyro.conf.subcommand("list")]
    | Annotated[StatsArgs, tyro.conf.subcommand("stats")]
)
"""What `muzero-rc corpus` can be asked for."""


def rewrite(words: list[str]) -> list[str]:
    """The words as they are, if the first names an action."""
    if not words or words[0] in ("-h", "--help"):
        return ["--help"]
    if words[0] not in _ACTIONS:
        close = difflib.get_close_matches(words[0], _ACTIONS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"give one of {', '.join(_ACTIONS)}"
        raise InputError(f"corpus {words[0]!r}: no such action; {hint}")
    return words


def run(args: BuildArgs | ListArgs | StatsArgs) -> int:
    """Builds, lists or counts; returns the exit status."""
    match args:
        case BuildArgs():
            return _build(args)
        case ListArgs():
            return _list(args)
        case StatsArgs():
            return _stats(args)


def _build(args: BuildArgs) -> int:
    from muzero_rc.corpus.build import build_corpus
    from muzero_rc.corpus.plan import BuildSettings
    from muzero_rc.corpus.statistics import describe_corpus

    if not args.inputs:
        raise InputError("no video given; name a video file or a folder of them")
    settings = BuildSettings(
        height=args.height,
        max_fps=_rate(args.max_fps),
        min_frames=args.min_frames,
        max_frames=args.max_frames,
        per_file=args.per_file,
        static_below=args.static_below,
        keep_cuts=args.keep_cuts,
        augment=args.augment,
        seed=args.seed,
    )
    try:
        with _Display(quiet=args.quiet, as_json=args.json) as display:
            result = build_corpus(args.inputs, args.out, settings, jobs=args.jobs, on_step=display)
    except BaseException as stop:
        # Ctrl-C or a signal, which main turns into its own line and status.
        if not isinstance(stop, Exception) and args.out.exists():
            print(
                f"what is done is kept in {args.out}; the same command goes on from there",
                file=sys.stderr,
            )
        raise
    statistics = describe_corpus(result.manifest)
    if args.json:
        line = {"type": "corpus", "looked": result.looked, "made": result.made}
        print(json.dumps(line | statistics.as_dict()))
        return 0
    if result.looked or result.made:
        print(f"{result.looked} files looked at, {result.made} clips made")
    else:
        print("nothing to do: all is there")
    _print_statistics(statistics)
    print(f"{args.out / 'manifest.csv'}\nnext: muzero-rc train --corpus {args.out} --out runs/mine")
    return 0


def _rate(text: str | None) -> Fraction | None:
    try:
        return None if text is None else Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise InputError(f"--max-fps {text}: not a frame rate; 30 or 30000/1001 are") from None


def _list(args: ListArgs) -> int:
    from muzero_rc.corpus.manifest import Manifest

    manifest = Manifest.read(_manifest_path(args.corpus))
    entries = manifest.rejected() if args.rejected else manifest.kept()
    if args.json:
        for entry in entries:
            print(json.dumps(entry.as_dict()))
        return 0
    if args.rejected:
        columns = ["origin", "frames", "reason", "detail"]
        rows = [[e.origin, _span(e.start_frame, e.end_frame), e.reason, e.detail] for e in entries]
    else:
        columns = ["clip", "split", "source", "size", "fps", "frames", "of", "augmentation"]
        rows = [
            [
                Path(e.file).name, e.split, e.source, f"{e.width}x{e.height}", e.fps,
                str(e.frames), _span(e.start_frame, e.end_frame), e.augmentation,
            ]
            for e in entries
        ]  # fmt: skip
    _print_table(columns, rows)
    return 0


def _stats(args: StatsArgs) -> int:
    from muzero_rc.corpus.manifest import Manifest
    from muzero_rc.corpus.statistics import describe_corpus

    statistics = describe_corpus(Manifest.read(_manifest_path(args.corpus)))
    if args.json:
        print(json.dumps(statistics.as_dict()))
    else:
        _print_statistics(statistics)
    return 0


def _manifest_path(corpus: Path) -> Path:
    from muzero_rc.corpus.manifest import MANIFEST

    if not corpus.exists():
        raise InputError(f"{corpus}: no such folder")
    return corpus / MANIFEST if corpus.is_dir() else corpus


def _span(start: int, end: int) -> str:
    return f"{start}-{end - 1}" if end else "all"


def _print_statistics(statistics: CorpusStatistics) -> None:
    rows = [
        [
            side, str(n.clips), str(n.augmented), str(n.sources), str(n.frames),
            f"{n.seconds:.0f}", f"{n.bytes / 1e6:.1f}",
        ]
        for side, n in statistics.sides.items()
    ]  # fmt: skip
    _print_table(["split", "clips", "augmented", "sources", "frames", "seconds", "MB"], rows)
    print(f"sizes: {_counts(statistics.sizes)}")
    print(f"frames per second: {_counts(statistics.rates)}")
    print(f"left out: {_counts(statistics.rejected)}")
    for one, other in statistics.alike:
        print(
            f"muzero-rc: sources {one} and {other} share pictures and are on different sides; "
            "one group in index.csv would keep them together",
            file=sys.stderr,
        )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counts.items()) or "none"


def _print_table(columns: list[str], rows: list[list[str]]) -> None:
    from rich import box
    from rich.table import Table

    from muzero_rc.evaluation.report.table import make_console

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    numbers = {"clips", "augmented", "sources", "frames", "seconds", "MB", "of"}
    long = {"clip", "source", "origin", "detail", "augmentation"}
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in numbers else "left"
        table.add_column(column, justify=justify, no_wrap=column not in long, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = make_console(sys.stdout)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    console.print(table)


class _Display:
    """Files or clips done, the latest one, and the time left; a context manager.

    A bar in a terminal, a line now and then elsewhere, or JSON lines.
    """

    def __init__(self, *, quiet: bool, as_json: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._quiet = quiet
        self._as_json = as_json
        self._phase = ""
        self._start = self._last = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.fields[phase]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            transient=True,
            disable=quiet or as_json or not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("", total=None, phase="looking")

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def __call__(self, step: Step) -> None:
        now = time.monotonic()
        if step.phase != self._phase:
            self._phase, self._start = step.phase, now
        # Those of earlier runs took no time: they say nothing about the rest.
        each = (now - self._start) / max(step.made, 1)
        left = round(each * (step.total - step.done))
        text = f"{step.name}, {clock(left)} left"
        phase = _PHASES[step.phase]
        self._bar.update(
            self._task, completed=step.done, total=step.total, description=text, phase=phase
        )
        due = step.done == step.total or now - self._last >= _LOG_INTERVAL_S
        if self._quiet or not self._bar.disable or not due:
            return
        self._last = now
        if self._as_json:
            line = {
                "type": "progress", "phase": step.phase, "done": step.done,
                "total": step.total, "name": step.name, "eta_s": left,
            }  # fmt: skip
            print(json.dumps(line), flush=True)
        else:
            print(f"{phase}: {step.done}/{step.total} {text}", file=sys.stderr, flush=True)
