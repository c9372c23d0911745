"""Encodes of a clip with constant quality: what chunks of films in two passes are fitted to."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from muzero_rc.encode.controlled_quality import Goal, controlled_quality_at
from muzero_rc.encode.level import Level, at_level
from muzero_rc.encode.share import curve_of
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import FirstPass
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.errors import MuzeroRcError
from muzero_rc.types import PEAK

__all__ = ["HEIGHT", "SETTINGS", "clips_that_may_stand_still", "encode_at", "look_at"]

_MAY_STAND_STILL = ("screen", "graphics", "game", "anim", "cartoon", "render", "demo", "TV")

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
        policy = controlled = controlled_quality_at(settings, level, goal)
        take = controlled.take
    done = rollout(clip, settings, policy, first_pass=statistics, on_frame=take)
    curve = curve_of(done.log, clip, settings.frame_budget(clip.fps), last=True)
    each = curve.frames * clip.width * clip.height
    squared = [PEAK**2 * 10.0 ** (-r.psnr / 10.0) for r in done.log.results if r.shown]
    return {
        "level": level.qindex, "psnr_avg": done.score.psnr_avg, "fixed": curve.fixed,
        "bits": float(np.log2(curve.bits / each)), "error": float(np.log2(np.mean(squared))),
    }  # fmt: skip


def look_at(
    clips: Iterable[Path], folder: Path, look: Callable[[Path], dict[str, Any]], *, found: bool
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """What is found of clips, each with its path; it is kept, and not looked for again.

    A clip that cannot be read is told on stderr.

    Args:
      clips: their files.
      folder: where what is found is kept, by the clips' names.
      look: what is done to a clip.
      found: leave out clips of which nothing is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in clips:
        kept = folder / f"{path.name}.json"
        if not kept.exists():
            if found:
                continue
            try:
                made = look(path)
            except MuzeroRcError as error:
                print(f"{path.name}: {error}", file=sys.stderr)
                continue
            kept.write_text(json.dumps(made))
            print(kept.name, flush=True)
        yield path, json.loads(kept.read_text())


def clips_that_may_stand_still(corpus: Path, which: str) -> dict[Path, str]:
    """Clips of a set whose contents may stand still, and their sources."""
    with (corpus / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == which]
    rows = [row for row in rows if any(word in row["content"] for word in _MAY_STAND_STILL)]
    where = {path.name: path for path in corpus.rglob("*.*")}
    return {where[row["file"]]: row["group"] for row in rows}
