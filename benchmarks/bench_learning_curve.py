"""How the response model's predictions grow with the number of sources that it learns from.

For each fold of the sources: models are fitted to some of all others, drawn at random, and
predict every encode of the fold. The first encode of a study is that of the plan which the study
is around: what plans promise, and what came. Means over draws, the scatter of a draw beside R2.
Encodes nothing.

    .venv/bin/python benchmarks/bench_learning_curve.py benchmarks/data/studies.npz
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import print_table

from muzero_rc.agents.world_model.accuracy import Accuracy, Calibration, Predictions
from muzero_rc.agents.world_model.linear import FrameModel
from muzero_rc.agents.world_model.normal_equations import NormalEquations, Ridge
from muzero_rc.agents.world_model.study import Study, equations_by_source
from muzero_rc.dataset import load_dataset
from muzero_rc.training.stages.plan import studies_of


def predict(
    studies: Sequence[Study],
    sums: dict[str, NormalEquations],
    size: int,
    args: argparse.Namespace,
    rng: np.random.Generator,
) -> Predictions:
    """Of all studies, each by a model of `size` sources that are not in its fold."""
    names = sorted(sums)
    ridge = Ridge(features=args.ridge, kinds=args.ridge / 100.0)
    models: list[FrameModel] = []
    held_out: list[Study] = []
    for fold in range(args.folds):
        out = set(names[fold :: args.folds])
        others = [name for name in names if name not in out]
        drawn = rng.permutation(others)[:size]
        model = sum((sums[name] for name in drawn), NormalEquations.empty()).solve(ridge)
        own = [study for study in studies if study.source in out]
        held_out += own
        models += [model] * len(own)
    return Predictions.of(models, held_out)


def of_plans(found: Predictions) -> Calibration:
    """Of the first encodes of the studies."""
    _, first = np.unique(found.study, return_index=True)
    came, promised = 100.0 * (1.0 - np.exp2(-found.gains[:, first]))
    return Calibration.of(promised, came)


def row_of(size: int, accuracies: Sequence[Accuracy], plans: Sequence[Calibration]) -> list[str]:
    """For the table."""
    r2 = np.array([found.gain_r2 for found in accuracies])
    scatter = f" ({r2.std(ddof=1):.3f})" if len(r2) > 1 else ""
    means = np.mean([(a.within_clip, a.bits_r2, a.sse_r2) for a in accuracies], axis=0)
    promised, came, kept = np.mean([(p.promised, p.realised, p.kept) for p in plans], axis=0)
    return [
        str(size),
        f"{r2.mean():+.3f}{scatter}",
        *(f"{mean:.3f}" for mean in means),
        f"{promised:.1f}",
        f"{came:.1f}",
        f"{kept:.2f}",
    ]


def main() -> int:
    """Fits, predicts and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--folds", type=int, default=8, help="of sources held out together")
    parser.add_argument("--ridge", type=float, default=5.0)
    args = parser.parse_args()
    studies = [found.study for found in studies_of(load_dataset(args.dataset))]
    sums = equations_by_source(studies)
    most = len(sums) - len(sorted(sums)[:: args.folds])
    rows = []
    for size in [*(size for size in args.sizes if size < most), most]:
        draws = 1 if size == most else args.draws
        found = [
            predict(studies, sums, size, args, np.random.default_rng([size, draw]))
            for draw in range(draws)
        ]
        rows.append(row_of(size, [f.accuracy() for f in found], [of_plans(f) for f in found]))
        print(f"{size} sources", flush=True)
    print_table(
        f"{len(studies)} studies of {len(sums)} sources, held out in {args.folds} folds",
        ["sources", "R2 of gains", "within clips", "R2 of bits", "R2 of errors",
         "plans promise, %", "came, %", "kept"],
        rows,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
