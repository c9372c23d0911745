"""Where search speed goes: how thoroughly each frame of a second pass is searched.

libvpx codes every frame of a stream at one speed (`cpu-used`). But bits saved in a frame
that others are predicted from are saved again in those, and the frames that nothing is
predicted from are most of all frames. With the speed profile `hierarchical` key frames and
alternate references are searched slower than the stream's speed says, leaf frames a little slower.
A speed stands for some thirty shortcuts, which are not worth the same: leaf frames go
without two of them (`SpeedFeatures`). A frame whose reference says nearly as much, for which
neither by squared errors nor by PSNR its bits are well spent, is replaced by it (`ShowExisting`),
unless something would be seen to stand still (`SHOW_EXISTING_CHANGE`).
After a probe (`env.probe`) only blocks near the sizes that it found are searched (`NEAR`),
which saves an eighth to a sixth of the last pass.
docs/results.md has what each of these brings and costs.
The stream stays ordinary VP9. Ours; the paper's action is the quantizer alone.

The tables were chosen by measuring BD-rate and time of single changes
(`docs/results.md`); they go by what a frame is for, not by what is in it.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

from muzero_rc.types import STREAM_SPEED, FrameInfo, FrameRole, ShowExisting, SpeedFeatures

__all__ = [
    "DB_PER_OCTAVE",
    "SPEED_PROFILES",
    "NEAR",
    "POLICY_SPEED_PROFILES",
    "SHOW_EXISTING_CHANGE",
    "SpeedProfile",
    "Search",
    "frame_search",
    "show_existing_price",
    "stream_speed",
]

SpeedProfile = Literal["uniform", "hierarchical", "probe"]
SPEED_PROFILES: tuple[str, ...] = get_args(SpeedProfile)
POLICY_SPEED_PROFILES: tuple[str, ...] = ("uniform", "hierarchical")
"""Those that a policy may want; the other is for what runs ahead of it."""

DB_PER_OCTAVE = 3.5
"""dB of PSNR avg for an octave of bits: the middle one of 17 clips has it, from 2.9 to 5."""

SHOW_EXISTING_CHANGE = 6.0
"""Levels of luma by which a block of 16x16 of what is shown again may differ from the frame
as it was coded, in the mean: where more would have moved, the frame is coded. Without it
pictures stood still for up to a fifth of a second in moving scenes (docs/results.md)."""

NEAR = (1, 1)
"""Levels (64x64, 32x32, 16x16, 8x8) that blocks may be larger and smaller than the probe's."""


class Search(NamedTuple):
    """How a frame is searched.

    Attributes:
      speed: libvpx's `cpu-used`, 0..5, or `STREAM_SPEED`.
      features: what is searched as if that were 0.
      show_existing: whether a reference may be shown in its place.
    """

    speed: int
    features: SpeedFeatures = SpeedFeatures.NONE
    show_existing: ShowExisting = ShowExisting.NEVER


class _Speeds(NamedTuple):
    """`cpu-used` of each kind of frame, and of what is done between frames."""

    stream: int  # look-ahead, temporal filter, TPL
    key: int
    base: int  # the group's first alternate reference; golden frames too
    second: int  # alternate references a layer below it
    deeper: int
    leaf: int


# By the stream's speed. None works at libvpx's speed 5, which is slower than its speed 4, and
# worse, in what is done between frames and in leaf frames.
_LAYERED: dict[int, _Speeds] = {
    0: _Speeds(0, 0, 0, 0, 0, 0),
    1: _Speeds(1, 0, 0, 0, 0, 0),
    2: _Speeds(2, 0, 0, 0, 1, 1),
    3: _Speeds(3, 0, 0, 0, 1, 1),
    4: _Speeds(4, 0, 0, 1, 1, 1),
    5: _Speeds(4, 1, 1, 1, 1, 3),
}
_LEAF_FEATURES = SpeedFeatures.ALL_MODES | SpeedFeatures.ALL_TRANSFORMS
_FASTEST = max(_LAYERED)
_PROBE = 4
"""Speed of all frames of a probe: libvpx's 5 takes longer. Between frames a probe works at
the speed of what it runs ahead of, as libvpx's plan goes by that."""


def stream_speed(speed_profile: SpeedProfile, speed: int) -> int:
    """The speed that libvpx is opened with for the second pass, 0..9.

    Args:
      speed_profile: `uniform` is what was asked for.
      speed: what was asked for, `cpu-used`.
    """
    return speed if speed_profile == "uniform" else _LAYERED[min(speed, _FASTEST)].stream


def show_existing_price(frame_budget: float) -> float:
    """dB of its PSNR that a frame may lose for each bit saved.

    The bits go to all frames: of N frames with b bits each one bit is 1 / (N b) of them all,
    worth `DB_PER_OCTAVE` / (N b ln 2) dB to each of N.

    Args:
      frame_budget: target bits per shown frame.
    """
    return DB_PER_OCTAVE / (math.log(2.0) * frame_budget)


def frame_search(speed_profile: SpeedProfile, speed: int, info: FrameInfo) -> Search:
    """How a frame is searched.

    Args:
      speed_profile: `uniform` leaves every frame at the stream's speed, `probe` codes all as
        fast as libvpx goes.
      speed: the stream's, libvpx's `cpu-used`; above 5 it changes nothing.
      info: the frame.
    """
    if speed_profile == "uniform":
        return Search(STREAM_SPEED)
    if speed_profile == "probe":
        return Search(_PROBE, show_existing=ShowExisting.CHEAPER)
    speeds = _LAYERED[min(speed, _FASTEST)]
    match info.role:
        case FrameRole.KEY:
            return Search(speeds.key)
        case FrameRole.BASE_ARF:
            return Search(speeds.base, show_existing=ShowExisting.CHEAPER)
        case FrameRole.SECOND_ARF:
            return Search(speeds.second, show_existing=ShowExisting.CHEAPER)
        case FrameRole.DEEPER_ARF:
            return Search(speeds.deeper, show_existing=ShowExisting.CHEAPER)
        case _:
            return Search(speeds.leaf, _LEAF_FEATURES, ShowExisting.CHEAPER)
