"""A coded frame: what libvpx tells of it beforehand, and what came of it."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import NamedTuple

__all__ = [
    "FrameInfo",
    "FrameResult",
    "FrameRole",
    "MAX_PSNR_DB",
    "NUM_QINDEX",
    "PEAK",
    "SHOW_BITS",
    "UpdateType",
    "Work",
    "is_show_existing",
    "psnr_db",
]

NUM_QINDEX = 256
"""Size of the action space: qindex 0..255."""

PEAK = 255.0
"""Largest sample, also of more than 8 bits: their squared errors are told as those of 8 bits."""

SHOW_BITS = 8
"""Bits of a frame that only shows an existing buffer; a coded one's header alone takes more."""

MAX_PSNR_DB = 100.0
"""PSNR given to an error of zero, libvpx's own convention (vpx_dsp/psnr.h)."""


class UpdateType(enum.IntEnum):
    """Why a frame is coded; numbers as libvpx's `FRAME_UPDATE_TYPE`."""

    KEY = 0
    LEAF = 1
    GOLDEN = 2
    ARF = 3
    OVERLAY = 4
    MID_OVERLAY = 5
    USE_BUF = 6


class FrameRole(enum.IntEnum):
    """What a coded frame is for, as far as control goes by it."""

    KEY = 0
    BASE_ARF = 1  # the group's first alternate reference; golden frames too
    SECOND_ARF = 2  # alternate references a layer below it
    DEEPER_ARF = 3
    OVERLAY = 4
    LEAF = 5

    @classmethod
    def of(cls, update_type: UpdateType, layer_depth: int) -> FrameRole:
        """The role of a frame of this type at this depth of the pyramid."""
        match update_type:
            case UpdateType.KEY:
                return cls.KEY
            case UpdateType.ARF | UpdateType.GOLDEN:
                return (cls.BASE_ARF, cls.SECOND_ARF, cls.DEEPER_ARF)[
                    min(max(layer_depth, 1), 3) - 1
                ]
            case UpdateType.OVERLAY | UpdateType.MID_OVERLAY:
                return cls.OVERLAY
            case _:
                return cls.LEAF


def is_show_existing(qindex: int, bits: int) -> bool:
    """Whether a reference took the place of a frame: nothing coded is as short.

    Args:
      qindex: the frame's; -1 for one that was planned to show an existing buffer.
      bits: the frame's; `SHOW_BITS`, or 0 if it was hidden and left out.
    """
    return qindex >= 0 and bits <= SHOW_BITS


def psnr_db(sse: float, samples: float, peak: float = PEAK) -> float:
    """PSNR in dB of a summed squared error over `samples` samples.

    10 log10(samples * peak^2 / sse), capped at `MAX_PSNR_DB` as libvpx does.
    """
    if sse <= 0:
        return MAX_PSNR_DB
    return min(10.0 * math.log10(samples * peak * peak / sse), MAX_PSNR_DB)


@dataclass(frozen=True, slots=True)
class FrameInfo:
    """What the encoder tells about the frame that it is about to code.

    Attributes:
      coding_index: position in coding order, from 0, hidden frames included.
      show_index: position in display order, from 0.
      update_type: why the frame is coded.
      shown: False for hidden ARFs.
      gop_index: position in the group of pictures in coding order (key frame 0,
        the first frame after it 1, ...).
      gop_size: coded frames in this group.
      layer_depth: 0 key and golden, 1 base ARF, deeper for the ARF pyramid's layers and
        leaves; 5 for an overlay, in all groups.
      max_layer_depth: depth of the leaves of this group.
      frames_to_key: shown frames left until the next key frame.
      ref_coding_indexes: coding indexes of LAST, GOLDEN, ALTREF; -1 if there is none.
      proposal_qindex: the qindex that libvpx's two-pass VBR would take now.
      proposal_bits: libvpx's bit target for the frame.
      min_qindex: libvpx's active best qindex for the frame (its lower bound).
      max_qindex: libvpx's active worst qindex for the frame (its upper bound).
      boost: libvpx's boost of the group's ARF/golden or key frame, in percent.
      tpl_intra_cost: intra cost of the frame in libvpx's TPL model; 0 if it did not run.
      tpl_mc_dep_cost: cost of all frames of the group that depends on this one, likewise.
    """

    coding_index: int
    show_index: int
    update_type: UpdateType
    shown: bool
    gop_index: int
    gop_size: int
    layer_depth: int
    max_layer_depth: int
    frames_to_key: int
    ref_coding_indexes: tuple[int, int, int]
    proposal_qindex: int
    proposal_bits: int
    min_qindex: int
    max_qindex: int
    boost: int
    tpl_intra_cost: int = 0
    tpl_mc_dep_cost: int = 0

    @property
    def role(self) -> FrameRole:
        """What the frame is for."""
        return FrameRole.of(self.update_type, self.layer_depth)

    @property
    def ends_gop(self) -> bool:
        """Whether the next frame to decide on belongs to another group of pictures.

        Without alternate references libvpx counts a frame too many, unless the group starts
        with a key frame: so there it is true of the last two.
        """
        without_arf = self.max_layer_depth <= 1
        return self.gop_index >= self.gop_size - (2 if without_arf else 1)


