"""The record of an encode: every frame with its description, decision and result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from muzero_rc.types.decision import STREAM_SPEED, FrameDecision, GopLimits
from muzero_rc.types.frame import FrameInfo, FrameResult

__all__ = ["EncodeLog", "EpisodeScore", "FrameRecord"]


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
