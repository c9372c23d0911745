"""Encodes of a clip with constant quality: what chunks of films in two passes are fitted to."""

from __future__ import annotations

from typing import Any

import numpy as np

from muzero_rc.encode.landing import Goal, landing_at
from muzero_rc.encode.level import Level, at_level
from muzero_rc.encode.share import curve_of
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import FirstPass
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.types import PEAK

__all__ = ["HEIGHT", "SETTINGS", "encode_at"]

HEIGHT = 480  # of a clip at most
SETTINGS = EncoderSettings(
    target_kbps=600, speed=4, passes=2, speed_profile="uniform", frame_parallel=False
)


def encode_at(
    clip: Clip, level: Level, statistics: FirstPass, goal: Goal | None = None
) -> dict[str, Any]:
    """What an encode at a level takes and brings.

    Args:
      clip: in memory.
      level: of its constant quality.
      statistics: of its first pass.
      goal: that the level follows, if it is to.

    Returns:
      `level`, its qindex; `psnr_avg`, dB; `fixed`, bits of headers; `bits`, log2 of those above
      them, a pixel and frame; `error`, log2 of the mean squared error of a sample.
    """
    settings, policy = at_level(SETTINGS, level)
    take = None
    if goal is not None:
        landing = landing_at(settings, level, goal)
        policy, take = landing, landing.take
    done = rollout(clip, settings, policy, first_pass=statistics, on_frame=take)
    curve = curve_of(done.log, clip, settings.frame_budget(clip.fps), last=True)
    each = curve.frames * clip.width * clip.height
    squared = [PEAK**2 * 10.0 ** (-r.psnr / 10.0) for r in done.log.results if r.shown]
    return {
        "level": level.qindex, "psnr_avg": done.score.psnr_avg, "fixed": curve.fixed,
        "bits": float(np.log2(curve.bits / each)), "error": float(np.log2(np.mean(squared))),
    }  # fmt: skip
