"""What a clip's own patterned probe encodes add to its plan: in the data set, and in real encodes.

Studies have three more probe encodes than the pipeline makes: two with signed steps in blocks
and one with the same step everywhere. Their normal equations are added to those of other sources,
a number of times each, and the coefficients are solved for once more, for this clip. A probe
encode answers otherwise than a last pass does. So before they are added their right sides are
moved by what a model of the probe encodes of all other sources and one of their last passes
differ (`centred`): what is added is how this clip's probe encodes differ from those of others.

The first table holds sources out in folds and predicts the gains of the studies' encodes. It
encodes nothing:

    .venv/bin/python benchmarks/bench_patterned.py DATASET CORPUS --sources 0

The second one encodes the first study of each of some sources: landed, with the plan of the
linear model, and with the plan of the model that has this clip's equations too. The probe encodes
are made anew, as the pipeline would make them.

    .venv/bin/python benchmarks/bench_patterned.py DATASET CORPUS --sources 24 --speeds 2
"""

from __future__ import annotations

import multiprocessing
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from bench_planned import Gain, Task, octaves_saved, parser_of, rows_of, tasks_of
from common import print_table

from muzero_rc.agents.world_model.accuracy import Predictions
from muzero_rc.agents.world_model.features import features_of
from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.agents.world_model.linear import LinearModel
from muzero_rc.agents.world_model.normal_equations import NormalEquations, Ridge
from muzero_rc.agents.world_model.study import equations_by_source
from muzero_rc.dataset import load_dataset
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.control.baselines import ShiftedPolicy
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.env.passes.probe import encode_probe, run_probes
from muzero_rc.policies.planned import PlannedPolicy
from muzero_rc.policies.registry import make_policy, prepare
from muzero_rc.training.perturbation import (
    SteppedPolicy,
    Steps,
    hadamard_steps,
    pattern_frames,
)
from muzero_rc.training.stages.collect import CollectConfig, load_part
from muzero_rc.training.stages.plan import PlanStudy, studies_of
from muzero_rc.types import EncodeLog


class Own(NamedTuple):
    """Which of a clip's own probe encodes count, and how much.

    Attributes:
      signed: those with signed steps.
      common: that with the same step everywhere.
      weight: encodes of other clips that each counts for.
      centred: less what the probe encodes of other clips show.
    """

    signed: bool
    common: bool
    weight: float
    centred: bool

    @property
    def kinds(self) -> list[str]:
        """As the data set names them."""
        return ["hadamard"] * self.signed + ["all"] * self.common

    def __str__(self) -> str:
        """For tables."""
        names = " and ".join(["signed"] * self.signed + ["common"] * self.common)
        return f"{names}, weight {self.weight:g}{', centred' if self.centred else ''}"


PREDICTED = [
    Own(signed, common, weight, moved)
    for moved in (False, True)
    for signed, common in ((True, False), (False, True), (True, True))
    for weight in (1.0, 3.0, 10.0, 30.0)
]
"""Those that gains are predicted with."""

ENCODED = (Own(True, False, 10.0, True), Own(True, True, 3.0, False))
"""Those that are tried in real encodes: the best by R2 and the best of three probe encodes."""


class PatternedTask(NamedTuple):
    """A study that is encoded again.

    Attributes:
      task: with the model of the plan, which has not seen its source.
      probes: fitted to the probe encodes of all other sources.
    """

    task: Task
    probes: LinearModel


def centred(own: NormalEquations, probes: LinearModel, lasts: LinearModel) -> NormalEquations:
    """Equations of probe encodes as those of last passes that differ from others as they do.

    Args:
      own: of a clip's probe encodes.
      probes: fitted to the probe encodes of other clips.
      lasts: fitted to their last passes.
    """
    moved = (lasts.coefficients - probes.coefficients).reshape(len(own.frames_right), -1)
    frames = own.frames_right + np.einsum("opq,oq->op", own.frames_left, moved)
    return replace(
        own, frames_right=frames, clips_right=own.clips_right + own.clips_left @ moved.ravel()
    )


def own_equations(found: PlanStudy, slope: float) -> dict[str, NormalEquations]:
    """Of a study's own probe encodes, by the kind of their steps; those of other groups left out.

    Args:
      found: the study.
      slope: dB of PSNR per octave of rate that the rows of the clip count with.
    """
    size = found.view.width, found.view.height
    sums = {"hadamard": NormalEquations.empty(), "all": NormalEquations.empty()}
    for encode in found.view.named("probe_pattern"):
        frames = EncodeFrames.of_columns(encode, *size)
        if frames.same_structure(found.probe):
            features = features_of(found.probe)
            sums[encode.pattern] += NormalEquations.of(found.probe, [frames], slope, features)
    return sums


