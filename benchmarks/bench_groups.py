"""Whether anything foretells which groups of pictures suit a clip, before they are tried.

Collects, for one clip of each source of an index's training set: a probe encode with libvpx's own
groups, one 12 qindexes coarser (the slope of the clip's curve), some with groups of at most 13,
17 and 21 frames, and some with a length and a number of layers drawn anew for every group. Of
every sixth source the last passes of `landed` are made, too. Studies are kept in a folder; a
second run goes on. Then, sources held out, gains at equal PSNR over libvpx's own groups, %:

    best       of the lengths tried, which takes an encode of each
    schedule   the encode that an additive model of groups likes best: ridge regression on what
               the first pass says of a group's frames, its length and its layers
    lengths    likewise of the three lengths, by linear and Gaussian kernels on what the first
               pass and the probe encode say of the clip

    .venv/bin/python benchmarks/bench_groups.py CORPUS STUDIES
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from common import print_table

from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.codec.statistics import column, finite
from muzero_rc.env.control.baselines import ConstantPolicy, ShiftedPolicy
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.env.passes.probe import encode_probe, run_probes
from muzero_rc.policies.registry import make_policy
from muzero_rc.training.stages.collect import load_part
from muzero_rc.types import EncodeLog, GopLimits, UpdateType

_Floats = npt.NDArray[np.float64]

CONSTANT = (13, 17, 21)
LENGTHS = (0, 8, 10, 12, 14, 15, 17, 19, 21, 24)
LAYERS = (0, 0, 2, 3)
RANDOM = 6
SHIFT = 12
MAX_PSNR = 60.0
SATURATED = 46.0
COLUMNS = (
    "coding_index", "show_index", "update_type", "shown", "gop_index", "gop_size", "layer_depth",
    "max_layer_depth", "qindex", "bits", "sse", "psnr", "cpu_seconds",
)  # fmt: skip


def rows_of(log: EncodeLog) -> _Floats:
    """[frames, COLUMNS] of a log; -1 where a frame only shows a buffer."""
    rows = []
    for info, _, result in log.frames:
        told = (-1, -1, -1, result.shown, -1, -1, -1, -1)
        if info is not None:
            told = (
                info.coding_index, info.show_index, info.update_type, info.shown, info.gop_index,
                info.gop_size, info.layer_depth, info.max_layer_depth,
            )  # fmt: skip
        sse = sum(result.sse)
        rows.append((*told, result.qindex, result.bits, sse, result.psnr, result.cpu_seconds))
    return np.array(rows, np.float64)


def collect(number: int, clips: Sequence[Path], path: Path) -> None:
    """Makes one study, unless its clip is too short or saturated."""
    rng = np.random.default_rng([11, 0, number])
    clip = clips[int(rng.integers(len(clips)))]
    whole = Clip.load(clip, height=144, max_frames=300)
    frames = min(100, whole.num_frames)
    if frames < 60:
        return
    start = int(rng.integers(0, whole.num_frames - frames + 1))
    video = load_part(clip, (144, start, frames))
    speed, qindex = (2, 5)[number % 2], int(rng.integers(70, 170))
    plain = EncoderSettings(target_kbps=100, speed=speed)
    stats = first_pass(video, plain, cache=False)
    score = rollout(video, plain.replace(speed=5), ConstantPolicy(qindex), first_pass=stats).score
    if score.psnr_avg > SATURATED:
        return
    settings = plain.replace(
        target_kbps=max(2, round(score.actual_kbps)), speed_profile="hierarchical", passes=3
    )
    base = run_probes(video, settings, stats)
    shift = ProbeRecord.of(base).shift
    schedules = [(), *((GopLimits(0, length),) for length in CONSTANT)]
    for _ in range(RANDOM):
        drawn = [
            GopLimits(place, int(rng.choice(LENGTHS)), int(rng.choice(LAYERS)))
            for place in range(frames)
        ]
        schedules.append(tuple(drawn))
    logs = [base]
    for gops in schedules[1:]:
        logs.append(encode_probe(video, settings, ShiftedPolicy(shift), stats, gops=gops))
    coarser = encode_probe(video, settings, ShiftedPolicy(shift + SHIFT), stats)
    last = []
    if number % 6 == 0:
        for log in logs:
            done = rollout(
                video, settings, make_policy("landed"), first_pass=stats, probe=ProbeRecord.of(log)
            ).score
            last.append((done.actual_kbps, done.psnr_avg))
    arrays = {f"encode{place}": rows_of(log) for place, log in enumerate([*logs, coarser])}
    sizes = [log.size_bytes for log in [*logs, coarser]]
    bits_per_pixel = settings.target_kbps * 1000 / float(video.fps) / (video.width * video.height)
    with path.with_suffix(".part").open("wb") as file:
        np.savez_compressed(
            file, stats=stats.stats, sizes=sizes, last=last, speed=speed, frames=frames,
            log2_bpp=math.log2(bits_per_pixel), **arrays,
        )  # fmt: skip
    path.with_suffix(".part").rename(path)


class Group(NamedTuple):
    """A group of pictures of an encode.

    Attributes:
      start: its first shown frame.
      length: shown frames.
      layers: of alternate references.
      bits: of all its frames.
    """

    start: int
    length: int
    layers: int
    bits: float


@dataclass(frozen=True)
class Encode:
    """One probe encode.

    Attributes:
      rows: as of `rows_of`.
      size: bytes.
      psnr: [T] of shown frames.
      groups: in order.
    """

    rows: _Floats
    size: int
    psnr: _Floats
    groups: list[Group]

    @classmethod
    def of(cls, rows: _Floats, size: int) -> Encode:
        """Reads the groups from the rows."""
        get = {name: rows[:, place] for place, name in enumerate(COLUMNS)}
        shown = get["shown"] > 0
        starts_at = np.cumsum(shown) - shown  # frames shown before the row
        key = get["update_type"] == UpdateType.KEY
        first = np.flatnonzero(key | ((get["gop_index"] == 1) & ~np.roll(key, 1)))
        groups = []
        for begin, end in zip(first, [*first[1:], len(rows)], strict=True):
            length = int(shown[begin:end].sum())
            layers = int(get["max_layer_depth"][begin:end].max())
            bits = float(get["bits"][begin:end].sum())
            groups.append(Group(int(starts_at[begin]), length, layers, bits))
        return cls(rows, size, np.minimum(get["psnr"][shown], MAX_PSNR), groups)


class Study:
    """The encodes of one clip, and what is told of them.

    Attributes:
      source: of the clip.
      gains: [E] octaves of rate that each encode saves over the first at equal PSNR avg.
      last: [E] likewise of the last passes; empty where there are none.
    """

    def __init__(self, path: Path) -> None:
        """Reads a study."""
        self.source = path.stem
        with np.load(path) as data:
            self.frames, self.speed = int(data["frames"]), int(data["speed"])
            self.log2_bpp = float(data["log2_bpp"])
            self._stats = finite(data["stats"])[: self.frames]
            sizes = data["sizes"]
            encodes = [Encode.of(data[f"encode{n}"], int(size)) for n, size in enumerate(sizes)]
            last = data["last"]
        *self.encodes, coarser = encodes
        base = self.encodes[0]
        octaves = math.log2(coarser.size / base.size)
        slope = (coarser.psnr.mean() - base.psnr.mean()) / octaves if octaves else 3.5
        self.slope = float(np.clip(slope, 2.0, 6.0))
        self.gains = self._gains([(e.size, e.psnr.mean()) for e in self.encodes])
        self.last = self._gains(last) if len(last) else np.zeros(0)
        self.rows = self._frame_columns()

    def _gains(self, scores: Sequence[tuple[float, float]]) -> _Floats:
        rate, psnr = np.array(scores, np.float64).T
        return (psnr - psnr[0]) / self.slope - np.log2(rate / rate[0])

    def _frame_columns(self) -> dict[str, _Floats]:
        """[T] of each statistic that features are made of."""

        def log(name: str) -> _Floats:
            return np.log2(1.0 + np.maximum(self._stats[:, column(name)], 0.0))

        inter, motion = (self._stats[:, column(n)] for n in ("pcnt_inter", "pcnt_motion"))
        found = {name: log(name) for name in ("coded_error", "intra_error", "frame_noise_energy")}
        found["second_ref"] = log("sr_coded_error") - log("coded_error")
        found |= {"inter": inter, "zero": inter - motion}
        found["moved"] = np.log2(1.0 + self._stats[:, column("mvr_abs")]) + np.log2(
            1.0 + self._stats[:, column("mvc_abs")]
        )
        for name in ("pcnt_second_ref", "pcnt_neutral", "intra_skip_pct"):
            found[name] = self._stats[:, column(name)]
        return found

    def group_features(self, group: Group) -> _Floats:
        """What the first pass says of a group's frames."""
        begin = min(group.start + 1, self.frames - 1)
        part = slice(begin, max(group.start + group.length, begin + 1))
        coded, zero = self.rows["coded_error"][part], self.rows["zero"][part]
        means = [values[part].mean() for values in self.rows.values()]
        peaks = [coded.max() - coded.mean(), coded.std(), zero.min(), (1.0 - zero).sum()]
        return np.array([*means, *peaks, self.log2_bpp, self.speed == 5], np.float64)

    def clip_features(self) -> _Floats:
        """What the first pass and the probe encode with libvpx's own groups say of the clip."""
        base = self.encodes[0]
        get = {name: base.rows[:, place] for place, name in enumerate(COLUMNS)}
        coded, total = get["coding_index"] >= 0, get["bits"].sum()
        hidden = coded & (get["shown"] == 0)
        leaf = coded & (get["shown"] > 0) & (get["update_type"] != UpdateType.KEY)
        lengths = [group.length for group in base.groups]
        found = [f(values) for values in self.rows.values() for f in (np.mean, np.std)]
        found += [np.mean(lengths), np.std(lengths), self.slope, base.psnr.mean(), base.psnr.std()]
        for frames in (hidden & (get["layer_depth"] == 1), hidden, leaf):
            found += [get["bits"][frames].sum() / total, get["qindex"][frames].sum() / coded.sum()]
        found += [(get["bits"][leaf] <= 8).sum() / max(leaf.sum(), 1), self.log2_bpp]
        return np.array([*found, self.speed == 5], np.float64)

    def frame_gains(self) -> _Floats:
        """[E, T] octaves that frames of each encode are worth; their means differ as the gains.

        A group's bits are spread over its frames as those of all encodes are at these places.
        """
        own = np.ones(self.frames)
        for encode in self.encodes:
            place, bits = encode.rows[:, 1].astype(int), encode.rows[:, 9]
            valid = (place >= 0) & (place < self.frames)
            np.add.at(own, place[valid], bits[valid] / len(self.encodes))
        price = self.frames / (8.0 * self.encodes[0].size * math.log(2.0))
        found = []
        for encode in self.encodes:
            worth = encode.psnr / self.slope
            for group in encode.groups:
                part = slice(group.start, group.start + group.length)
                worth[part] -= price * group.bits * own[part] / own[part].sum()
            found.append(worth)
        return np.array(found)


