"""What plans gain over `landed` in real encodes of sources that they were not fitted on.

For the first study of each of some sources of a data set: the plan model is fitted to the
studies of all other sources; the clip is encoded by `landed`, by the mean steps alone
(`const`) and by plans (`planned:S`, S the step strength), each at targets 1.5% below and above
the study's, so that luck is not counted; all are brought to equal rate by the clip's own slope.
Given is the rate that is saved at equal PSNR, with its standard error over sources.

    .venv/bin/python benchmarks/bench_planned.py DATASET CORPUS --sources 20

With `--policy RUN/policy.npz` the sources are those that this run left out, and its policy head is
measured beside the plans of its plan model (`planned`) and that one's mean steps (`const`); further
`--policy NAME` are measured as they are, and must not have learned from these sources:

    .venv/bin/muzero-rc train --dataset DATASET --out RUN --exclude SOURCE SOURCE ...
    .venv/bin/python benchmarks/bench_planned.py DATASET CORPUS --speeds 2 --policy RUN/policy.npz
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from common import print_table

from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.agents.world_model.least_gain import octaves_gained
from muzero_rc.agents.world_model.normal_equations import Ridge
from muzero_rc.agents.world_model.plan_model import PlanModel
from muzero_rc.agents.world_model.planner import PlanSettings
from muzero_rc.agents.world_model.residual.train import TrainSettings, fit_residual
from muzero_rc.agents.world_model.study import equations_by_source
from muzero_rc.checkpoint import read_meta
from muzero_rc.dataset import Dataset, StudyView, load_dataset
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.env.passes.probe import run_probes
from muzero_rc.policies.planned import PlannedPolicy
from muzero_rc.policies.registry import make_policy, prepare
from muzero_rc.training.stages.collect import load_part
from muzero_rc.training.stages.plan import PlanStudy, plan_model_of, studies_of
from muzero_rc.types import EpisodeScore, Policy

JITTER = (0.985, 1.015)


class Task(NamedTuple):
    """A study and the models that have not seen its source, by variant."""

    path: Path
    part: tuple[int, int, int]
    source: str
    speed: int
    target_kbps: float
    slope: float
    models: Mapping[str, PlanModel]
    jitter: tuple[float, ...] = JITTER
    others: tuple[str, ...] = ()  # policies by name or file
    simulations: int = 0  # of a search beside each plan


class Gain(NamedTuple):
    """Of an encode over `landed`.

    Attributes:
      avg: octaves of rate saved at equal PSNR avg.
      overall: likewise at equal overall PSNR.
      promised: by the plan, half of both.
      overshoot: of the target.
      seconds: CPU time of the last pass.
    """

    avg: float
    overall: float
    promised: float
    overshoot: float
    seconds: float


def measure(task: Task) -> tuple[Task, dict[str, list[Gain]]]:
    """All encodes of a study."""
    clip = load_part(task.path, task.part)
    settings = EncoderSettings(target_kbps=1, speed=task.speed)
    policies: dict[str, Policy] = {"landed": make_policy("landed")}
    for name, model in task.models.items():
        policies[name] = PlannedPolicy(model, constant=name == "const")
        if task.simulations and name != "const":
            for around in ("means", "plan"):
                policies[f"{name} search, {around}"] = PlannedPolicy(
                    model, simulations=task.simulations, around=around
                )
    for spec in task.others:
        policies[spec] = make_policy(spec)
    gains: dict[str, list[Gain]] = {name: [] for name in policies}
    stats = first_pass(clip, settings, cache=False)
    for jitter in task.jitter:
        aimed = settings.replace(target_kbps=max(round(task.target_kbps * jitter), 2))
        aimed = prepare(policies["landed"], clip, aimed, stats)
        run = run_probes(clip, aimed, stats)
        probe = ProbeRecord.of(run)
        scores = {}
        frames = EncodeFrames.of_log(run)
        promised = {
            name: model.plan(frames, task.speed).gain
            for name, model in task.models.items()
            if name != "const"
        }
        for name, policy in policies.items():
            done = rollout(clip, aimed, policy, first_pass=stats, probe=probe)
            seconds = sum(result.cpu_seconds for result in done.log.results)
            scores[name] = done.score, seconds
        ours, _ = scores["landed"]
        for name, (score, seconds) in scores.items():
            gains[name].append(
                Gain(
                    *octaves_saved(score, ours, task.slope),
                    promised.get(name, 0.0),
                    score.overshoot,
                    seconds,
                )
            )
    return task, gains


def octaves_saved(ours: EpisodeScore, theirs: EpisodeScore, slope: float) -> tuple[float, float]:
    """Octaves of rate saved at equal PSNR avg, and at equal overall PSNR, by a clip's slope."""
    return octaves_gained(ours, theirs, slope, 1.0), octaves_gained(ours, theirs, slope, 0.0)


