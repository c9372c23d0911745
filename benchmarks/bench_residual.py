"""How well gains of sources held out are predicted, by the linear model and with the residual.

For each fold of the sources: the linear response model and an ensemble of Perceiver residuals
are fitted to all others, and predict the gains over `landed` of every encode of the fold. The
first encode of a study is that of the plan which the study is around: what plans promise.
Encodes nothing.

    .venv/bin/python benchmarks/bench_residual.py benchmarks/data/studies.npz --folds 4
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from common import print_table

from muzero_rc.agents.world_model.accuracy import Predictions
from muzero_rc.agents.world_model.linear import FrameModel
from muzero_rc.agents.world_model.normal_equations import NormalEquations, Ridge
from muzero_rc.agents.world_model.residual.model import CorrectedModel
from muzero_rc.agents.world_model.residual.train import TrainSettings, fit_residual
from muzero_rc.agents.world_model.study import Study, equations_by_source
from muzero_rc.dataset import load_dataset
from muzero_rc.training.stages.plan import studies_of


def row_of(name: str, found: Predictions) -> list[str]:
    """For the table."""
    accuracy = found.accuracy()
    _, first = np.unique(found.study, return_index=True)
    came, expected = found.gains[:, first]
    promised, kept = (100.0 * (1.0 - 2.0 ** -float(gains.mean())) for gains in (expected, came))
    return [
        name,
        f"{accuracy.gain_r2:.3f}",
        f"{accuracy.within_clip:.3f}",
        f"{np.corrcoef(came, expected)[0, 1]:.3f}",
        f"{promised:.1f}",
        f"{kept:.1f}",
    ]


def main() -> int:
    """Fits, predicts and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--folds", type=int, default=4, help="of sources held out together")
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--ridge", type=float, default=5.0)
    args = parser.parse_args()
    studies = [found.study for found in studies_of(load_dataset(args.dataset))]
    sums = equations_by_source(studies)
    ridge = Ridge(features=args.ridge, kinds=args.ridge / 100.0)
    settings = TrainSettings(steps=args.steps)
    names = sorted(sums)
    models: dict[str, list[FrameModel]] = {"linear model": [], "and residual": []}
    held_out: list[Study] = []
    seconds = 0.0
    for fold in range(args.folds):
        out = set(names[fold :: args.folds])
        inside = [study for study in studies if study.source not in out]
        outside = [study for study in studies if study.source in out]
        known = {name: own for name, own in sums.items() if name not in out}
        linear = sum(known.values(), NormalEquations.empty()).solve(ridge)
        start = time.process_time()
        residual = fit_residual(inside, known, ridge, settings, range(args.members))
        seconds += time.process_time() - start
        held_out += outside
        models["linear model"] += [linear] * len(outside)
        models["and residual"] += [CorrectedModel(linear, residual)] * len(outside)
        print(f"fold {fold + 1} of {args.folds}", flush=True)
    print_table(
        f"{len(studies)} studies of {len(names)} sources, held out in {args.folds} folds; "
        f"{args.members} members of {args.steps} steps, {seconds / args.folds:.0f} CPU s a fold",
        ["model", "R2 of gains", "correlation in clips", "correlation of plans", "promised, %",
         "came, %"],
        [row_of(name, Predictions.of(own, held_out)) for name, own in models.items()],
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
