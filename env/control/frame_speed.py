"""Where search speed goes: how thoroughly each frame of a second pass is searched.

libvpx codes every frame of a stream at one speed (`cpu-used`). But bits saved in a frame
that others are predicted from are saved again in those, and the frames that nothing is
predicted from are most of all frames. With the speed profile `hierarchical` key frames and
alternate references are searched slower than the stream's speed says, leaf frames a little slower.
A speed stands for some thirty shortcuts, which are not worth the same: leaf frames go
without two of them (`SpeedFeatures`). A frame whose reference says nearly as much, for which
neither by squared errors nor by PSNR its bits are well spent, is replaced by it (`ShowExisting`),
unless something would be seen to stand still. After a probe encode only blocks near the sizes
that it found are searched, which saves an eighth to a sixth of the final pass.
docs/results.md has what each of these brings and costs.
The stream stays ordinary VP9. Ours; the paper's action is the quantizer alone.

The tables are in the recipe (`env.control.recipe`). They were chosen by measuring BD-rate and
time of single changes; they go by what a frame is for, not by what is in it.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe, SpeedsByRole
from muzero_rc.types import STREAM_SPEED, FrameInfo, FrameRole, ShowExisting, SpeedFeatures

__all__ = [
    "SPEED_PROFILES",
    "POLICY_SPEED_PROFILES",
    "SpeedProfile",
    "Search",
    "frame_search",
    "is_quick",
    "show_existing_price",
    "speeds_by_role",
    "stream_speed",
]

SpeedProfile = Literal["auto", "uniform", "hierarchical", "probe", "quick"]
SPEED_PROFILES: tuple[str, ...] = get_args(SpeedProfile)
_AS_THE_STREAM = ("auto", "uniform")

POLICY_SPEED_PROFILES: tuple[str, ...] = ("uniform", "hierarchical")
"""Those that a policy may want; the others are for what runs ahead of it, and quick films."""


class Search(NamedTuple):
    """How a frame is searched.

    Attributes:
      speed: libvpx's `cpu-used`, 0..5, or `STREAM_SPEED`.
      features: what goes by another rule than that.
      show_existing: whether a reference may be shown in its place.
    """

    speed: int
    features: SpeedFeatures = SpeedFeatures.NONE
    show_existing: ShowExisting = ShowExisting.NEVER


def stream_speed(
    speed_profile: SpeedProfile, speed: int, *, recipe: Recipe = DEFAULT_RECIPE
) -> int:
    """The speed that libvpx is opened with for the second pass, 0..9.

    Args:
      speed_profile: `uniform` and `auto` are what was asked for, `quick` is as fast as libvpx
        goes.
      speed: what was asked for, `cpu-used`.
      recipe: the constants.
    """
    if speed_profile == "quick":
        return recipe.frame_speed.quick
    return speed if speed_profile in _AS_THE_STREAM else speeds_by_role(speed, recipe=recipe).stream


def is_quick(speed_profile: SpeedProfile, speed: int, *, recipe: Recipe = DEFAULT_RECIPE) -> bool:
    """Whether more than libvpx's fastest speed is asked for, of all frames alike.

    Args:
      speed_profile: what was asked for.
      speed: likewise, `cpu-used`.
      recipe: the constants.
    """
    return speed_profile in _AS_THE_STREAM and speed > recipe.frame_speed.quick


def show_existing_price(frame_budget: float, *, recipe: Recipe = DEFAULT_RECIPE) -> float:
    """dB of its PSNR that a frame may lose for each bit saved.

    The bits go to all frames: of N frames with b bits each one bit is 1 / (N b) of them all,
    worth s / (N b ln 2) dB to each of N, if an octave of bits is worth s dB.

    Args:
      frame_budget: target bits per shown frame.
      recipe: the constants.
    """
    return recipe.db_per_octave / (math.log(2.0) * frame_budget)


def frame_search(
    speed_profile: SpeedProfile, speed: int, info: FrameInfo, *, recipe: Recipe = DEFAULT_RECIPE
) -> Search:
    """How a frame is searched.

    Args:
      speed_profile: `uniform` leaves every frame at the stream's speed, `probe` codes all as
        fast as libvpx goes, `quick` searches their motion faster than that.
      speed: the stream's, libvpx's `cpu-used`; above 5 it changes nothing.
      info: the frame.
      recipe: the constants.
    """
    if speed_profile in _AS_THE_STREAM:
        return Search(STREAM_SPEED)
    if speed_profile == "probe":
        return Search(recipe.frame_speed.probe, show_existing=ShowExisting.CHEAPER)
    if speed_profile == "quick":
        return Search(recipe.frame_speed.quick, SpeedFeatures.QUICK_MOTION)
    speed = speeds_by_role(speed, recipe=recipe).of(info.role)
    if info.role is FrameRole.KEY:
        return Search(speed)
    leaf = info.role in (FrameRole.OVERLAY, FrameRole.LEAF)
    features = recipe.frame_speed.leaf_features if leaf else SpeedFeatures.NONE
    return Search(speed, features, ShowExisting.CHEAPER)


def speeds_by_role(speed: int, *, recipe: Recipe = DEFAULT_RECIPE) -> SpeedsByRole:
    """The speeds of a stream's frames with the hierarchical speed profile.

    Args:
      speed: the stream's, libvpx's `cpu-used`; above 5 it changes nothing.
      recipe: the constants.
    """
    table = recipe.frame_speed.by_speed
    return table[min(speed, len(table) - 1)]
