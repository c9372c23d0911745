"""`muzero-rc report`: an evaluation as a page or a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from muzero_rc.errors import InputError
from muzero_rc.output_files import check_output

if TYPE_CHECKING:
    from muzero_rc.evaluation.report.contents import Contents

__all__ = ["ReportArgs", "run"]

_LOTTERY = "lottery.json"


@dataclass(frozen=True)
class ReportArgs:
    """Show an evaluation: a folder with a page that opens from disk.

    Give --out for the page, --png for a picture of the rate-distortion curves, or both.
    """

    results: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RESULTS.json|DIR")]
    """What muzero-rc evaluate wrote; with --keep-streams the page plays the encodes."""

    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="DIR")] = None
    """Folder for the page; a report that is there is replaced."""

    png: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None
    """Picture of the rate-distortion curves."""

    method: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Method that the report is about; the first policy of the evaluation if not given."""

    lottery: Annotated[Path | None, tyro.conf.arg(metavar="FILE.json")] = None
    """What muzero-rc lottery --json printed; lottery.json beside the results if not given."""

    no_video: bool = False
    """Leave the encodes out: a small folder without a player."""


def run(args: ReportArgs) -> int:
    """Writes what was asked for; 0 if all of it is there."""
    if args.out is None and args.png is None:
        raise InputError("nothing to write; give --out DIR or --png FILE")
    if args.png is not None and args.png.suffix.lower() != ".png":
        raise InputError(f"the picture is a PNG file; give --png NAME.png, not {args.png}")
    # Heavy imports come after the cheap mistakes.
    from muzero_rc.evaluation.report import (
        check_report_folder,
        plot_rate_distortion,
        write_report,
    )

    if args.out is not None:
        check_report_folder(args.out)
        if args.png is not None and args.png.absolute().is_relative_to(args.out.absolute()):
            raise InputError(
                f"the report replaces all that is in {args.out}; give --png another folder"
            )
    contents = _gather(args)
    if args.png is not None:
        check_output(args.png)
        plot_rate_distortion(contents.data, args.png)
        print(args.png)
    if args.out is not None:
        print(write_report(contents, args.out))
    return 0


def _gather(args: ReportArgs) -> Contents:
    from muzero_rc.evaluation.report.contents import gather
    from muzero_rc.evaluation.results import Results, read_json

    results = Results.load(args.results)
    folder = args.results if args.results.is_dir() else args.results.parent
    lottery = args.lottery
    if lottery is None and (folder / _LOTTERY).is_file():
        lottery = folder / _LOTTERY
    return gather(
        results,
        folder,
        lead=args.method,
        video=not args.no_video,
        lottery=None if lottery is None else _drawn(read_json(lottery), lottery),
    )


def _drawn(found: dict[str, Any], path: Path) -> dict[str, Any]:
    if found.get("type") != "lottery":
        raise InputError(f"{path} is not what muzero-rc lottery --json prints; make it again")
    return found
