"""What a policy sees, and the protocol of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from muzero_rc.errors import InputError
from muzero_rc.types.decision import FrameDecision
from muzero_rc.types.frame import NUM_QINDEX

__all__ = ["HasBlocks", "KnownBlocks", "Observation", "Policy", "QindexPolicy", "needs_blocks"]


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
        enough to be trusted, and for a frame that is to stay without loss; masks of actions
        go by it.
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
          InputError: they are not whole numbers, one for each observation, or one is out of
            range.
        """
        answer = self.qindexes(observations)
        qindexes = np.asarray(answer)
        if qindexes.shape != (len(base),) or (qindexes.size and qindexes.dtype.kind not in "iu"):
            raise InputError(
                f"policy {self.name} must give a whole number for each of {len(base)} frames, "
                f"not {answer!r}"
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