def print_predictions(studies: Sequence[PlanStudy], ridge: Ridge, folds: int) -> None:
    """The first table."""
    plain = [found.study for found in studies]
    slope = float(np.median([study.slope for study in plain]))
    sums = equations_by_source(plain)
    own = [own_equations(found, slope) for found in studies]
    probes: dict[str, NormalEquations] = defaultdict(NormalEquations.empty)
    for study, equations in zip(plain, own, strict=True):
        for part in equations.values():
            probes[study.source] += part
    names = sorted(sums)
    models: dict[str, list[LinearModel]] = defaultdict(list)
    order = []
    for fold in range(folds):
        out = set(names[fold::folds])
        known = sum((sums[name] for name in names if name not in out), NormalEquations.empty())
        rest = sum((probes[name] for name in names if name not in out), NormalEquations.empty())
        lasts, of_probes = known.solve(ridge), rest.solve(ridge)
        for place, study in enumerate(plain):
            if study.source not in out:
                continue
            order.append(study)
            models["none"].append(lasts)
            for variant in PREDICTED:
                models[str(variant)].append(
                    with_own(known, own[place], variant, of_probes, lasts).solve(ridge)
                )
    rows = []
    for name, fitted in models.items():
        found = Predictions.of(fitted, order)
        accuracy = found.accuracy()
        rows.append(
            [name, f"{accuracy.gain_r2:.3f}", f"{accuracy.within_clip:.3f}",
             f"{accuracy.bits_r2:.3f}", f"{accuracy.sse_r2:.3f}"]
        )  # fmt: skip
    print_table(
        f"{len(plain)} studies of {len(names)} sources, held out in {folds} folds",
        ["own probe encodes", "R2 of gains", "correlation in clips", "R2 of bits", "R2 of errors"],
        rows,
    )


def with_own(
    known: NormalEquations,
    own: Mapping[str, NormalEquations],
    variant: Own,
    probes: LinearModel,
    lasts: LinearModel,
) -> NormalEquations:
    """Equations of other clips, and of this one's probe encodes."""
    added = sum((own[kind] for kind in variant.kinds), NormalEquations.empty())
    if variant.centred:
        added = centred(added, probes, lasts)
    return known + added.scaled(variant.weight)


def measure(patterned: PatternedTask) -> tuple[dict[str, list[Gain]], tuple[float, float]]:
    """All encodes of a study.

    Returns:
      The gains over landed of every variant, and CPU seconds: of one probe encode with steps and
      of the last pass of landed, in the mean over targets.
    """
    task, probes = patterned
    clip = load_part(task.path, task.part)
    stats = first_pass(clip, EncoderSettings(target_kbps=1, speed=task.speed), cache=False)
    landed = make_policy("landed")
    (model,) = task.models.values()
    config = CollectConfig()
    rng = np.random.default_rng(0)
    gains: dict[str, list[Gain]] = defaultdict(list)
    probing: list[float] = []
    last: list[float] = []
    for jitter in task.jitter:
        target = max(round(task.target_kbps * jitter), 2)
        aimed = prepare(landed, clip, EncoderSettings(target_kbps=target, speed=task.speed), stats)
        run = run_probes(clip, aimed, stats)
        probe, frames = ProbeRecord.of(run), EncodeFrames.of_log(run)
        own = {"hadamard": NormalEquations.empty(), "all": NormalEquations.empty()}
        for kind, steps in patterns_of(run, config, rng):
            policy = SteppedPolicy(ShiftedPolicy(probe.shift), steps)
            log = encode_probe(clip, aimed, policy, stats, gops=probe.gops)
            probing.append(_cpu_seconds(log))
            moved = EncodeFrames.of_log(log)
            if moved.same_structure(frames):
                own[kind] += NormalEquations.of(frames, [moved], model.slope, features_of(frames))
        models = {"linear model alone": model}
        for variant in ENCODED:
            equations = with_own(model.equations, own, variant, probes, model.linear)
            models[str(variant)] = replace(model, equations=equations)
        ours = rollout(clip, aimed, landed, first_pass=stats, probe=probe)
        last.append(_cpu_seconds(ours.log))
        for name, with_plan in models.items():
            policy = PlannedPolicy(with_plan)
            done = rollout(clip, aimed, policy, first_pass=stats, probe=probe)
            gains[name].append(
                Gain(
                    *octaves_saved(done.score, ours.score, task.slope),
                    with_plan.plan(frames, task.speed).gain,
                    done.score.overshoot,
                    _cpu_seconds(done.log),
                )
            )
    return dict(gains), (float(np.mean(probing)), float(np.mean(last)))


