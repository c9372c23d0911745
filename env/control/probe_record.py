"""The probe: a quick encode between the first pass and the last.

What the first pass knows of a frame tells what it will cost within a factor of 1.3 only,
and the factor common to all frames of a clip not at all: feedback on spending learns it on
the way, too late for the frames before. So with three passes the clip is encoded twice:
as fast as libvpx can, and then for good, with the same plan and with the costs of the first
encode in hand (`env.probed_landing`), looking for blocks near the sizes that it found
(`recipe.PartitionReuse`). x264's third pass does this with a whole encode.

For both encodes libvpx's plan is kept from reacting to what frames cost, and its model of
bits learns from the probe's frames in both, so that their groups of pictures and proposals
are the same. A probe that comes out far from its target is run once more, nearer
(`env.control.rate.probe.next_probe_step`), at the slower speeds several times, for the choice of
its
groups (`env.control.gop`); a last pass that still misses its target is made again by what it
told of the costs (`env.passes.pipeline`). Ours; the paper has two passes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from muzero_rc.env.control.plan import PlannedFrame
from muzero_rc.env.control.work_plan import WorkPlan
from muzero_rc.types import EncodeLog, FrameInfo, GopLimits, UpdateType, psnr_db

__all__ = ["SATURATED_DB", "ProbeFrame", "ProbeRecord"]

SATURATED_DB = 45.0
"""PSNR of an encode above which next to nothing is left to win.

Set by hand for training, which leaves such clips out: nothing was learned above it.
"""


@dataclass(frozen=True, slots=True)
class ProbeFrame:
    """A frame of the probe, coded or only shown.

    Attributes:
      update_type: what it is for; None for a buffer that is shown again.
      show_index: place among the shown frames.
      shown: False for hidden frames.
      proposal_qindex: libvpx's.
      qindex: that it was coded with, -1 for a buffer.
      bits: that it took.
      partition: how its superblocks were split, packed by the native session.
      shows_existing: a reference took its place.
      final_pass_bits: what it took at this qindex in a last pass; None before there was one.
      planned: what a plan says of it; None without one.
    """

    update_type: UpdateType | None
    show_index: int
    shown: bool
    proposal_qindex: int
    qindex: int
    bits: int
    partition: bytes = b""
    shows_existing: bool = False
    final_pass_bits: float | None = None
    planned: PlannedFrame | None = None

    @property
    def cost(self) -> float:
        """Bits that it is expected to take at its qindex and its plan's step from there."""
        if self.final_pass_bits is not None:
            return self.final_pass_bits
        return self.bits if self.planned is None else self.planned.bits


@dataclass(frozen=True, slots=True)
class ProbeRecord:
    """What the probe's frames were.

    Attributes:
      frames: in coding order.
      coded: those of them that were coded, by coding index.
      shift: of all its qindexes from libvpx's proposals, as far as they go.
      superframe_index_bits: what the stream has beyond the frames' bits: the indexes that bind
        hidden frames to shown ones.
      refined: a last pass has told what frames cost.
      gops: limits that its groups of pictures have, and are to have in the last pass.
      log: the encode itself, for who plans.
      work: what the last pass may spend on which frames; None leaves it to the speed profile.
      saturated: its PSNR overall is above `SATURATED_DB`.
    """

    frames: tuple[ProbeFrame, ...]
    coded: Mapping[int, ProbeFrame]
    shift: int
    superframe_index_bits: int
    refined: bool = False
    gops: tuple[GopLimits, ...] = ()
    log: EncodeLog | None = dataclasses.field(default=None, compare=False, repr=False)
    work: WorkPlan | None = dataclasses.field(default=None, compare=False, repr=False)
    saturated: bool = False

    @classmethod
    def of(cls, log: EncodeLog) -> ProbeRecord:
        """The record of a finished encode, or of what was put together from several."""
        record: list[ProbeFrame] = []
        coded: dict[int, ProbeFrame] = {}
        sse = samples = 0
        for info, _, result in log.frames:
            if result.shown:
                sse, samples = sse + sum(result.sse), samples + sum(result.samples)
            frame = ProbeFrame(
                update_type=None if info is None else info.update_type,
                show_index=result.show_index,
                shown=result.shown,
                proposal_qindex=-1 if info is None else info.proposal_qindex,
                qindex=result.qindex,
                bits=result.bits,
                partition=result.partition,
                shows_existing=result.shows_existing,
            )
            record.append(frame)
            if info is not None:
                coded[info.coding_index] = frame
        # The frame that was furthest from the ends of the range tells it.
        shifts = [frame.qindex - frame.proposal_qindex for frame in coded.values()]
        shift = max(shifts, key=abs, default=0)
        return cls(
            tuple(record), coded, shift, log.superframe_index_bits,
            gops=log.gops, log=log, saturated=psnr_db(sse, samples) > SATURATED_DB,
        )  # fmt: skip

    def with_plan(self, plan: Mapping[int, PlannedFrame]) -> ProbeRecord:
        """The record of a last pass that goes by a plan, see `Plans`."""
        if not plan:
            return self
        place = {id(frame): at for at, frame in enumerate(self.frames)}
        frames = list(self.frames)
        coded = dict(self.coded)
        for index, planned in plan.items():
            frame = coded[index]
            coded[index] = dataclasses.replace(frame, planned=planned)
            frames[place[id(frame)]] = coded[index]
        return dataclasses.replace(self, frames=tuple(frames), coded=coded)

    def matching_frame(self, info: FrameInfo) -> ProbeFrame | None:
        """The probe's frame of the same place and purpose; None if it went another way."""
        frame = self.coded.get(info.coding_index)
        if frame is None or frame.show_index != info.show_index:
            return None
        return frame if frame.update_type is info.update_type else None
