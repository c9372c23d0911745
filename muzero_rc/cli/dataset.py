"""`muzero-rc dataset`: the studies of a run as one file."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from muzero_rc.errors import InputError

__all__ = ["DatasetArgs", "run"]


@dataclass(frozen=True)
class DatasetArgs:
    """Make one file of a run's studies, which muzero_rc.dataset reads without an encoder.

    It holds everything of every frame of every encode; docs/reference/dataset.md is its sheet.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a run of muzero-rc train, or of studies."""

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE")]
    """The file to write, .npz."""

    json: bool = False
    """Print one JSON object instead of a line."""

    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """Show no progress."""


def run(args: DatasetArgs) -> int:
    """Makes the file; returns the exit status."""
    from muzero_rc.output_files import check_output
    from muzero_rc.training.publish import publish

    if not args.run.is_dir():
        raise InputError(f"{args.run}: no such folder")
    if args.out.suffix != ".npz":
        raise InputError(f"{args.out} must end with .npz")
    check_output(args.out)

    def show(done: int, total: int) -> None:
        if not args.quiet and (done % 20 == 0 or done == total):
            print(f"studies {done}/{total}", file=sys.stderr, flush=True)

    made = publish(args.run, args.out, show)
    per_frame = made.size_bytes / max(made.frames, 1)
    if args.json:
        values = {"type": "dataset", "file": str(args.out), **vars(made)}
        print(json.dumps({**values, "bytes_per_frame": round(per_frame, 2)}))
        return 0
    print(
        f"{args.out}: {made.studies} studies, {made.encodes:,} encodes, {made.frames:,} frames, "
        f"{made.size_bytes / 1e6:.1f} MB, {per_frame:.1f} bytes a frame"
    )
    return 0
