"""What the plans that the studies of a data set are around really gained; encodes nothing.

Studies around another policy than `landed` hold the last pass of `landed`, too. Given is the
rate that the base policy's encode saves over it at equal PSNR, by the clip's own slope, with
its standard error over studies.

    .venv/bin/python benchmarks/bench_realised.py benchmarks/data/studies.npz
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from common import print_table

from muzero_rc.dataset import EncodeView, StudyView, load_dataset


def saved(study: StudyView, ours: EncodeView, theirs: EncodeView) -> tuple[float, float]:
    """Percent of the rate, at equal PSNR avg and at equal overall PSNR."""
    rate = math.log2(ours.kbps / theirs.kbps)
    gained = ours.psnr_avg - theirs.psnr_avg, ours.psnr_overall - theirs.psnr_overall
    avg, overall = (100.0 * (1.0 - 2.0 ** -(psnr / study.slope - rate)) for psnr in gained)
    return avg, overall


def main() -> int:
    """Reads and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    args = parser.parse_args()
    by_speed: dict[str, list[tuple[float, float]]] = {}
    studies = sorted(load_dataset(args.dataset).studies, key=lambda study: study.speed)
    for study in studies:
        for landed in study.named("landed"):
            gain = saved(study, study.encode("base"), landed)
            by_speed.setdefault(str(study.speed), []).append(gain)
    by_speed["all"] = [gain for found in by_speed.values() for gain in found]
    rows = []
    for speed, found in by_speed.items():
        values = np.array(found)
        error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
        rows.append(
            [
                speed,
                str(len(values)),
                *(f"{m:+.1f} ({e:.1f})" for m, e in zip(values.mean(axis=0), error, strict=True)),
                *(f"{median:+.1f}" for median in np.median(values, axis=0)),
                f"{values.min():+.0f}",
                f"{(values.mean(axis=1) > 0).mean():.0%}",
            ]
        )
    print_table(
        "rate saved by the base policy over landed, %",
        ["speed", "studies", "avg (s.e.)", "overall (s.e.)", "median avg", "median overall",
         "worst", "better"],
        rows,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
