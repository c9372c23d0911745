"""What search effort is worth by kind of frame: BD-rate and CPU time of mixes of speeds.

A mix is four speeds: of key frames, base alternate references, deeper ones, leaf frames.
Every clip is encoded with libvpx's proposals at the rates of five constant qindexes, once
with each mix. BD-rate is against the mix of the stream's speed alone, the mean over
clips; time is the second pass's CPU time over that of libvpx's own two-pass VBR at the
same targets, the mean over clips. The tables of `env/effort.py` were chosen with it.

    .venv/bin/python benchmarks/bench_effort.py [CLIP ...] [--speed 5] [--mixes 5,5,5,5 2,2,3,5]
"""

from __future__ import annotations

import argparse
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from common import print_table, sample_clip

from muzero_rc.env import effort
from muzero_rc.env.baselines import ConstantPolicy, ProposalPolicy, VbrPolicy
from muzero_rc.env.clip import Clip
from muzero_rc.env.rollout import rollout
from muzero_rc.env.settings import EncoderSettings
from muzero_rc.evaluation.bd_rate import bd_rate
from muzero_rc.types import EpisodeScore, Policy

_QINDEXES = (60, 90, 120, 150, 180)
_MIXES = {
    1: ("2,2,2,2", "1,1,1,2", "0,1,1,1", "0,1,1,2", "0,0,1,2"),
    5: ("4,4,4,4", "3,3,3,3", "2,2,2,2", "2,2,3,5", "2,2,2,5", "1,1,3,5", "1,1,1,5", "2,2,2,3"),
}

Mix = tuple[int, int, int, int]


def _encode(
    clip: Clip, settings: EncoderSettings, policy: Policy, targets: list[int]
) -> tuple[list[EpisodeScore], float]:
    scores = []
    begun = time.process_time()
    for target in targets:
        scores.append(rollout(clip, settings.replace(target_kbps=target), policy).score)
    return scores, time.process_time() - begun


def _bd(anchor: list[EpisodeScore], test: list[EpisodeScore]) -> float:
    found = bd_rate(
        [s.actual_kbps for s in anchor], [s.psnr_avg for s in anchor],
        [s.actual_kbps for s in test], [s.psnr_avg for s in test],
    )  # fmt: skip
    return float("nan") if found.percent is None else found.percent


def _measure(path: Path, args: argparse.Namespace, mixes: list[Mix]) -> list[tuple[float, float]]:
    """BD-rate and time over VBR's of each mix on one clip; the first row is VBR itself."""
    clip = Clip.load(path, height=args.height, max_frames=args.frames)
    settings = EncoderSettings(target_kbps=100, speed=args.speed, auto_alt_ref=args.auto_alt_ref)
    targets = sorted(
        {
            max(1, round(rollout(clip, settings, ConstantPolicy(q)).score.actual_kbps))
            for q in _QINDEXES
        }
    )
    vbr, vbr_time = _encode(clip, settings, VbrPolicy(), targets)
    even, even_time = _encode(clip, settings, ProposalPolicy(), targets)
    rows = [(_bd(even, vbr), 1.0), (0.0, even_time / vbr_time)]
    for mix in mixes:
        effort._LAYERED[min(args.speed, 5)] = mix
        scores, seconds = _encode(
            clip, settings.replace(effort="layered"), ProposalPolicy(), targets
        )
        rows.append((_bd(even, scores), seconds / vbr_time))
    return rows


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--speed", type=int, default=5)
    parser.add_argument("--auto-alt-ref", type=int, default=6)
    parser.add_argument("--height", type=int, default=144)
    parser.add_argument("--frames", type=int, default=80)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--mixes", nargs="+", default=None)
    args = parser.parse_args()
    wanted = args.mixes or _MIXES.get(args.speed) or [f"{args.speed}," * 3 + str(args.speed)]
    mixes: list[Mix] = []
    for text in wanted:
        numbers = tuple(int(part) for part in text.split(","))
        if len(numbers) != 4 or not all(0 <= n <= 9 for n in numbers):
            parser.error(f"a mix is four speeds 0..9, such as 2,2,3,5, not {text}")
        mixes.append((numbers[0], numbers[1], numbers[2], numbers[3]))
    clips = args.clips or [sample_clip("bikes.mp4"), sample_clip("carphone_pristine.mp4")]
    with ProcessPoolExecutor(args.jobs, get_context("spawn")) as pool:
        found = list(pool.map(partial(_measure, args=args, mixes=mixes), clips))
    names = ["vbr", "even", *(",".join(map(str, mix)) for mix in mixes)]
    rows = []
    for index, name in enumerate(names):
        gains = [rows_of_clip[index][0] for rows_of_clip in found]
        times = [rows_of_clip[index][1] for rows_of_clip in found]
        each = " ".join(f"{gain:+.1f}" for gain in gains)
        rows.append((name, f"{statistics.mean(gains):+.2f}", f"{statistics.mean(times):.2f}", each))
    print_table(
        f"speed {args.speed}, {args.height} lines, {args.frames} frames, {len(clips)} clips",
        ("mix", "BD-rate avg %", "time / VBR's", "clips"),
        rows,
    )


if __name__ == "__main__":
    main()
