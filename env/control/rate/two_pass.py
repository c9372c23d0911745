"""Feedback that lands an encode on its target, outside of any network.

libvpx plans bits for every frame, but a frame whose qindex is given from outside is
never recoded, so nothing stops frames from costing more than planned, all through the
clip: the verbatim proposals end 10% off their target on short clips. Before each frame
the feedback asks by how much the frames left would have to be coarser, and adds that to
the proposal:

    step = g P ((1 - w) log2(rho) + w log2(rest / left)),   P qindexes per octave of bits

    rho  = paid / planned of the frames so far, recent ones above all, key frames apart
    left = budget - spent
    rest = r sum(c_t, t not shown) + keys to come - prepaid
    r    = sum(m_t a_t) / sum(m_t c_t), t shown,  m_t = memory^(age of t)

a_t is what shown frame t cost, c_t its first-pass complexity. A hidden frame's bits are
shared by the frames from its coding to its display, so that a group of pictures, which
pays for its references first, does not look dear at its start and cheap at its end; what
is paid for frames not yet shown is prepaid. All costs are those above what an empty frame
costs, which no step can save, and without the steps that were in force (times
2^(step/P)): the feedback does not chase itself.

rho corrects the price of libvpx's plan, which knows what is to come; rest corrects its
sum, and is uncertain early, hence w = done, the share of frames shown, and g from
cautious to 1 with it. Ours, not the paper's: its agent has to learn to land from the
reward alone.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.types import NUM_QINDEX, FrameInfo, FrameResult, UpdateType

__all__ = [
    "TwoPassRateController",
    "empty_frame",
    "reach",
]


def empty_frame(frame_budget: float, pixels: int, *, recipe: Recipe = DEFAULT_RECIPE) -> float:
    """About what a frame without residual costs, in bits; a part of small budgets at most.

    Args:
      frame_budget: target bits per shown frame.
      pixels: of a frame.
      recipe: the constants.
    """
    empty = recipe.empty_frame
    return min(empty.header_bits + empty.bits_per_pixel * pixels, empty.max_share * frame_budget)


class TwoPassRateController:
    """Keeps the account of one encode."""

    def __init__(
        self,
        frame_budget: float,
        coded_error: npt.NDArray[np.float64],
        pixels: int = 0,
        *,
        recipe: Recipe = DEFAULT_RECIPE,
    ) -> None:
        """Starts with nothing spent.

        Args:
          frame_budget: target bits per shown frame.
          coded_error: [T] first-pass coded error of each shown frame, how much each is
            expected to cost: about with the square root.
          pixels: of a frame; what an empty frame costs follows from it.
          recipe: the constants.
        """
        self._recipe = recipe.two_pass
        self._floor = empty_frame(frame_budget, pixels, recipe=recipe)
        self._frame_budget = self._recipe.aim * frame_budget - self._floor
        self._frames = len(coded_error)
        cost = np.sqrt(np.maximum(coded_error, 0.0) + 1.0)
        self._complexity = (cost / cost.mean()).tolist()
        self._ahead = [*np.cumsum(self._complexity[::-1])[::-1].tolist(), 0.0]
        self._paid_for = [0.0] * self._frames  # a_t
        self._prepaid = 0.0
        self._recent_complexity = self._recipe.prior_frames
        on_plan = self._recipe.prior_frames * self._frame_budget
        self._recent_bits = self._planned = self._paid = on_plan
        self._key_bits = 0.0
        self._frames_to_key = self._frames
        self._spent = 0.0
        self._shown = 0
        self._step = 0

    def record(self, info: FrameInfo | None, result: FrameResult) -> None:
        """Takes in what a frame cost; `info` is None for a buffer shown again."""
        floor = self._floor if result.shown else 0.0
        self._spent += result.bits - floor
        cost = max(result.bits - floor, 0.0) * 2.0 ** (
            self._step / self._recipe.qindexes_per_octave
        )
        if info is not None:
            self._frames_to_key = info.frames_to_key
        if info is not None and info.update_type is UpdateType.KEY:
            self._key_bits = cost
        else:
            self._share(cost, self._shown if result.shown or info is None else info.show_index)
            if info is not None:
                self._planned *= self._recipe.plan_memory
                self._planned += max(info.proposal_bits - floor, 0.0)
                self._paid = self._recipe.plan_memory * self._paid + cost
        if result.shown and self._shown < self._frames:
            paid = self._paid_for[self._shown]
            self._prepaid -= paid
            self._recent_bits = self._recipe.memory * self._recent_bits + paid
            self._recent_complexity *= self._recipe.memory
            self._recent_complexity += self._complexity[self._shown]
            self._frames_to_key = max(self._frames_to_key - 1, 0)
            self._shown += 1

    def step(self, info: FrameInfo | None = None) -> int:
        """qindexes to add to libvpx's proposal, up to the largest offset, few below zero."""
        recipe = self._recipe
        left = self._frames - self._shown
        if left <= 0:
            return self._step
        done = self._shown / self._frames
        price = math.log2(max(self._paid, 1.0) / max(self._planned, 1.0))
        total = math.log2(self._rest(left) / self._bits_left(left))
        octaves = (1.0 - done) * price + done * total
        gain = recipe.caution + (1.0 - recipe.caution) * done
        most = recipe.max_offset * (1.0 if left <= recipe.last_frames else recipe.part_of_offset)
        step = gain * recipe.qindexes_per_octave * octaves
        self._step = round(min(max(step, -recipe.max_finer), most))
        return self._step

    def _share(self, cost: float, show_index: int) -> None:
        """Shares a cost among the frames from now to the one that it is shown as."""
        last = self._frames - 1
        now = min(self._shown, last)
        until = min(max(show_index, now), last)
        for frame in range(now, until + 1):
            self._paid_for[frame] += cost / (until - now + 1)
        self._prepaid += cost

    def _bits_left(self, left: int) -> float:
        budget = self._frame_budget * self._frames
        least = self._recipe.min_left * self._frame_budget * left
        return max(budget - self._spent, least, 1.0)

    def _rest(self, left: int) -> float:
        """What the frames left cost without steps."""
        rate = self._recent_bits / self._recent_complexity
        rest = rate * self._ahead[self._shown] - self._prepaid
        if 0 < self._frames_to_key < left:
            # A key frame stands where an ordinary one would have.
            rest += max(self._key_bits - rate, 0.0)
        return max(rest, self._recipe.min_rest * self._frame_budget * left, 1.0)


def reach(info: FrameInfo, *, recipe: Recipe = DEFAULT_RECIPE) -> int:
    """How far from the anchor an agent may take a frame, in qindexes.

    In a static group every frame repeats the first one's errors, so that one wrong step
    costs the whole group: a fifth of the rate on a clip that was tried. Corpora of films
    have next to none of them to learn from, so there libvpx's proposal stands.
    """
    return 0 if info.gop_size > recipe.max_moving_group else NUM_QINDEX
