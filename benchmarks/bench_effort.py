"""What search speed is worth by kind of frame: BD-rate and CPU time of mixes of speeds.

A mix is six speeds: between frames, of key frames, base alternate references, those of the
layer below, deeper ones, leaf frames. Every clip is encoded with libvpx's proposals at the
rates of five constant qindexes, once with each mix, and by VBR at each of --vbr. BD-rate is
against VBR at --speed, time the second pass's CPU time over that VBR's at the same targets,
both the mean over clips: what is worth its time lies below the line from VBR to VBR. The
tables of the recipe (`env/control/recipe/`) were chosen with it.

    .venv/bin/python benchmarks/bench_effort.py [CLIP ...] [--speed 5] [--mixes 4,1,1,1,2,3 ...]
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial
from pathlib import Path

from common import clip_parser, of_each_clip, print_table

from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.control.baselines import ConstantPolicy, ProposalPolicy, VbrPolicy
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe, SpeedsByRole
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.evaluation.measure.bd_rate import bd_rate
from muzero_rc.types import EpisodeScore, Policy

_QINDEXES = (60, 90, 120, 150, 180)
_VBR_SPEEDS = (4, 3, 2)
_MIXES = ("5,5,5,5,5,5", "4,4,4,4,4,4", "4,2,2,2,2,4", "4,1,1,1,1,3", "3,1,1,1,1,2", "2,0,0,1,1,2")


def _encode(
    clip: Clip,
    settings: EncoderSettings,
    policy: Policy,
    targets: list[int],
    recipe: Recipe = DEFAULT_RECIPE,
) -> tuple[list[EpisodeScore], float]:
    scores = []
    statistics_of_clip = first_pass(clip, settings)  # is not part of the time
    begun = time.process_time()
    for target in targets:
        chosen = settings.replace(target_kbps=target)
        done = rollout(clip, chosen, policy, first_pass=statistics_of_clip, recipe=recipe)
        scores.append(done.score)
    return scores, time.process_time() - begun


def _bd(anchor: list[EpisodeScore], test: list[EpisodeScore]) -> float:
    found = bd_rate(
        [s.actual_kbps for s in anchor], [s.psnr_avg for s in anchor],
        [s.actual_kbps for s in test], [s.psnr_avg for s in test],
    )  # fmt: skip
    return float("nan") if found.percent is None else found.percent


def _measure(
    path: Path, args: argparse.Namespace, mixes: list[SpeedsByRole]
) -> list[tuple[float, float]]:
    """BD-rate and time over VBR's: VBR itself, VBR at other speeds, each mix; of one clip."""
    clip = Clip.load(path, height=args.height, max_frames=args.frames)
    settings = EncoderSettings(target_kbps=100, speed=args.speed, auto_alt_ref=args.auto_alt_ref)
    targets = sorted(
        {
            max(1, round(rollout(clip, settings, ConstantPolicy(q)).score.actual_kbps))
            for q in _QINDEXES
        }
    )
    anchor, anchor_time = _encode(clip, settings, VbrPolicy(), targets)
    rows = [(0.0, 1.0)]
    for speed in args.vbr:
        scores, seconds = _encode(clip, settings.replace(speed=speed), VbrPolicy(), targets)
        rows.append((_bd(anchor, scores), seconds / anchor_time))
    for mix in mixes:
        recipe = DEFAULT_RECIPE.with_speeds(args.speed, **mix._asdict())
        hierarchical = settings.replace(speed_profile="hierarchical")
        scores, seconds = _encode(clip, hierarchical, ProposalPolicy(), targets, recipe)
        rows.append((_bd(anchor, scores), seconds / anchor_time))
    return rows


def main() -> None:
    """Measures and prints."""
    parser = clip_parser(__doc__.splitlines()[0], frames=80)
    parser.add_argument("--vbr", type=int, nargs="*", default=_VBR_SPEEDS)
    parser.add_argument("--mixes", nargs="+", default=_MIXES)
    args = parser.parse_args()
    mixes: list[SpeedsByRole] = []
    for text in args.mixes:
        numbers = [int(part) for part in text.split(",")]
        if len(numbers) != 6 or not all(0 <= n <= 9 for n in numbers):
            parser.error(f"a mix is six speeds 0..9, such as 4,1,1,1,2,3, not {text}")
        mixes.append(SpeedsByRole(*numbers))
    found = of_each_clip(args, partial(_measure, args=args, mixes=mixes))
    names = [
        "vbr",
        *(f"vbr {speed}" for speed in args.vbr),
        *(",".join(map(str, mix)) for mix in mixes),
    ]
    rows = []
    for index, name in enumerate(names):
        gains = [rows_of_clip[index][0] for rows_of_clip in found]
        times = [rows_of_clip[index][1] for rows_of_clip in found]
        each = " ".join(f"{gain:+.1f}" for gain in gains)
        rows.append((name, f"{statistics.mean(gains):+.2f}", f"{statistics.mean(times):.2f}", each))
    print_table(
        f"speed {args.speed}, {args.height} lines, {args.frames} frames, {len(found)} clips",
        ("mix", "BD-rate avg %", "time / VBR's", "clips"),
        rows,
    )


if __name__ == "__main__":
    main()
