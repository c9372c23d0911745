r"""Memory of a film in chunks, as the film grows: flat, whatever its length.

Films of a moving test card, one four times as long as the other, are encoded in a process of
their own each. Told is the largest resident memory, beside that of the frames in memory.

    .venv/bin/python benchmarks/bench_film_memory.py [--minutes 7.5 30] [--size 160 96]

With `--longest-chunks` the picture changes so that chunks are as long as they can be: a new shot
after 59 frames, which is too soon for a cut, and the next key frame 128 frames later.

    .venv/bin/python benchmarks/bench_film_memory.py --longest-chunks --minutes 0.3 \
        --size 1920 1080 --kbps 3000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from common import print_table

from muzero_rc.encode.cut import LEAST_FRAMES
from muzero_rc.video import find_tool

_LONGEST = LEAST_FRAMES - 1 + 128  # libvpx's largest distance between key frames

ENCODE = """
import json, re, sys
from muzero_rc.encode.film import encode
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.policies.registry import make_policy
settings = EncoderSettings(target_kbps=int(sys.argv[3]), speed=5)


def resident(name):
    with open("/proc/self/status") as status:
        return int(re.search(name + r":\\s+(\\d+)", status.read())[1])


start = resident("VmRSS")
with open("/proc/self/clear_refs", "w") as peaks:
    peaks.write("5")  # the peak so far is that of imports, and of the parent
report = encode(sys.argv[1], sys.argv[2], settings, make_policy("landed"), workers=2)
print(json.dumps({
    "start": start,
    "most": resident("VmHWM"),
    "frames": report.frames,
    "chunks": report.chunks,
    "deviation": report.deviation,
    "seconds": report.seconds,
}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, nargs="+", default=[7.5, 30.0])
    parser.add_argument("--size", type=int, nargs=2, default=(160, 96))
    parser.add_argument("--kbps", type=int, default=60)
    parser.add_argument("--longest-chunks", action="store_true", help="a shot of 59 frames in each")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for minutes in args.minutes:
            source, out = Path(folder, "film.mkv"), Path(folder, "film.webm")
            width, height = args.size
            card = f"testsrc2=s={width}x{height}:r=25:d={60 * minutes},noise=alls=8:allf=t"
            if args.longest_chunks:  # upside down for 59 frames of each 187
                card += f",vflip=enable='lt(mod(n,{_LONGEST}),{LEAST_FRAMES - 1})'"
            quiet = ["-hide_banner", "-nostdin", "-loglevel", "error", "-y"]
            subprocess.run(
                [find_tool("ffmpeg"), *quiet, "-f", "lavfi", "-i", card, "-pix_fmt", "yuv420p",
                 "-c:v", "libx264", "-preset", "ultrafast", str(source)],
                check=True,
            )  # fmt: skip
            done = subprocess.run(
                [sys.executable, "-c", ENCODE, source, out, str(args.kbps)],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            found = json.loads(done.stdout)
            rows.append([
                f"{minutes:g}",
                str(found["frames"]),
                str(found["chunks"]),
                f"{found['start'] / 1024:.0f}",
                f"{found['most'] / 1024:.0f}",
                f"{found['deviation']:+.2%}",
                f"{found['seconds']:.0f}",
            ])  # fmt: skip
            print(", ".join(rows[-1]), file=sys.stderr, flush=True)
    columns = ("minutes", "frames", "chunks", "MB before", "MB at most", "off", "s")
    print_table(f"memory of films of {args.size[0]}x{args.size[1]}, two workers", columns, rows)


if __name__ == "__main__":
    main()
