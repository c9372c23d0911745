"""`muzero-rc ablate`: variants of one setting, trained alike and compared."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from muzero_rc.cli.options import naming_encoder_options, naming_options
from muzero_rc.cli.train import rewrite
from muzero_rc.errors import InputError
from muzero_rc.output_files import check_output, write_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from muzero_rc.evaluation.grid.runner import EvaluationPlan
    from muzero_rc.evaluation.measure.statistics import Interval
    from muzero_rc.evaluation.results import Results
    from muzero_rc.training.ablation import Ablation, VariantSummary

__all__ = ["AblateArgs", "rewrite", "run"]


@dataclass(frozen=True)
class AblateArgs:
    """Train the variants of an axis on equal encoder frames and compare them.

    Runs that are finished are not done again, interrupted ones go on with the same command.
    Settings for all variants go by name, such as --search.simulations 16.
    """

    axis: Literal["reward", "representation", "search"]
    """What is varied."""

    corpus: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder of videos; trained on and validated on as `train` and its fifth say."""

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")]
    """Folder for runs, evaluation, table and picture."""

    budget: Annotated[int, tyro.conf.arg(metavar="FRAMES")] = 100_000
    """Coded frames of self-play for each run."""

    seeds: int = 3
    """Runs of each variant."""

    preset: Literal["tiny", "laptop", "competition", "paper", "workstation", "cluster"] = "laptop"
    """Of training."""

    only: tuple[str, ...] = ()
    """These variants alone."""

    studies: int | None = None
    """Instead of the preset's; made once for all runs."""

    updates: int | None = None
    """Instead of the preset's: imitation before self-play; 0 starts from nothing."""

    exclude: tuple[str, ...] = ()
    """Sources of the corpus that are not trained on."""

    clips: int = 8
    """Validation clips; 0 leaves the evaluation out."""

    scale: int = 144
    """Lines that they are scaled down to."""

    frames: int = 60
    """Of each."""

    speed: int = 5
    """Of the evaluation's encoder."""

    jobs: Annotated[int, tyro.conf.arg(aliases=["-j"])] = min(2, os.cpu_count() or 1)
    """Encodes of the evaluation at a time."""

    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A setting by name for all variants, section.name=value."""

    quiet: bool = False
    """Show no progress."""


def run(args: AblateArgs) -> int:
    """Trains, evaluates, prints; returns the exit status."""
    from muzero_rc.evaluation.report.table import make_console
    from muzero_rc.plots import plot_curves
    from muzero_rc.signals import noting
    from muzero_rc.training.ablation import Ablation, as_json, summarise
    from muzero_rc.training.log import RunLog
    from muzero_rc.video import check_height

    if not args.corpus.is_dir():
        raise InputError(f"{args.corpus}: no such folder")
    if args.clips < 0:
        raise InputError(f"--clips must be at least 0, not {args.clips}")
    if args.jobs < 1:
        raise InputError(f"--jobs must be at least 1, not {args.jobs}")
    if args.frames < 1:
        raise InputError(f"--frames must be at least 1, not {args.frames}")
    check_height(args.scale, "--scale")
    with naming_options(("frames", "only", "seeds", "studies", "updates"), {"frames": "budget"}):
        ablation = Ablation(
            args.out,
            axis=args.axis,
            corpus=args.corpus,
            preset=args.preset,
            frames=args.budget,
            seeds=args.seeds,
            settings=args.set,
            exclude=args.exclude,
            studies=args.studies,
            imitation_updates=args.updates,
            only=args.only,
        )
    plan = _plan(args, ablation)
    files = {name: args.out / name for name in ("ablation.json", "ablation.csv", "curves.png")}
    for path in files.values():
        check_output(path)
    with noting(f"what is done is kept in {args.out}; the same command goes on from there"):
        ablation.train(lambda folder, title: RunLog(folder, quiet=args.quiet))
    curves = ablation.curves()
    plot_curves(
        files["curves.png"],
        {name: [(c.frames, c.wins) for c in runs] for name, runs in curves.items()},
        title=f"{args.axis}: {args.budget:,} frames of self-play, {args.seeds} seed(s)",
    )
    results = _evaluate(args, ablation, plan)
    summaries = summarise(results, curves, ablation.variants, ablation.seeds)
    text = json.dumps({"axis": args.axis, "variants": as_json(summaries)}, indent=1)
    write_text(files["ablation.json"], text + "\n")
    write_text(files["ablation.csv"], _csv(summaries))
    make_console(sys.stdout).print(_table(args, summaries))
    if args.seeds == 1:
        print("one seed: BD-rate's interval is over clips alone, another seed's is not known")
    elif args.seeds == 2:
        print("two seeds are too few for intervals; three are enough")
    print("\n".join(map(str, files.values())))
    return 1 if results.failures else 0


def _plan(args: AblateArgs, ablation: Ablation) -> EvaluationPlan | None:
    """The evaluation but for its policies, which are not trained yet; None without clips."""
    from muzero_rc.cli.methods import methods_of
    from muzero_rc.env.control.settings import EncoderSettings
    from muzero_rc.evaluation.grid.encoder import find_sources
    from muzero_rc.evaluation.grid.runner import EvaluationPlan
    from muzero_rc.identity import build_identity

    if not args.clips:
        return None
    with naming_encoder_options():
        settings = EncoderSettings(target_kbps=1, speed=args.speed)
    clips = ablation.validation_clips(args.clips)
    return EvaluationPlan(
        sources=tuple(find_sources(clips, height=args.scale, max_frames=args.frames)),
        methods=methods_of(()),
        settings=settings,
        targets_kbps=None,
        build=build_identity(),
        notes={"axis": args.axis, "budget": args.budget},
    )


def _evaluate(args: AblateArgs, ablation: Ablation, plan: EvaluationPlan | None) -> Results:
    from muzero_rc.evaluation.grid.policy_encoder import PolicyEncoder
    from muzero_rc.evaluation.grid.runner import run_evaluation
    from muzero_rc.evaluation.results import Results
    from muzero_rc.policies.registry import make_policy

    if plan is None:
        return Results(settings={}, encodes=[])
    plan = dataclasses.replace(plan, methods=(*plan.methods, *ablation.methods()))
    return run_evaluation(plan, PolicyEncoder(make_policy), args.out / "evaluation", jobs=args.jobs)


def _table(args: AblateArgs, summaries: Sequence[VariantSummary]) -> RenderableType:
    from rich import box
    from rich.table import Table

    table = Table(
        title=f"{args.axis}, {args.budget:,} coded frames of self-play, {args.seeds} seed(s)",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in (
        "variant", "wins against VBR", "95%", "BD-rate avg", "95%", "|dev|", "95%", "over > 1%",
        "95%", "> 5%",
    ):  # fmt: skip
        table.add_column(name, justify="left" if name == "variant" else "right")
    for s in summaries:
        table.add_row(
            s.name,
            f"{s.win_rate:.0%}",
            _interval(s.win_interval, 100, "%", signed=False),
            "-" if s.bd_rate != s.bd_rate else f"{s.bd_rate:+.2f}",
            _interval(s.bd_interval, 1, "", signed=True),
            _share(s.deviation),
            _interval(s.deviation_interval, 100, "%", signed=False),
            _share(s.over_1),
            _interval(s.over_1_interval, 100, "%", signed=False),
            _share(s.over_5),
        )
    return table


def _share(value: float) -> str:
    return "-" if value != value else f"{value:.1%}"


def _interval(interval: Interval | None, factor: float, unit: str, *, signed: bool) -> str:
    if interval is None:
        return "-"
    low, high = factor * interval.low, factor * interval.high
    return f"{low:+.1f} .. {high:+.1f}" if signed else f"{low:.0f} .. {high:.0f}{unit}"


def _csv(summaries: Sequence[VariantSummary]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(
        ["variant", "seeds", "win_rate", "win_low", "win_high", "bd_rate", "bd_low", "bd_high",
         "deviation", "deviation_low", "deviation_high", "over_1", "over_1_low",
         "over_1_high", "over_5"]
    )  # fmt: skip
    for s in summaries:
        known = (
            (s.win_rate, s.win_interval), (s.bd_rate, s.bd_interval),
            (s.deviation, s.deviation_interval), (s.over_1, s.over_1_interval),
        )  # fmt: skip
        cells = [
            cell
            for value, interval in known
            for cell in (value, *((interval.low, interval.high) if interval else ("", "")))
        ]
        writer.writerow([s.name, s.seeds, *cells, s.over_5])
    return out.getvalue()
