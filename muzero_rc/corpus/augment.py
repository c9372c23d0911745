"""Drawing what is done to a clip to make more of it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Literal

import numpy as np

from muzero_rc.corpus.manifest import Entry
from muzero_rc.video import Recipe

__all__ = ["KINDS", "draw_recipe"]

KINDS = ("join", "crop", "size", "flip", "reverse", "speed", "noise", "fade")
"""What can be drawn; one to three of them make a recipe."""

_MIN_SIDE = 64  # pixels, a superblock of VP9
_SPEEDS = (Fraction(1, 2), Fraction(3, 4), Fraction(3, 2), Fraction(2))
_SIZES = (Fraction(1, 2), Fraction(2, 3), Fraction(3, 4))
_CROP = (0.6, 0.95)  # share of a side that stays
_CUT = (0.25, 0.75)  # where in the clip another one takes over
_NOISE = (3, 15)  # of ffmpeg's filter: about the largest deviation, 8-bit levels
_FADE = (8, 25)  # frames


def draw_recipe(
    clip: Entry, others: Sequence[Entry], number: int, *, min_frames: int, seed: int
) -> tuple[Recipe, Entry | None]:
    """Draws a recipe; the same arguments always give the same.

    Args:
      clip: what it is for.
      others: clips that may take over after a cut: one of another scene of the same source,
        so that leaving out a source leaves out all that shows it.
      number: of the variant of this clip, from 1.
      min_frames: a variant does not get shorter than this.
      seed: of the corpus.

    Returns:
      The recipe, and the clip that takes over, if any.
    """
    name = int.from_bytes(hashlib.sha256(clip.file.encode()).digest()[:8], "big")
    rng = np.random.default_rng([seed, name, number])
    kinds = set(rng.choice(KINDS, size=int(rng.integers(1, 4)), replace=False).tolist())
    width, height, frames = clip.width, clip.height, clip.frames
    recipe = Recipe()
    partner: Entry | None = None
    scenes = [other for other in others if _may_follow(clip, other)]
    if "join" in kinds and scenes:
        partner = scenes[int(rng.integers(len(scenes)))]
        cut = max(1, round(frames * rng.uniform(*_CUT)))
        frames = min(frames, cut + partner.frames)
        recipe = replace(recipe, cut=cut, length=frames)
    if "crop" in kinds:
        kept = [_even(side * rng.uniform(*_CROP)) for side in (width, height)]
        if min(kept) >= _MIN_SIDE:
            left, top = (
                int(rng.integers((side - inner) // 2 + 1)) * 2
                for side, inner in zip((width, height), kept, strict=True)
            )
            width, height = kept
            recipe = replace(recipe, crop=(width, height, left, top))
    if "size" in kinds:
        factor = _SIZES[int(rng.integers(len(_SIZES)))]
        size = _even(width * factor), _even(height * factor)
        if min(size) >= _MIN_SIDE:
            recipe = replace(recipe, size=size)
    if "flip" in kinds:
        flips: tuple[Literal["h", "v", "hv"], ...] = ("h", "v", "hv")
        recipe = replace(recipe, flip=flips[int(rng.integers(3))])
    if "reverse" in kinds:
        recipe = replace(recipe, reverse=True)
    if "speed" in kinds:
        speeds = [speed for speed in _SPEEDS if frames >= (min_frames + 1) * speed]
        if speeds:
            speed = speeds[int(rng.integers(len(speeds)))]
            frames = math.ceil(frames / max(speed, Fraction(1)))
            recipe = replace(recipe, speed=speed)
    if "noise" in kinds:
        recipe = replace(
            recipe, noise=int(rng.integers(*_NOISE)), noise_seed=int(rng.integers(2**31))
        )
    if "fade" in kinds:
        length = min(int(rng.integers(*_FADE)), max(1, frames // 3))
        if rng.random() < 0.5:
            recipe = replace(recipe, fade=("in", 0, length))
        else:
            recipe = replace(recipe, fade=("out", frames - length, length))
    if recipe == Recipe():  # what was drawn does not suit this clip
        recipe = Recipe(flip="h")
    return recipe, partner


def _may_follow(clip: Entry, other: Entry) -> bool:
    same_scene = (clip.origin_sha256, clip.scene) == (other.origin_sha256, other.scene)
    return clip.source == other.source and not same_scene


def _even(side: float | Fraction) -> int:
    return int(side) // 2 * 2