def tasks_of(studies: Sequence[PlanStudy], corpus: Path, args: argparse.Namespace) -> list[Task]:
    """The first study of each source at the speeds asked for, spread over the sources.

    Models have seen no source of the study's fold.
    """
    first: dict[str, PlanStudy] = {}
    for found in studies:
        if found.speed in args.speeds and found.view.part[0] == args.height:
            first.setdefault(found.study.source, found)
    chosen = sorted(first)
    step = max(len(chosen) / args.sources, 1.0)
    chosen = [chosen[int(n * step)] for n in range(min(args.sources, len(chosen)))]
    ridge = Ridge(features=args.ridge, kinds=args.ridge / 100.0)
    sums = equations_by_source([found.study for found in studies])
    folds = [chosen[fold :: args.folds] for fold in range(args.folds)]
    tasks = []
    for fold in folds:
        others = [found for found in studies if found.study.source not in fold]
        known = {name: own for name, own in sums.items() if name not in fold}
        models = {}
        for strength in args.strengths:
            settings = PlanSettings(step_strength=strength, limit=args.limit)
            models[f"planned:{strength:g}"] = plan_model_of(others, settings, ridge, known)
        if args.const_strength is not None:
            settings = PlanSettings(step_strength=args.const_strength, limit=args.limit)
            same = models.get(f"planned:{args.const_strength:g}")
            models["const"] = same or plan_model_of(others, settings, ridge, known)
        if args.members:
            kept = args.keep / f"fold{len(tasks)}.npz" if args.keep else None
            if kept is not None and kept.exists():
                residual = PlanModel.load(kept).residual
            else:
                plain = [found.study for found in others]
                training = TrainSettings(steps=args.steps)
                residual = fit_residual(plain, known, ridge, training, range(args.members), print)
                if kept is not None:
                    first_model = next(iter(models.values()))
                    dataclasses.replace(first_model, residual=residual).save(kept)
            for strength in args.strengths:
                corrected = dataclasses.replace(models[f"planned:{strength:g}"], residual=residual)
                models[f"network:{strength:g}"] = corrected
        if args.undoubted:
            models |= {
                f"{name} not doubted": dataclasses.replace(own, least=None)
                for name, own in models.items()
                if name != "const"
            }
        models = {name: own for name, own in models.items() if name in (args.only or models)}
        for source in fold:
            found, view = first[source], first[source].view
            path = next(corpus.rglob(view.clip))
            tasks.append(
                Task(
                    path,
                    view.part,
                    source,
                    found.speed,
                    view.target_kbps,
                    view.slope,
                    models,
                    tuple(args.jitter),
                    simulations=args.simulations,
                )
            )
    return tasks


def tasks_of_policies(
    data: Dataset, corpus: Path, args: argparse.Namespace
) -> tuple[list[Task], list[str]]:
    """The first study of each source that the first policy's run left out, at the speeds asked for.

    Returns:
      The tasks, and the sources.
    """
    path = Path(args.policy[0])
    left_out = set(read_meta(path)["training"]["excluded"])
    model = PlanModel.load(path.with_name("plan.npz"))
    if not left_out or not left_out <= set(model.meta["excluded"]):
        raise SystemExit(f"{path} or its plan.npz was trained on all sources: use --exclude")
    first: dict[str, StudyView] = {}
    for view in data.studies:
        if view.source in left_out and view.speed in args.speeds and view.part[0] == args.height:
            first.setdefault(view.source, view)
    models = {"planned": model, "const": model}
    return [
        Task(
            next(corpus.rglob(view.clip)), view.part, source, view.speed, view.target_kbps,
            view.slope, models, tuple(args.jitter), tuple(args.policy),
        )
        for source, view in sorted(first.items())[: args.sources]
    ], sorted(first)[: args.sources]  # fmt: skip


