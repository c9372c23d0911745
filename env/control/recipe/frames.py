"""Constants of frames and groups: how long they are searched, which there are, their offsets."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

from muzero_rc.env.control.recipe.constant import (
    BY_HAND,
    GOP_NOTE,
    OFFSET_NOTE,
    SPEED_NOTE,
    constant,
)
from muzero_rc.types import FrameRole, SpeedFeatures

__all__ = [
    "FrameSpeeds",
    "GopChoice",
    "PartitionReuse",
    "QpOffsets",
    "ShowExistingRule",
    "SpeedsByRole",
]


class SpeedsByRole(NamedTuple):
    """`cpu-used` of each role of frame.

    Attributes:
      stream: of what is done between frames: look-ahead, temporal filter, TPL.
      key: of key frames.
      base: of a group's first alternate reference, and of golden frames.
      second: of alternate references a layer below it.
      deeper: of all others.
      leaf: of frames that nothing is predicted from, and overlays.
    """

    stream: int
    key: int
    base: int
    second: int
    deeper: int
    leaf: int

    def of(self, role: FrameRole) -> int:
        """`cpu-used` of frames of a role."""
        match role:
            case FrameRole.KEY:
                return self.key
            case FrameRole.BASE_ARF:
                return self.base
            case FrameRole.SECOND_ARF:
                return self.second
            case FrameRole.DEEPER_ARF:
                return self.deeper
            case _:
                return self.leaf


@dataclass(frozen=True)
class FrameSpeeds:
    """How long frames are searched."""

    by_speed: tuple[SpeedsByRole, ...] = constant(
        (
            SpeedsByRole(0, 0, 0, 0, 0, 0),
            SpeedsByRole(1, 0, 0, 0, 0, 0),
            SpeedsByRole(2, 0, 0, 0, 1, 1),
            SpeedsByRole(3, 0, 0, 0, 1, 1),
            SpeedsByRole(4, 0, 0, 1, 1, 1),
            SpeedsByRole(4, 1, 1, 1, 1, 3),
        ),
        "cpu-used",
        "speeds between frames, and of key frames, base, second and deeper alternate references, "
        "leaf frames; a row for each speed of the stream from 0, the last for all faster ones. "
        "No frame has libvpx's speed 5: it is slower than its speed 4, and worse.",
        f"BD-rate and time of single changes, benchmarks/bench_effort.py, {SPEED_NOTE}",
    )
    leaf_features: SpeedFeatures = constant(
        SpeedFeatures.ALL_MODES | SpeedFeatures.ALL_TRANSFORMS,
        "bits",
        "shortcuts of its speed that a leaf frame's search does not take: 1 modes, 2 transforms",
        f"benchmarks/bench_last_pass.py, {SPEED_NOTE}",
    )
    probe: int = constant(
        4,
        "cpu-used",
        "speed of all frames of a probe encode. Between frames it works at the speed of the "
        "encode that follows, as libvpx's plan goes by that.",
        "libvpx's speed 5 takes longer",
    )
    quick: int = constant(
        4,
        "cpu-used",
        "speed of all frames of a film in two passes where a faster one is asked for with the "
        "uniform profile. Motion is searched as in real time there, and nothing is estimated of "
        "what later frames inherit (TPL).",
        "docs/notes/2026-11-30-films-in-two-passes.md, Faster than libvpx's speed 4",
    )


@dataclass(frozen=True)
class ShowExistingRule:
    """When a reference is shown in the place of a frame."""

    max_change: float = constant(
        6.0,
        "levels of luma",
        "mean difference of a 16x16 block from the frame as coded, above which it is coded: "
        "without it moving pictures stood still for up to a fifth of a second",
        f"benchmarks/bench_last_pass.py, variants change=N, {SPEED_NOTE}; 6 rather than 4 is "
        "a choice of taste",
    )


@dataclass(frozen=True)
class PartitionReuse:
    """Which sizes of blocks are searched in a final pass after a probe encode."""

    coarser: int = constant(
        1,
        "levels",
        "levels of 64x64, 32x32, 16x16, 8x8 that a block may be larger than the probe's",
        f"benchmarks/bench_last_pass.py, variants near=C,F, {SPEED_NOTE}",
    )
    finer: int = constant(
        1,
        "levels",
        "levels that a block may be smaller than the probe's",
        f"benchmarks/bench_last_pass.py, variants near=C,F, {SPEED_NOTE}",
    )


@dataclass(frozen=True)
class GopChoice:
    """Which groups of pictures probe encodes try, and which are taken."""

    probe_encodes: tuple[tuple[int, int], ...] = constant(
        ((4, 2), (4, 2), (0, 0)),
        "encodes",
        "lengths of groups and numbers of layers that are tried; a row for each speed from 0, "
        "the last for all faster ones. From 2 on a slower search of frames brings more for the "
        "time that the probe encodes take.",
        f"benchmarks/bench_last_pass.py, variants probes=L,N, {SPEED_NOTE}, {GOP_NOTE}",
    )
    deep_lengths: tuple[int, ...] = constant(
        (17, 21, 19, 15),
        "frames",
        "longest groups that are tried, in this order, with layers of references",
        SPEED_NOTE,
    )
    flat_lengths: tuple[int, ...] = constant(
        (13, 15, 9, 17, 7, 11),
        "frames",
        "longest groups that are tried, in this order, with one layer of references",
        SPEED_NOTE,
    )
    fewer_layers: tuple[int, ...] = constant(
        (3, 2),
        "layers",
        "most layers of references that are tried with the best lengths",
        SPEED_NOTE,
    )
    min_gain: float = constant(
        0.004,
        "share of the bits",
        "gain that probe encodes must promise before another choice is made",
        BY_HAND,
    )
    max_psnr: float = constant(
        60.0,
        "dB",
        "PSNR that a frame counts with at most",
        "a frame without loss has 100 dB by libvpx's definition, which says nothing of quality",
    )


@dataclass(frozen=True)
class QpOffsets:
    """Offsets from the controller's qindex by level of the pyramid, without a network.

    Tuned on five training clips: -1.3% BD-rate in PSNR avg and -1.5% in overall at speed 5,
    -0.8% and -1.2% at speed 2, against libvpx's proposals; on eight others, with rate control
    on both sides, -1.0% and -1.7% at speed 5.
    """

    key: float = constant(6.0, "qindexes", "key frames", OFFSET_NOTE)
    leaf: float = constant(0.0, "qindexes", "leaf frames", OFFSET_NOTE)
    base: float = constant(
        6.0, "qindexes", "golden frames and shallow alternate references", OFFSET_NOTE
    )
    second: float = constant(
        -8.0, "qindexes", "alternate references in the middle of the pyramid", OFFSET_NOTE
    )
    deeper: float = constant(-8.0, "qindexes", "the deepest alternate references", OFFSET_NOTE)
    overlay: float = constant(0.0, "qindexes", "overlays and all others", OFFSET_NOTE)

    def scaled(self, scale: float) -> QpOffsets:
        """The same, times a factor.

        Args:
          scale: of all offsets; negative makes references finer, what refers to them coarser.
        """
        return QpOffsets(*(scale * offset for offset in dataclasses.astuple(self)))
