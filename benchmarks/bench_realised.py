"""What the plans that the studies of a data set are around really gained; encodes nothing.

Studies around another policy than `landed` hold the last pass of `landed`, too. Given is the
rate that the base policy's encode saves over it at equal PSNR, by the clip's own slope, with
its standard error over studies. With `--doubts` beside it stands the same where plans are doubted
(`agents.world_model.least_gain`): the least gain is fitted to the studies of other sources, in
two halves, and of a doubted encode and that of `landed` the one stays that is better by the mean
slope, as the program has it.

    .venv/bin/python benchmarks/bench_realised.py benchmarks/data/studies.npz --doubts
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from common import print_table

from muzero_rc.agents.world_model.least_gain import LeastGain, octaves_gained
from muzero_rc.dataset import StudyView, load_dataset
from muzero_rc.training.stages.plan import EncodeScore

_HALF = 0.5  # of the quality by PSNR avg, the rest overall: as plans have it


class Realised(NamedTuple):
    """A study: its source and speed, and the scores of its encodes."""

    source: str
    speed: int
    slope: float
    probe: EncodeScore | None
    landed: EncodeScore
    planned: EncodeScore

    def saved(self) -> tuple[float, float]:
        """Percent of the rate, at equal PSNR avg and at equal overall PSNR."""
        shares = (1.0, 0.0)
        gains = [octaves_gained(self.planned, self.landed, self.slope, s) for s in shares]
        avg, overall = (100.0 * (1.0 - 2.0**-gain) for gain in gains)
        return avg, overall


def realised(studies: Sequence[StudyView]) -> list[Realised]:
    """What is there to compare."""
    return [
        Realised(
            study.source,
            study.speed,
            study.slope,
            next((EncodeScore.of(probe) for probe in study.named("probe")), None),
            EncodeScore.of(landed),
            EncodeScore.of(study.encode("base")),
        )
        for study in studies
        for landed in study.named("landed")
    ]


def doubted(studies: Sequence[Realised]) -> list[tuple[bool, bool]]:
    """Of each study, whether its plan is doubted, and whether its encode stays."""
    known = [study for study in studies if study.probe is not None]
    slope = float(np.median([study.slope for study in known]))
    sources = sorted({study.source for study in known})
    least = []
    for half in (0, 1):
        inside = set(sources[half::2])
        gains = [
            (study.speed, octaves_gained(study.landed, study.probe, slope, _HALF))
            for study in known
            if study.probe is not None and study.source not in inside
        ]
        least.append((inside, LeastGain.fit(gains)))
    found = []
    for study in studies:
        outside = next((fitted for inside, fitted in least if study.source in inside), None)
        doubt = (
            outside is not None
            and study.probe is not None
            and octaves_gained(study.planned, study.probe, slope, _HALF) < outside.at(study.speed)
        )
        stays = octaves_gained(study.planned, study.landed, slope, _HALF) >= 0.0
        found.append((doubt, stays or not doubt))
    return found


def main() -> int:
    """Reads and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--doubts", action="store_true", help="the same where plans are doubted")
    args = parser.parse_args()
    studies = realised(load_dataset(args.dataset).studies)
    rows = _rows("", studies, np.array([study.saved() for study in studies]))
    columns = [
        "speed", "studies", "avg (s.e.)", "overall (s.e.)", "median avg", "median overall",
        "worst", "better",
    ]  # fmt: skip
    if args.doubts:
        answers = doubted(studies)
        kept = np.array([s.saved() if stays else (0.0, 0.0) for s, (_, stays) in
                         zip(studies, answers, strict=True)])  # fmt: skip
        rows += _rows(", doubted", studies, kept)
        share = np.mean([doubt for doubt, _ in answers])
        print(f"doubted: {share:.1%} of {len(studies)} encodes")
    print_table("rate saved by the base policy over landed, %", columns, rows)
    return 0


def _rows(how: str, studies: Sequence[Realised], saved: np.ndarray) -> list[list[str]]:
    """A row for each speed and one for all."""
    rows = []
    speeds = np.array([study.speed for study in studies])
    for speed in (*sorted(set(speeds.tolist())), None):
        values = saved if speed is None else saved[speeds == speed]
        error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
        rows.append(
            [
                f"{'all' if speed is None else speed}{how}",
                str(len(values)),
                *(f"{m:+.1f} ({e:.1f})" for m, e in zip(values.mean(axis=0), error, strict=True)),
                *(f"{median:+.1f}" for median in np.median(values, axis=0)),
                f"{values.min():+.0f}",
                f"{(values.mean(axis=1) > 0).mean():.0%}",
            ]
        )
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