def schedule_design(studies: Sequence[Study]) -> list[_Floats]:
    """[E, T, D] of each study: what the additive model of groups knows of every frame's group."""
    every = [
        study.group_features(group)
        for study in studies
        for encode in study.encodes
        for group in encode.groups
    ]
    mean, scale = np.mean(every, axis=0), np.std(every, axis=0) + 1e-6
    designs = []
    for study in studies:
        design = []
        for encode in study.encodes:
            rows = []
            for group in encode.groups:
                told = np.append(1.0, (study.group_features(group) - mean) / scale)
                octaves = math.log2(max(group.length, 2) / 16.0)
                shape = [octaves, octaves**2, octaves**3, group.length <= 5]
                shape += [group.layers <= 2, group.layers == 3, group.layers == 4]
                row = np.concatenate([np.outer(shape, told).ravel(), told[1:]])
                rows += [row] * group.length
            design.append(rows)
        designs.append(np.array(design))
    return designs


def schedule_predictions(studies: Sequence[Study], ridge: float, folds: int = 10) -> list[_Floats]:
    """[E] of each study: gains by the additive model of the other folds."""
    designs = schedule_design(studies)
    sums = []
    for study, design in zip(studies, designs, strict=True):
        moved = (design - design.mean(axis=0)).reshape(-1, design.shape[-1])
        gains = study.frame_gains()
        came = (gains - gains.mean(axis=0)).ravel()
        # Clips with effects beyond 5% must not outweigh all others.
        weight = min(1.0, 0.05 / max(study.gains.std(), 1e-3)) / study.frames
        sums.append((weight * moved.T @ moved, weight * moved.T @ came))
    size = designs[0].shape[-1]
    total = sum(s[0] for s in sums) + ridge * np.eye(size), sum(s[1] for s in sums)
    found: list[_Floats] = [np.zeros(0)] * len(studies)
    for fold in range(folds):
        own = range(fold, len(studies), folds)
        left = total[0] - sum(sums[n][0] for n in own), total[1] - sum(sums[n][1] for n in own)
        weights = np.linalg.solve(*left)
        for n in own:
            means = designs[n].mean(axis=1)
            found[n] = (means - means[0]) @ weights
    return found


