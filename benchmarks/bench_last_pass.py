"""What the search of the last of three passes is worth: BD-rate and CPU time of variants.

Each clip is encoded at the rates of three constant qindexes: once by the probe, and from
there by the policy `landed` with every variant of the last pass's search; variants that probes
are concerned by have probes of their own. A variant names what differs from the recipe
(`env/control/recipe/`), joined by ":":

    near=C,F       blocks at most C levels larger and F smaller than the probe's; 3,3 is all
    features=N     of leaf frames: 0 nothing, 1 all modes, 2 all transforms, 3 both
    mix=K,B,S,D,L  speeds of key frames, base alternate references, the layer below, deeper
                   ones, leaf frames
    repeat=0       no reference takes the place of a frame
    change=N       levels that a block of one that does may differ by; 0 is any number
    probes=L,N     probes of L lengths of groups and N numbers of layers

BD-rate is against the first variant, the mean over clips of the shift in log rate at equal
PSNR avg along the first one's own curve: what is left at three rates, where curves lie a
percent apart. Times are CPU times of the last pass and of the probes over VBR's at the same
speed and targets.

    .venv/bin/python benchmarks/bench_last_pass.py [CLIP ...] [--speed 5] [--variants V ...]
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from functools import partial
from pathlib import Path

from common import clip_parser, of_each_clip, print_table

from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.control.baselines import ConstantPolicy, VbrPolicy
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.env.passes.probe import run_probes
from muzero_rc.policies.registry import make_policy
from muzero_rc.types import EpisodeScore, SpeedFeatures

_QINDEXES = (80, 120, 160)
_VARIANTS = (
    "near=3,3:features=0",
    "features=0",
    "near=0,1:features=0",
    "features=1",
    "features=2",
    "features=3",
)


def _recipe(variant: str, speed: int) -> tuple[Recipe, bool]:
    """The variant's recipe, and whether references may take the place of frames."""
    show_existing = True
    recipe = DEFAULT_RECIPE
    for part in filter(None, variant.split(":")):
        name, _, value = part.partition("=")
        numbers = [int(number) for number in value.split(",")]
        match name, numbers:
            case "near", [coarser, finer]:
                recipe = recipe.replace({"partition.coarser": coarser, "partition.finer": finer})
            case "features", [bits]:
                recipe = recipe.replace({"frame_speed.leaf_features": SpeedFeatures(bits)})
            case "repeat", [0]:
                show_existing = False
            case "change", [levels]:
                recipe = recipe.replace({"show_existing.max_change": float(levels)})
            case "probes", [lengths, layers]:
                table = list(recipe.gop.probe_encodes)
                table[min(speed, len(table) - 1)] = (lengths, layers)
                recipe = recipe.replace({"gop.probe_encodes": tuple(table)})
            case "mix", [key, base, second, deeper, leaf]:
                recipe = recipe.with_speeds(
                    speed, key=key, base=base, second=second, deeper=deeper, leaf=leaf
                )
            case _:
                raise ValueError(f"not a part of a variant: {part}")
    return recipe, show_existing


def _gain(base: list[EpisodeScore], test: list[EpisodeScore]) -> float:
    """Percent of rate at equal PSNR avg, along the base's own slope."""
    octaves = math.log(base[-1].actual_kbps / base[0].actual_kbps)
    slope = octaves / (base[-1].psnr_avg - base[0].psnr_avg)
    return 100.0 * statistics.mean(
        math.log(t.actual_kbps / b.actual_kbps) - slope * (t.psnr_avg - b.psnr_avg)
        for b, t in zip(base, test, strict=True)
    )


def _measure(path: Path, args: argparse.Namespace) -> list[tuple[float, float, float]]:
    """BD-rate, and times of last pass and probes over VBR's, of each variant on one clip."""
    clip = Clip.load(path, height=args.height, max_frames=args.frames)
    plain = EncoderSettings(target_kbps=100, speed=args.speed, auto_alt_ref=args.auto_alt_ref)
    stats = first_pass(clip, plain)
    policy = make_policy("landed")
    vbr_seconds = 0.0
    last, run = (dict.fromkeys(args.variants, 0.0) for _ in range(2))
    scores: dict[str, list[EpisodeScore]] = {variant: [] for variant in args.variants}
    for qindex in _QINDEXES:
        rate = rollout(clip, plain, ConstantPolicy(qindex), first_pass=stats).score.actual_kbps
        vbr = plain.replace(target_kbps=max(1, round(rate)))
        three = vbr.replace(speed_profile="hierarchical", passes=3)
        begun = time.process_time()
        rollout(clip, vbr, VbrPolicy(), first_pass=stats)
        vbr_seconds += time.process_time() - begun
        probes: dict[object, tuple[ProbeRecord, float]] = {}
        for variant in args.variants:
            recipe, show_existing = _recipe(variant, args.speed)
            three = three.replace(show_existing=show_existing)
            probed_alike = (recipe.gop, recipe.show_existing, show_existing)
            if probed_alike not in probes:
                begun = time.process_time()
                probe = ProbeRecord.of(run_probes(clip, three, stats, recipe=recipe))
                probes[probed_alike] = probe, time.process_time() - begun
            probe, seconds = probes[probed_alike]
            run[variant] += seconds
            begun = time.process_time()
            done = rollout(clip, three, policy, first_pass=stats, probe=probe, recipe=recipe)
            last[variant] += time.process_time() - begun
            scores[variant].append(done.score)
    base = scores[args.variants[0]]
    return [
        (_gain(base, scores[v]), last[v] / vbr_seconds, run[v] / vbr_seconds) for v in args.variants
    ]


def main() -> None:
    """Measures and prints."""
    parser = clip_parser(__doc__.splitlines()[0], frames=100)
    parser.add_argument("--variants", nargs="+", default=_VARIANTS)
    args = parser.parse_args()
    for variant in args.variants:
        try:
            _recipe(variant, args.speed)
        except ValueError as error:
            parser.error(str(error))
    found = of_each_clip(args, partial(_measure, args=args))
    rows = []
    for index, variant in enumerate(args.variants):
        gains, last, probes = zip(*(of_clip[index] for of_clip in found), strict=True)
        error = statistics.stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else math.nan
        times = (f"{statistics.mean(share):.2f}" for share in (last, probes))
        gain = f"{statistics.mean(gains):+.2f}"
        rows.append((variant or "as it is", gain, f"{error:.2f}", *times))
    print_table(
        f"speed {args.speed}, {args.height} lines, {args.frames} frames, {len(found)} clips; "
        "times over VBR's",
        ("variant", "BD-rate avg %", "error", "last pass", "probes"),
        rows,
    )


if __name__ == "__main__":
    main()
