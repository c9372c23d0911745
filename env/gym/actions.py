"""What an action of the environment means: a decision on the frame, as near as it may be.

The controller proposes a `FrameDecision`; an action changes its quantizer, or all of it. The
safety rule of the controller, its `reach`, is part of every mask.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from muzero_rc.errors import InputError
from muzero_rc.types import NUM_QINDEX, FrameDecision, FrameInfo, GopDecision, ShowExisting

__all__ = [
    "ActionKind",
    "ActionMap",
    "FullAction",
    "ProposalOffsetAction",
    "QindexAction",
    "make_action_map",
]

ActionKind = Literal["qindex", "proposal_offset", "full"]

_MIDDLE = NUM_QINDEX // 2
_SPEEDS = 10  # cpu-used 0..9
_MOST_FRAMES = 25  # of a group: libvpx looks no farther ahead
_MOST_LAYERS = 6  # of alternate references, as auto-alt-ref has it


class ActionMap(Protocol):
    """From an action to a decision, and which actions are allowed."""

    @property
    def space(self) -> spaces.Space[Any]:
        """The action space."""

    def decision(self, action: Any, info: FrameInfo, base: FrameDecision) -> FrameDecision:
        """The decision that an action means for a frame, before the mask.

        Raises:
          InputError: the action is not in the space.
        """

    def mask(self, info: FrameInfo, base: FrameDecision, reach: int) -> npt.NDArray[np.int8]:
        """1 where allowed: [n] of `Discrete(n)`, of `MultiDiscrete` its parts joined."""


def _array(action: Any) -> npt.NDArray[Any]:
    """The action as an array; one of uneven lists as an empty one, which no space has."""
    try:
        return np.asarray(action)
    except ValueError:
        return np.empty(0, object)


def _whole(action: Any, count: int) -> int:
    """An action of `Discrete(count)`; 3.7 is none."""
    array = _array(action)
    if array.shape != () or array.dtype.kind not in "iu" or not 0 <= int(array) < count:
        raise InputError(f"action must be a whole number from 0 to {count - 1}, not {action!r}")
    return int(array)


def _near(qindexes: npt.NDArray[np.int64], base: FrameDecision, reach: int) -> npt.NDArray[np.int8]:
    inside = (qindexes >= 0) & (qindexes < NUM_QINDEX)
    near = inside & (np.abs(qindexes - base.qindex) <= reach)
    return near.astype(np.int8)


class QindexAction:
    """The action is the qindex; all else is as the controller proposes."""

    def __init__(self) -> None:
        """Makes the space."""
        self.space = spaces.Discrete(NUM_QINDEX)

    def decision(self, action: Any, info: FrameInfo, base: FrameDecision) -> FrameDecision:
        """The proposal with that qindex."""
        return base.with_qindex(_whole(action, NUM_QINDEX))

    def mask(self, info: FrameInfo, base: FrameDecision, reach: int) -> npt.NDArray[np.int8]:
        """Allows the qindexes within reach. [256]."""
        return _near(np.arange(NUM_QINDEX), base, reach)


class ProposalOffsetAction:
    """The action is an offset to libvpx's proposal: 128 is the proposal itself."""

    def __init__(self) -> None:
        """Makes the space."""
        self.space = spaces.Discrete(NUM_QINDEX)

    def decision(self, action: Any, info: FrameInfo, base: FrameDecision) -> FrameDecision:
        """Proposal + action - 128, clipped to 0..255."""
        qindex = info.proposal_qindex + _whole(action, NUM_QINDEX) - _MIDDLE
        return base.with_qindex(min(max(qindex, 0), NUM_QINDEX - 1))

    def mask(self, info: FrameInfo, base: FrameDecision, reach: int) -> npt.NDArray[np.int8]:
        """Allows the offsets to a qindex within 0..255 and within reach. [256]."""
        return _near(info.proposal_qindex + np.arange(NUM_QINDEX) - _MIDDLE, base, reach)


class FullAction:
    """The action is (qindex offset, speed, show-existing, frames and layers of the next group).

    Its space is `MultiDiscrete([256, 11, 4, 26, 7])`. The first part minus 128 is added to the
    controller's qindex. The second is 0 for the controller's speed of the frame, else
    `cpu-used` plus 1. The third is 0 for what the controller proposes, else `ShowExisting`
    plus 1. The last two count with the last frame of a group alone, after which the encoder
    lays out the next one: the most frames and the most layers of alternate references that it
    may have, 0 for what the controller proposes.
    """

    _PARTS = (
        NUM_QINDEX,
        _SPEEDS + 1,
        len(ShowExisting) + 1,
        _MOST_FRAMES + 1,
        _MOST_LAYERS + 1,
    )

    def __init__(self) -> None:
        """Makes the space."""
        self.space = spaces.MultiDiscrete(list(self._PARTS))

    def decision(self, action: Any, info: FrameInfo, base: FrameDecision) -> FrameDecision:
        """The proposal with these changes; the qindex is clipped to 0..255."""
        parts = _array(action)
        if parts.shape != (len(self._PARTS),):
            raise InputError(f"action must be {len(self._PARTS)} whole numbers, not {action!r}")
        offset, speed, shown, frames, layers = (
            _whole(p, n) for p, n in zip(parts, self._PARTS, strict=True)
        )
        qindex = base.qindex + offset - _MIDDLE
        decision = base.with_qindex(min(max(qindex, 0), NUM_QINDEX - 1))
        changes: dict[str, Any] = {}
        if speed:
            changes["speed"] = speed - 1
        if shown:
            changes["show_existing"] = ShowExisting(shown - 1)
        if info.ends_gop:
            proposed = base.next_gop
            changes["next_gop"] = GopDecision(frames or proposed.frames, layers or proposed.layers)
        return decision.replace(**changes)

    def mask(self, info: FrameInfo, base: FrameDecision, reach: int) -> npt.NDArray[np.int8]:
        """Allows offsets within reach, all speeds and show-existing, groups at a group's end.

        [256 + 11 + 4 + 26 + 7].
        """
        near = _near(base.qindex + np.arange(NUM_QINDEX) - _MIDDLE, base, reach)
        free = np.ones(sum(self._PARTS[1:3]), np.int8)
        groups = [np.arange(count) == 0 for count in self._PARTS[3:]]
        allowed = np.concatenate(groups) | info.ends_gop
        return np.concatenate([near, free, allowed.astype(np.int8)])


def make_action_map(kind: ActionKind) -> ActionMap:
    """The action map of that name.

    Raises:
      InputError: unknown name.
    """
    kinds: dict[str, type[QindexAction | ProposalOffsetAction | FullAction]] = {
        "qindex": QindexAction,
        "proposal_offset": ProposalOffsetAction,
        "full": FullAction,
    }
    if kind not in kinds:
        raise InputError(f"action must be one of {', '.join(kinds)}, not {kind!r}")
    return kinds[kind]()
