"""Films of many scenes: `muzero-rc encode` beside other encoders at equal bits, and equal CPU.

A film is put together from clips of a corpus, at one size and 25 frames a second. Of a clip it
has 90 frames; `--frames` allows more, where a set has too few clips. Each encoder is a command, run
as anybody runs it. Other encoders' bitrates are corrected until they take
what was asked for, within 1% if three runs are enough; the nearest run counts.

Of each run a row goes into a CSV file: bits, PSNR avg and overall, SSIM, VMAF, 5th percentile of
frames' PSNR, CPU seconds of all processes, wall time, peak memory of the largest process. Rows
that are there are not made again, so the benchmark goes on where it was stopped. The last table
has what we are ahead at equal CPU: our quality less that of the rival's curve (ffmpeg's libvpx-vp9
over `cpu-used`), interpolated over the logarithm of CPU seconds.

    .venv/bin/python benchmarks/bench_rivals.py CORPUS --out DIR [--set train] [--seconds 180]

The corpus has an index.csv with columns file, set and content.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from common import print_table
from films import KINDS, draw, make_film

from muzero_rc import video
from muzero_rc.encode.cut import WHOLE_FRAMES
from muzero_rc.errors import MuzeroRcError

FRAMES = 90  # that a clip has at least
EQUAL = 0.01  # bits that count as equal
MOST_RUNS = 3
METRICS = ("psnr_avg", "psnr_overall", "psnr_p5", "ssim", "vmaf")
QUIET = ["-hide_banner", "-nostdin", "-loglevel", "error", "-y"]


@dataclass(frozen=True)
class Row:
    """A run."""

    film: str
    encoder: str
    level: str
    target_kbps: int
    asked_kbps: int
    actual_kbps: float
    psnr_avg: float
    psnr_overall: float
    psnr_p5: float
    ssim: float
    vmaf: float
    cpu_s: float
    wall_s: float
    peak_mb: float
    frames: int

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What is not run twice."""
        return self.film, self.encoder, self.level, self.target_kbps


class Table:
    """The CSV file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[Row] = []
        kinds = {f.name: {"str": str, "int": int, "float": float}[str(f.type)] for f in fields(Row)}
        if path.exists():
            with path.open(newline="") as file:
                for line in csv.DictReader(file):
                    self.rows.append(Row(**{name: kinds[name](line[name]) for name in kinds}))

    def add(self, row: Row, psnr: Sequence[float]) -> None:
        """Appends a row, at once on the disk, and PSNR of its frames in a file of their own."""
        np.save(self.frames_file(row), np.array(psnr))
        new = not self._path.exists()
        with self._path.open("a", newline="") as file:
            writer = csv.DictWriter(file, [f.name for f in fields(Row)])
            if new:
                writer.writeheader()
            writer.writerow(asdict(row))
        self.rows.append(row)

    def frames_file(self, row: Row) -> Path:
        """Where the PSNR of a run's frames is, dB."""
        words = "-".join(str(word) for word in row.key).replace(":", "-")
        return self._path.with_name(f"{words}.npy")

    def has(self, key: tuple[str, str, str, int]) -> bool:
        """Whether a run is there."""
        return any(row.key == key for row in self.rows)

    def asked(self, film: str, encoder: str, kbps: int) -> int:
        """What an encoder's last level had to be asked for; levels miss their target alike."""
        found = [
            round(row.asked_kbps * kbps / row.actual_kbps)
            for row in self.rows
            if (row.film, row.encoder, row.target_kbps) == (film, encoder, kbps)
        ]
        return found[-1] if found and encoder != "muzero-rc" else kbps


def ours(level: str, film: Path, out: Path, kbps: int, threads: int) -> list[list[str]]:
    """The program as it is installed; a level is a speed, a policy, a speed profile, passes."""
    program = str(Path(sys.executable).with_name("muzero-rc"))
    speed, policy, profile, passes, *_ = [*level.split(":"), "", "", ""]
    words = [program, "encode", str(film), "-o", str(out), "-b", f"{kbps}k", "--speed", speed]
    words += ["--policy", policy] if policy else []
    words += ["--speed-profile", profile] if profile else []
    words += ["--passes", passes] if passes else []
    return [[*words, "--threads", str(threads), "--no-verify", "-q"]]


