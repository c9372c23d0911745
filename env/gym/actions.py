"""What an action of the environment means: a qindex, or an offset to libvpx's proposal."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from muzero_rc.errors import InputError
from muzero_rc.types import NUM_QINDEX, FrameInfo

__all__ = [
    "ActionKind",
    "ActionMap",
    "ProposalOffsetAction",
    "QindexAction",
    "make_action_map",
]

ActionKind = Literal["qindex", "proposal_offset"]

_MIDDLE = NUM_QINDEX // 2


class ActionMap(Protocol):
    """From an action to a qindex, and which actions are allowed."""

    @property
    def num_actions(self) -> int:
        """Actions are 0 to this - 1."""

    def qindex(self, action: int, info: FrameInfo) -> int:
        """The qindex, 0..255, that an action means for a frame."""

    def mask(self, info: FrameInfo) -> npt.NDArray[np.int8]:
        """[num_actions] 1 where allowed; every reachable qindex exactly once. A new array."""


class QindexAction:
    """The action is the qindex."""

    num_actions = NUM_QINDEX

    def qindex(self, action: int, info: FrameInfo) -> int:
        """The action itself."""
        return action

    def mask(self, info: FrameInfo) -> npt.NDArray[np.int8]:
        """All allowed."""
        return np.ones(NUM_QINDEX, np.int8)


class ProposalOffsetAction:
    """The action is an offset to libvpx's proposal: 128 is the proposal itself."""

    num_actions = NUM_QINDEX

    def qindex(self, action: int, info: FrameInfo) -> int:
        """Proposal + action - 128, clipped to 0..255."""
        return min(max(info.proposal_qindex + action - _MIDDLE, 0), NUM_QINDEX - 1)

    def mask(self, info: FrameInfo) -> npt.NDArray[np.int8]:
        """Allows the offsets that stay within 0..255."""
        reached = info.proposal_qindex + np.arange(NUM_QINDEX) - _MIDDLE
        return ((reached >= 0) & (reached < NUM_QINDEX)).astype(np.int8)


def make_action_map(kind: ActionKind) -> ActionMap:
    """The action map of that name.

    Raises:
      InputError: unknown name.
    """
    kinds: dict[str, type[QindexAction | ProposalOffsetAction]] = {
        "qindex": QindexAction,
        "proposal_offset": ProposalOffsetAction,
    }
    if kind not in kinds:
        raise InputError(f"action must be one of {', '.join(kinds)}, not {kind!r}")
    return kinds[kind]()
