"""What hindsight search gains over its first encode, `landed`, on training sources held out.

The world model that it plans with has not seen the source's fold. Gains are bits saved at equal
PSNR, by the clip's own slope, with the standard error over sources. Luck is in them: the best
of N encodes is kept.

    .venv/bin/python benchmarks/bench_hindsight.py DATASET CORPUS --sources 20 --budgets 10
"""

from __future__ import annotations

import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
from bench_planned import Task, octaves_saved, parser_of, tasks_of
from common import print_table

from muzero_rc.dataset import load_dataset
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.policies.hindsight.policy import HindsightPolicy
from muzero_rc.policies.registry import WithSpeedProfile, make_policy
from muzero_rc.training.stages.collect import load_part
from muzero_rc.training.stages.plan import studies_of

Gain = tuple[float, float, float]


def measure(task: Task, budgets: tuple[int, ...], own_weight: float) -> list[Gain]:
    """Percent saved in PSNR avg and overall, and the overshoot, for each budget."""
    clip = load_part(task.path, task.part)
    settings = EncoderSettings(target_kbps=round(task.target_kbps), speed=task.speed)
    stats = first_pass(clip, settings, cache=False)
    start = make_policy("landed")
    assert isinstance(start, WithSpeedProfile)
    (model,) = task.models.values()
    gains = []
    for budget in budgets:
        policy = HindsightPolicy(
            budget, start=start.policy, model=replace(model, own_weight=own_weight),
            jobs=1, log=False,
        )  # fmt: skip
        policy.prepare(clip, settings, stats)
        assert policy.result is not None
        ours, first = policy.result.outcome.score, policy.result.first.score
        saved = (100.0 * (1.0 - 2.0**-gain) for gain in octaves_saved(ours, first, task.slope))
        gains.append((*saved, ours.overshoot))
    return gains


def main() -> int:
    """Measures and prints."""
    parser = parser_of(__doc__.splitlines()[0])
    parser.add_argument("--budgets", type=int, nargs="+", default=[10])
    parser.add_argument("--strength", type=float, default=3.0)
    parser.add_argument("--own-weight", type=float, default=100.0)
    args = parser.parse_args()
    args.strengths, args.const_strength = [args.strength], None
    tasks = tasks_of(studies_of(load_dataset(args.dataset)), args.corpus, args)
    spawn = multiprocessing.get_context("spawn")
    found = []
    with ProcessPoolExecutor(args.jobs, spawn) as pool:
        count = len(tasks)
        rest = [tuple(args.budgets)] * count, [args.own_weight] * count
        for task, gains in zip(tasks, pool.map(measure, tasks, *rest), strict=True):
            found.append(gains)
            text = ", ".join(
                f"{budget}: {avg:+.1f} {overall:+.1f}"
                for budget, (avg, overall, _) in zip(args.budgets, gains, strict=True)
            )
            print(f"{task.source[:32]:32} speed {task.speed}: {text}", flush=True)
    gains = np.array(found)
    rows = []
    for place, budget in enumerate(args.budgets):
        saved = gains[:, place, :2]
        error = saved.std(axis=0, ddof=1) / math.sqrt(len(saved))
        rows.append(
            [
                str(budget),
                f"{saved[:, 0].mean():+.2f} ({error[0]:.2f})",
                f"{saved[:, 1].mean():+.2f} ({error[1]:.2f})",
                *(f"{value:+.2f}" for value in np.median(saved, axis=0)),
                f"{(saved.mean(axis=1) > 0).sum()} of {len(saved)}",
                f"{gains[:, place, 2].max():+.2%}",
            ]
        )
    print_table(
        f"{len(tasks)} sources; rate saved over landed, %",
        ["encodes", "avg (s.e.)", "overall (s.e.)", "median avg", "median overall", "better",
         "most over"],
        rows,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
