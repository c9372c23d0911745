"""A budget of work: which frames of a last pass are searched slowly, so that it is spent.

Each frame may be coded at several speeds, its *tiers*. Of each the work is expected, counted as
libvpx does it (`muzero_rc.types.Work`) and weighted to seconds, and the gain. All frames start at
their cheapest tier. Moves to slower tiers are taken in the order of gain for work until the
budget is spent: that is the best choice for any one price of work, as every frame's moves are
those of the upper hull of its tiers.

What frames really take is counted on the way, and the rest of the budget is given anew before
each frame. So an encode ends near its budget also where all its expectations are off by a
factor. Counts are exact, so the same encode makes the same choices on any machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from muzero_rc.types import FrameInfo

__all__ = ["TierOptions", "WorkPlan", "WorkSpender", "share_work"]

_Floats = npt.NDArray[np.float64]
_GOLDEN = 0.5 * (5.0**0.5 - 1.0)


class _Moves(NamedTuple):
    """Moves of frames to slower tiers, in the order in which they are taken.

    Attributes:
      row: [M] of the frame.
      tier: [M] that it moves to.
      price: [M] gain for a second of work, never rising.
      work: [M] seconds that it adds.
    """

    row: npt.NDArray[np.int64]
    tier: npt.NDArray[np.int64]
    price: _Floats
    work: _Floats


@dataclass(frozen=True, slots=True, eq=False)
class TierOptions:
    """What the tiers of N frames are expected to take and to give.

    Attributes:
      coding_index: [N] of the frames, in coding order.
      work: [N, TIERS] seconds of work, above 0; infinite where it is not known.
      priced: [N, TIERS] seconds that the order of moves goes by: the same as `work`, or the mean
        of frames that are to move in one order.
      gain: [N, TIERS] in any unit that is the same for all frames; minus infinity likewise.
      noise: squared relative deviation of a frame's work from what is expected, over that which
        all frames of a clip have in common.
    """

    coding_index: npt.NDArray[np.int64]
    work: _Floats
    priced: _Floats
    gain: _Floats
    noise: float

    def cheapest(self) -> npt.NDArray[np.int64]:
        """[N] tier that each frame starts from."""
        return np.asarray(self.priced.argmin(axis=1))

    def least(self) -> _Floats:
        """[N] seconds of each frame there."""
        return np.asarray(self.work[np.arange(len(self.work)), self.cheapest()])

    def moves(self) -> _Moves:
        """All moves along the frames' hulls, best first; equal ones spread over the frames."""
        found: list[tuple[float, float, int, int, float]] = []
        for row, at in enumerate(self.cheapest().tolist()):
            work, priced, gain = self.work[row], self.priced[row], self.gain[row]
            # Frames that are alike take turns far from each other, not from the first one on.
            turn = (row * _GOLDEN) % 1.0
            while True:
                more = priced - priced[at]
                better = (more > 0.0) & (gain > gain[at])
                if not better.any():
                    break
                price = np.where(better, gain - gain[at], -np.inf) / np.where(better, more, 1.0)
                to = int(price.argmax())
                found.append((-float(price[to]), turn, row, to, float(work[to] - work[at])))
                at = to
        found.sort()
        return _Moves(
            np.array([move[2] for move in found], np.int64),
            np.array([move[3] for move in found], np.int64),
            np.array([-move[0] for move in found], np.float64),
            np.array([move[4] for move in found], np.float64),
        )


class WorkPlan:
    """The options of an encode and what it may spend.

    Attributes:
      options: of its frames.
      budget: seconds of work of its last pass.
      least: seconds with all frames at their cheapest tier.
      most: seconds after all moves.
    """

    def __init__(self, options: TierOptions, budget: float) -> None:
        """Puts all moves in their order, once."""
        self.options = options
        self.budget = budget
        self.moves = options.moves()
        self.least = float(options.least().sum())
        self.most = self.least + float(self.moves.work.sum())

    def spender(self) -> WorkSpender:
        """For one encode."""
        return WorkSpender(self)


class WorkSpender:
    """Gives each frame of one encode its tier: ask `tier`, then tell what it took, in order."""

    def __init__(self, plan: WorkPlan) -> None:
        """Nothing is spent."""
        options = plan.options
        self._plan = plan
        self._row = {int(index): row for row, index in enumerate(options.coding_index)}
        self._start = options.cheapest()
        start = options.least()
        # Of a row and all after it.
        self._ahead = np.concatenate([np.cumsum(start[::-1])[::-1], [0.0]])
        self._spent = 0.0
        self._expected = 0.0
        self._counted = 0.0
        self._asked: tuple[int, int] | None = None
        frames = max(len(start), 1)
        self._prior = options.noise * plan.least / frames

    @property
    def spent(self) -> float:
        """Seconds of work so far."""
        return self._spent

    def tier(self, info: FrameInfo) -> int | None:
        """The tier of a frame; None for one that is not in the plan."""
        row = self._row.get(info.coding_index)
        if row is None:
            return None
        moves = self._plan.moves
        ahead = np.flatnonzero(moves.row >= row)
        left = (self._plan.budget - self._spent) / self._ratio()
        # The move that the budget ends in is taken if more than half of it is paid for.
        after = self._ahead[row] + np.cumsum(moves.work[ahead]) - 0.5 * moves.work[ahead]
        taken = ahead[: int(np.searchsorted(after, left))]
        own = taken[moves.row[taken] == row]
        tier = int(moves.tier[own[-1]]) if len(own) else int(self._start[row])
        self._asked = row, tier
        return tier

    def record(self, work: float) -> None:
        """Takes in the seconds of work that were done since the last call."""
        self._spent += work
        if self._asked is not None:
            self._expected += float(self._plan.options.work[self._asked])
            self._counted += work
            self._asked = None

    def _ratio(self) -> float:
        """Work that frames take over what is expected of them."""
        return (self._prior + self._counted) / (self._prior + self._expected)


def share_work(plans: Sequence[WorkPlan], budget: float) -> list[float]:
    """Splits the work of a film among its chunks, at one price of work.

    Args:
      plans: of the chunks; their own budgets do not matter.
      budget: seconds of work of all of them.
    """
    found = np.array([plan.least for plan in plans])
    price = np.concatenate([plan.moves.price for plan in plans])
    work = np.concatenate([plan.moves.work for plan in plans])
    chunk = np.repeat(np.arange(len(plans)), [len(plan.moves.work) for plan in plans])
    order = np.argsort(-price, kind="stable")
    left = budget - float(found.sum())
    taken = np.clip(left - (np.cumsum(work[order]) - work[order]), 0.0, work[order])
    np.add.at(found, chunk[order], taken)
    if left < 0.0:
        found *= budget / found.sum()
    return [float(share) for share in found]
