"""Policies without learning: what every learned one is measured against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from muzero_rc.errors import InputError
from muzero_rc.types import KEEP, NUM_QINDEX, Observation

__all__ = ["BaseQindexPolicy", "ConstantPolicy", "ProposalPolicy", "RandomPolicy", "VbrPolicy"]


class VbrPolicy:
    """libvpx's own two-pass VBR, its recode loop included, byte for byte."""

    name = "vbr"

    def decide(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        """`KEEP` for all. [B] int32."""
        return np.full(len(observations), KEEP, np.int32)


class ProposalPolicy:
    """The control: libvpx's proposal for each frame, applied verbatim, never recoded.

    Not a no-op: from speed 3 on it beats plain VBR clearly, so a learned policy has to
    beat this one, too.
    """

    name = "proposal"

    def decide(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        """Each observation's proposal. [B] int32."""
        return np.array([o.proposal_qindex for o in observations], np.int32)


class BaseQindexPolicy:
    """The control brought to the budget by the feedback on spending, see `env.landing`.

    What an agent without opinions does.
    """

    name = "anchor"

    def decide(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        """Each observation's anchor. [B] int32."""
        return np.array([o.base_qindex for o in observations], np.int32)


class ConstantPolicy:
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

    def decide(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        """The qindex for all. [B] int32."""
        return np.full(len(observations), self.qindex, np.int32)


class RandomPolicy:
    """Uniform over all qindexes; for tests and for exploring."""

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        """Starts a generator of its own from `seed`."""
        self._rng = np.random.default_rng(seed)

    def decide(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        """A fresh draw for each observation. [B] int32."""
        return self._rng.integers(0, NUM_QINDEX, len(observations), dtype=np.int32)