def rows_of(results: Sequence[dict[str, list[Gain]]]) -> list[list[str]]:
    """A row for each variant."""
    rows = []
    for name in results[0]:
        clips = np.array([np.mean(result[name], axis=0) for result in results])
        saved = 100.0 * (1.0 - np.exp2(-clips[:, :3]))
        saved, promised = saved[:, :2], saved[:, 2]
        error = saved.std(axis=0, ddof=1) / math.sqrt(len(saved)) if len(saved) > 1 else [0, 0]
        every = np.array([gain.overshoot for result in results for gain in result[name]])
        rows.append(
            [
                name,
                f"{saved[:, 0].mean():+.2f} ({error[0]:.2f})",
                f"{saved[:, 1].mean():+.2f} ({error[1]:.2f})",
                f"{np.median(saved[:, 0]):+.2f}",
                f"{(saved.mean(axis=1) > 0).sum()} of {len(saved)}",
                f"{saved.mean(axis=1).min():+.1f}",
                f"{promised.mean():+.1f}",
                f"{every.mean():+.2%}",
                f"{np.abs(every).mean():.2%}",
                f"{clips[:, 4].mean():.2f}",
            ]
        )
    return rows


def parser_of(text: str) -> argparse.ArgumentParser:
    """The options that `tasks_of` needs, but for strengths."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--sources", type=int, default=20)
    parser.add_argument("--speeds", type=int, nargs="+", default=[1, 2, 3, 5])
    parser.add_argument("--jitter", type=float, nargs="+", default=list(JITTER), help="of targets")
    parser.add_argument("--height", type=int, default=144)
    parser.add_argument("--ridge", type=float, default=3.0)
    parser.add_argument("--limit", type=int, default=16)
    parser.add_argument("--folds", type=int, default=4, help="of sources held out together")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--members", type=int, default=0, help="networks that correct the plans")
    parser.add_argument("--simulations", type=int, default=0, help="of macro-actions, beside plans")
    parser.add_argument("--steps", type=int, default=400, help="of a network's training")
    parser.add_argument("--keep", type=Path, help="folder for trained networks, used again")
    parser.add_argument("--undoubted", action="store_true", help="beside plans, never doubted")
    parser.add_argument("--only", nargs="+", help="variants that are encoded beside landed")
    return parser


def main() -> int:
    """Measures and prints."""
    parser = parser_of(__doc__.splitlines()[0])
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.3, 1.0, 3.0])
    parser.add_argument("--const-strength", type=float, default=1.0)
    parser.add_argument("--policy", nargs="+", default=[], help="the first one from a run")
    args = parser.parse_args()
    data = load_dataset(args.dataset)
    if args.policy:
        tasks, sources = tasks_of_policies(data, args.corpus, args)
        title = f"{len(sources)} sources that {args.policy[0]} was not trained on"
    else:
        studies = studies_of(data)
        tasks = tasks_of(studies, args.corpus, args)
        known = len({found.study.source for found in studies})
        title = f"{len(tasks)} sources of {known}, {len(studies)} studies, ridge {args.ridge:g}"
    results = []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.jobs, spawn) as pool:
        for task, gains in pool.map(measure, tasks):
            results.append(gains)
            means = {name: np.mean([gain[:2] for gain in found], axis=0)
                     for name, found in gains.items()}  # fmt: skip
            percents = {name: 100.0 * (1.0 - np.exp2(-mean)) for name, mean in means.items()}
            text = ", ".join(f"{name} {a:+.1f} {o:+.1f}" for name, (a, o) in percents.items())
            print(f"{task.source[:32]:32} speed {task.speed}: {text}", flush=True)
    print_table(
        f"{title}; rate saved over landed, %",
        ["steps by", "avg (s.e.)", "overall (s.e.)", "median avg", "better", "worst",
         "promised", "mean miss", "mean |miss|", "last pass, CPU s"],
        rows_of(results),
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
