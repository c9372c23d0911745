"""How near a chunk comes to the bits that it is to take, and what that costs in quality.

Clips of a corpus are encoded with constant quality at some levels. Each is encoded again from such
a level, to take as many bits as there and so many octaves more or fewer. The level follows what
frames take (`muzero_rc.encode.controlled_quality`). Printed are what is missed, and PSNR less that
of constant quality at equal bits.

    .venv/bin/python benchmarks/bench_controlled_quality.py CORPUS [--kind mixed] [--clips 12]
"""

from __future__ import annotations

import argparse
import math
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from common import print_table
from films import KINDS, draw
from levels import SETTINGS, encode_at
from make_offset_scale_model import at_bits, psnr_avg, psnr_overall

from muzero_rc.encode.controlled_quality import Goal
from muzero_rc.encode.level import Level
from muzero_rc.encode.realtime_model import REALTIME_MODEL
from muzero_rc.encode.realtime_probe import START_LEVEL, realtime_probe
from muzero_rc.encode.share import FAR_OCTAVES
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass

FRAMES, HEIGHT = 120, 240
LEVELS, CURVE = (60.0, 120.0), (30.0, 45.0, 60.0, 85.0, 120.0, 160.0)  # qindexes
OCTAVES = (-0.4, -0.15, 0.0, 0.15, 0.4)  # what a forecast is usually off by, and twice that


def measure(path: Path) -> list[dict[str, Any]]:
    """All encodes of a clip."""
    clip = Clip.load(path, height=HEIGHT, max_frames=FRAMES)
    statistics = first_pass(clip, SETTINGS, cache=False)
    start = realtime_probe(clip, SETTINGS, START_LEVEL)
    curve = {level: encode_at(clip, Level(level), statistics) for level in CURVE}
    order = sorted(curve.values(), key=lambda e: e["bits"])
    found = []
    for level in LEVELS:
        here = curve[level]
        for octaves in OCTAVES:
            above = 2.0 ** (here["bits"] + octaves) * clip.num_frames * clip.width * clip.height
            goal = Goal(
                above + here["fixed"],
                here["fixed"],
                start.frame_bits,
                REALTIME_MODEL.bits[1],
                FAR_OCTAVES,
            )
            made = encode_at(clip, Level(level), statistics, goal)
            missed = made["bits"] - here["bits"] - octaves
            gains = [quality(made) - at_bits(order, made["bits"], quality)
                     for quality in (psnr_avg, psnr_overall)]  # fmt: skip
            found.append({"level": level, "octaves": octaves, "missed": missed, "gains": gains})
    return found


def main() -> None:
    """Prints what is missed by level and by octaves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--set", default="train")
    parser.add_argument("--kind", choices=KINDS, default="mixed")
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    clips = draw(
        args.corpus, args.set, args.kind, args.clips, frames=FRAMES, height=HEIGHT, seed=args.seed
    )
    with ProcessPoolExecutor(args.jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
        found = [each for some in pool.map(measure, clips) for each in some]
    rows = []
    for level in LEVELS:
        for octaves in OCTAVES:
            mine = [e for e in found if e["level"] == level and e["octaves"] == octaves]
            missed = np.array([2.0 ** e["missed"] - 1.0 for e in mine])
            avg, overall = np.mean([e["gains"] for e in mine], axis=0)
            rows.append([
                f"{level:g}", f"{octaves:+.2f}", f"{2.0**octaves - 1:+.0%}",
                f"{math.sqrt(float(np.mean(missed**2))):.1%}", f"{np.median(missed):+.1%}",
                f"{max(abs(missed)):.1%}", f"{avg:+.2f}", f"{overall:+.2f}",
            ])  # fmt: skip
    print_table(
        f"{len(clips)} clips of {args.set}, {args.kind}",
        ["level", "octaves", "asked", "missed, rms", "median", "most", "PSNR avg", "overall"],
        rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
