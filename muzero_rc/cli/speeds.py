"""`muzero-rc speeds`: what bits cost in time, as a table and a picture."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from muzero_rc.errors import InputError

if TYPE_CHECKING:
    from muzero_rc.evaluation.measure.rate_time import RateTimePoint

__all__ = ["SpeedsArgs", "draw", "run"]


@dataclass(frozen=True)
class SpeedsArgs:
    """BD-rate against encoding time of every method at several speeds.

    Reads one results.json of evaluate --speeds, or several of the same clips and targets at
    different speeds; the anchor is vbr of the first. Encodes nothing.
    """

    results: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RESULTS...")]
    """The results.json of evaluations, or their folders."""

    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE")] = None
    """PNG file for the picture; none without it."""

    metric: Annotated[str, tyro.conf.arg(metavar="M")] = "psnr_avg"
    """The metric of the BD-rates; psnr_p5 and psnr_last_second, too: the worst frames, the end."""

    json: bool = False
    """Print one JSON object instead of a table."""


def run(args: SpeedsArgs) -> int:
    """Prints the points and draws them."""
    from muzero_rc.evaluation.measure.rate_time import rate_time
    from muzero_rc.evaluation.results import Results

    if not args.results:
        raise InputError("no results given; name a results.json or its folder")
    if args.out is not None and args.out.suffix.lower() != ".png":
        raise InputError(f"the picture is a PNG file; give --out NAME.png, not {args.out}")
    metric = args.metric.replace("-", "_")
    points = rate_time([Results.load(path) for path in args.results], metric)
    if args.out is not None:
        draw(args.out, points, metric)
    if args.json:
        print(
            json.dumps(
                {"type": "speeds", "metric": metric, "points": [p.as_dict() for p in points]}
            )
        )
    else:
        _print(points, metric)
        if args.out is not None:
            print(args.out)
    return 0


def draw(path: Path, points: list[RateTimePoint], metric: str) -> None:
    """The picture of the points that have a BD-rate.

    Raises:
      OutputError: the file cannot be written.
    """
    from muzero_rc.plots import plot_rate_time

    curves: dict[str, list[tuple[float, float, str]]] = {}
    for point in points:
        if point.percent is not None:
            label = "" if point.speed is None else str(point.speed)
            curves.setdefault(point.method, []).append((point.of_anchor, point.percent, label))
    anchor = next(p for p in points if p.is_anchor)
    name = f"{anchor.method} at speed {anchor.speed}"
    plot_rate_time(path, curves, anchor=name, metric=metric)


def _print(points: list[RateTimePoint], metric: str) -> None:
    from rich.table import Table

    from muzero_rc.evaluation.report.table import make_console

    table = Table(title=f"BD-rate ({metric}) and time of an encode", title_justify="left")
    for name in ("method", "speed", "BD-rate %", "clips", "undefined", "seconds", "of anchor"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for point in points:
        percent = "undefined" if point.percent is None else f"{point.percent:+.2f}"
        table.add_row(
            point.method, "" if point.speed is None else str(point.speed),
            "anchor" if point.is_anchor else percent,
            str(point.n), str(point.n_undefined), f"{point.seconds:.2f}",
            f"{point.of_anchor:.2f}",
        )  # fmt: skip
    make_console(sys.stdout).print(table)
