"""Repairs of a film in chunks: which are made again, what they are asked for, what counts.

A chunk need not take what it is asked for, nor more where it is asked for more. So all of its
encodes are kept in mind, each with the bits that were asked for and those that it took:

- what to ask for lies between two encodes that took more and less than is wanted, or beyond
  all of them;
- a chunk that took more where it was asked for less does not follow, and others pay for it;
- in the last turn those chunks are asked that are known to take what they are asked for;
- of each chunk that encode counts with which the film is nearest to its target.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from muzero_rc.encode.chunk_jobs import Taken
from muzero_rc.encode.share import Curve, is_far, shares, whole_of
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe

__all__ = ["Repairs"]


class Repairs:
    """All encodes of a film's chunks at one bitrate, and how they lead to its target."""

    def __init__(
        self,
        curves: Sequence[Curve],
        bits: float,
        taken: Mapping[int, Taken],
        *,
        turn: int = 0,
        recipe: Recipe = DEFAULT_RECIPE,
    ) -> None:
        """Takes the film and the first encode of each chunk.

        Args:
          curves: of the chunks.
          bits: of the film, its target.
          taken: by all chunks.
          turn: how often they were made before, for other bitrates.
          recipe: the constants.
        """
        self._curves = curves
        self._bits = bits
        self._recipe = recipe
        self._whole = whole_of(curves, bits, recipe=recipe)
        self._fair = shares(curves, bits, recipe=recipe).tolist()
        self._encodes = {index: {turn: found} for index, found in taken.items()}
        self._turns = dict.fromkeys(taken, turn)

    @property
    def turns(self) -> dict[int, int]:
        """The turn of each chunk's encode that counts."""
        return dict(self._turns)

    @property
    def off_target(self) -> float:
        """What the film misses its target by with the encodes that count, a share, signed."""
        return self._off(self._turns)

    def asks(self, *, last: bool = False) -> dict[int, float]:
        """Chunks to be made again for the film's target, and what each is asked to take, bits.

        As few as can bring the film to its target without one of them missing its own fair
        share by more than an encode may (`Recipe.retry`), or moving away from it; those furthest
        off theirs come first. Where there are none, all share what the others leave. Chunks are
        taken from those that follow what they are asked for; in the last turn, if they can do
        it, from those that are expected to land by what they missed before. Empty if the film is
        near enough, or all chunks are at the end of the quantizer's range.

        Args:
          last: no turn comes after this one.
        """
        off = self.off_target
        if abs(off) <= self._recipe.film_share.tolerance:
            return {}
        free = [i for i in range(len(self._curves)) if not self._is_stuck(i, off)]
        following = [i for i in free if self._follows(i)]
        groups = [self._certain(following), following] if last else [following]
        for group in groups:
            ways = [self._nearly_fair(group, off), self._towards_fair(group, off)]
            goals = min(filter(None, ways), key=len, default={})
            if not goals and self._can_pay(group):
                goals = self._shared_anew(group)
            if goals:
                break
        else:
            goals = self._shared_anew(free)
        return {index: self._ask(index, goal) for index, goal in sorted(goals.items())}

    def add(self, turn: int, made: Mapping[int, Taken]) -> None:
        """Takes encodes of one turn; those count with which the film is nearest its target.

        Whether all of them count at first or none, one chunk after the other goes over to
        another of its encodes while that brings the film nearer. So it never gets further off.
        """
        for index, found in made.items():
            self._encodes[index][turn] = found
        ends = (self._nearer(self._turns), self._nearer(self._turns | dict.fromkeys(made, turn)))
        self._turns = min(ends, key=lambda turns: abs(self._off(turns)))

    def _nearer(self, turns: Mapping[int, int]) -> dict[int, int]:
        """Turns with which the film is nearer its target, changed one by one."""
        found = dict(turns)
        others = [(i, t) for i, made in self._encodes.items() if len(made) > 1 for t in made]
        while others:
            missed = sum(self._encodes[i][t].bits for i, t in found.items()) - self._bits
            moves = [self._encodes[i][t].bits - self._encodes[i][found[i]].bits for i, t in others]
            (index, turn), move = min(
                zip(others, moves, strict=True), key=lambda pair: abs(missed + pair[1])
            )
            if abs(missed + move) >= abs(missed):
                break
            found[index] = turn
        return found

    def _counting(self, index: int) -> Taken:
        return self._encodes[index][self._turns[index]]

    def _off(self, turns: Mapping[int, int]) -> float:
        total = sum(self._encodes[index][turn].bits for index, turn in turns.items())
        return total / self._bits - 1.0

    def _is_stuck(self, index: int, off: float) -> bool:
        """Whether a chunk is at the end of the quantizer's range where the film must go."""
        found = self._counting(index)
        return found.most if off < 0 else found.least

    def _follows(self, index: int) -> bool:
        """Whether a chunk took more bits whenever it was asked for more."""
        found = sorted(self._encodes[index].values(), key=lambda taken: taken.asked)
        return all(one.bits < more.bits for one, more in pairwise(found))

    def _certain(self, able: Sequence[int]) -> list[int]:
        """As many chunks as possible whose misses together are within the film's tolerance.

        A chunk is expected to miss by the most that it ever missed what it was asked for, and
        chunks miss independently of each other. Of a chunk of constant quality the first encode
        tells nothing: what it took was never asked for.
        """
        misses = {
            i: [abs(made.bits - made.asked) for made in self._encodes[i].values()] for i in able
        }
        missed = {i: max(found) for i, found in misses.items() if max(found) > 0.0}
        certain: list[int] = []
        for index in sorted(missed, key=lambda i: missed[i]):
            together = math.hypot(*(missed[i] for i in (*certain, index)))
            if together > self._recipe.film_share.tolerance * self._bits:
                break
            certain.append(index)
        return certain

    def _left(self, able: Sequence[int]) -> float:
        """Bits that the other chunks leave."""
        return self._bits - sum(self._counting(i).bits for i in self._turns if i not in able)

    def _can_pay(self, able: Sequence[int]) -> bool:
        """Whether chunks can take what the others leave, in reach of their encodes and range."""
        curves = [self._curves[i] for i in able]
        least = sum(curve.fixed + curve.least for curve in curves)
        most = sum(curve.fixed + curve.most for curve in curves)
        if not able or not least <= self._left(able) <= most:
            return False
        goals = self._shared_anew(able)
        return not any(is_far(goal, self._counting(i).bits) for i, goal in goals.items())

    def _nearly_fair(self, able: Sequence[int], off: float) -> dict[int, float]:
        """What as few chunks as possible are to take, each near its fair share; or nothing."""
        sign = math.copysign(1.0, -off)
        first = sorted(able, key=lambda i: (self._counting(i).bits - self._fair[i]) * sign)
        retry = self._recipe.retry
        fairly = 0.0
        left = -off * self._bits
        for count, index in enumerate(first, start=1):
            fairly += self._fair[index]
            left += self._counting(index).bits
            if 1.0 - retry.under <= left / fairly <= 1.0 + retry.over:
                return {i: self._fair[i] * left / fairly for i in first[:count]}
        return {}

    def _towards_fair(self, able: Sequence[int], off: float) -> dict[int, float]:
        """What as few chunks as possible are to take, none beyond its fair share; or nothing.

        Those that are furthest from it on the film's side give what the film needs, in
        proportion.
        """
        needed = abs(off) * self._bits
        sign = math.copysign(1.0, off)
        beyond = {i: (self._counting(i).bits - self._fair[i]) * sign for i in able}
        chosen: list[int] = []
        for index in sorted(able, key=lambda i: -beyond[i]):
            if beyond[index] <= 0.0:
                break
            chosen.append(index)
            together = sum(beyond[i] for i in chosen)
            if together >= needed:
                part = sign * needed / together
                return {i: self._counting(i).bits - part * beyond[i] for i in chosen}
        return {}

    def _shared_anew(self, able: Sequence[int]) -> dict[int, float]:
        """What chunks are to take that share, by equal slope, what the others leave."""
        if not able:
            return {}
        curves = [self._curves[i] for i in able]
        # They cannot pay back more than there is above their headers.
        least = sum(curve.fixed + curve.least for curve in curves)
        left = max(self._left(able), least, float(len(able)))
        found = shares(curves, left, whole=self._whole, recipe=self._recipe)
        return dict(zip(able, found.tolist(), strict=True))

    def _ask(self, index: int, goal: float) -> float:
        """What a chunk is asked for so that it takes so many bits, by all of its encodes."""
        found = sorted(self._encodes[index].values(), key=lambda taken: taken.asked)
        between = [
            pair
            for pair in pairwise(found)
            if min(pair[0].bits, pair[1].bits) < goal < max(pair[0].bits, pair[1].bits)
        ]
        if between:
            low, high = min(between, key=lambda pair: pair[1].asked / pair[0].asked)
            part = (goal - low.bits) / (high.bits - low.bits)
            return low.asked + part * (high.asked - low.asked)
        # As if it missed what it is asked for as it did before, if it was.
        found = [taken for taken in found if taken.bits != taken.asked] or found
        asks = [taken.asked * goal / taken.bits for taken in found]
        return min(asks) if all(taken.bits > goal for taken in found) else max(asks)
