"""What the last passes of chunks take, and how far chunks are off what they are asked for.

Films of corpus clips are encoded. CPU time of a chunk's last pass is libvpx's own, by the frames'
results. It is set beside what was known before: bits that the chunk is asked for, and the CPU
time of its probe encode. Exponents are fitted by least squares of logarithms, with a rate of its
own for each film. So the time left of films gets its constants (`muzero_rc.encode.film_teller`).

    .venv/bin/python benchmarks/bench_chunk_times.py CORPUS [--kinds mixed natural] [--seeds 1]
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from common import print_table
from films import KINDS, draw, make_film

from muzero_rc.encode.chunk_jobs import LastPass, LastPassTask, Taken
from muzero_rc.encode.film import encode
from muzero_rc.encode.film_teller import FilmTeller
from muzero_rc.env.control.frame_speed import POLICY_SPEED_PROFILES
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.policies.registry import make_policy

FRAMES = 90
FLOATS = npt.NDArray[np.float64]


class Notes:
    """What is noted of a film's chunks, by index: bits, and CPU seconds of their encodes."""

    def __init__(self) -> None:
        self.frames: FLOATS = np.zeros(0)
        self.asked: FLOATS = np.zeros(0)  # before any chunk was known
        self.probe: FLOATS = np.zeros(0)
        self.last: dict[int, float] = {}
        self.expected: dict[int, float] = {}  # when the chunk was begun
        self.taken: dict[int, float] = {}
        self.again = 0  # chunks that were made again

    def rows(self) -> tuple[FLOATS, FLOATS, FLOATS]:
        """Logs of bits, probe seconds and last-pass seconds of a frame; 0 without a probe."""
        known = sorted(self.last)
        frames = self.frames[known]
        probe = np.log(self.probe[known] / frames) if self.probe.all() else np.zeros(len(known))
        last = np.log([self.last[i] for i in known]) - np.log(frames)
        return np.log(self.asked[known] / frames), probe, last

    def missed(self) -> float:
        """What chunks took more than was expected of each, root of the mean square by bits."""
        known = [i for i in self.taken if self.expected.get(i)]
        ratios = np.array([self.taken[i] / self.expected[i] for i in known])
        squares = self.asked[known] ** 2
        return math.sqrt(np.average((ratios / np.median(ratios) - 1.0) ** 2, weights=squares))


def watch(films: list[Notes]) -> None:
    """Lets encodes be noted in the last of these."""
    teller: Any = FilmTeller
    handler: Any = LastPass
    weigh, doubt, last_pass = teller.weigh, teller.doubt, handler.__call__

    def weighed(self: Any, bits: Any, seconds: Any = None) -> None:
        notes = films[-1]
        notes.frames, notes.asked = self._frames, np.asarray(bits, np.float64)
        notes.probe = np.zeros(len(bits)) if seconds is None else np.asarray(seconds)
        weigh(self, bits, seconds)

    def doubted(self: Any, phase: str, expected: Mapping[int, float], *more: Any) -> None:
        films[-1].expected |= expected
        doubt(self, phase, expected, *more)

    def made(self: Any, task: LastPassTask) -> Taken:
        found: Taken = last_pass(self, task)
        record = self.files.record(task.chunk.index, task.turn)
        if task.turn == 0:
            films[-1].last[task.chunk.index] = sum(r.cpu_seconds for r in record.log.results)
            films[-1].taken[task.chunk.index] = float(found.bits)
        return found

    teller.weigh, teller.doubt, handler.__call__ = weighed, doubted, made


def fitted(films: list[tuple[FLOATS, FLOATS, FLOATS]]) -> FLOATS:
    """Exponents of bits and of probe seconds that are best with a rate for each film. [2]."""
    known = np.concatenate([np.stack([b - b.mean(), p - p.mean()], 1) for b, p, _ in films])
    last = np.concatenate([found - found.mean() for _, _, found in films])
    return np.asarray(np.linalg.lstsq(known, last, rcond=None)[0])


def main() -> None:
    """Encodes the films and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--set", default="train")
    parser.add_argument("--kinds", choices=KINDS, nargs="+", default=["mixed", "natural"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--size", type=int, nargs=2, default=(256, 144))
    parser.add_argument("--kbps", type=int, default=100)
    parser.add_argument("--speed", type=int, default=5)
    parser.add_argument("--speed-profile", choices=POLICY_SPEED_PROFILES, default="auto")
    parser.add_argument("--passes", type=int, choices=(2, 3), default=3)
    parser.add_argument("--policy", default="planned")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    width, height = args.size
    settings = EncoderSettings(
        target_kbps=args.kbps, speed=args.speed,
        speed_profile=args.speed_profile, passes=args.passes,
    )  # fmt: skip
    films: list[Notes] = []
    rows: list[list[str]] = []
    watch(films)
    names = [(kind, seed) for kind in args.kinds for seed in args.seeds]
    for kind, seed in names:
        films.append(Notes())
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "film.mkv")
            clips = draw(
                args.corpus, args.set, kind, args.clips, frames=FRAMES, height=height, seed=seed
            )
            make_film(clips, FRAMES, width, height, source)
            out = Path(folder, "out.webm")
            report = encode(source, out, settings, make_policy(args.policy), workers=args.threads)
            films[-1].again = report.chunks_again
    logs = [notes.rows() for notes in films]
    best = fitted(logs)
    for (kind, seed), notes, (bits, probe, last) in zip(names, films, logs, strict=True):
        known = (0.5 * bits, probe, best[0] * bits + best[1] * probe)
        spread = [f"{float((last - forecast).std()):.2f}" for forecast in known]
        told = [f"{notes.missed():.3f}", str(notes.again)]
        rows.append([f"{kind} {seed}", str(len(last)), *spread, *told])
    print_table(
        "what is off: standard deviation of the logarithm of a chunk's time",
        ["film", "chunks", "root of bits", "probe", "fitted", "missed bits", "again"], rows,
    )  # fmt: skip
    print(f"time ~ bits^{best[0]:.2f} probe seconds^{best[1]:.2f}")
    usual = float(np.exp(np.mean(np.log([notes.missed() for notes in films]))))
    print(f"missed bits of a chunk, geometric mean of films: {usual:.3f}")


if __name__ == "__main__":
    main()
