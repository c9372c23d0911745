"""What can be done to a whole clip to make another one of it, as ffmpeg filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import ffmpeg

__all__ = ["Recipe", "filter_graph"]

_SCALER = "lanczos+accurate_rnd+bitexact"  # the same pixels on every machine


@dataclass(frozen=True, slots=True)
class Recipe:
    """Changes to a clip; they are made in the order of the attributes.

    Attributes:
      cut: the frame at which another clip takes over, without a transition; it is scaled
        to fill the picture and goes on to the first one's length. None: no other clip.
      length: frames after the cut is made; needed with `cut`.
      crop: (width, height, left, top) of the part of the picture that stays; even numbers.
      size: (width, height) that the picture is scaled to; even numbers.
      flip: `h` mirrors left and right, `v` top and bottom, `hv` both.
      reverse: play backwards.
      speed: of playback. Above 1 frames are left out, evenly; below 1 all frames stay, at a rate
        lowered by this factor.
      noise: strength of temporal noise on all planes, as of ffmpeg's filter; 0 is none.
      noise_seed: seed of the noise.
      fade: (`in` or `out`, first frame, number of frames) of a fade from or to black.
    """

    cut: int | None = None
    length: int | None = None
    crop: tuple[int, int, int, int] | None = None
    size: tuple[int, int] | None = None
    flip: Literal["", "h", "v", "hv"] = ""
    reverse: bool = False
    speed: Fraction = Fraction(1)
    noise: int = 0
    noise_seed: int = 0
    fade: tuple[Literal["in", "out"], int, int] | None = None

    def text(self) -> str:
        """The recipe on one line, such as `crop=320x240+16+8 reverse speed=3/2`."""
        words: list[str] = []
        if self.cut is not None:
            words.append(f"cut={self.cut}/{self.length}")
        if self.crop is not None:
            width, height, left, top = self.crop
            words.append(f"crop={width}x{height}+{left}+{top}")
        if self.size is not None:
            words.append("size={}x{}".format(*self.size))
        if self.flip:
            words.append(f"flip={self.flip}")
        if self.reverse:
            words.append("reverse")
        if self.speed != 1:
            words.append(f"speed={self.speed}")
        if self.noise:
            words.append(f"noise={self.noise}:{self.noise_seed}")
        if self.fade is not None:
            words.append("fade={}:{}:{}".format(*self.fade))
        return " ".join(words)


def filter_graph(
    streams: Sequence[Any], recipe: Recipe, width: int, height: int, fps: Fraction
) -> Any:
    """The recipe as a graph of ffmpeg filters.

    Args:
      streams: ffmpeg-python's nodes of the clip and, with `recipe.cut`, of the other.
      recipe: what is to be done.
      width: of the clip, even, pixels.
      height: of the clip, even, pixels.
      fps: of the clip.
    """
    stream = streams[0]
    if recipe.cut is not None and recipe.length is not None:
        first = _in_order(stream.filter("trim", end_frame=recipe.cut), fps)
        other = streams[1].filter(
            "scale", width, height, force_original_aspect_ratio="increase",
            force_divisible_by=2, flags=_SCALER,
        )  # fmt: skip
        other = other.filter("crop", width, height).filter("setsar", 1)
        other = _in_order(other.filter("trim", end_frame=recipe.length - recipe.cut), fps)
        joined = first.filter("setsar", 1)
        stream = ffmpeg.concat(joined, other, v=1, a=0)
    if recipe.crop is not None:
        stream = stream.filter("crop", *recipe.crop)
    if recipe.size is not None:
        stream = stream.filter("scale", *recipe.size, flags=_SCALER)
    if "h" in recipe.flip:
        stream = stream.filter("hflip")
    if "v" in recipe.flip:
        stream = stream.filter("vflip")
    if recipe.reverse:
        stream = stream.filter("reverse")
    if recipe.speed > 1:
        # Of p frames the q that q n mod p < q holds for, evenly spread; p/q is the speed.
        p, q = recipe.speed.as_integer_ratio()
        stream = stream.filter("select", f"lt(mod(n*{q},{p}),{q})")
    else:
        fps *= recipe.speed
    stream = _in_order(stream, fps)
    if recipe.noise:
        stream = stream.filter("noise", alls=recipe.noise, allf="t", all_seed=recipe.noise_seed)
    if recipe.fade is not None:
        kind, start, frames = recipe.fade
        stream = stream.filter("fade", type=kind, start_frame=start, nb_frames=frames)
    return stream.filter("format", "yuv420p")


def _in_order(stream: Any, fps: Fraction) -> Any:
    """Frames at a constant rate by their number, whatever their times were."""
    return stream.filter("setpts", f"N/({fps})/TB").filter("fps", fps=str(fps))
