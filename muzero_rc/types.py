"""Vocabulary shared by the encoder side and the agent side: plain data, no behaviour.

Words as in libvpx and the paper: a *coded* frame is every call to code a frame,
hidden alternate-reference frames (ARF) included; a *shown* frame has a display
time. `qindex` is VP9's quantizer index 0..255.
"""

from __future__ import annotations

import enum
import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from muzero_rc.errors import InputError

__all__ = [
    "FROZEN",
    "KEEP",
    "MAX_PSNR_DB",
    "NUM_QINDEX",
    "SHOW_BITS",
    "STREAM_SPEED",
    "EncodeLog",
    "EpisodeScore",
    "FrameDecision",
    "FrameInfo",
    "FrameRecord",
    "FrameResult",
    "FrameRole",
    "GopDecision",
    "GopLimits",
    "Observation",
    "Policy",
    "PartitionHint",
    "QindexPolicy",
    "RateAccount",
    "ShowExisting",
    "SpeedFeatures",
    "UpdateType",
    "is_show_existing",
    "HasBlocks",
    "KnownBlocks",
    "Work",
    "needs_blocks",
    "psnr_db",
]

NUM_QINDEX = 256
"""Size of the action space: qindex 0..255."""

KEEP = -1
"""Decision that leaves the frame to libvpx: its own qindex and its own recode loop."""

STREAM_SPEED = -1
"""Speed of a frame that is coded at the stream's."""

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


class SpeedFeatures(enum.IntFlag):
    """Shortcuts of its speed that a frame's search does not take; `vpx_rc_thorough`."""

    NONE = 0
    ALL_MODES = 1  # none is left out for how rarely it won
    ALL_TRANSFORMS = 2  # of every size


class ShowExisting(enum.IntEnum):
    """Whether a reference may be shown in the place of a frame; `vpx_rc_repeat`.

    Of a leaf frame or an alternate reference below the base; for others it changes nothing.
    """

    NEVER = 0
    CHEAPER = 1  # where that costs less than the coded frame, by rate and distortion
    ALWAYS = 2  # without coding the frame


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


def psnr_db(sse: float, samples: float, peak: float = 255.0) -> float:
    """PSNR in dB of a summed squared error over `samples` samples.

    10 log10(samples * peak^2 / sse), capped at `MAX_PSNR_DB` as libvpx does.
    """
    if sse <= 0:
        return MAX_PSNR_DB
    return min(10.0 * math.log10(samples * peak * peak / sse), MAX_PSNR_DB)


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


class FrameRecord(NamedTuple):
    """A frame of an encode.

    Attributes:
      info: its description; None for one that only shows an existing buffer.
      decision: how it was asked to be coded; None likewise.
      result: what came of it.
    """

    info: FrameInfo | None
    decision: FrameDecision | None
    result: FrameResult


@dataclass(frozen=True, slots=True)
class EncodeLog:
    """The one record of an encode: all decisions and all results.

    With the clip, libvpx's settings and its first pass it gives the same bytes again.

    Attributes:
      frames: in coding order, frames that only show an existing buffer included.
      size_bytes: of the stream's packets.
      speed: `cpu-used` that libvpx was opened with.
      gops: limits of groups of pictures, by the shown frame that they start with.
    """

    frames: Sequence[FrameRecord]
    size_bytes: int
    speed: int
    gops: tuple[GopLimits, ...] = ()

    @classmethod
    def of_pairs(
        cls,
        pairs: Iterable[tuple[FrameInfo | None, FrameResult]],
        size_bytes: int,
        gops: tuple[GopLimits, ...] = (),
    ) -> EncodeLog:
        """The log of an encode whose decisions are not known."""
        frames = tuple(FrameRecord(info, None, result) for info, result in pairs)
        return cls(frames, size_bytes, STREAM_SPEED, gops)

    @property
    def results(self) -> list[FrameResult]:
        """Results of all frames, in coding order."""
        return [frame.result for frame in self.frames]

    @property
    def decisions(self) -> list[FrameDecision]:
        """Decisions on the coded frames, in coding order."""
        return [frame.decision for frame in self.frames if frame.decision is not None]

    @property
    def pairs(self) -> list[tuple[FrameInfo | None, FrameResult]]:
        """Description and result of every frame, in coding order."""
        return [(frame.info, frame.result) for frame in self.frames]

    @property
    def qindexes(self) -> list[int]:
        """The qindex used for each coded frame, in coding order."""
        return [frame.result.qindex for frame in self.frames if frame.info is not None]

    @property
    def superframe_index_bits(self) -> int:
        """What the stream has beyond its frames: the indexes that join hidden to shown ones."""
        return max(8 * self.size_bytes - sum(result.bits for result in self.results), 0)


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
      rate_offset: qindexes to add to it to come back to the budget.
      reach: how far from `base_qindex` an agent may go; 0 where it has not learned
        enough to be trusted; masks of actions go by it.
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
    """Decides on frames, of one or of many encodes at a time."""

    name: str

    def decide(
        self, observations: Sequence[Observation], base: Sequence[FrameDecision]
    ) -> Sequence[FrameDecision]:
        """A decision for each observation.

        Args:
          observations: B of them.
          base: the controller's proposals for the same frames; a policy adjusts them.
        """
        ...


class QindexPolicy:
    """A policy that chooses the quantizer alone; all else is as the controller proposes."""

    name = "qindex"

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        """qindex 0..255, or `KEEP`, for each observation. [B] int32."""
        raise NotImplementedError

    def decide(
        self, observations: Sequence[Observation], base: Sequence[FrameDecision]
    ) -> Sequence[FrameDecision]:
        """The proposals with these qindexes.

        Raises:
          InputError: there is not one for each observation, or one is out of range.
        """
        qindexes = self.qindexes(observations)
        if len(qindexes) != len(base):
            raise InputError(
                f"policy {self.name} gave {len(qindexes)} qindexes for {len(base)} frames"
            )
        return [
            proposal.with_qindex(int(qindex))
            for proposal, qindex in zip(base, qindexes, strict=True)
        ]


def needs_blocks(policy: Policy) -> bool:
    """Whether a policy says by an attribute `needs_blocks` that it reads `Observation.blocks`.

    Who runs the first pass for it then keeps the blocks at once instead of at first access.
    """
    return bool(getattr(policy, "needs_blocks", False))
