"""Policies without learning: what every learned one is measured against."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from muzero_rc.errors import InputError
from muzero_rc.types import KEEP, NUM_QINDEX, FrameDecision, Observation, QindexPolicy

__all__ = [
    "BasePolicy",
    "ConstantPolicy",
    "ProposalPolicy",
    "RandomPolicy",
    "ReplayPolicy",
    "ShiftedPolicy",
    "VbrPolicy",
]


class VbrPolicy(QindexPolicy):
    """libvpx's own two-pass VBR, its recode loop included, byte for byte."""

    name = "vbr"

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        """`KEEP` for all. [B] int32."""
        return np.full(len(observations), KEEP, np.int32)


class ProposalPolicy(QindexPolicy):
    """The control: libvpx's proposal for each frame, applied verbatim, never recoded.

    Not a no-op: from speed 3 on it beats plain VBR clearly, so a learned policy has to
    beat this one, too.
    """

    name = "proposal"

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        """Each observation's proposal. [B] int32."""
        return np.array([o.proposal_qindex for o in observations], np.int32)


class BasePolicy:
    """The controller's proposals as they are: what an agent without opinions does."""

    name = "base"

    def decide(
        self, observations: Sequence[Observation], base: Sequence[FrameDecision]
    ) -> Sequence[FrameDecision]:
        """The proposals."""
        return base


class ShiftedPolicy(QindexPolicy):
    """libvpx's proposals, all shifted alike: what decides in a probe encode that is made again."""

    name = "shifted"

    def __init__(self, step: int) -> None:
        """Takes the qindexes to add."""
        self._step = step

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        """The shifted proposals. [B] int32."""
        qindexes = np.array([o.proposal_qindex for o in observations], np.int32) + self._step
        return np.clip(qindexes, 0, NUM_QINDEX - 1).astype(np.int32)


class ReplayPolicy:
    """Recorded decisions, one after the other."""

    name = "replay"

    def __init__(self, decisions: Iterable[FrameDecision]) -> None:
        """Takes them in coding order."""
        self._decisions = iter(decisions)

    def decide(
        self, observations: Sequence[Observation], base: Sequence[FrameDecision]
    ) -> Sequence[FrameDecision]:
        """The next ones.

        Raises:
          InputError: there are no more.
        """
        found = [decision for decision, _ in zip(self._decisions, base, strict=False)]
        if len(found) < len(base):
            raise InputError("there are more frames to code than were recorded")
        return found


class ConstantPolicy(QindexPolicy):
    """One qindex for all frames."""

    name = "constant"

    def __init__(self, qindex: int) -> None:
        """Takes the qindex, 0..255.

        Raises:
          InputError: qindex is out of range.
        """
        if not 0 <= qindex < NUM_QINDEX:
            raise InputError(f"qindex must be between 0 and {NUM_QINDEX - 1}, not {qindex}")
        self.qindex = qindex

    @property
    def digest(self) -> str:
        """All that a decision depends on."""
        return f"constant:{self.qindex}"

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        """The qindex for all. [B] int32."""
        return np.full(len(observations), self.qindex, np.int32)


class RandomPolicy(QindexPolicy):
    """Uniform over all qindexes; for tests and for exploring."""

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        """Starts a generator of its own from `seed`."""
        self._rng = np.random.default_rng(seed)

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        """A fresh draw for each observation. [B] int32."""
        return self._rng.integers(0, NUM_QINDEX, len(observations), dtype=np.int32)
