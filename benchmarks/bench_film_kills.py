"""A film whose encode is killed by signal 9 again and again, at random moments.

The film is encoded once undisturbed. Then the same command is started, killed after a random
time, and started again. An encode that ends before its kill must have the bytes of the
undisturbed one; the film is begun anew then, until there were as many kills as asked for. No
file of a finished probe or chunk may be gone when the next start is killed.

    .venv/bin/python benchmarks/bench_film_kills.py [--kills 30] [--minutes 3] [--size 64 48]
"""

from __future__ import annotations

import argparse
import collections
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_eta import make_film
from common import print_table

PART = 0.2  # of the undisturbed time: longest time until a kill


def finished(folder: Path) -> set[str]:
    """Names of what is finished beside the output: probes, records of chunks and their streams."""
    return {
        path.name
        for path in folder.glob(".out.webm.*.muzero-rc/*")
        if path.suffix in (".npz", ".ivf") and path.name[0].isdigit()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--size", type=int, nargs=2, default=(64, 48))
    parser.add_argument("--kbps", type=int, default=40)
    parser.add_argument("--speed", type=int, default=5)
    parser.add_argument("--policy", default="planned")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    program = str(Path(sys.executable).with_name("muzero-rc"))
    when: dict[str, int] = collections.Counter()
    faults: list[str] = []
    ended = 0
    with tempfile.TemporaryDirectory() as name:
        source = Path(name, "film.mkv")
        make_film(source, args.minutes, tuple(args.size))
        folders = [Path(name, kind) for kind in ("undisturbed", "killed")]
        commands = []
        for folder in folders:
            folder.mkdir()
            words = [program, "encode", str(source), "-o", str(folder / "out.webm"), "-q"]
            words += ["-b", f"{args.kbps}k", "--speed", str(args.speed), "-p", args.policy]
            commands.append([*words, "--threads", str(args.threads)])
        start = time.perf_counter()
        subprocess.run(commands[0], check=True, stdout=subprocess.DEVNULL)
        whole = time.perf_counter() - start
        right = (folders[0] / "out.webm").read_bytes()
        out = folders[1] / "out.webm"
        before: set[str] = set()
        under_way = True
        while sum(when.values()) < args.kills or under_way:
            under_way = True
            child = subprocess.Popen(commands[1], stdout=subprocess.DEVNULL)
            try:
                enough = sum(when.values()) >= args.kills
                status = child.wait(None if enough else draw.uniform(0.0, PART * whole))
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
                child.wait()
                found = finished(folders[1])
                if gone := before - found:
                    faults.append(f"gone: {', '.join(sorted(gone))}")
                when[phase_of(found)] += 1
                before = found
                print(f"{sum(when.values())} killed, {len(found)} files", file=sys.stderr)
                continue
            if status or out.read_bytes() != right:
                faults.append(f"status {status}, other bytes: {out.read_bytes() != right}")
            left = sorted(path.name for path in folders[1].iterdir() if path != out)
            if left:
                faults.append(f"left: {', '.join(left)}")
            ended += 1
            under_way = False
            out.unlink()
            before = set()
    rows = [[kind, str(count)] for kind, count in sorted(when.items())]
    print_table(f"{sum(when.values())} kills, undisturbed {whole:.0f} s", ["during", "kills"], rows)
    print(f"{ended} encodes came to their end, faults: {faults or 'none'}")
    return 1 if faults else 0


def phase_of(found: set[str]) -> str:
    """What a killed start was at, by the files that it left."""
    if not found:
        return "start, decode, first pass"
    if any(".ivf" in name for name in found):
        return "last passes, join, mux, check"
    return "probes"


if __name__ == "__main__":
    sys.exit(main())
