"""Exploration: signed steps in blocks of frames, around whatever a policy decides.

A block is all frames of one role in one group of pictures. One encode moves every second
group, each block by a sign of its own, so that it is several local experiments at once;
encodes come in pairs of opposite sign. Signs are drawn so that about as many bits are made
dearer as cheaper: the rate controller then has little to put right. Probe encodes, which
have no rate controller, carry rows of a Hadamard matrix over all blocks, brought to zero in
the mean of rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.linalg

from muzero_rc.env.control.recipe import SpeedsByRole
from muzero_rc.types import (
    KEEP,
    NUM_QINDEX,
    TIERS,
    EncodeLog,
    FrameDecision,
    FrameRole,
    Observation,
    Policy,
    UpdateType,
)

__all__ = [
    "TIER_REACH",
    "FrameKey",
    "PatternFrame",
    "SteppedPolicy",
    "Steps",
    "TieredPolicy",
    "Tiers",
    "arf_steps",
    "block_steps",
    "block_tiers",
    "hadamard_steps",
    "mixed_tiers",
    "opposite",
    "pattern_frames",
]

_DRAWS = 64  # of signs, of which the best balanced are taken
_ARFS = (FrameRole.BASE_ARF, FrameRole.SECOND_ARF, FrameRole.DEEPER_ARF)


class FrameKey(NamedTuple):
    """What tells a frame from the others of its encode, whoever sees it.

    Attributes:
      show_index: place in display order.
      update_type: why it is coded.
    """

    show_index: int
    update_type: UpdateType


Steps = Mapping[FrameKey, int]
"""qindexes to add; a frame that is not in it stays where it is."""


Tiers = Mapping[FrameKey, int]
"""`cpu-used` of frames; a frame that is not in it keeps its own."""

TIER_REACH = 2
"""Tiers that a frame is moved by at most: beyond it none lies on the curve of rate over time."""


class PatternFrame(NamedTuple):
    """A frame that a pattern may move.

    Attributes:
      key: of the frame.
      group: of pictures, counted from 0; a key frame belongs to the group that follows it.
      role: what the frame is for.
      bits: that it took in a probe encode.
    """

    key: FrameKey
    group: int
    role: FrameRole
    bits: int


def pattern_frames(log: EncodeLog) -> list[PatternFrame]:
    """The coded frames of a probe encode, in coding order."""
    last_shown = max((frame.result.show_index for frame in log.frames), default=0)
    group = -1
    after_key = False
    frames = []
    for info, _, result in log.frames:
        if info is None:
            continue
        starts = info.role is FrameRole.KEY or (info.role is FrameRole.BASE_ARF and not after_key)
        group += starts or group < 0
        after_key = info.role is FrameRole.KEY or (after_key and info.role not in _ARFS[:1])
        key = FrameKey(min(info.show_index, last_shown), info.update_type)
        frames.append(PatternFrame(key, group, info.role, result.bits))
    return frames


class SteppedPolicy:
    """Another policy's choices, whatever it is, with steps added."""

    name = "stepped"

    def __init__(self, base: Policy, steps: Steps) -> None:
        """Takes the policy and the steps."""
        self._base = base
        self._steps = dict(steps)

    def decide(
        self, observations: Sequence[Observation], base: Sequence[FrameDecision]
    ) -> Sequence[FrameDecision]:
        """The policy's decisions with moved qindexes; what is left to libvpx stays so."""
        decided = self._base.decide(observations, base)
        return [
            self._moved(observation, decision)
            for observation, decision in zip(observations, decided, strict=True)
        ]

    def _moved(self, observation: Observation, decision: FrameDecision) -> FrameDecision:
        step = self._steps.get(_key(observation), 0)
        if step == 0 or decision.qindex == KEEP:
            return decision
        return decision.with_qindex(min(max(decision.qindex + step, 0), NUM_QINDEX - 1))


class TieredPolicy:
    """Another policy's choices, with some frames searched at another speed."""

    name = "tiered"

    def __init__(self, base: Policy, tiers: Tiers) -> None:
        """Takes the policy and the tiers."""
        self._base = base
        self._tiers = dict(tiers)

    def decide(
        self, observations: Sequence[Observation], base: Sequence[FrameDecision]
    ) -> Sequence[FrameDecision]:
        """The policy's decisions with other speeds of frames."""
        decided = self._base.decide(observations, base)
        return [
            decision.replace(speed=self._tiers.get(_key(observation), decision.speed))
            for observation, decision in zip(observations, decided, strict=True)
        ]


def _key(observation: Observation) -> FrameKey:
    kind = UpdateType(int(np.argmax(observation.frame[: len(UpdateType)])))
    return FrameKey(observation.show_index, kind)


def block_tiers(
    frames: Sequence[PatternFrame], own: SpeedsByRole, rng: np.random.Generator, parity: int
) -> Tiers:
    """Every second group moved, each role in it to a tier of its own.

    Every second leaf frame, by lot, has a draw of its own.

    Args:
      frames: of the encode.
      own: tiers that frames have without it.
      rng: draws the tiers.
      parity: as for `block_steps`.
    """
    drawn: dict[tuple[int, FrameRole], int] = {}
    tiers = {}
    for frame in _alternate(frames, parity):
        block = frame.group, frame.role
        if block not in drawn:
            drawn[block] = _other_tier(own.of(frame.role), rng)
        alone = frame.role is FrameRole.LEAF and rng.integers(2) == 1
        tiers[frame.key] = _other_tier(own.of(frame.role), rng) if alone else drawn[block]
    return tiers