def ffmpeg(
    codec: Sequence[str], passes: Sequence[Sequence[str]]
) -> Callable[[str, Path, Path, int, int], list[list[str]]]:
    """Commands of ffmpeg with {level} and {log} in their options."""

    def commands(level: str, film: Path, out: Path, kbps: int, threads: int) -> list[list[str]]:
        start = [video.find_tool("ffmpeg"), *QUIET, "-i", str(film), "-an"]
        rate = ["-b:v", f"{kbps}k", "-threads", str(threads)]
        log = str(out.with_suffix(".log"))
        found = []
        for number, extra in enumerate(passes):
            options = [word.format(level=level, log=log) for word in (*codec, *extra)]
            target = ["-f", "null", "-"] if number + 1 < len(passes) else [str(out)]
            found.append([*start, *options, *rate, *target])
        return found

    return commands


def _two(*words: str) -> list[list[str]]:
    return [["-pass", str(number), "-passlogfile", "{log}", *words] for number in (1, 2)]


ENCODERS = {
    "muzero-rc": ours,
    "libvpx-vp9": ffmpeg(
        ["-c:v", "libvpx-vp9", "-deadline", "good", "-cpu-used", "{level}", "-row-mt", "1",
         "-auto-alt-ref", "6", "-lag-in-frames", "25"], _two()),
    "svt-av1": ffmpeg(["-c:v", "libsvtav1", "-preset", "{level}"], [[]]),
    "x265": ffmpeg(
        ["-c:v", "libx265", "-preset", "{level}"],
        [["-x265-params", f"pass={n}:stats={{log}}:log-level=error"] for n in (1, 2)]),
    "x264": ffmpeg(["-c:v", "libx264", "-preset", "{level}"], _two()),
}  # fmt: skip


def make_films(args: argparse.Namespace) -> Iterator[Path]:
    """Puts the films together, or takes those that are there."""
    count = max(1, round(args.seconds * 25 / FRAMES))
    total = count * FRAMES
    for kind in args.films:
        for number in range(args.count):
            path = args.out / f"{kind}{number or ''}.mkv"
            if not path.exists():
                clips = draw(
                    args.corpus, args.set, kind, count,
                    frames=FRAMES, height=args.height, seed=args.seed + number,
                )  # fmt: skip
                width = 2 * round(args.height * 16 / 9 / 2)
                make_film(clips, args.frames, width, args.height, path, total=total)
            yield path


def kind_of_film(film: str) -> str:
    """The kind of the film of a row."""
    return film.rstrip("0123456789")


def warm_up(film: Path, level: str, kbps: int, cache: Path) -> None:
    """Encodes a piece of a film: what a program's first start after installation does is done."""
    with tempfile.TemporaryDirectory() as folder:
        words = ours(level, film, Path(folder, "out.webm"), kbps, 1)[0]
        run_tree([[*words, "--frames", str(WHOLE_FRAMES + 1)]], cache)


def run_tree(commands: Sequence[Sequence[str]], cache: Path) -> tuple[float, float, float]:
    """Runs commands: CPU seconds of them and all their children, wall seconds, peak MB.

    Args:
      commands: each with its options.
      cache: of `muzero-rc`; first passes in it are thrown away.
    """
    shutil.rmtree(cache / "first_pass", ignore_errors=True)
    cpu = peak = 0.0
    start = time.perf_counter()
    environment = os.environ | {"MUZERO_RC_CACHE": str(cache)}
    for words in commands:
        with subprocess.Popen(
            words, env=environment, cwd=cache, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as child:  # fmt: skip
            assert child.stderr is not None
            said = child.stderr.read().decode(errors="replace")
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"{' '.join(words)}: {said}")
        cpu += usage.ru_utime + usage.ru_stime
        peak = max(peak, usage.ru_maxrss / 1000.0)
    return cpu, time.perf_counter() - start, peak


def run(
    encoder: str, level: str, film: Path, kbps: int, threads: int, vmaf: bool, asked: int,
    cache: Path,
) -> tuple[Row, list[float]]:  # fmt: skip
    """Encodes a film at a bitrate, asking for another one at first; the nearest run counts.

    Returns:
      The run, and PSNR of its frames in dB.
    """
    made: list[Row] = []
    frames: list[list[float]] = []
    for _ in range(1 if encoder == "muzero-rc" else MOST_RUNS):
        row, psnr = run_once(encoder, level, film, kbps, threads, vmaf, asked, cache)
        made.append(row)
        frames.append(psnr)
        if abs(made[-1].actual_kbps / kbps - 1.0) <= EQUAL:
            break
        asked = next_asked(made)
        if asked in [row.asked_kbps for row in made]:
            break
    best = min(range(len(made)), key=lambda n: abs(math.log(made[n].actual_kbps / kbps)))
    return made[best], frames[best]


