r"""What learned speed tiers gain over fixed mixes at equal work, in real encodes.

For sources that no tier was learned from: the last pass of `landed` with its own mix, with mixes
around it, and with tiers that spend what `landed` spends: in one order for all frames of a role
(`const`), and by what each frame is worth in the response model (`learned`). All have one probe
encode. Given is the rate that is saved over `landed` at equal PSNR, half PSNR avg, half overall,
by the clip's own slope, work and CPU time over those of `landed`; and what is saved beyond the
fixed mixes at the same work, by the line through them.

    .venv/bin/python benchmarks/bench_tiers.py benchmarks/data/studies.npz \
        benchmarks/data/tiers.npz CORPUS --sources 16 --speed 5 --mixes 1,1,1,1,2 1,1,1,2,3

`--time X ...` measures the option instead: VBR beside `landed` with that time. With `--film N` the
first N sources of one size are joined to a film, and encoded by `encode` in chunks.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from common import print_table

from muzero_rc.agents.world_model.features import features_of
from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.agents.world_model.gain import Objective
from muzero_rc.agents.world_model.linear import LinearModel
from muzero_rc.agents.world_model.plan_model import PlanModel
from muzero_rc.agents.world_model.tiers import TierLevels
from muzero_rc.dataset import StudyView, load_dataset
from muzero_rc.encode.film import encode
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.control.baselines import VbrPolicy
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.recipe import DEFAULT_RECIPE
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.control.work_model import WorkModel
from muzero_rc.env.control.work_plan import TierOptions, WorkPlan
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.env.passes.probe import run_probes
from muzero_rc.policies.registry import make_policy, prepare
from muzero_rc.policies.shipped import shipped_policy_path
from muzero_rc.training.stages.collect import load_part
from muzero_rc.training.stages.work import fit_gain, fit_work_model, joined
from muzero_rc.types import EncodeLog


class Point(NamedTuple):
    """Of an encode over that of `landed`: octaves saved, log work, log CPU time."""

    avg: float
    overall: float
    work: float
    seconds: float


def learned_options(
    log: EncodeLog, model: WorkModel, levels: TierLevels, response: LinearModel, slope: float
) -> TierOptions:
    """The work model's options with what each frame gains by the response model."""
    options = model.options(model.frames(log))
    probe = EncodeFrames.of_log(log)
    gains = levels.gains(response.response(probe, features_of(probe)), Objective(probe, slope))
    known = np.isfinite(options.work) & np.isfinite(gains)
    # A frame whose tiers are not known keeps the one that is the cheapest.
    known |= ~known.any(axis=1, keepdims=True) & np.isfinite(options.work)
    return dataclasses.replace(
        options,
        work=np.where(known, options.work, np.inf),
        priced=np.where(known, options.work, np.inf),
        gain=np.where(known, np.nan_to_num(gains), -np.inf),
    )


