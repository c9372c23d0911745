"""`muzero-rc lottery`: what an evaluation's verdict owes to the choice of its benchmark."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from muzero_rc.errors import InputError

__all__ = ["LotteryArgs", "run"]


@dataclass(frozen=True)
class LotteryArgs:
    """Draw clips, targets, metrics and aggregators again and see what the verdict does.

    After Dehghani et al. 2021, The Benchmark Lottery. Reads results.json, encodes nothing.
    """

    results: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RESULTS")]
    """The results.json of an evaluation, or its folder."""

    metric: Annotated[str, tyro.conf.arg(metavar="M")] = "psnr_avg"
    """The metric that the verdict is taken by: psnr_avg, psnr_overall, psnr_y, or one that was
    measured: ssim, ms_ssim, vmaf, vmaf_neg."""

    draws: Annotated[int, tyro.conf.arg(metavar="N")] = 2000
    """Subsets of each size, where there are more of them."""

    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Of the draws."""

    format: Annotated[
        Literal["text", "md", "csv", "latex"], tyro.conf.arg(metavar="text|md|csv|latex")
    ] = "text"
    """Form of the tables."""

    json: bool = False
    """Print all draws as one JSON object instead."""


def run(args: LotteryArgs) -> int:
    """Prints the draws."""
    if args.draws < 1:
        raise InputError(f"--draws must be at least 1, not {args.draws}")
    if args.seed < 0:
        raise InputError(f"--seed must be at least 0, not {args.seed}")
    from muzero_rc.evaluation.report.table import make_console
    from muzero_rc.evaluation.results import Results
    from muzero_rc.evaluation.sensitivity.lottery import lottery
    from muzero_rc.evaluation.sensitivity.table import lottery_document, lottery_report

    found = lottery(
        Results.load(args.results),
        metric=args.metric.replace("-", "_"),
        draws=args.draws,
        seed=args.seed,
    )
    if args.json:
        print(json.dumps({"type": "lottery", **found.as_dict()}))
    elif args.format == "text":
        make_console(sys.stdout).print(lottery_report(found))
    else:
        print(lottery_document(found, args.format), end="")
    return 0