def length_predictions(studies: Sequence[Study], ridge: float, kernel: str) -> list[_Floats]:
    """[1 + CONSTANT] of each study: gains of the lengths by kernel regression, itself left out."""
    features = np.array([study.clip_features() for study in studies])
    features = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)
    near = features @ features.T / features.shape[1]
    if kernel == "Gaussian":
        distance = np.square(features[:, None] - features[None]).mean(axis=-1)
        near = np.exp(-distance / 2.0)
    came = np.array([np.clip(s.gains[1 : 1 + len(CONSTANT)], -0.06, 0.06) for s in studies])
    found = []
    for n in range(len(studies)):
        others = np.delete(np.arange(len(studies)), n)
        mean = came[others].mean(axis=0)
        gram = near[np.ix_(others, others)] + ridge * np.eye(len(others))
        predicted = mean + near[n, others] @ np.linalg.solve(gram, came[others] - mean)
        found.append(np.append(0.0, predicted))
    return found


def row_of(name: str, studies: Sequence[Study], predicted: Sequence[_Floats]) -> list[str]:
    """For the table: R2, and what the encode that is liked best really gains."""
    came = [s.gains[: len(p)] for s, p in zip(studies, predicted, strict=True)]
    real, told = np.concatenate([c[1:] for c in came]), np.concatenate([p[1:] for p in predicted])
    chosen = 100.0 * np.array([c[np.argmax(p)] for c, p in zip(came, predicted, strict=True)])
    r2 = 1.0 - np.square(real - told).sum() / np.square(real).sum()
    return [
        name,
        f"{r2:+.3f}",
        f"{chosen.mean():+.2f} ({chosen.std(ddof=1) / math.sqrt(len(chosen)):.2f})",
        f"{np.median(chosen):+.2f}",
        f"{chosen.min():+.1f}",
    ]


