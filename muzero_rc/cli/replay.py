"""`muzero-rc replay`: the recorded encodes again, and whether the bytes are the same."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from muzero_rc.errors import InputError

if TYPE_CHECKING:
    from muzero_rc.evaluation.grid.replay import Replayed

__all__ = ["ReplayArgs", "run"]


@dataclass(frozen=True)
class ReplayArgs:
    """Encode again from the recorded qindexes; every stream must have the recorded SHA-256.

    No policy is asked. Needs the same build of the encoder and the clips. What libvpx
    decided itself (vbr, cq) it decides again; other encoders are left out.
    """

    results: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RESULTS")]
    """The results.json of an evaluation, or its folder."""

    clip: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Only this clip."""

    method: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Only this method."""

    clips: Annotated[
        tuple[Path, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="CLIP|DIR")
    ] = ()
    """Where the clips are now, if not where they were; may be given again."""

    jobs: Annotated[int, tyro.conf.arg(aliases=["-j"], metavar="N")] = min(2, os.cpu_count() or 1)
    """Encodes at a time."""

    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """Show no progress."""


def run(args: ReplayArgs) -> int:
    """Replays; 1 if anything differs."""
    if args.jobs < 1:
        raise InputError(f"--jobs must be at least 1, not {args.jobs}")
    from rich.console import Console
    from rich.progress import Progress

    from muzero_rc.evaluation.grid.replay import Replayer, plan_replays, run_replays
    from muzero_rc.evaluation.results import Results
    from muzero_rc.identity import build_identity

    results = Results.load(args.results)
    tasks, left_out = plan_replays(results, clip=args.clip, method=args.method, folders=args.clips)
    for name in left_out:
        print(f"muzero-rc: {name} is another encoder, not replayed", file=sys.stderr)
    if not tasks:
        raise InputError("there is nothing to replay in these results")
    recorded = results.settings.get("build")
    if recorded != build_identity():
        print(
            f"muzero-rc: these encodes are of another build, {recorded}; this is"
            f" {build_identity()}",
            file=sys.stderr,
        )
    with Progress(
        console=Console(stderr=True),
        transient=True,
        disable=args.quiet or not sys.stderr.isatty(),
    ) as bar:
        shown = bar.add_task("replay", total=len(tasks))
        done = run_replays(
            tasks, Replayer(), jobs=args.jobs, on_done=lambda one: bar.advance(shown)
        )
    differing = [one for one in done if one.problem]
    for one in differing:
        print(_line(one))
    print(f"{len(done) - len(differing)} of {len(done)} encodes have the recorded bytes")
    return 1 if differing else 0


def _line(one: Replayed) -> str:
    record = one.record
    return f"{record.clip}, {record.method}, {record.target_kbps} kbit/s: {one.problem}"
