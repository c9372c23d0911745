"""Vocabulary shared by the encoder side and the agent side: plain data, no behaviour.

Words as in libvpx and the paper: a *coded* frame is every call to code a frame,
hidden alternate-reference frames (ARF) included; a *shown* frame has a display
time. `qindex` is VP9's quantizer index 0..255.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

__all__ = [
    "KEEP",
    "MAX_PSNR_DB",
    "NUM_QINDEX",
    "SHOW_BITS",
    "EpisodeScore",
    "FrameInfo",
    "FrameResult",
    "Observation",
    "Policy",
    "UpdateType",
    "is_show_existing",
    "HasBlocks",
    "KnownBlocks",
    "needs_blocks",
    "psnr_db",
]

NUM_QINDEX = 256
"""Size of the action space: qindex 0..255."""

KEEP = -1
"""Decision that leaves the frame to libvpx: its own qindex and its own recode loop."""

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


def is_show_existing(qindex: int, bits: int) -> bool:
    """Whether a reference took the place of a frame: nothing coded is as short.

    Args:
      qindex: the frame's; -1 for one that was planned to show an existing buffer.
      bits: the frame's; `SHOW_BITS`, or 0 if it was hidden and left out.
    """
    return qindex >= 0 and bits <= SHOW_BITS


def psnr_db(sse: float, samples: float, peak: float = 255.0) -> float:
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
      layer_depth: 0 key, 1 base ARF, deeper for the ARF pyramid's layers and leaves.
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
      seconds: time libvpx took for the frame, decision time not included.
      partition: how its superblocks were split, packed; empty but for a probe's frames.
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
    seconds: float
    partition: bytes = b""

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


@dataclass(frozen=True, slots=True)
class EpisodeScore:
    """Raw outcome of encoding one clip at one target; rewards are functions of it.

    Attributes:
      clip: identity of the clip (content hash or name).
      target_kbps: bitrate asked for.
      actual_kbps: 8 * bytes of all packets / duration / 1000.
      bits: 8 * bytes of all packets: the coded frames and what binds hidden ones to them.
      psnr_avg: mean over shown frames of the frame's PSNR over Y+U+V, dB.
      psnr_overall: PSNR of the clip's summed squared error over Y+U+V, dB.
      psnr_y: mean over shown frames of luma PSNR, dB.
      shown_frames: number of shown frames.
      coded_frames: number of coded frames.
    """

    clip: str
    target_kbps: float
    actual_kbps: float
    bits: int
    psnr_avg: float
    psnr_overall: float
    psnr_y: float
    shown_frames: int
    coded_frames: int

    @property
    def overshoot(self) -> float:
        """actual / target - 1, signed; its positive part is what violates."""
        return self.actual_kbps / self.target_kbps - 1.0


class HasBlocks(Protocol):
    """A first pass that may know the statistics of every block."""

    @property
    def blocks(self) -> npt.NDArray[np.float16] | None:
        """[T, rows, columns, BLOCK_FEATURES] float16, normalised; None if it has none."""


@dataclass(frozen=True, slots=True)
class KnownBlocks:
    """Blocks without their first pass."""

    blocks: npt.NDArray[np.float16] | None


@dataclass(frozen=True, slots=True)
class Observation:
    """What an agent sees before a decision; lengths vary, nothing is padded.

    Attributes:
      clip: [T, CLIP_FEATURES] float32, normalised first-pass statistics of all T
        shown frames; one array per clip, shared by all its observations.
      history: [H, HISTORY_FEATURES] float32, a row per frame coded so far.
      frame: [FRAME_FEATURES] float32, the frame to code now.
      globals: [GLOBAL_FEATURES] float32, target, budget and encoder settings.
      show_index: display index of the frame to code, a row of `clip`.
      proposal_qindex: libvpx's own qindex for the frame.
      rate_offset: qindexes to add to it to come back to the budget, see `env.control.rate`.
      reach: how far from `base_qindex` an agent may go; 0 where it has not learned
        enough to be trusted, see `env.control.rate`.
      first_pass: of the clip; `blocks` come from it.
    """

    clip: npt.NDArray[np.float32]
    history: npt.NDArray[np.float32]
    frame: npt.NDArray[np.float32]
    globals: npt.NDArray[np.float32]
    show_index: int
    proposal_qindex: int
    rate_offset: int = 0
    reach: int = NUM_QINDEX
    first_pass: HasBlocks | None = None

    @property
    def blocks(self) -> npt.NDArray[np.float16] | None:
        """[T, rows, columns, BLOCK_FEATURES] float16, first-pass statistics of every block.

        One array per clip. The first access may run another first pass, see
        `muzero_rc.env.codec.first_pass.FirstPass`. None where nothing has them.
        """
        return getattr(self.first_pass, "blocks", None)

    @property
    def base_qindex(self) -> int:
        """libvpx's proposal, brought back to the budget: where an agent starts from."""
        return min(max(self.proposal_qindex + self.rate_offset, 0), NUM_QINDEX - 1)


@runtime_checkable
class Policy(Protocol):
    """Answers "which qindex" for one or many sessions at a time."""

    name: str

    def decide(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        """qindex 0..255, or `KEEP`, for each observation. [B] int32."""
        ...


def needs_blocks(policy: Policy) -> bool:
    """Whether a policy says by an attribute `needs_blocks` that it reads `Observation.blocks`.

    Who runs the first pass for it then keeps the blocks at once instead of at first access.
    """
    return bool(getattr(policy, "needs_blocks", False))
