"""Films in chunks, as `muzero-rc encode` makes them: quality, targets, time, cores.

A film is put together from clips of a corpus, a part of each, at one size and rate. It is
encoded at several targets.

- PSNR avg and overall, how far it ends off its target, chunks made again, CPU seconds.
- With `--whole` beside the same film in one piece: BD-rate of chunks over whole with a 95%
  interval over films.
- With `--against FILE` beside the same films in another version of the program, whose run had
  `--out FILE`: difference in dB, with its standard error over films.
- With `--workers` chunks' wall time of probes and last passes with so many workers, over that
  of one, and CPU seconds a frame of first pass, probe and last pass.

With `--out FILE` films that are finished there are not encoded again.

    .venv/bin/python benchmarks/bench_films.py CORPUS [--films 2] [--speed 5] [--workers 1 2]
"""

from __future__ import annotations

import argparse
import csv
import math
import resource
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import print_table
from films import KINDS, draw, make_film

from muzero_rc.encode.chunk_store import ChunkStore
from muzero_rc.encode.chunked import encode_chunks
from muzero_rc.encode.clip import encode_clip
from muzero_rc.encode.encoded import Encoded
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import FirstPass, first_pass
from muzero_rc.env.control.frame_speed import POLICY_SPEED_PROFILES
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.evaluation.measure.bd_rate import bd_rate
from muzero_rc.policies.registry import make_policy, prepare
from muzero_rc.types import EpisodeScore

MEMORY_BYTES = 500_000_000  # for frames; the limit at 480 lines


@dataclass(frozen=True)
class Outcome:
    """An encode of a film."""

    score: EpisodeScore
    again: int
    cpu_s: float
    wall_s: float


def cpu_s() -> float:
    """CPU seconds of this process and of those that it waited for."""
    used = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        used += usage.ru_utime + usage.ru_stime
    return used


class Film:
    """A film to be encoded in both ways."""

    def __init__(self, path: Path, settings: EncoderSettings, policy: str) -> None:
        self.name = path.stem
        self._path = path
        self._policy = make_policy(policy)
        self._settings = settings
        self.clip = Clip.load(path, memory_limit_bytes=1)
        begun = cpu_s()
        self.first_pass: FirstPass = first_pass(self.clip, self._settings, cache=False)
        self.first_pass_s = cpu_s() - begun

    def whole(self, kbps: int) -> Outcome:
        """Encodes it in one piece."""
        cpu, wall = cpu_s(), time.perf_counter()
        settings = self._settings.replace(target_kbps=kbps)
        done = encode_clip(self.clip, settings, self._policy, first_pass=self.first_pass)
        return Outcome(done.rollout.score, 0, cpu_s() - cpu, time.perf_counter() - wall)

    def chunks(self, kbps: int, *, workers: int = 1) -> tuple[Outcome, Encoded]:
        """Encodes it in chunks."""
        settings = self._settings.replace(target_kbps=kbps)
        settings = prepare(self._policy, self.clip, settings, self.first_pass)
        cpu, wall = cpu_s(), time.perf_counter()
        with (
            tempfile.TemporaryDirectory() as folder,
            ChunkStore(Path(folder, "out.webm"), "bench", keep=False) as store,
        ):
            done = encode_chunks(
                self.clip, settings, self._policy, self.first_pass, store.files,
                Path(folder, "out.ivf"), workers=workers, memory_bytes=MEMORY_BYTES,
            )  # fmt: skip
        outcome = Outcome(done.score, done.chunks_again, cpu_s() - cpu, time.perf_counter() - wall)
        return outcome, done


