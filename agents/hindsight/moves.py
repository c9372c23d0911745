"""Single moves, several of them measured by one encode.

A unit is one hidden reference, key or golden frame, or a few leaf frames in a row. A move
takes a unit by a step: 16 qindexes at first, to the side that the model of responses
likes better, then to the other; from two measured steps x with gains g a parabola
g = a x - b x^2 says where the top is, and that is tried next. What a move does stays, by
and large, in its group of pictures and, through the references, in the next ones; so moves
at least two groups apart share an encode, and each is credited with what changed from its
group up to the next one that was touched.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from muzero_rc.agents.hindsight.encoder import Outcome
from muzero_rc.agents.hindsight.plan import FrameKey, frame_key
from muzero_rc.agents.hindsight.response import FrameWorth
from muzero_rc.types import FrameInfo, UpdateType

__all__ = ["Move", "Moves", "Unit", "credits", "groups_of"]

_FIRST_STEP = 16
_LEAVES = 4  # in a unit
_APART = 2  # groups between the moves of an encode
_MOST = 6  # moves in an encode
_TRUST_MODEL = 0.5
_CURIOSITY = 0.1  # of what is at stake, for the first try of a unit
_TRUST_MEASURED = 0.7


@dataclass
class Unit:
    """Frames that move together, and what is known of their moves.

    Attributes:
      keys: the frames.
      group: number of their group of pictures.
      alone: its effects reach through the whole clip: nothing else shares its encode.
      importance: at least 1; by libvpx's TPL and boost.
      trials: moves tried.
      measured: gain in dB by signed step from where the unit is now.
    """

    keys: tuple[FrameKey, ...]
    group: int
    alone: bool
    importance: float
    trials: int = 0
    measured: dict[int, float] = field(default_factory=dict)

    def candidates(self) -> list[tuple[int, float | None]]:
        """Steps worth trying, each with its gain in dB as far as measurements tell."""
        helpful = {step: gain for step, gain in self.measured.items() if gain > 0}
        if helpful:
            step = max(helpful, key=lambda s: helpful[s])
            return [(step, _TRUST_MEASURED * helpful[step])]
        if len(self.measured) >= 2:
            top = self._top()
            return [] if top is None else [top]
        return [(s, None) for s in (-_FIRST_STEP, _FIRST_STEP) if s not in self.measured]

    def _top(self) -> tuple[int, float] | None:
        """Step and gain at the top of the parabola through the measured steps."""
        steps = sorted(self.measured, key=lambda s: (abs(s), s))[:3]
        x = np.array(steps, np.float64)
        gains = np.array([self.measured[s] for s in steps])
        (a, b), *_ = np.linalg.lstsq(np.stack([x, -x * x], axis=1), gains, rcond=None)
        if b <= 0:
            return None
        step = round(float(np.clip(a / (2.0 * b), -_FIRST_STEP, _FIRST_STEP)))
        if step == 0 or step in self.measured:
            return None
        return step, _TRUST_MEASURED * float(a * step - b * step * step)

    def settle(self, step: int, gain: float, adopted: bool) -> None:
        """Learns what a step gained; if adopted, that is where the unit is from now on."""
        self.trials += 1
        self.measured[step] = gain
        if adopted:
            self.measured = {s - step: g - gain for s, g in self.measured.items() if s != step}
            self.measured[-step] = -gain


@dataclass(frozen=True)
class Move:
    """A unit and the step to take it by, in qindexes."""

    unit: Unit
    step: int

    @property
    def steps(self) -> dict[FrameKey, int]:
        """The step of each frame."""
        return dict.fromkeys(self.unit.keys, self.step)


def groups_of(outcome: Outcome) -> list[int]:
    """The group of pictures that each frame of an encode belongs to."""
    groups, group, place = [], 0, -1
    for info, _ in outcome.frames:
        if info is not None:
            group += info.gop_index < place
            place = info.gop_index
        groups.append(group)
    return groups


def credits(
    before: Outcome, after: Outcome, moves: Sequence[Move], slope: float
) -> list[float] | None:
    """What each move of an encode gained, dB; None if its groups have changed.

    Args:
      before: the encode without the moves.
      after: the encode with all of them.
      moves: in different groups.
      slope: price of rate, dB per octave.
    """
    if before.structure != after.structure:
        return None
    groups = groups_of(before)
    shown = max(before.score.shown_frames, 1)
    total = max(float(sum(result.bits for _, result in before.frames)), 1.0)
    gain = [0.0] * (max(groups) + 1)
    for group, (_, old), (_, new) in zip(groups, before.frames, after.frames, strict=True):
        if new.shown:
            gain[group] += (new.psnr - old.psnr) / shown
        gain[group] -= slope * (new.bits - old.bits) / total / math.log(2.0)
    order = sorted(range(len(moves)), key=lambda index: moves[index].unit.group)
    found = [0.0] * len(moves)
    for place, index in enumerate(order):
        # What changed before the first move is chance, and its share.
        first = moves[index].unit.group if place else 0
        last = moves[order[place + 1]].unit.group if place + 1 < len(order) else len(gain)
        found[index] = sum(gain[first:last])
    return found


class Moves:
    """All units of a clip; says what to try next, and learns from what came of it."""

    def __init__(self) -> None:
        """Knows no unit yet."""
        self._units: dict[tuple[FrameKey, ...], Unit] = {}

    def update(self, outcome: Outcome) -> None:
        """Finds the units of an encode; those that were there keep what is known of them."""
        known, self._units = self._units, {}
        leaves: list[FrameInfo] = []
        groups = groups_of(outcome)
        place = 0
        for group, (info, _) in zip(groups, outcome.frames, strict=True):
            if leaves and (group != place or len(leaves) == _LEAVES):
                self._add(leaves, place, known)
                leaves = []
            place = group
            if info is None:
                continue
            if info.update_type in (UpdateType.KEY, UpdateType.GOLDEN, UpdateType.ARF):
                self._add([info], group, known)
            else:
                leaves.append(info)
        if leaves:
            self._add(leaves, place, known)

    def _add(
        self,
        infos: Sequence[FrameInfo],
        group: int,
        known: Mapping[tuple[FrameKey, ...], Unit],
    ) -> None:
        keys = tuple(frame_key(info) for info in infos)
        unit = known.get(keys)
        if unit is None:
            alone = infos[0].update_type is UpdateType.KEY
            unit = Unit(keys, group, alone, _importance(infos[0]))
        unit.group = group
        self._units[keys] = unit

    def choose(self, worth: Mapping[FrameKey, FrameWorth], width: int) -> list[list[Move]]:
        """Up to `width` sets of moves of highest expected gain, no unit in two of them."""
        scored = sorted(
            ((self._score(move, gain, worth), move) for move, gain in self._candidates()),
            key=lambda pair: (-pair[0], pair[1].unit.keys, pair[1].step),
        )
        sets: list[list[Move]] = []
        used: set[tuple[FrameKey, ...]] = set()
        for _ in range(width):
            chosen: list[Move] = []
            for score, move in scored:
                if move.unit.keys in used or (chosen and not _together(move, chosen, score)):
                    continue
                chosen.append(move)
                used.add(move.unit.keys)
            if not chosen:
                break
            sets.append(chosen)
        return sets

    def _candidates(self) -> Iterable[tuple[Move, float | None]]:
        for unit in self._units.values():
            for step, gain in unit.candidates():
                yield Move(unit, step), gain

    @staticmethod
    def _score(move: Move, measured: float | None, worth: Mapping[FrameKey, FrameWorth]) -> float:
        """Expected gain in dB: by measurements, else the model's and some curiosity."""
        if measured is not None:
            return measured
        unit = move.unit
        frames = [worth[key] for key in unit.keys if key in worth]
        expected = sum(frame.gain(move.step) for frame in frames)
        stake = sum(frame.price * frame.rate for frame in frames) * _FIRST_STEP
        curiosity = _CURIOSITY * unit.importance * stake / (1 + unit.trials)
        return _TRUST_MODEL * expected + curiosity

    def settle(self, moves: Sequence[Move], gains: Sequence[float], adopted: bool) -> None:
        """Learns from an encode.

        Args:
          moves: its moves.
          gains: of each, dB.
          adopted: the encode is the one to go on from.
        """
        for move, gain in zip(moves, gains, strict=True):
            move.unit.settle(move.step, gain, adopted)


def _together(move: Move, chosen: Sequence[Move], score: float) -> bool:
    if score <= 0 or len(chosen) >= _MOST or move.unit.alone or chosen[0].unit.alone:
        return False
    return all(abs(move.unit.group - other.unit.group) >= _APART for other in chosen)


def _importance(info: FrameInfo) -> float:
    """What libvpx expects of a reference: the cost that depends on it, and its boost."""
    if info.update_type is UpdateType.LEAF or info.update_type > UpdateType.ARF:
        return 1.0
    depends = math.log2(1.0 + info.tpl_mc_dep_cost / max(info.tpl_intra_cost, 1))
    return 1.0 + depends + math.log2(1.0 + max(info.boost, 0) / 1000.0) / (1 + info.layer_depth)
