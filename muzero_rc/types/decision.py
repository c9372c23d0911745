"""A decision: how the encoder codes a frame, and the groups of pictures that follow."""

from __future__ import annotations

import enum
import operator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from muzero_rc.errors import InputError
from muzero_rc.types.frame import NUM_QINDEX

__all__ = [
    "FROZEN",
    "FrameDecision",
    "GopDecision",
    "GopLimits",
    "KEEP",
    "PartitionHint",
    "RateAccount",
    "STREAM_SPEED",
    "ShowExisting",
    "SpeedFeatures",
    "TIERS",
]

KEEP = -1
"""Decision that leaves the frame to libvpx: its own qindex and its own recode loop."""

STREAM_SPEED = -1
"""Speed of a frame that is coded at the stream's."""

TIERS = 5
"""`cpu-used` 0..4 of a frame: libvpx's speed 5 is slower than its speed 4, and worse."""


class SpeedFeatures(enum.IntFlag):
    """What of a frame's search goes by another rule than its speed; `vpx_rc_speed_features`."""

    NONE = 0
    ALL_MODES = 1  # none is left out for how rarely it won
    ALL_TRANSFORMS = 2  # of every size
    QUICK_MOTION = 4  # motion as in real time


class ShowExisting(enum.IntEnum):
    """Whether a reference may be shown in the place of a frame; `vpx_rc_repeat`.

    Of a leaf frame or an alternate reference below the base; for others it changes nothing.
    """

    NEVER = 0
    CHEAPER = 1  # where that costs less than the coded frame, by rate and distortion
    ALWAYS = 2  # without coding the frame


class GopLimits(NamedTuple):
    """Decision on groups of pictures: limits of those that start with a shown frame or after it.

    Attributes:
      first: the shown frame.
      frames: most frames of a group, the frame that it starts with included; 0 leaves it to
        libvpx, as does `layers`.
      layers: most layers of alternate references.
    """

    first: int = 0
    frames: int = 0
    layers: int = 0


class GopDecision(NamedTuple):
    """Decision on the group of pictures that starts next: limits in the place of the stream's.

    The encoder lays a group out before it asks for its first frame; so the last frame of a group
    is the last one whose decision can say how long the next group may be.

    Attributes:
      frames: most frames of it, the frame that it starts with included; 0 leaves it to the
        stream's `GopLimits`, as does `layers`.
      layers: most layers of alternate references.
    """

    frames: int = 0
    layers: int = 0


class PartitionHint(NamedTuple):
    """How superblocks were split in another encode; only sizes near that are searched.

    Attributes:
      packed: of all superblocks, as `FrameResult.partition` has it.
      coarser: levels (64x64, 32x32, 16x16, 8x8) that blocks may be larger than there.
      finer: and smaller.
    """

    packed: bytes
    coarser: int
    finer: int


class RateAccount(NamedTuple):
    """Libvpx's rate control takes the frame for as dear as planned.

    Attributes:
      model_qindex: with `model_bits` what its model of bits learns in the place of what the
        frame really was, 0..255.
      model_bits: likewise; 0 teaches it nothing.
    """

    model_qindex: int = -1
    model_bits: int = 0


FROZEN = RateAccount()
"""The account of a frame that teaches libvpx's model of bits nothing else than it was."""


@dataclass(frozen=True, slots=True)
class FrameDecision:
    """How the encoder codes a frame; field for field the decision of the patched libvpx.

    Attributes:
      qindex: 0..255, or `KEEP` to leave it to libvpx, its recode loop included.
      speed: `cpu-used` of this frame alone, 0..9, or `STREAM_SPEED`.
      features: parts of the search that are done as at speed 0, whatever the speed.
      show_existing: whether a reference may be shown in the frame's place.
      show_existing_price: dB of PSNR that the frame may lose for each bit saved; 0 for any.
      show_existing_change: mean levels of luma by which a 16x16 block may differ from the
        frame as it was coded; 0 for any.
      rate_account: None lets libvpx's rate control react to what the frame costs.
      partition: None searches all block sizes.
      next_gop: limits of the group that starts next.
    """

    qindex: int = KEEP
    speed: int = STREAM_SPEED
    features: SpeedFeatures = SpeedFeatures.NONE
    show_existing: ShowExisting = ShowExisting.NEVER
    show_existing_price: float = 0.0
    show_existing_change: float = 0.0
    rate_account: RateAccount | None = None
    partition: PartitionHint | None = None
    next_gop: GopDecision = GopDecision()

    def __post_init__(self) -> None:
        if not (self.qindex == KEEP or 0 <= self.qindex < NUM_QINDEX):
            raise InputError(f"qindex must be 0..{NUM_QINDEX - 1} or KEEP, not {self.qindex}")
        if not STREAM_SPEED <= self.speed <= 9:
            raise InputError(f"speed must be 0..9 or STREAM_SPEED, not {self.speed}")
        if min(self.next_gop) < 0:
            raise InputError(f"next_gop must be 0 or more, not {self.next_gop}")

    def with_qindex(self, qindex: int) -> FrameDecision:
        """The decision with another qindex.

        `KEEP` leaves all of rate control to libvpx: its account and whether the frame is coded.

        Raises:
          InputError: not 0..255 or `KEEP`.
        """
        qindex = operator.index(qindex)
        if qindex == KEEP:
            return FrameDecision(KEEP, self.speed, self.features, next_gop=self.next_gop)
        return replace(self, qindex=qindex)

    def replace(self, **changes: Any) -> FrameDecision:
        """A copy with some parts changed."""
        return replace(self, **changes)
