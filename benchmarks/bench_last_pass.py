"""What the search of the last of three passes is worth: BD-rate and CPU time of variants.

Each clip is encoded at the rates of three constant qindexes: once by the pilot, and from
there by the policy `landed` with every variant of the last pass's search; variants that pilots
are concerned by have pilots of their own. A variant names what differs from
`env/control/frame_speed.py`, joined by ":":

    near=C,F       blocks at most C levels larger and F smaller than the pilot's; 3,3 is all
    thorough=N     of leaf frames: 0 nothing, 1 all modes, 2 all transforms, 3 both
    mix=K,B,S,D,L  speeds of key frames, base alternate references, the layer below, deeper
                   ones, leaf frames
    repeat=0       no reference takes the place of a frame
    change=N       levels that a block of one that does may differ by; 0 is any number
    flights=L,N    pilots of L lengths of groups and N numbers of layers, see `env/control/gop.py`

BD-rate is against the first variant, the mean over clips of the shift in log rate at equal
PSNR avg along the first one's own curve: what is left at three rates, where curves lie a
percent apart. Times are CPU times of the last pass and of the pilots over VBR's at the same
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

from muzero_rc.env.codec import session
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.codec.settings import EncoderSettings
from muzero_rc.env.control import frame_speed as effort
from muzero_rc.env.control import gop as gops
from muzero_rc.env.control.baselines import ConstantPolicy, VbrPolicy
from muzero_rc.env.control.probe_record import Pilot
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.env.passes.probe import fly_pilot
from muzero_rc.policies.registry import make_policy
from muzero_rc.types import EpisodeScore

_QINDEXES = (80, 120, 160)
_VARIANTS = (
    "near=3,3:thorough=0",
    "thorough=0",
    "near=0,1:thorough=0",
    "thorough=1",
    "thorough=2",
    "thorough=3",
)


def _apply(variant: str, speed: int) -> bool:
    """Sets what the variant changes; whether references may take the place of frames."""
    repeats = True
    for part in filter(None, variant.split(":")):
        name, _, value = part.partition("=")
        numbers = [int(number) for number in value.split(",")]
        match name, numbers:
            case "near", [coarser, finer]:
                session.NEAR = (coarser, finer)
            case "thorough", [bits]:
                effort._LEAF_THOROUGH = effort.Thorough(bits)
            case "repeat", [0]:
                repeats = False
            case "change", [levels]:
                session.REPEAT_CHANGE = float(levels)
            case "flights", [lengths, layers]:
                gops._FLIGHTS[speed] = (lengths, layers)
            case "mix", [_, _, _, _, _]:
                row = min(speed, effort._FASTEST)
                effort._LAYERED[row] = effort._Speeds(effort._LAYERED[row].stream, *numbers)
            case _:
                raise ValueError(f"not a part of a variant: {part}")
    return repeats


def _gain(base: list[EpisodeScore], test: list[EpisodeScore]) -> float:
    """Percent of rate at equal PSNR avg, along the base's own slope."""
    octaves = math.log(base[-1].actual_kbps / base[0].actual_kbps)
    slope = octaves / (base[-1].psnr_avg - base[0].psnr_avg)
    return 100.0 * statistics.mean(
        math.log(t.actual_kbps / b.actual_kbps) - slope * (t.psnr_avg - b.psnr_avg)
        for b, t in zip(base, test, strict=True)
    )


def _measure(path: Path, args: argparse.Namespace) -> list[tuple[float, float, float]]:
    """BD-rate, and times of last pass and pilots over VBR's, of each variant on one clip."""
    clip = Clip.load(path, height=args.height, max_frames=args.frames)
    plain = EncoderSettings(target_kbps=100, speed=args.speed, auto_alt_ref=args.auto_alt_ref)
    stats = first_pass(clip, plain)
    tables = dict(effort._LAYERED), effort._LEAF_THOROUGH, session.NEAR, dict(gops._FLIGHTS)
    policy = make_policy("landed")
    vbr_seconds = 0.0
    last, flown = (dict.fromkeys(args.variants, 0.0) for _ in range(2))
    scores: dict[str, list[EpisodeScore]] = {variant: [] for variant in args.variants}
    for qindex in _QINDEXES:
        rate = rollout(clip, plain, ConstantPolicy(qindex), first_pass=stats).score.actual_kbps
        vbr = plain.replace(target_kbps=max(1, round(rate)))
        three = vbr.replace(effort="layered", passes=3)
        begun = time.process_time()
        rollout(clip, vbr, VbrPolicy(), first_pass=stats)
        vbr_seconds += time.process_time() - begun
        pilots: dict[object, tuple[Pilot, float]] = {}
        for variant in args.variants:
            layered, effort._LEAF_THOROUGH, session.NEAR, flights = tables
            effort._LAYERED.update(layered)
            gops._FLIGHTS = dict(flights)
            session.REPEAT_CHANGE = effort.REPEAT_CHANGE
            three = three.replace(repeats=_apply(variant, args.speed))
            flown_alike = gops._FLIGHTS.get(args.speed), three.repeats, session.REPEAT_CHANGE
            if flown_alike not in pilots:
                begun = time.process_time()
                pilot = Pilot.of(fly_pilot(clip, three, stats))
                pilots[flown_alike] = pilot, time.process_time() - begun
            pilot, seconds = pilots[flown_alike]
            flown[variant] += seconds
            begun = time.process_time()
            done = rollout(clip, three, policy, first_pass=stats, pilot=pilot)
            last[variant] += time.process_time() - begun
            scores[variant].append(done.score)
    base = scores[args.variants[0]]
    return [
        (_gain(base, scores[v]), last[v] / vbr_seconds, flown[v] / vbr_seconds)
        for v in args.variants
    ]


def main() -> None:
    """Measures and prints."""
    parser = clip_parser(__doc__.splitlines()[0], frames=100)
    parser.add_argument("--variants", nargs="+", default=_VARIANTS)
    args = parser.parse_args()
    for variant in args.variants:
        try:
            _apply(variant, args.speed)
        except ValueError as error:
            parser.error(str(error))
    found = of_each_clip(args, partial(_measure, args=args))
    rows = []
    for index, variant in enumerate(args.variants):
        gains, last, pilots = zip(*(of_clip[index] for of_clip in found), strict=True)
        error = statistics.stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else math.nan
        times = (f"{statistics.mean(share):.2f}" for share in (last, pilots))
        gain = f"{statistics.mean(gains):+.2f}"
        rows.append((variant or "as it is", gain, f"{error:.2f}", *times))
    print_table(
        f"speed {args.speed}, {args.height} lines, {args.frames} frames, {len(found)} clips; "
        "times over VBR's",
        ("variant", "BD-rate avg %", "error", "last pass", "pilots"),
        rows,
    )


if __name__ == "__main__":
    main()
