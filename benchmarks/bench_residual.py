"""How well gains of sources held out are predicted, by the linear model and with the residual.

For each fold of the sources: the linear response model and an ensemble of Perceiver residuals
are fitted to all others, and predict the gains over `landed` of every encode of the fold. The
first encode of a study is that of the plan which the study is around: what plans promise.
Encodes nothing.

    .venv/bin/python benchmarks/bench_residual.py benchmarks/data/studies.npz --folds 4

With `--blocks` residuals that also see block maps of the first pass are fitted to the same folds
with the same seeds, once with the study's own maps and once with those of a study of another
source; `make_block_maps.py` makes the file.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from common import print_table
from hip_residual import BandedMaps, bands_of, fit_with_maps, of_another_source
from make_block_maps import load_maps, part_of

from muzero_rc.agents.world_model.accuracy import Predictions
from muzero_rc.agents.world_model.linear import FrameModel
from muzero_rc.agents.world_model.normal_equations import NormalEquations, Ridge
from muzero_rc.agents.world_model.residual.model import CorrectedModel
from muzero_rc.agents.world_model.residual.train import TrainSettings, fit_residual
from muzero_rc.agents.world_model.study import Study, equations_by_source
from muzero_rc.dataset import load_dataset
from muzero_rc.training.stages.plan import PlanStudy, studies_of


def maps_by_model(found: list[PlanStudy], path: Path) -> dict[str, BandedMaps]:
    """The maps of all studies, and of studies of other sources in their places."""
    studies = [own.study for own in found]
    known = load_maps(path)
    maps = [known.get(part_of(own.view)) for own in found]
    print(f"{sum(own is not None for own in maps)} of {len(maps)} studies have block maps")
    frames = -(-max(len(study.base) for study in studies) // 32) * 32  # few shapes are compiled
    others = [maps[place] for place in of_another_source(studies, 0)]
    return {
        "residual and maps": bands_of(studies, maps, frames),
        "residual and others' maps": bands_of(studies, others, frames),
    }


def row_of(name: str, found: Predictions, seconds: float) -> list[str]:
    """For the table; seconds are of CPU, for all folds."""
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
        f"{seconds:.0f}",
    ]


def main() -> int:
    """Fits, predicts and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--folds", type=int, default=4, help="of sources held out together")
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--ridge", type=float, default=5.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="an ensemble for each")
    parser.add_argument("--blocks", type=Path, help="file of block maps, see make_block_maps.py")
    args = parser.parse_args()
    everything = studies_of(load_dataset(args.dataset))
    studies = [found.study for found in everything]
    by_model = maps_by_model(everything, args.blocks) if args.blocks else {}
    sums = equations_by_source(studies)
    ridge = Ridge(features=args.ridge, kinds=args.ridge / 100.0)
    settings = TrainSettings(steps=args.steps)
    names = sorted(sums)
    models: dict[str, list[FrameModel]] = defaultdict(list)
    seconds: dict[str, float] = defaultdict(float)
    held_out: list[Study] = []
    for fold in range(args.folds):
        out = set(names[fold :: args.folds])
        places = np.arange(len(studies))
        apart = np.array([study.source in out for study in studies])
        inside, outside = places[~apart], places[apart]
        learned = [studies[place] for place in inside]
        known = {name: own for name, own in sums.items() if name not in out}
        linear = sum(known.values(), NormalEquations.empty()).solve(ridge)
        held_out += [studies[place] for place in outside]
        models["linear model"] += [linear] * len(outside)
        for seed in args.seeds:
            seeds = range(seed * args.members, (seed + 1) * args.members)
            after = f", seed {seed}" if len(args.seeds) > 1 else ""
            start = time.process_time()
            residual = fit_residual(learned, known, ridge, settings, seeds)
            seconds[f"and residual{after}"] += time.process_time() - start
            models[f"and residual{after}"] += [CorrectedModel(linear, residual)] * len(outside)
            for name, maps in by_model.items():
                start = time.process_time()
                own = BandedMaps(*(part[inside] for part in maps))
                correct = fit_with_maps(learned, own, known, ridge, settings, seeds)
                seconds[f"and {name}{after}"] += time.process_time() - start
                models[f"and {name}{after}"] += [
                    correct(linear, BandedMaps(*(part[[place]] for part in maps)))
                    for place in outside
                ]
        print(f"fold {fold + 1} of {args.folds}", flush=True)
    print_table(
        f"{len(studies)} studies of {len(names)} sources, held out in {args.folds} folds; "
        f"{args.members} members of {args.steps} steps",
        ["model", "R2 of gains", "correlation in clips", "correlation of plans", "promised, %",
         "came, %", "CPU s"],
        [
            row_of(name, Predictions.of(own, held_out), seconds[name])
            for name, own in models.items()
        ],
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
