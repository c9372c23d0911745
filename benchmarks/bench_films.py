"""Films in chunks beside the same films encoded whole: BD-rate, time, cores.

A film is put together from clips, a part of each, at one size and rate, with ffmpeg. It is
encoded at several targets in one piece and in chunks, as `muzero-rc encode` does both.

- BD-rate of chunks over whole, PSNR avg and overall, with a 95% interval over films where there
  are several; how far films end off their target; chunks made again; CPU seconds.
- With `--powers` the same for other powers of the error (`Recipe.film_share.error_power`).
- With `--workers` chunks' wall time of probes and last passes with so many workers, over that
  of one.
- Beside each: CPU seconds a frame of first pass, probe and last pass, which progress goes by.

    .venv/bin/python benchmarks/bench_films.py CLIPS [--films 2] [--speed 5] [--workers 1 2]
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import print_table

from muzero_rc.encode.chunk_store import ChunkStore
from muzero_rc.encode.chunked import encode_chunks
from muzero_rc.encode.clip import encode_clip
from muzero_rc.encode.encoded import Encoded
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import FirstPass, first_pass
from muzero_rc.env.control.recipe import DEFAULT_RECIPE
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.evaluation.measure.bd_rate import bd_rate
from muzero_rc.policies.registry import make_policy, prepare
from muzero_rc.types import EpisodeScore
from muzero_rc.video import find_tool

MEMORY_BYTES = 500_000_000  # for frames; the limit at 480 lines


@dataclass(frozen=True)
class Outcome:
    """An encode of a film."""

    score: EpisodeScore
    again: int
    cpu_s: float
    wall_s: float


def make_film(clips: Sequence[Path], frames: int, width: int, height: int, path: Path) -> None:
    """Writes a film of so many frames of each clip, 25 a second, without loss."""
    inputs: list[str] = []
    graph = ""
    for number, clip in enumerate(clips):
        inputs += ["-i", str(clip)]
        graph += (
            f"[{number}:v]scale={width}:{height}:force_original_aspect_ratio=increase,"
            f"crop={width}:{height},setsar=1,fps=25,trim=end_frame={frames},"
            f"setpts=N/25/TB[v{number}];"
        )
    graph += "".join(f"[v{number}]" for number in range(len(clips)))
    graph += f"concat=n={len(clips)}:v=1:a=0[o]"
    lossless = ["-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "veryfast", "-qp", "0"]
    quiet = ["-hide_banner", "-nostdin", "-loglevel", "error", "-y"]
    words = [*quiet, *inputs, "-filter_complex", graph, "-map", "[o]", *lossless, str(path)]
    subprocess.run([find_tool("ffmpeg"), *words], check=True)


def cpu_s() -> float:
    """CPU seconds of this process and of those that it waited for."""
    used = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        used += usage.ru_utime + usage.ru_stime
    return used


class Film:
    """A film to be encoded in both ways."""

    def __init__(self, path: Path, speed: int, policy: str) -> None:
        self.name = path.stem
        self._path = path
        self._policy = make_policy(policy)
        self._settings = EncoderSettings(target_kbps=100, speed=speed)
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

    def chunks(
        self, kbps: int, *, workers: int = 1, power: float | None = None
    ) -> tuple[Outcome, Encoded]:
        """Encodes it in chunks."""
        recipe = DEFAULT_RECIPE
        if power is not None:
            recipe = recipe.replace({"film_share.error_power": power})
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
                recipe=recipe,
            )  # fmt: skip
        outcome = Outcome(done.score, done.chunks_again, cpu_s() - cpu, time.perf_counter() - wall)
        return outcome, done


def bd(whole: Sequence[Outcome], chunks: Sequence[Outcome], metric: str) -> float | None:
    """BD-rate in percent of chunks over whole; None where the curves do not allow it."""
    rates = [[o.score.actual_kbps for o in side] for side in (whole, chunks)]
    quality = [[float(getattr(o.score, metric)) for o in side] for side in (whole, chunks)]
    return bd_rate(rates[0], quality[0], rates[1], quality[1]).percent


def interval(values: Sequence[float]) -> str:
    """The mean, with a 95% bootstrap interval over films where there are several."""
    mean = f"{np.mean(values):+.1f}"
    if len(values) < 2:
        return mean
    rng = np.random.default_rng(0)
    means = rng.choice(np.array(values), (2000, len(values))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{mean} ({low:+.1f} to {high:+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, nargs="+", help="a folder, or clips in their order")
    parser.add_argument("--films", type=int, default=2)
    parser.add_argument("--clips", type=int, default=8, help="of each film")
    parser.add_argument("--frames", type=int, default=90, help="of each clip")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 144))
    parser.add_argument("--speed", type=int, default=5)
    parser.add_argument("--policy", default="landed")
    parser.add_argument("--targets", type=int, nargs="+", default=[50, 80, 130, 200])
    parser.add_argument("--powers", type=float, nargs="*", default=[])
    parser.add_argument("--workers", type=int, nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    clips = args.source
    if clips[0].is_dir():
        clips = sorted(p for p in clips[0].iterdir() if p.suffix in (".mp4", ".webm", ".mkv"))
        random.Random(args.seed).shuffle(clips)
    powers: list[float | None] = [None, *args.powers]
    gains: dict[tuple[float | None, str], list[float]] = {}
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.films):
            path = Path(folder, f"film{number}.mkv")
            taken = clips[number * args.clips : (number + 1) * args.clips]
            make_film(taken, args.frames, *args.size, path)
            film = Film(path, args.speed, args.policy)
            frames = film.clip.num_frames
            whole = [film.whole(kbps) for kbps in args.targets]
            for power in powers:
                found = [film.chunks(kbps, power=power)[0] for kbps in args.targets]
                for kbps, a, b in zip(args.targets, whole, found, strict=True):
                    row = [film.name, str(kbps), "" if power is None else f"{power:g}"]
                    for outcome in (a, b):
                        row += [
                            f"{outcome.score.psnr_avg:.2f}",
                            f"{outcome.score.psnr_overall:.2f}",
                            f"{outcome.score.overshoot:+.2%}",
                            f"{outcome.cpu_s:.0f}",
                        ]
                    rows.append([*row, str(b.again)])
                    print(", ".join(rows[-1]), file=sys.stderr, flush=True)
                for metric in ("psnr_avg", "psnr_overall"):
                    gain = bd(whole, found, metric)
                    if gain is not None:
                        gains.setdefault((power, metric), []).append(gain)
                        print(f"{film.name}: {metric} {gain:+.1f}%", file=sys.stderr, flush=True)
            print(f"first pass: {1000 * film.first_pass_s / frames:.1f} ms a frame")
            times = {}
            for workers in args.workers:
                outcome, done = film.chunks(args.targets[0], workers=workers)
                times[workers] = outcome.wall_s
                last = done.seconds - done.probe_seconds
                print(
                    f"{film.name}, {workers} workers: {outcome.wall_s:.1f} s, "
                    f"{times[args.workers[0]] / outcome.wall_s:.2f} times as fast; probes "
                    f"{1000 * done.probe_seconds / frames:.0f} ms a frame, last passes "
                    f"{1000 * last / frames:.0f} ms a frame, {outcome.cpu_s:.1f} s of CPU",
                    flush=True,
                )
    columns = ["film", "kbit/s", "power"]
    for side in ("whole", "chunks"):
        columns += [f"{side} {name}" for name in ("avg", "overall", "off", "CPU s")]
    print_table(f"films, speed {args.speed}", [*columns, "again"], rows)
    for (power, metric), values in gains.items():
        name = "" if power is None else f", power {power:g}"
        print(f"BD-rate of chunks over whole, {metric}{name}: {interval(values)}%")


if __name__ == "__main__":
    main()