def next_asked(made: Sequence[Row]) -> int:
    """What to ask for by what runs took, on the line through the last two in octaves."""
    octaves = [(math.log2(row.asked_kbps), math.log2(row.actual_kbps)) for row in made[-2:]]
    slope = 1.0
    if len(octaves) == 2 and octaves[0][0] != octaves[1][0]:
        slope = (octaves[1][1] - octaves[0][1]) / (octaves[1][0] - octaves[0][0])
    missing = math.log2(made[-1].target_kbps) - octaves[-1][1]
    # A line that is flat or falls was drawn by chance.
    return max(1, round(2.0 ** (octaves[-1][0] + missing / (slope if slope > 0.5 else 1.0))))


def run_once(
    encoder: str, level: str, film: Path, kbps: int, threads: int, vmaf: bool, asked: int,
    cache: Path,
) -> tuple[Row, list[float]]:  # fmt: skip
    """Encodes a film once, and measures what came out: the run, and PSNR of its frames."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name, "out.webm" if encoder in ("muzero-rc", "libvpx-vp9") else "out.mkv")
        commands = ENCODERS[encoder](level, film, out, asked, threads)
        cpu, wall, peak = run_tree(commands, cache)
        packets = video.packets(out)
        actual = 8 * sum(packets.sizes) / (packets.frames / 25) / 1000.0
        metrics = ("ssim", "vmaf") if vmaf else ("ssim",)
        found = video.measure(out, film, metrics)
    psnr = found["psnr"]
    overall = -10.0 * math.log10(sum(10 ** (-db / 10) for db in psnr) / len(psnr))
    row = Row(
        film=film.stem, encoder=encoder, level=level, target_kbps=kbps, asked_kbps=asked,
        actual_kbps=round(actual, 3), psnr_avg=round(float(np.mean(psnr)), 3),
        psnr_overall=round(overall, 3), psnr_p5=round(float(np.percentile(psnr, 5)), 3),
        ssim=round(float(np.mean(found["ssim"])), 5),
        vmaf=round(float(np.mean(found["vmaf"])), 3) if vmaf else math.nan,
        cpu_s=round(cpu, 2), wall_s=round(wall, 2), peak_mb=round(peak, 1), frames=len(psnr),
    )  # fmt: skip
    print(row, file=sys.stderr, flush=True)
    return row, list(psnr)


def at_cpu(rival: Sequence[Row], cpu_s: float, metric: str) -> tuple[float, bool]:
    """The rival's quality at so much CPU, and whether its curve reaches there."""
    points = sorted((math.log(row.cpu_s), float(getattr(row, metric))) for row in rival)
    times, values = zip(*points, strict=True)
    here = math.log(cpu_s)
    return float(np.interp(here, times, values)), times[0] <= here <= times[-1]


def show(rows: Sequence[Row]) -> None:
    """Prints all runs, and what we are ahead at equal CPU."""
    columns = ["film", "encoder", "level", "kbit/s", "avg", "overall", "p5", "SSIM", "VMAF"]
    table = [
        [
            row.film, row.encoder, row.level, f"{row.actual_kbps:.1f}", f"{row.psnr_avg:.2f}",
            f"{row.psnr_overall:.2f}", f"{row.psnr_p5:.2f}", f"{row.ssim:.4f}", f"{row.vmaf:.1f}",
            f"{row.cpu_s:.1f}", f"{row.wall_s:.1f}", f"{row.peak_mb:.0f}",
        ]
        for row in sorted(rows, key=lambda row: (row.film, row.target_kbps, row.encoder, row.level))
    ]  # fmt: skip
    print_table("runs", [*columns, "CPU s", "wall s", "MB"], table)
    gains = []
    ahead_by: dict[tuple[str, ...], list[list[float]]] = {}
    for row in rows:
        rival = [
            other
            for other in rows
            if other.encoder == "libvpx-vp9"
            and (other.film, other.target_kbps) == (row.film, row.target_kbps)
        ]
        if row.encoder != "muzero-rc" or not rival:
            continue
        line = [row.film, str(row.target_kbps), row.level, f"{row.cpu_s:.1f}"]
        found = [at_cpu(rival, row.cpu_s, metric) for metric in METRICS]
        reached = all(reached for _, reached in found)
        ahead = [
            float(getattr(row, m)) - there for m, (there, _) in zip(METRICS, found, strict=True)
        ]
        line += [_signed(metric, value) for metric, value in zip(METRICS, ahead, strict=True)]
        key = (kind_of_film(row.film), str(row.target_kbps), row.level)
        ahead_by.setdefault(key, []).append(ahead)
        gains.append([*line, "" if reached else "beyond its curve: its nearest"])
    print_table(
        "muzero-rc over libvpx-vp9 in two passes, at equal bits and CPU",
        ["film", "kbit/s", "speed", "CPU s", "avg", "overall", "p5", "SSIM", "VMAF", ""], gains,
    )  # fmt: skip
    means = [
        [*key, str(len(films)), *map(_mean, METRICS, zip(*films, strict=True))]
        for key, films in ahead_by.items()
        if len(films) > 1
    ]
    if means:
        print_table(
            "the same, means over films, and their standard errors",
            ["films", "kbit/s", "speed", "count", "avg", "overall", "p5", "SSIM", "VMAF"], means,
        )  # fmt: skip


