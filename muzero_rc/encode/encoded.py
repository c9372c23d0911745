"""What an encode made, in one piece or in chunks."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from muzero_rc.env.control.work_budget import WorkSpent
from muzero_rc.errors import EncoderError
from muzero_rc.types import EpisodeScore, FrameResult

__all__ = ["Encoded"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A stream in a file.

    Attributes:
      score: of the whole clip.
      video_bytes: of all packets.
      sha256: of the file.
      seconds: wall time of all passes but the first.
      probe_seconds: wall time of the probes.
      decision_seconds: wall time of observing and deciding, of all workers together.
      qindexes: of each coded frame, in coding order.
      results: of every frame, in coding order.
      chunks: that it was encoded in; 1 for a clip that was not cut.
      chunks_again: of them, those that were made again for the target.
      work: counted work of all of it, and what VBR is expected to take, under a budget of time;
        else None.
    """

    score: EpisodeScore
    video_bytes: int
    sha256: str
    seconds: float
    probe_seconds: float
    decision_seconds: float
    qindexes: list[int]
    results: Sequence[FrameResult]
    chunks: int = 1
    chunks_again: int = 0
    work: WorkSpent | None = None

    def pictures(self) -> Sequence[int]:
        """Checksum of each picture that is shown, in display order.

        Raises:
          EncoderError: one is not known, so that nothing can be compared with it.
        """
        sums = array("I")
        for result in self.results:  # VP9 shows frames in the order of their coding
            if result.shown and result.checksum is None:
                raise EncoderError(f"frame {len(sums)} was encoded without a checksum")
            if result.shown and result.checksum is not None:
                sums.append(result.checksum)
        return sums
