"""How well counted work (`FrameResult.work`) predicts libvpx's CPU time.

Encodes clips of a corpus that are for training, each at all speeds. One set of weights for
all speeds, none below zero, is fitted to the frames of every second clip; R2 and deviation
are those of the other clips, of frames and of whole encodes.

    bench_work.py CORPUS [--clips 40] [--speeds 0 1 2 3 4 5] [--repeats 2] [--out FILE]

CORPUS holds `index.csv`, of which `file` and `set` are read, and the folder `clips`.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from common import print_table
from scipy.optimize import nnls

from muzero_rc.env.codec import _native
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import FirstPass, first_pass
from muzero_rc.env.codec.session import EncoderSession
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.types import FrameResult, Work

_Array = npt.NDArray[np.float64]
COLUMNS = (*Work._fields, "samples")
"""Counts of a frame, and its samples in all planes: copying and comparing them takes time."""
TARGETS_KBPS = (60, 120, 240, 480)
"""In turns, so that coarse and fine encodes are in both halves."""


@dataclass(frozen=True)
class Encode:
    """One encode's frames in coding order.

    Attributes:
      clip: place among the clips.
      speed: `cpu-used`.
      counts: [frames, COLUMNS].
      seconds: [repeats, frames], CPU time of each frame in each run of the encode.
    """

    clip: int
    speed: int
    counts: _Array
    seconds: _Array


def training_clips(corpus: Path, wanted: int) -> list[Path]:
    """Clips of the set `train`, evenly spread over its list."""
    with (corpus / "index.csv").open(newline="") as file:
        names = sorted(row["file"] for row in csv.DictReader(file) if row["set"] == "train")
    places = np.unique(np.linspace(0, len(names) - 1, wanted).round().astype(int))
    return [corpus / "clips" / names[place] for place in places]


def encode(clip: Clip, settings: EncoderSettings, stats: FirstPass) -> list[FrameResult]:
    """All frames at libvpx's own proposals."""
    with EncoderSession(clip, settings, first_pass=stats) as session:
        while (info := session.next()) is not None:
            session.encode(info.proposal_qindex)
        session.finish()
        return session.results


def measure(
    paths: Sequence[Path], speeds: Sequence[int], frames: int, height: int, repeats: int
) -> list[Encode]:
    """All encodes; the counts of each are the same in all its runs.

    Every run goes through all encodes before the next: what else the machine does for a
    while is not in all runs of an encode.
    """
    clips = [Clip.load(path, height=height, max_frames=frames) for path in paths]
    runs: list[list[list[FrameResult]]] = []
    for _ in range(repeats):
        run = []
        for place, clip in enumerate(clips):
            for turn, speed in enumerate(speeds):
                target = TARGETS_KBPS[(place // 2 + turn) % len(TARGETS_KBPS)]
                settings = EncoderSettings(target_kbps=target, speed=speed)
                run.append(encode(clip, settings, first_pass(clip, settings)))
        runs.append(run)
    found = []
    for index, same in enumerate(zip(*runs, strict=True)):
        place, turn = divmod(index, len(speeds))
        work = [[r.work for r in results] for results in same]
        if any(other != work[0] for other in work):
            raise SystemExit(f"{paths[place].name}, speed {speeds[turn]}: counts differ")
        counts = np.array([(*r.work, sum(r.samples)) for r in same[0]], np.float64)
        seconds = np.array([[r.cpu_seconds for r in results] for results in same])
        found.append(Encode(place, speeds[turn], counts, seconds))
    return found


def fit(encodes: Sequence[Encode]) -> _Array:
    """Seconds per count, [COLUMNS], by least squares; a frame's variance goes by its time."""
    counts = np.concatenate([e.counts for e in encodes])
    seconds = np.concatenate([e.seconds.min(0) for e in encodes])
    scale = np.sqrt(np.maximum(seconds, np.median(seconds)))
    size = np.maximum(counts.max(0), 1.0)
    weights, _ = nnls(counts / size / scale[:, None], seconds / scale)
    return np.asarray(weights / size, np.float64)


def r2(predicted: _Array, measured: _Array) -> float:
    """1 - sum of squared misses / sum of squared distances from the mean."""
    spread = np.sum((measured - measured.mean()) ** 2)
    return float(1.0 - np.sum((measured - predicted) ** 2) / spread)


def row_of(name: str, encodes: Sequence[Encode], weights: _Array) -> tuple[str, ...]:
    """A line of the table: R2 of frames and encodes, deviations of encodes."""
    times = [e.seconds.min(0) for e in encodes]
    predicted = [e.counts @ weights for e in encodes]
    whole, foreseen = (np.array([x.sum() for x in xs]) for xs in (times, predicted))
    off = foreseen / whole - 1.0
    again = np.array([e.seconds.sum(1) for e in encodes])
    between = float(np.median(np.ptp(again, axis=1) / again.min(1)))
    return (
        name,
        str(len(encodes)),
        f"{whole.mean():.3f}",
        f"{r2(np.concatenate(predicted), np.concatenate(times)):.4f}",
        f"{r2(foreseen, whole):.4f}",
        f"{np.median(np.abs(off)):.1%}",
        f"{np.abs(off).max():.1%}",
        f"{between:.1%}",
    )


def main() -> None:
    """Measures, fits, prints; with --out writes the weights and what they were fitted on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--speeds", type=int, nargs="+", default=[0, 1, 2, 3, 4, 5])
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--height", type=int, default=144)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()

    paths = training_clips(given.corpus, given.clips)
    encodes = measure(paths, given.speeds, given.frames, given.height, given.repeats)
    weights = fit([e for e in encodes if e.clip % 2 == 0])
    others = [e for e in encodes if e.clip % 2 == 1]
    rows = [row_of("all", others, weights)]
    for speed in given.speeds:
        rows.append(row_of(f"speed {speed}", [e for e in others if e.speed == speed], weights))
    print_table(
        f"{len(encodes)} encodes of {len(paths)} clips; R2 of those that were not fitted",
        (
            "encodes", "number", "CPU s", "R2 frames", "R2 encodes", "median off", "largest off",
            "between runs",
        ),
        rows,
    )  # fmt: skip
    total = np.concatenate([e.counts for e in encodes]).sum(0)
    share = total * weights / np.sum(total * weights)
    print_table(
        "weights",
        ("count", "ns each", "share of time"),
        [
            (name, f"{1e9 * weight:.3f}", f"{part:.1%}")
            for name, weight, part in zip(COLUMNS, weights, share, strict=True)
        ],
    )
    if given.out is not None:
        record = {
            "build": _native.build_id(),
            "encodes": len(encodes),
            "seconds_per_count": dict(zip(COLUMNS, weights.tolist(), strict=True)),
        }
        given.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