def _signed(metric: str, value: float) -> str:
    return f"{value:+.4f}" if metric == "ssim" else f"{value:+.2f}"


def _mean(metric: str, values: Sequence[float]) -> str:
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return f"{_signed(metric, float(np.mean(values)))} ({_signed(metric, error)[1:]})"


def show_scenes(table: Table, rows: Sequence[Row]) -> None:
    """Prints PSNR avg of each scene of 90 frames: one that stands still may have a hundred dB."""
    found = []
    for row in rows:
        if table.frames_file(row).exists():
            psnr = np.load(table.frames_file(row))
            scenes = [psnr[start : start + FRAMES].mean() for start in range(0, len(psnr), FRAMES)]
            name = [row.film, row.encoder, row.level, str(row.target_kbps)]
            found.append([*name, *(f"{scene:.1f}" for scene in scenes), f"{np.median(psnr):.2f}"])
    if found:
        most = max(len(line) for line in found) - 5
        numbers = [str(number + 1) for number in range(most)]
        print_table(
            "PSNR avg of scenes, and the median of all frames, dB",
            ["film", "encoder", "level", "kbit/s", *numbers, "median"],
            [line for line in found if len(line) == most + 5],
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of films and runs.csv")
    parser.add_argument("--set", default="dev")
    parser.add_argument("--films", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--count", type=int, default=1, help="films of each kind")
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--frames", type=int, default=FRAMES, help="of a clip, at most")
    parser.add_argument("--kbps", type=int, nargs="+", default=[600])
    parser.add_argument(
        "--speeds", nargs="*", default=["1", "2", "4"], metavar="N[:POLICY[:PROFILE[:PASSES]]]"
    )
    parser.add_argument("--cpu-used", nargs="*", default=["0", "1", "2", "3", "4", "5"])
    parser.add_argument("--svt-av1", nargs="*", default=["4", "6", "8", "10"])
    parser.add_argument("--x265", nargs="*", default=["medium", "slow"])
    parser.add_argument("--x264", nargs="*", default=["slow"])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    table = Table(args.out / "runs.csv")
    try:
        video.measuring_program(("vmaf",))
        vmaf = True
    except MuzeroRcError as error:
        print(f"without VMAF: {error}", file=sys.stderr)
        vmaf = False
    levels = {
        "libvpx-vp9": args.cpu_used, "muzero-rc": args.speeds, "svt-av1": args.svt_av1,
        "x265": args.x265, "x264": args.x264,
    }  # fmt: skip
    cache = (args.out / "cache").resolve()
    cache.mkdir(exist_ok=True)
    warm = False
    for film in make_films(args):
        for kbps in args.kbps:
            for encoder, each in levels.items():
                for level in each:
                    if table.has((film.stem, encoder, level, kbps)):
                        continue
                    if encoder == "muzero-rc" and not warm:
                        warm_up(film, level, kbps, cache)
                        warm = True
                    asked = table.asked(film.stem, encoder, kbps)
                    found = run(encoder, level, film, kbps, args.threads, vmaf, asked, cache)
                    table.add(*found)
    rows = [row for row in table.rows if kind_of_film(row.film) in args.films]
    show(rows)
    if args.frames == FRAMES:
        show_scenes(table, rows)


if __name__ == "__main__":
    main()
