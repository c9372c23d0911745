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
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from common import print_table

from muzero_rc.agents.world_model.accuracy import explained, within_group_correlation
from muzero_rc.agents.world_model.gain import Objective
from muzero_rc.agents.world_model.linear import FrameModel
from muzero_rc.agents.world_model.normal_equations import NormalEquations, Ridge
from muzero_rc.agents.world_model.residual.model import CorrectedModel
from muzero_rc.agents.world_model.residual.train import TrainSettings, fit_residual
from muzero_rc.agents.world_model.study import Study, equations_by_source
from muzero_rc.dataset import load_dataset
from muzero_rc.training.stages.plan import studies_of


class Gains(NamedTuple):
    """Of encodes, octaves of rate over `landed`. [encodes] each.

    Attributes:
      came: what they really gained.
      expected: what the model said.
      study: a number for each study.
      planned: whether it is the encode of a plan.
    """

    came: npt.NDArray[np.float64]
    expected: npt.NDArray[np.float64]
    study: npt.NDArray[np.int64]
    planned: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, model: FrameModel, studies: Sequence[Study], first: int) -> Gains:
        """A model's predictions; studies are numbered from `first`."""
        rows = []
        for number, study in enumerate(studies, first):
            objective = Objective(study.base, study.slope)
            response = model.response(study.base, study.known_features)
            for place, changes in enumerate(study.changes()):
                bits, sse = response.changes(changes.octaves)
                expected = objective.gain(bits, objective.shown(sse))
                rows.append((objective.realised(changes), expected, number, place == 0))
        came, expected, number, planned = zip(*rows, strict=True)
        return cls(np.array(came), np.array(expected), np.array(number), np.array(planned))

    @classmethod
    def joined(cls, parts: Sequence[Gains]) -> Gains:
        """Of several folds."""
        return cls(*(np.concatenate(values) for values in zip(*parts, strict=True)))

    def row(self, name: str) -> list[str]:
        """For the table."""
        came, expected = self.came[self.planned], self.expected[self.planned]
        promised, kept = (100.0 * (1.0 - 2.0 ** -float(gains.mean())) for gains in (expected, came))
        return [
            name,
            f"{explained(self.came, self.expected):.3f}",
            f"{within_group_correlation(self.came, self.expected, self.study):.3f}",
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
    found: dict[str, list[Gains]] = {"linear model": [], "and residual": []}
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
        for gains, model in zip(
            found.values(), (linear, CorrectedModel(linear, residual)), strict=True
        ):
            gains.append(Gains.of(model, outside, 1000 * fold))
        print(f"fold {fold + 1} of {args.folds}", flush=True)
    print_table(
        f"{len(studies)} studies of {len(names)} sources, held out in {args.folds} folds; "
        f"{args.members} members of {args.steps} steps, {seconds / args.folds:.0f} CPU s a fold",
        ["model", "R2 of gains", "correlation in clips", "correlation of plans", "promised, %",
         "came, %"],
        [Gains.joined(gains).row(name) for name, gains in found.items()],
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
