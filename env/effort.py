"""Where search effort goes: the speed that each frame of a second pass is coded at.

libvpx codes every frame of a stream at one speed (`cpu-used`). But bits saved in a frame
that others are predicted from are saved again in those, and the frames that nothing is
predicted from are most of all frames. With the effort `layered` key frames and alternate
references are searched slower than the stream's speed says, and leaf frames a step slower
at speeds 3 and 4, two at 5. That costs more time than not coding frames twice, as
libvpx's two-pass VBR does, saves: docs/results.md has both by speed, and the picture of
rate over time.
The stream stays ordinary VP9. Ours; the paper's action is the quantizer alone.

The tables were chosen by measuring BD-rate and time of single changes
(`docs/results.md`); they go by what a frame is for, not by what is in it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from muzero_rc.types import FrameInfo, UpdateType

__all__ = [
    "EFFORTS",
    "EFFORT_VERSION",
    "OWN_SPEED",
    "POLICY_EFFORTS",
    "Effort",
    "frame_speed",
    "stream_speed",
]

Effort = Literal["even", "layered", "pilot"]
EFFORTS: tuple[str, ...] = get_args(Effort)
POLICY_EFFORTS: tuple[str, ...] = ("even", "layered")
"""Those that a policy may want; the other is for what flies ahead of it."""

OWN_SPEED = -1
"""Speed of a frame that is coded at the stream's."""

EFFORT_VERSION = 3
"""Raised whenever the speed of any frame changes: encodes of before are not taken for these."""


class _Speeds(NamedTuple):
    """`cpu-used` of each kind of frame, and of what is done between frames."""

    stream: int  # look-ahead, temporal filter, TPL
    key: int
    base: int  # the group's first alternate reference; golden frames too
    second: int  # alternate references a layer below it
    deeper: int
    leaf: int


# By the stream's speed. There is no row for speed 5: libvpx's is slower than its speed 4,
# and worse, in what is done between frames and in leaf frames.
_LAYERED: dict[int, _Speeds] = {
    0: _Speeds(0, 0, 0, 0, 0, 0),
    1: _Speeds(1, 0, 0, 0, 1, 1),
    2: _Speeds(2, 1, 1, 1, 1, 2),
    3: _Speeds(3, 1, 1, 1, 2, 2),
    4: _Speeds(4, 1, 1, 1, 2, 3),
}
_FASTEST = max(_LAYERED)
_PILOT = 4
"""Speed of all frames of a pilot: libvpx's 5 takes longer. Between frames a pilot works at
the speed of what it flies ahead of, as libvpx's plan goes by that."""
_BASE, _DEEPER = _Speeds._fields.index("base"), _Speeds._fields.index("deeper")


def stream_speed(effort: Effort, speed: int) -> int:
    """The speed that libvpx is opened with for the second pass, 0..9.

    Args:
      effort: `even` is what was asked for.
      speed: what was asked for, `cpu-used`.
    """
    return speed if effort == "even" else _LAYERED[min(speed, _FASTEST)].stream


def frame_speed(effort: Effort, speed: int, info: FrameInfo) -> int:
    """The speed that a frame is coded at.

    Args:
      effort: `even` leaves every frame at the stream's speed, `pilot` codes all as fast as
        libvpx goes.
      speed: the stream's, libvpx's `cpu-used`; above 4 it changes nothing.
      info: the frame.

    Returns:
      0..5, or `OWN_SPEED`.
    """
    if effort == "even":
        return OWN_SPEED
    if effort == "pilot":
        return _PILOT
    speeds = _LAYERED[min(speed, _FASTEST)]
    match info.update_type:
        case UpdateType.KEY:
            return speeds.key
        case UpdateType.ARF | UpdateType.GOLDEN:
            return speeds[min(max(_BASE + info.layer_depth - 1, _BASE), _DEEPER)]
        case _:
            return speeds.leaf
