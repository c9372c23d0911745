"""What self-competition at equal rate adds to the policy head that it starts from.

Each seed plays eight encodes of a trial 200 times (`muzero-rc train --preset competition`) and
learns from their ranks. Sources that no seed has played measure it: the head before and after
encodes each of their clips, with one probe encode for both, at targets 1.5% below and above, and
both are brought to equal rate by the clip's own slope of VBR. A policy would go on from there only
if the paired mean over these sources were better by two standard errors.

    .venv/bin/python benchmarks/bench_self_competition.py CORPUS --out OUT [--seeds 0 1 2]

An interrupted run goes on. Further options go to `muzero-rc train`. The detectable difference is
2.8 standard errors: it is found in four of five experiments of this size.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import multiprocessing
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from bench_planned import Task, measure
from common import print_table

from muzero_rc.cli.main import main as muzero_rc
from muzero_rc.cli.train import rewrite
from muzero_rc.corpus import Corpus
from muzero_rc.output_files import write_text
from muzero_rc.training.log import RunLog
from muzero_rc.training.presets import configure
from muzero_rc.training.run import TrainingRun
from muzero_rc.training.studies import load_studies

_START = "muzero"
_COLLECT_SEED = 0  # all seeds play the same trials


def held_out_sources(corpus: Path, count: int) -> list[str]:
    """Training sources that measure, spread evenly over their names."""
    sources = sorted({clip.source for clip in Corpus.open(corpus).training()})
    return [sources[int(place * len(sources) / count)] for place in range(count)]


def _train(
    corpus: Path, out: Path, exclude: Sequence[str], words: Sequence[str], *how: str
) -> None:
    """A run of the preset, or what is left of it."""
    new = ["--corpus", str(corpus), "--preset", "competition", *words, "--exclude", *exclude]
    words = ["--resume"] if (out / "config.json").exists() else new
    status = muzero_rc(["train", "--out", str(out), *how, *words])
    if status:
        raise SystemExit(status)


def _trials(
    corpus: Path, out: Path, wanted: Sequence[str], words: Sequence[str], jobs: int
) -> list[Task]:
    """A trial of each held-out source: one study apiece."""
    folder = out / "held-out"
    others = sorted({clip.source for clip in Corpus.open(corpus).training()} - set(wanted))
    if not (folder / "config.json").exists():
        config = configure(
            "competition",
            studies=len(wanted),
            settings=[word for word in rewrite(list(words)) if word != "--set"],
            seed=_COLLECT_SEED,
            cores=jobs,
        )
        TrainingRun.create(folder, config, corpus, others)
    with RunLog(folder / "events", quiet=True) as log:
        studies = TrainingRun.resume(folder, log).collect()
    paths = {clip.path.name: clip.path for clip in Corpus.open(corpus).training()}
    return [
        Task(
            paths[study.clip], study.part, study.source, study.settings.speed,
            study.settings.target_kbps, study.slope, {},
        )
        for study in load_studies(studies)
    ]  # fmt: skip


def _measured(out: Path, seeds: Sequence[int], trials: Sequence[Task], jobs: int) -> Path:
    """Rates saved by each head over `landed`, by trial, in a file that is kept."""
    path = out / "gains.json"
    if path.exists():
        return path
    policies = (_START, *(str(out / f"seed{seed}" / "policy.npz") for seed in seeds))
    tasks = [trial._replace(others=policies) for trial in trials]
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        done = list(pool.map(measure, tasks))
    rows = []
    for task, gains in done:
        saved = {
            name: [[gain.avg, gain.overall, gain.overshoot] for gain in gains[name]]
            for name in policies
        }
        names = ["start", *(f"seed{seed}" for seed in seeds)]
        named = {name: saved[policy] for name, policy in zip(names, policies, strict=True)}
        rows.append({"source": task.source, "speed": task.speed, "saved": named})
    write_text(path, json.dumps(rows, indent=1))
    return path


def table(path: Path) -> list[list[str]]:
    """Rows: seed, speed, trials, and rate against the head before, %, with standard errors."""
    rows = json.loads(path.read_text())
    seeds = [name for name in rows[0]["saved"] if name != "start"]
    speeds = sorted({row["speed"] for row in rows})
    found = []
    for name in (*seeds, "all"):
        for speed in (*speeds, None) if len(speeds) > 1 else speeds:
            chosen = [row for row in rows if speed in (None, row["speed"])]
            cells = [_change(chosen, seeds if name == "all" else [name], n) for n in (0, 1)]
            if any(np.isnan(mean) for mean, _ in cells):
                continue
            mean, error = cells[0]
            found.append(
                [
                    name,
                    "all" if speed is None else str(speed),
                    str(len(chosen)),
                    *(f"{m:+.2f} ({e:.2f})" for m, e in cells),
                    f"{2.8 * error:.2f}",
                    "yes" if mean < -2.0 * error else "no",
                ]
            )
    return found


def _change(
    rows: Sequence[dict[str, Any]], names: Sequence[str], metric: int
) -> tuple[float, float]:
    """Mean change of the rate at equal PSNR and its standard error over sources, %."""
    by_source: dict[str, list[float]] = {}
    for row in rows:
        before = np.mean([gain[metric] for gain in row["saved"]["start"]])
        after = np.mean([gain[metric] for name in names for gain in row["saved"][name]])
        by_source.setdefault(row["source"], []).append(float(before - after))
    octaves = np.array([np.mean(values) for values in by_source.values()])
    change = 100.0 * (2.0**octaves - 1.0)
    if len(change) < 2:
        return math.nan, math.nan
    return float(change.mean()), float(change.std(ddof=1) / math.sqrt(len(change)))


def main() -> int:
    """Trains each seed, measures, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=200, help="that are made")
    parser.add_argument("--visits", type=int, default=200, help="of trials, drawn at random")
    parser.add_argument("--encodes", type=int, default=8, help="of each trial")
    parser.add_argument("--held-out", type=int, default=40, help="sources that measure")
    parser.add_argument("--train-only", action="store_true", help="measure at the next start")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    args, words = parser.parse_known_args()
    exclude = held_out_sources(args.corpus, args.held_out)
    counts = ["--studies", str(args.trials), "--episodes", str(args.visits * args.encodes)]
    shared = args.out / "trials"
    if not all((args.out / f"seed{seed}" / "policy.npz").exists() for seed in args.seeds):
        collect = [*counts, *words, "--seed", str(_COLLECT_SEED)]
        _train(args.corpus, shared, exclude, collect, "--until", "collect")
    train = functools.partial(_one_seed, args.corpus, args.out, shared, exclude, [*counts, *words])
    # A seed has a learner and a player.
    beside = max(1, min(len(args.seeds), args.jobs // 2))
    with ProcessPoolExecutor(beside, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(train, args.seeds))
    if args.train_only:
        return 0
    trials = _trials(args.corpus, args.out, exclude, words, args.jobs)
    print_table(
        "self-competition at equal rate, against the head before",
        ["seed", "speed", "trials", "PSNR avg, %", "overall, %", "detectable", "advances"],
        table(_measured(args.out, args.seeds, trials, args.jobs)),
    )
    return 0


def _one_seed(
    corpus: Path, out: Path, shared: Path, exclude: Sequence[str], words: Sequence[str], seed: int
) -> None:
    folder = out / f"seed{seed}"
    if not (folder / "policy.npz").exists():
        if not (folder / "config.json").exists():
            (folder / "studies").mkdir(parents=True, exist_ok=True)
            for path in (shared / "studies").iterdir():
                shutil.copy(path, folder / "studies")
        _train(corpus, folder, exclude, [*words, "--seed", str(seed)], "--quiet")


if __name__ == "__main__":
    raise SystemExit(main())
