"""`muzero-rc train`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from muzero_rc.cli.options import naming_options
from muzero_rc.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from muzero_rc.training.config import TrainConfig

__all__ = ["TrainArgs", "rewrite", "run"]


@dataclass(frozen=True)
class TrainArgs:
    """Train a policy on a folder of videos; an interrupted run goes on with --resume.

    Every setting has a name of its own, such as --network.representation hip,
    --search.algorithm puct or --reward.kind lagrangian; docs/guide/train.md lists them.
    """

    out: Annotated[Path, tyro.conf.arg(metavar="RUN")]
    """Folder of the run: checkpoints, TensorBoard events, policy.npz."""

    corpus: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of videos. An index.csv with the column set says which are trained on (train), else
    a fifth of the sources is kept for validation."""

    dataset: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A data set of muzero-rc dataset in the place of a corpus: its studies are not made again,
    and the run ends after imitation."""

    preset: Literal["tiny", "laptop", "competition", "paper", "workstation", "cluster"] = "laptop"
    """tiny: minutes, to see that all works; laptop: a night on two cores; competition: the shipped
    head against itself; paper: from nothing, by self-competition alone; workstation: one GPU and 16
    cores; cluster: the same over all GPUs of a machine. All of them work without one."""

    resume: bool = False
    """Go on with the run in RUN, with its own settings."""

    until: Literal["collect", "self-play"] = "self-play"
    """collect: make the studies and stop; --resume goes on from there."""

    evaluate: bool = False
    """Measure the trained policies on the corpus's validation clips, and write the card."""

    exclude: tuple[str, ...] = ()
    """Sources of the corpus, or of the data set, that are not trained on."""

    studies: int | None = None
    """Instead of the preset's: clips and targets that are studied."""

    updates: int | None = None
    """Instead of the preset's: learner updates on the planned trajectories."""

    episodes: int | None = None
    """Instead of the preset's: encodes of self-competition; 0 stops after imitation."""

    frames: int | None = None
    """Coded frames of self-competition after which it ends; 0 for no limit."""

    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A setting by name, section.name=value; --section.name value means the same."""

    seed: int = 0
    """Of every random choice."""

    quiet: bool = False
    """Show no progress."""


def rewrite(words: list[str]) -> list[str]:
    """--section.name value, and --section.name=value, as --set section.name=value."""
    out: list[str] = []
    rest = iter(words)
    for word in rest:
        name, separator, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or "." not in name or name.startswith("."):
            out.append(word)
            continue
        if not separator:
            value = next(rest, "")
            if not value:
                raise InputError(f"{word} needs a value")
        out += ["--set", f"{name}={value}"]
    return out


def run(args: TrainArgs) -> int:
    """Trains; returns the exit status."""
    from muzero_rc.corpus import Corpus
    from muzero_rc.evaluation.report.table import make_console
    from muzero_rc.model_card import read_card
    from muzero_rc.output_files import write_text
    from muzero_rc.signals import noting
    from muzero_rc.training.costs import COST_COLUMNS, cost_rows
    from muzero_rc.training.log import RunLog
    from muzero_rc.training.presets import configure
    from muzero_rc.training.run import TrainingRun
    from muzero_rc.training.stages.evaluate import COLUMNS, results_page

    if args.evaluate and (args.until == "collect" or args.dataset is not None):
        raise InputError("--evaluate needs --corpus, and a run that is not stopped after collect")
    if args.resume and (unused := _unused(args)):
        names = ", ".join(f"--{name}" for name in unused)
        print(f"muzero-rc: the run goes on with its own settings, without {names}", file=sys.stderr)
    if not args.resume:
        if (args.corpus is None) == (args.dataset is None):
            raise InputError(
                "give --corpus, a folder of videos to train on, or --dataset (or --resume)"
            )
        if args.corpus is not None and not args.corpus.is_dir():
            raise InputError(f"{args.corpus}: no such folder")
        if args.dataset is not None and not args.dataset.is_file():
            raise InputError(f"{args.dataset}: no such file")
        with naming_options(("studies", "updates", "episodes", "frames", "seed")):
            config = configure(
                args.preset,
                studies=args.studies,
                imitation_updates=args.updates,
                episodes=0 if args.dataset and args.episodes is None else args.episodes,
                frames=args.frames,
                settings=args.set,
                seed=args.seed,
            )
        if args.corpus is not None:  # has videos, before anything is told or made
            corpus = Corpus.open(args.corpus)
            if args.evaluate:
                corpus.spread_validation(1)
        TrainingRun.create(args.out, config, args.corpus, args.exclude, args.dataset)
        if not args.quiet and args.until != "collect":
            print(_fit(args.preset, config), file=sys.stderr)
    kept = f"what is done is kept; muzero-rc train --out {args.out} --resume goes on from there"
    with noting(kept), RunLog(args.out / "events", quiet=args.quiet) as log:
        training = TrainingRun.resume(args.out, log)
        if args.evaluate:
            training.check_evaluation()
        done = training.collect() if args.until == "collect" else training.run()
        rows = training.evaluate() if args.evaluate else []
    console = make_console(sys.stdout)
    console.print(_table(COST_COLUMNS, cost_rows(training.costs.stages())))
    if args.until == "collect":
        print(f"{done}\nnext: muzero-rc train --out {args.out} --resume, or for the data set")
        print(f"muzero-rc dataset {args.out} -o {args.out / 'dataset.npz'}")
        return 0
    policy = done
    if rows:
        console.print(_table(COLUMNS, rows))
        card = read_card(policy, results_page(rows, training.config)).markdown()
        write_text(policy.with_suffix(".md"), card)
        print(f"{policy}\n{policy.with_suffix('.md')}")
        return 0
    print(f"{policy}\nnext: muzero-rc evaluate CLIP --policy {policy} --out results")
    return 0


def _unused(args: TrainArgs) -> list[str]:
    """Options of a new run that are given with --resume, which has them already."""
    of_resume = {"out", "resume", "until", "evaluate", "quiet"}
    return [
        entry.name
        for entry in fields(args)
        if entry.name not in of_resume and getattr(args, entry.name) != entry.default
    ]


def _fit(preset: str, config: TrainConfig) -> str:
    """What the preset is made for, and what there is."""
    import jax

    from muzero_rc.training.presets import PRESET_NEEDS

    there = jax.devices()
    sharing = config.agent.optimizer.devices or len(there)
    return (
        f"preset {preset} is made for {PRESET_NEEDS[preset]}; here: cores "
        f"{len(os.sched_getaffinity(0))}, {there[0].platform} devices {len(there)} (sharing each "
        f"batch: {sharing}), studies at a time {config.jobs}, processes of self-play "
        f"{config.self_play.actors}"
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    """A table; the first column is text, the others are numbers."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    return table
