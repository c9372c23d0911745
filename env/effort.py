"""Where search effort goes: the speed that each frame of a second pass is coded at.

libvpx codes every frame of a stream at one speed (`cpu-used`). But bits saved in a frame
that others are predicted from are saved again in those, and the frames that nothing is
predicted from are most of all frames. With the effort `layered` key frames and alternate
references are searched slower than the stream's speed says, and leaf frames a step slower
at speeds 3 to 5. That takes about as long as libvpx's own two-pass VBR, which codes frames
twice, takes at that speed: 0.85 of it at speed 1 to 1.35 at speed 2 (`docs/results.md`).
The stream stays ordinary VP9. Ours; the paper's action is the quantizer alone.

The tables were chosen by measuring BD-rate and time of single changes
(`docs/results.md`); they go by what a frame is for, not by what is in it.
"""

from __future__ import annotations

from typing import Literal, get_args

from muzero_rc.types import FrameInfo, UpdateType

__all__ = ["EFFORTS", "EFFORT_VERSION", "OWN_SPEED", "Effort", "frame_speed"]

Effort = Literal["even", "layered"]
EFFORTS: tuple[str, ...] = get_args(Effort)

OWN_SPEED = -1
"""Speed of a frame that is coded at the stream's."""

EFFORT_VERSION = 2
"""Raised whenever the speed of any frame changes: encodes of before are not taken for these."""

_BASE_DEPTH = 1  # layer depth of the group's first alternate reference

# Stream's speed: speeds of key frames, base ARFs (golden frames too), deeper ARFs, leaves.
_LAYERED: dict[int, tuple[int, int, int, int]] = {
    0: (0, 0, 0, 0),
    1: (0, 0, 1, 1),
    2: (1, 1, 1, 2),
    3: (1, 1, 2, 2),
    4: (1, 1, 2, 3),
    5: (1, 1, 2, 4),
}
_FASTEST = max(_LAYERED)


def frame_speed(effort: Effort, speed: int, info: FrameInfo) -> int:
    """The speed that a frame is coded at.

    Args:
      effort: `even` leaves every frame at the stream's speed.
      speed: the stream's, libvpx's `cpu-used`; above 5 it changes nothing.
      info: the frame.

    Returns:
      0..5, or `OWN_SPEED`.
    """
    if effort == "even":
        return OWN_SPEED
    key, base, deep, leaf = _LAYERED[min(speed, _FASTEST)]
    match info.update_type:
        case UpdateType.KEY:
            return key
        case UpdateType.ARF | UpdateType.GOLDEN:
            return base if info.layer_depth <= _BASE_DEPTH else deep
        case _:
            return leaf
