"""What the teacher's search gains over two-pass VBR and over the control, by its budget.

For each clip and speed a target is chosen where VBR has about `--psnr` dB. Gains are bits
saved at the same PSNR avg, read off the curves of VBR and of the control (libvpx's
proposals) at four targets around it. A larger budget goes on from the smaller one's
encodes, as it would be without them.

    .venv/bin/python benchmarks/bench_teacher.py [CLIP ...] [--speeds 5 1] [--budgets 10 30 100]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import print_table, sample_clip

from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import FirstPass, first_pass
from muzero_rc.env.control.baselines import ProposalPolicy, VbrPolicy
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.policies.hindsight.policy import HindsightPolicy
from muzero_rc.types import EpisodeScore, Policy

_AROUND = (0.85, 1.0, 1.18, 1.4)


def _score(clip: Clip, settings: EncoderSettings, stats: FirstPass, p: Policy) -> EpisodeScore:
    return rollout(clip, settings, p, first_pass=stats).score


def _target(clip: Clip, settings: EncoderSettings, stats: FirstPass, psnr: float) -> int:
    """The target in kbit/s at which VBR has about this PSNR."""
    kbps = 0.05 * clip.width * clip.height * float(clip.fps) / 1000
    for _ in range(4):
        found = _score(clip, settings.replace(target_kbps=max(2, round(kbps))), stats, VbrPolicy())
        if abs(found.psnr_avg - psnr) < 0.7:
            break
        kbps = found.actual_kbps * 2.0 ** min(max((psnr - found.psnr_avg) / 4.5, -3.0), 3.0)
    return max(2, round(kbps))


def _saved(score: EpisodeScore, curve: Sequence[EpisodeScore]) -> float:
    """Share of bits saved against a curve at the score's PSNR avg, percent."""
    points = sorted((s.psnr_avg, math.log2(s.actual_kbps)) for s in curve)
    psnr, octaves = np.array(points).T
    place = int(np.clip(np.searchsorted(psnr, score.psnr_avg), 1, len(psnr) - 1))
    (x0, x1), (y0, y1) = psnr[place - 1 : place + 1], octaves[place - 1 : place + 1]
    there = y0 + (y1 - y0) * (score.psnr_avg - x0) / max(x1 - x0, 1e-9)
    return float(100.0 * (1.0 - score.actual_kbps / 2.0**there))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="*", type=Path, default=[sample_clip("bikes.mp4")])
    parser.add_argument("--speeds", type=int, nargs="+", default=[5, 1])
    parser.add_argument("--budgets", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--height", type=int, default=144)
    parser.add_argument("--psnr", type=float, default=36.0)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()

    rows = []
    sums: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for path in given.clips:
        for speed in given.speeds:
            clip = Clip.load(path, height=given.height, max_frames=given.frames)
            settings = EncoderSettings(target_kbps=1, speed=speed)
            stats = first_pass(clip, settings)
            target = _target(clip, settings, stats, given.psnr)
            vbr, control = (
                [
                    _score(clip, settings.replace(target_kbps=round(target * f)), stats, policy)
                    for f in _AROUND
                ]
                for policy in (VbrPolicy(), ProposalPolicy())
            )
            for budget in given.budgets:
                teacher = HindsightPolicy(budget, jobs=given.jobs)
                start = time.perf_counter()
                teacher.prepare(clip, settings.replace(target_kbps=target), stats)
                seconds = time.perf_counter() - start
                found = teacher.result
                assert found is not None
                score = found.outcome.score
                gains = _saved(score, vbr), _saved(score, control)
                sums.setdefault((speed, budget), []).append(gains)
                rows.append(
                    (
                        path.stem,
                        str(speed),
                        f"{target}",
                        f"{budget}",
                        f"{found.spent}",
                        f"{gains[0]:+.1f}",
                        f"{gains[1]:+.1f}",
                        f"{100 * score.overshoot:+.2f}",
                        f"{score.psnr_avg:.2f}",
                        f"{score.psnr_overall - _overall_at(score, vbr):+.2f}",
                        f"{seconds:.0f}",
                    )
                )
                print(*rows[-1], flush=True)
    for (speed, budget), gains in sorted(sums.items()):
        mean = np.mean(gains, axis=0)
        rows.append(
            (
                "mean", str(speed), "", str(budget), "", f"{mean[0]:+.1f}", f"{mean[1]:+.1f}",
                "", "", "", "",
            )
        )  # fmt: skip
    print_table(
        f"bits saved at the same PSNR avg, {given.frames} frames of {given.height} lines",
        ("clip", "speed", "kbit/s", "budget", "encodes", "vs VBR %", "vs control %", "over %",
         "PSNR avg", "overall vs VBR dB", "s"),
        rows,
    )  # fmt: skip


def _overall_at(score: EpisodeScore, curve: Sequence[EpisodeScore]) -> float:
    """PSNR overall of a curve at the score's bitrate, dB."""
    points = sorted((math.log2(s.actual_kbps), s.psnr_overall) for s in curve)
    octaves, psnr = np.array(points).T
    return float(np.interp(math.log2(score.actual_kbps), octaves, psnr))


if __name__ == "__main__":
    main()