def main() -> int:
    """Collects what is missing, and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, help="folder of videos with index.csv")
    parser.add_argument("studies", type=Path, help="folder that studies are kept in")
    parser.add_argument("--sources", type=int, default=91, help="that are collected, at most")
    args = parser.parse_args()
    args.studies.mkdir(parents=True, exist_ok=True)
    sources: dict[str, list[Path]] = {}
    with (args.corpus / "index.csv").open() as file:
        for row in csv.DictReader(file):
            if row["set"] == "train":
                path = next(args.corpus.rglob(row["file"]))
                sources.setdefault(row["group"], []).append(path)
    names = sorted(sources)
    for number, place in enumerate(np.random.default_rng(7).permutation(len(names))):
        path = args.studies / f"{names[place]}.npz"
        if not path.exists() and len(list(args.studies.glob("*.npz"))) < args.sources:
            collect(number, sources[names[place]], path)
            print(f"{number} {names[place]}", flush=True)
    every = [Study(path) for path in sorted(args.studies.glob("*.npz"))]
    studies = [s for s in every if s.encodes[0].psnr.mean() < SATURATED and s.gains.std() > 1e-4]
    few = 1 + len(CONSTANT)
    rows = [
        row_of(f"best of {few} lengths", studies, [s.gains[:few] for s in studies]),
        row_of("best of all", studies, [s.gains for s in studies]),
    ]
    for ridge in (0.1, 1.0, 10.0):
        predicted = schedule_predictions(studies, ridge)
        rows.append(row_of(f"schedule, ridge {ridge:g}", studies, predicted))
    for kernel in ("linear", "Gaussian"):
        for ridge in (1.0, 10.0):
            predicted = length_predictions(studies, ridge, kernel)
            rows.append(row_of(f"lengths, {kernel}, ridge {ridge:g}", studies, predicted))
    print_table(
        f"{len(studies)} sources; gains over libvpx's own groups, %",
        ["chosen by", "R2", "mean (s.e.)", "median", "worst"],
        rows,
    )
    both = [(s.gains[1:], s.last[1:]) for s in studies if len(s.last)]
    if both:
        correlations = [np.corrcoef(*pair)[0, 1] for pair in both if min(map(np.std, pair)) > 1e-4]
        print(f"gains of probe encodes and of last passes, {len(correlations)} clips: "
              f"mean correlation {np.mean(correlations):.2f}")  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