def mixed_tiers(
    frames: Sequence[PatternFrame], own: SpeedsByRole, rng: np.random.Generator
) -> Tiers:
    """All frames of a role at one tier, a draw that may be its own, in the whole encode.

    Args:
      frames: of the encode.
      own: tiers that frames have without it.
      rng: draws the tiers.
    """
    drawn = {
        role: own.of(role) if rng.integers(2) else _other_tier(own.of(role), rng)
        for role in FrameRole
    }
    return {frame.key: drawn[frame.role] for frame in frames}


def _other_tier(own: int, rng: np.random.Generator) -> int:
    low, high = max(own - TIER_REACH, 0), min(own + TIER_REACH, TIERS - 1)
    return int(rng.choice([tier for tier in range(low, high + 1) if tier != own]))


def opposite(steps: Steps) -> Steps:
    """The same steps the other way."""
    return {key: -step for key, step in steps.items()}


def block_steps(
    frames: Sequence[PatternFrame], rng: np.random.Generator, size: int, parity: int
) -> Steps:
    """Every second group moved, each role in it by a sign of its own.

    Leaf frames are moved half as far again, or half as far, each by its own draw.

    Args:
      frames: of the encode.
      rng: draws the signs.
      size: qindexes.
      parity: 0 moves the first group, the third ..., 1 the others, if there are any.
    """
    moved = _alternate(frames, parity)
    blocks = sorted({(frame.group, frame.role) for frame in moved})
    place = [blocks.index((frame.group, frame.role)) for frame in moved]
    bits = np.bincount(place, [frame.bits for frame in moved], len(blocks))
    signs = rng.choice((-1, 1), (_DRAWS, len(blocks)))
    best = signs[int(np.argmin(np.abs(signs @ bits)))]
    own = rng.choice((-1, 1), len(moved)) * (size // 2)
    return {
        frame.key: int(size * best[block] + (own[n] if frame.role is FrameRole.LEAF else 0))
        for n, (frame, block) in enumerate(zip(moved, place, strict=True))
    }


def arf_steps(
    frames: Sequence[PatternFrame], rng: np.random.Generator, size: int, parity: int
) -> Steps:
    """One alternate reference of every second group moved, and nothing else.

    Args:
      frames: of the encode.
      rng: draws the references and their signs.
      size: qindexes.
      parity: as for `block_steps`; a clip without alternate references gets its pattern.
    """
    moved = [frame for frame in _alternate(frames, parity) if frame.role in _ARFS]
    if not moved:
        return block_steps(frames, rng, size, parity)
    steps = {}
    for group in sorted({frame.group for frame in moved}):
        choice = [frame for frame in moved if frame.group == group]
        roles = sorted({frame.role for frame in choice})
        role = roles[int(rng.integers(len(roles)))]
        choice = [frame for frame in choice if frame.role is role]
        frame = choice[int(rng.integers(len(choice)))]
        steps[frame.key] = size * int(rng.choice((-1, 1)))
    return steps


def hadamard_steps(
    frames: Sequence[PatternFrame], rng: np.random.Generator, size: int, count: int
) -> list[Steps]:
    """Patterns over all blocks that are orthogonal to each other, zero in the mean of rate.

    Args:
      frames: of the encode.
      rng: draws which row and which column is whose.
      size: qindexes, before the mean is taken away.
      count: of patterns.
    """
    if count == 0:
        return []
    blocks = sorted({(frame.group, frame.role) for frame in frames})
    place = [blocks.index((frame.group, frame.role)) for frame in frames]
    share = np.bincount(place, [frame.bits for frame in frames], len(blocks))
    share = share / max(share.sum(), 1.0)
    # One row more than there are blocks and patterns: that of ones moves everything.
    order = 2 ** int(np.ceil(np.log2(max(len(blocks), count) + 1)))
    matrix = scipy.linalg.hadamard(order)
    best: npt.NDArray[np.int64] | None = None
    least = np.inf
    for _ in range(_DRAWS):
        rows = 1 + rng.permutation(order - 1)[:count]
        columns = rng.permutation(order)[: len(blocks)]
        drawn = matrix[np.ix_(rows, columns)]
        off = float(np.abs(drawn @ share).max())
        if off < least:
            best, least = drawn, off
    assert best is not None
    patterns: list[Steps] = []
    for row in best:
        shifted = np.rint(size * (row - float(row @ share))).astype(np.int64)
        patterns.append(
            {frame.key: int(shifted[b]) for frame, b in zip(frames, place, strict=True)}
        )
    return patterns


def _alternate(frames: Sequence[PatternFrame], parity: int) -> list[PatternFrame]:
    moved = [frame for frame in frames if frame.group % 2 == parity]
    return moved or list(frames)