def interval(values: Sequence[float]) -> str:
    """The mean, with a 95% bootstrap interval over films where there are several."""
    mean = f"{np.mean(values):+.1f}"
    if len(values) < 2:
        return mean
    rng = np.random.default_rng(0)
    means = rng.choice(np.array(values), (2000, len(values))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{mean} ({low:+.1f} to {high:+.1f})"


def differences(rows: Sequence[Mapping[str, str]], before: Path) -> None:
    """Prints what this version has over another one, by kind of film and in all."""
    with before.open(newline="") as file:
        there = {key_of(row): row for row in csv.DictReader(file)}
    both = [(row, there[key_of(row)]) for row in rows if key_of(row) in there]
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for row, other in both:
        for kind in (row["kind"], "all"):
            for name in ("psnr_avg", "psnr_overall", "off"):
                by_film = found.setdefault(kind, {}).setdefault(name, {})
                by_film.setdefault(row["film"], []).append(float(row[name]) - float(other[name]))
    table = []
    for kind, names in found.items():
        line = [kind, str(len(names["off"]))]
        for name, by_film in names.items():
            means = [float(np.mean(values)) for values in by_film.values()]
            error = np.std(means, ddof=1) / len(means) ** 0.5 if len(means) > 1 else math.nan
            line.append(f"{np.mean(means):+.3f} ({error:.3f})" if name != "off" else
                        f"{np.mean(means):+.2%}")  # fmt: skip
        table.append(line)
    columns = ["films", "count", "PSNR avg, dB (s.e.)", "overall, dB (s.e.)", "bits"]
    print_table(f"over {before.name}", columns, table)


def key_of(row: Mapping[str, str]) -> tuple[str, str]:
    """Film and target of a row."""
    return row["film"], row["kbps"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--set", default="train")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["mixed"])
    parser.add_argument("--films", type=int, default=2, help="of each kind")
    parser.add_argument("--clips", type=int, default=8, help="of each film")
    parser.add_argument("--frames", type=int, default=90, help="of each clip")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 144))
    parser.add_argument("--speed", type=int, default=5)
    parser.add_argument("--policy", default="planned")
    parser.add_argument("--speed-profile", choices=POLICY_SPEED_PROFILES, default="auto")
    parser.add_argument("--passes", type=int, choices=(2, 3), help="the policy's own by default")
    parser.add_argument("--targets", type=int, nargs="+", default=[50, 80, 130, 200])
    parser.add_argument("--whole", action="store_true", help="in one piece, too")
    parser.add_argument("--workers", type=int, nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="CSV file of what is found")
    parser.add_argument("--against", type=Path, help="CSV file of another version")
    args = parser.parse_args()
    settings = EncoderSettings(
        target_kbps=100, speed=args.speed, speed_profile=args.speed_profile, passes=args.passes
    )
    columns = ["film", "kind", "kbps", "psnr_avg", "psnr_overall", "off", "again", "cpu_s"]
    if args.whole:
        columns += ["whole_psnr_avg", "whole_psnr_overall", "whole_off", "whole_cpu_s"]
    gains: dict[str, list[float]] = {}
    rows = finished(args.out, columns, args.targets)
    there = {row["film"] for row in rows}
    for name in sorted(there) if args.whole else ():
        compare(name, args.targets, rows, gains)
    with tempfile.TemporaryDirectory() as folder:
        for kind in args.kinds:
            for number in range(args.films):
                path = Path(folder, f"{kind}{number}.mkv")
                if path.stem in there:
                    continue
                clips = draw(
                    args.corpus, args.set, kind, args.clips,
                    frames=args.frames, height=args.size[1], seed=args.seed + number,
                )  # fmt: skip
                make_film(clips, args.frames, args.size[0], args.size[1], path)
                film = Film(path, settings, args.policy)
                for kbps in args.targets:
                    outcome = film.chunks(kbps)[0]
                    row = {"film": film.name, "kind": kind, "kbps": str(kbps)} | told(outcome)
                    print(", ".join(row.values()), file=sys.stderr, flush=True)
                    rows.append(row)
                    if args.out:
                        write_csv(args.out, columns, rows)
                if args.whole:
                    beside(film, args.targets, rows)
                    compare(film.name, args.targets, rows, gains)
                    if args.out:
                        write_csv(args.out, columns, rows)
                for workers in args.workers:
                    with_workers(film, args.targets[0], workers)
    table = [[row.get(name, "") for name in columns] for row in rows]
    print_table(f"films, speed {args.speed}", columns, table)
    for metric, values in gains.items():
        print(f"BD-rate of chunks over whole, {metric}: {interval(values)}%")
    if args.against:
        differences(rows, args.against)


def told(outcome: Outcome) -> dict[str, str]:
    """An outcome in words of a table."""
    score = outcome.score
    return {
        "psnr_avg": f"{score.psnr_avg:.3f}", "psnr_overall": f"{score.psnr_overall:.3f}",
        "off": f"{score.overshoot:.5f}", "again": str(outcome.again),
        "cpu_s": f"{outcome.cpu_s:.1f}",
    }  # fmt: skip


def finished(
    path: Path | None, columns: Sequence[str], targets: Sequence[int]
) -> list[dict[str, str]]:
    """Rows of an earlier run of the films that it finished."""
    if path is None or not path.exists():
        return []
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if all(row.get(name) for name in columns)]
    wanted = {str(kbps) for kbps in targets}
    made: dict[str, set[str]] = {}
    for row in rows:
        made.setdefault(row["film"], set()).add(row["kbps"])
    return [row for row in rows if made[row["film"]] == wanted]


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    """Writes all rows so far."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def beside(film: Film, targets: Sequence[int], rows: Sequence[dict[str, str]]) -> None:
    """Encodes a film in one piece, and adds that to its rows."""
    mine = [row for row in rows if row["film"] == film.name]
    for row, kbps in zip(mine, targets, strict=True):
        outcome = film.whole(kbps)
        row |= {f"whole_{name}": word for name, word in told(outcome).items() if name != "again"}


def compare(
    name: str,
    targets: Sequence[int],
    rows: Sequence[Mapping[str, str]],
    gains: dict[str, list[float]],
) -> None:
    """Adds the BD-rates of a film in chunks over the same in one piece."""
    mine = [row for row in rows if row["film"] == name]
    for metric in ("psnr_avg", "psnr_overall"):
        rates = [[float(k) * (1 + float(r[off])) for k, r in zip(targets, mine, strict=True)]
                 for off in ("whole_off", "off")]  # fmt: skip
        quality = [[float(row[key]) for row in mine] for key in (f"whole_{metric}", metric)]
        gain = bd_rate(rates[0], quality[0], rates[1], quality[1]).percent
        if gain is not None:
            gains.setdefault(metric, []).append(gain)
            print(f"{name}: {metric} {gain:+.1f}%", file=sys.stderr, flush=True)


def with_workers(film: Film, kbps: int, workers: int) -> None:
    """Encodes a film with so many workers, and prints what it took."""
    outcome, done = film.chunks(kbps, workers=workers)
    frames = film.clip.num_frames
    print(
        f"{film.name}, {workers} workers: {outcome.wall_s:.1f} s, first pass "
        f"{1000 * film.first_pass_s / frames:.1f} ms a frame, probes "
        f"{1000 * done.probe_seconds / frames:.0f} ms a frame, last passes "
        f"{1000 * (done.seconds - done.probe_seconds) / frames:.0f} ms a frame, "
        f"{outcome.cpu_s:.1f} s of CPU",
        flush=True,
    )


if __name__ == "__main__":
    main()