class Work(NamedTuple):
    """What libvpx's search did for a frame, counted: the same on any machine, at any load.

    Weighted, it tells the CPU time of clips that the weights were not fitted on: R2 0.993 of
    frames and 0.996 of encodes over speeds 0 to 5, 0.94 to 0.997 at one speed
    (docs/notes/work-count.md). A frame that only shows a buffer has nothing but zeros.

    Attributes:
      modes: modes of blocks that were tried.
      searched: luma samples compared at whole-sample motion.
      inter: samples predicted from references.
      intra: samples predicted from within a frame.
      transformed: samples transformed and quantized.
      coefficients: quantized coefficients that were priced.
      optimized: quantized coefficients of which one less was tried.
      deblocked: samples that the loop filter passed over, each time it did.
      propagated: luma samples that the TPL model transformed.
    """

    modes: int = 0
    searched: int = 0
    inter: int = 0
    intra: int = 0
    transformed: int = 0
    coefficients: int = 0
    optimized: int = 0
    deblocked: int = 0
    propagated: int = 0


@dataclass(frozen=True, slots=True)
class FrameResult:
    """What coding a frame gave.

    Attributes:
      coding_index: as in the frame's `FrameInfo`.
      show_index: as in the frame's `FrameInfo`.
      shown: False for hidden ARFs.
      qindex: the qindex used; -1 for a frame that only shows an existing buffer.
      bits: bits of the coded frame.
      sse: squared error of Y, U, V; for shown frames against the unfiltered source,
        for hidden ARFs against the temporally filtered one.
      samples: number of Y, U, V samples.
      intra_blocks: 8x8 blocks predicted from within the frame.
      inter_blocks: 8x8 blocks predicted from references.
      skip_blocks: 8x8 blocks without residual.
      cpu_seconds: CPU time of libvpx's thread since the result before. What is done between
        frames (look-ahead, temporal filter, TPL) counts for the next one. Waiting for a
        decision, or for a core, takes none; other threads of libvpx are not in it.
      partition: how its superblocks were split, packed; empty but for a probe's frames.
      work: what was done in that time, counted, in all threads of libvpx.
      checksum: of the picture that is shown, as `ffmpeg -f framecrc` tells it of a decoder's;
        None for hidden frames, and where the session was not asked for it.
    """

    coding_index: int
    show_index: int
    shown: bool
    qindex: int
    bits: int
    sse: tuple[int, int, int]
    samples: tuple[int, int, int]
    intra_blocks: int
    inter_blocks: int
    skip_blocks: int
    cpu_seconds: float
    partition: bytes = b""
    work: Work = Work()
    checksum: int | None = None

    @property
    def shows_existing(self) -> bool:
        """Whether a reference took the place of the frame."""
        return is_show_existing(self.qindex, self.bits)

    @property
    def psnr(self) -> float:
        """PSNR in dB over Y, U and V together."""
        return psnr_db(sum(self.sse), sum(self.samples))

    @property
    def psnr_y(self) -> float:
        """PSNR in dB of luma alone."""
        return psnr_db(self.sse[0], self.samples[0])