def patterns_of(
    probe: EncodeLog, config: CollectConfig, rng: np.random.Generator
) -> list[tuple[str, Steps]]:
    """The steps of probe encodes as studies have them, with their kinds."""
    frames = pattern_frames(probe)
    signed = hadamard_steps(frames, rng, config.probe_size, config.probe_patterns)
    everywhere = {frame.key: config.probe_common for frame in frames}
    return [*(("hadamard", steps) for steps in signed), ("all", everywhere)]


def _cpu_seconds(log: EncodeLog) -> float:
    return sum(result.cpu_seconds for result in log.results)


def patterned_tasks(
    studies: Sequence[PlanStudy], ridge: Ridge, tasks: Sequence[Task]
) -> list[PatternedTask]:
    """Each task with a model of the probe encodes of all sources but its own."""
    slope = float(np.median([found.study.slope for found in studies]))
    sums: dict[str, NormalEquations] = defaultdict(NormalEquations.empty)
    for found in studies:
        for part in own_equations(found, slope).values():
            sums[found.study.source] += part
    everything = sum(sums.values(), NormalEquations.empty())
    return [PatternedTask(task, (everything - sums[task.source]).solve(ridge)) for task in tasks]


def paired_rows(results: Sequence[dict[str, list[Gain]]]) -> list[list[str]]:
    """What each variant saves over the plan of the linear model alone."""
    means = [
        {name: np.mean([gain[:2] for gain in gains], axis=0) for name, gains in result.items()}
        for result in results
    ]
    rows = []
    for name in list(means[0])[1:]:
        saved = np.array([own[name] - own["linear model alone"] for own in means])
        saved = 100.0 * (1.0 - np.exp2(-saved))
        error = saved.std(axis=0, ddof=1) / np.sqrt(len(saved))
        avg, overall = (f"{m:+.2f} ({e:.2f})" for m, e in zip(saved.mean(0), error, strict=True))
        better = int((saved.mean(axis=1) > 0).sum())
        worst = saved.mean(axis=1).min()
        rows.append([name, avg, overall, f"{better} of {len(saved)}", f"{worst:+.1f}"])
    return rows


def main() -> int:
    """Predicts, encodes and prints."""
    parser = parser_of(__doc__.splitlines()[0])
    parser.add_argument("--strength", type=float, default=3.0, help="of steps in plans")
    args = parser.parse_args()
    ridge = Ridge(features=args.ridge, kinds=args.ridge / 100.0)
    studies = studies_of(load_dataset(args.dataset))
    if args.sources == 0:
        print_predictions(studies, ridge, args.folds)
        return 0
    args.strengths, args.const_strength = [args.strength], None
    tasks = patterned_tasks(studies, ridge, tasks_of(studies, args.corpus, args))
    results, seconds = [], []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.jobs, spawn) as pool:
        for patterned, (gains, own_seconds) in zip(tasks, pool.map(measure, tasks), strict=True):
            results.append(gains)
            seconds.append(own_seconds)
            text = ", ".join(
                "{} {:+.1f} {:+.1f}".format(
                    name, *(100.0 * (1.0 - 2.0 ** -np.mean([own[:2] for own in found], axis=0)))
                )
                for name, found in gains.items()
            )
            print(f"{patterned.task.source[:32]:32} {text}", flush=True)
    probing, last = np.mean(seconds, axis=0)
    print_table(
        f"{len(tasks)} sources at speeds {args.speeds}; rate saved over landed, %",
        ["plan by", "avg (s.e.)", "overall (s.e.)", "median avg", "better", "worst", "promised",
         "mean miss", "mean |miss|", "last pass, CPU s"],
        rows_of(results),
    )  # fmt: skip
    print_table(
        "rate saved over the plan of the linear model alone, %; one more probe encode takes "
        f"{probing / last:.2f} of a last pass",
        ["plan by", "avg (s.e.)", "overall (s.e.)", "better", "worst"],
        paired_rows(results),
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