def chosen(
    studies: Sequence[StudyView], args: argparse.Namespace, known: set[str]
) -> list[StudyView]:
    """The first study of each source at the speed that no tier was learned from."""
    first: dict[str, StudyView] = {}
    for view in studies:
        if view.speed == args.speed and view.source not in known:
            psnr = view.encode("landed").psnr_avg if view.named("landed") else 0.0
            if args.psnr[0] <= psnr <= args.psnr[1]:
                first.setdefault(view.source, view)
    names = sorted(first)
    step = max(len(names) / args.sources, 1.0)
    return [first[names[int(n * step)]] for n in range(min(args.sources, len(names)))]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("tiers", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--sources", type=int, default=16)
    parser.add_argument("--speed", type=int, default=5)
    parser.add_argument("--psnr", type=float, nargs=2, default=(33.0, 40.0))
    parser.add_argument("--mixes", nargs="+", default=[])
    parser.add_argument("--time", type=float, nargs="+", default=[])
    parser.add_argument("--film", type=int, default=0)
    args = parser.parse_args()
    tiers = load_dataset(args.tiers).studies
    studies = joined(load_dataset(args.dataset).studies, tiers)
    plan_model = PlanModel.load(shipped_policy_path("planned"))
    views = chosen(studies, args, {view.source for view in tiers})
    sources = frozenset(view.source for view in views)
    known = [view for view in studies if view.source not in sources]
    model = fit_work_model(known, plan_model.linear)
    _, levels = fit_gain(known, plan_model.linear)
    if args.time:
        film(views, model, args) if args.film else times(views, model, args)
        return
    found = []
    for view in views:
        found.append(measure(view, model, levels, plan_model, args))
        text = ", ".join(
            f"{name} {50 * (p.avg + p.overall):+.1f}% at {math.exp(p.work):.2f}"
            for name, p in found[-1].items()
        )
        print(f"{view.source[:30]:30} {text}", flush=True)
    report(found, args)


def measure(
    view: StudyView,
    model: WorkModel,
    levels: TierLevels,
    plans: PlanModel,
    args: argparse.Namespace,
) -> dict[str, Point]:
    """All variants of a study."""
    clip = load_part(next(args.corpus.rglob(view.clip)), view.part)
    policy = make_policy("landed")
    settings = EncoderSettings(target_kbps=round(view.target_kbps), speed=view.speed)
    stats = first_pass(clip, settings, cache=False)
    settings = prepare(policy, clip, settings, stats)
    log = run_probes(clip, settings, stats)
    probe = ProbeRecord.of(log)
    base = rollout(clip, settings, policy, first_pass=stats, probe=probe)
    budget = model.work_of(base.log.results)
    options = {
        "const": model.options(model.frames(log)),
        "learned": learned_options(log, model, levels, plans.linear, plans.slope),
    }
    runs = {"landed": (probe, DEFAULT_RECIPE)}
    for mix in args.mixes:
        names = ("key", "base", "second", "deeper", "leaf")
        speeds = dict(zip(names, map(int, mix.split(",")), strict=True))
        runs[mix] = probe, DEFAULT_RECIPE.with_speeds(view.speed, **speeds)
    for name, found in options.items():
        runs[name] = dataclasses.replace(probe, work=WorkPlan(found, budget)), DEFAULT_RECIPE
    points = {}
    for name, (record, recipe) in runs.items():
        done = base
        if name != "landed":
            done = rollout(clip, settings, policy, first_pass=stats, probe=record, recipe=recipe)
        rate = math.log2(done.score.actual_kbps / base.score.actual_kbps)
        points[name] = Point(
            (done.score.psnr_avg - base.score.psnr_avg) / view.slope - rate,
            (done.score.psnr_overall - base.score.psnr_overall) / view.slope - rate,
            math.log(model.work_of(done.log.results) / budget),
            math.log(_seconds(done.log) / _seconds(base.log)),
        )
    return points


def _seconds(log: EncodeLog) -> float:
    return sum(result.cpu_seconds for result in log.results)


def report(found: Sequence[dict[str, Point]], args: argparse.Namespace) -> None:
    """Means with standard errors, and each clip's distance from its line of fixed mixes."""
    rows = []
    for name in found[0]:
        table = np.array([points[name] for points in found])
        saved = 100.0 * (1.0 - np.exp2(-table[:, :2]))
        beyond = np.full(len(found), np.nan)
        if args.mixes:
            # One slope of gain over log work for all clips: that of the mixes.
            mixes = np.array([[points[mix] for mix in ("landed", *args.mixes)] for points in found])
            gain = mixes[:, :, :2].mean(axis=2)
            gain, work = gain - gain.mean(1, keepdims=True), mixes[:, :, 2]
            work = work - work.mean(axis=1, keepdims=True)
            slope = float((gain * work).sum() / (work * work).sum())
            beyond = 100.0 * (1.0 - np.exp2(-(table[:, :2].mean(axis=1) - slope * table[:, 2])))
        error = 1.0 / math.sqrt(len(found))
        rows.append(
            [
                name,
                f"{saved[:, 0].mean():+.2f} ({saved[:, 0].std(ddof=1) * error:.2f})",
                f"{saved[:, 1].mean():+.2f} ({saved[:, 1].std(ddof=1) * error:.2f})",
                f"{math.exp(table[:, 2].mean()):.3f}",
                f"{math.exp(table[:, 3].mean()):.3f}",
                f"{beyond.mean():+.2f} ({beyond.std(ddof=1) * error:.2f})",
                f"{(beyond > 0).sum()} of {len(found)}",
            ]
        )
    print_table(
        f"speed {args.speed}, {len(found)} sources held out; rate saved over landed, %",
        ["tiers", "avg (s.e.)", "overall (s.e.)", "work", "CPU", "beyond the mixes", "better"],
        rows,
    )


def times(views: Sequence[StudyView], model: WorkModel, args: argparse.Namespace) -> None:
    """How well `time` is kept: in counted work and in CPU time of VBR, which is encoded too."""
    rows: dict[float, list[tuple[float, float, float]]] = {time: [] for time in args.time}
    for view in views:
        clip = load_part(next(args.corpus.rglob(view.clip)), view.part)
        policy = make_policy("landed")
        plain = EncoderSettings(target_kbps=round(view.target_kbps), speed=view.speed)
        stats = first_pass(clip, plain, cache=False)
        vbr = rollout(clip, plain, VbrPolicy(), first_pass=stats)
        settings = prepare(policy, clip, plain, stats)
        logs: list[EncodeLog] = []
        log = run_probes(clip, settings.replace(time=args.time[0]), stats, on_encode=logs.append)
        frames = model.frames(log)
        budget = model.vbr_work(frames, view.speed, view.target_kbps * 1000.0 / float(clip.fps))
        spent = sum(model.work_of(found.results) for found in logs)
        options = model.options(frames)
        for time in args.time:
            plan = WorkPlan(options, time * budget - spent)
            if not plan.least <= plan.budget <= plan.most:
                print(f"{view.source[:30]:30} {time:g} cannot be kept", flush=True)
                continue
            probe = dataclasses.replace(ProbeRecord.of(log), work=plan)
            done = rollout(clip, settings, policy, first_pass=stats, probe=probe)
            work = spent + model.work_of(done.log.results)
            seconds = sum(_seconds(found) for found in (*logs, done.log))
            row = (
                math.log(work / (time * budget)),
                math.log(work / (time * model.work_of(vbr.log.results))),
                math.log(seconds / (time * _seconds(vbr.log))),
            )
            rows[time].append(row)
            text = ", ".join(f"{math.expm1(value):+.1%}" for value in row)
            print(f"{view.source[:30]:30} {time:g}: {text}", flush=True)
    table = []
    for time, found in rows.items():
        if found:
            off = np.expm1(np.array(found))
            cells = [
                f"{column.mean():+.1%}, {np.median(np.abs(column)):.1%}, "
                f"{(np.abs(column) <= 0.05).sum()}, {(np.abs(column) <= 0.1).sum()}"
                for column in off.T
            ]
            table.append([f"{time:g}", str(len(found)), *cells])
    print_table(
        f"speed {args.speed}; mean miss, median |miss|, clips within 5%, within 10%",
        ["time", "clips", "budget of work", "VBR's work", "VBR's CPU time"],
        table,
    )


def film(views: Sequence[StudyView], model: WorkModel, args: argparse.Namespace) -> None:
    """The time that a film in chunks takes over VBR's, by `encode` with the shipped model."""
    clips = [load_part(next(args.corpus.rglob(view.clip)), view.part) for view in views]
    size = max({(c.width, c.height) for c in clips}, key=[(c.width, c.height) for c in clips].count)
    clips = [clip for clip in clips if (clip.width, clip.height) == size][: args.film]
    frames = sum(clip.num_frames for clip in clips)
    kbps = round(float(np.mean([view.target_kbps for view in views[: len(clips)]])))
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "film.mkv", Path(folder) / "out.webm"
        command = [
            "ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-r", "25",
            "-s", f"{size[0]}x{size[1]}", "-i", "-", "-c:v", "ffv1", str(source),
        ]  # fmt: skip
        raw = b"".join(clip.frame(n).tobytes() for clip in clips for n in range(clip.num_frames))
        subprocess.run(command, input=raw, check=True)
        plain = EncoderSettings(target_kbps=kbps, speed=args.speed)
        vbr = encode(source, out, plain, VbrPolicy(), workers=1)
        for time in args.time:
            done = encode(source, out, plain.replace(time=time), make_policy("landed"), workers=1)
            counted = done.time.counted if done.time else math.nan
            took = counted * done.time.vbr_seconds if done.time else math.nan
            real = took / model.work_of(vbr.results)
            print(
                f"speed {args.speed}, {len(clips)} sources, {frames} frames, {done.chunks} chunks, "
                f"{done.chunks_again} again: asked for {time:g}, counted {counted:.3f} of what VBR "
                f"is expected to take, {real:.3f} of its work; {done.deviation:+.2%} of the target",
                flush=True,
            )


if __name__ == "__main__":
    main()
