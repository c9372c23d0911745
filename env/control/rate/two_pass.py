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

from muzero_rc.types import NUM_QINDEX, FrameInfo, FrameResult, UpdateType

__all__ = [
    "LONGEST_MOVING_GROUP",
    "MAX_RATE_OFFSET",
    "TwoPassRateController",
    "empty_frame",
    "reach",
]

LONGEST_MOVING_GROUP = 30
"""Coded frames of a group; libvpx makes longer ones of static pictures only."""

MAX_RATE_OFFSET = 48
"""Largest step, in qindexes."""

_PER_OCTAVE = 28.0  # qindexes that about halve a frame's bits in the middle of the range
_AIM = 1.005  # of the budget: early caution leaves more than it should
_MEMORY = 0.97  # per shown frame: about two groups of pictures
_PLAN_MEMORY = 0.99  # per coded frame
_PRIOR_FRAMES = 8.0  # frames on plan that both estimates start from
_CAUTION = 0.2  # g of the first frame
_LEAST_LEFT = 0.02  # floor of the bits left, relative to their plan
_LEAST_REST = 0.05  # floor of what the rest costs, likewise
_LAST_FRAMES = 24  # shown frames; before them only a part of the largest step is allowed
_PART_OF_STEP = 0.6
_MOST_FINER = 9.0  # qindexes; frames near the end are a bad place to spend what is left
_HEADER_BITS = 130.0  # of a frame without residual
_BITS_PER_PIXEL = 1.0 / 2048.0  # of it: two bits for each superblock of 64x64


def empty_frame(frame_budget: float, pixels: int) -> float:
    """About what a frame without residual costs, in bits; of small budgets half at most."""
    return min(_HEADER_BITS + _BITS_PER_PIXEL * pixels, 0.5 * frame_budget)


class TwoPassRateController:
    """Keeps the account of one encode."""

    def __init__(
        self, frame_budget: float, coded_error: npt.NDArray[np.float64], pixels: int = 0
    ) -> None:
        """Starts with nothing spent.

        Args:
          frame_budget: target bits per shown frame.
          coded_error: [T] first-pass coded error of each shown frame, how much each is
            expected to cost: about with the square root.
          pixels: of a frame; what an empty frame costs follows from it.
        """
        self._floor = empty_frame(frame_budget, pixels)
        self._frame_budget = _AIM * frame_budget - self._floor
        self._frames = len(coded_error)
        cost = np.sqrt(np.maximum(coded_error, 0.0) + 1.0)
        self._complexity = (cost / cost.mean()).tolist()
        self._ahead = [*np.cumsum(self._complexity[::-1])[::-1].tolist(), 0.0]
        self._paid_for = [0.0] * self._frames  # a_t
        self._prepaid = 0.0
        self._recent_complexity = _PRIOR_FRAMES
        self._recent_bits = self._planned = self._paid = _PRIOR_FRAMES * self._frame_budget
        self._key_bits = 0.0
        self._frames_to_key = self._frames
        self._spent = 0.0
        self._shown = 0
        self._step = 0

    def record(self, info: FrameInfo | None, result: FrameResult) -> None:
        """Takes in what a frame cost; `info` is None for a buffer shown again."""
        floor = self._floor if result.shown else 0.0
        self._spent += result.bits - floor
        cost = max(result.bits - floor, 0.0) * 2.0 ** (self._step / _PER_OCTAVE)
        if info is not None:
            self._frames_to_key = info.frames_to_key
        if info is not None and info.update_type is UpdateType.KEY:
            self._key_bits = cost
        else:
            self._share(cost, self._shown if result.shown or info is None else info.show_index)
            if info is not None:
                self._planned *= _PLAN_MEMORY
                self._planned += max(info.proposal_bits - floor, 0.0)
                self._paid = _PLAN_MEMORY * self._paid + cost
        if result.shown and self._shown < self._frames:
            paid = self._paid_for[self._shown]
            self._prepaid -= paid
            self._recent_bits = _MEMORY * self._recent_bits + paid
            self._recent_complexity *= _MEMORY
            self._recent_complexity += self._complexity[self._shown]
            self._frames_to_key = max(self._frames_to_key - 1, 0)
            self._shown += 1

    def step(self, info: FrameInfo | None = None) -> int:
        """qindexes to add to libvpx's proposal, up to `MAX_RATE_OFFSET`, few below zero."""
        left = self._frames - self._shown
        if left <= 0:
            return self._step
        done = self._shown / self._frames
        price = math.log2(max(self._paid, 1.0) / max(self._planned, 1.0))
        total = math.log2(self._rest(left) / self._bits_left(left))
        octaves = (1.0 - done) * price + done * total
        gain = _CAUTION + (1.0 - _CAUTION) * done
        most = MAX_RATE_OFFSET * (1.0 if left <= _LAST_FRAMES else _PART_OF_STEP)
        self._step = round(min(max(gain * _PER_OCTAVE * octaves, -_MOST_FINER), most))
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
        return max(budget - self._spent, _LEAST_LEFT * self._frame_budget * left, 1.0)

    def _rest(self, left: int) -> float:
        """What the frames left cost without steps."""
        rate = self._recent_bits / self._recent_complexity
        rest = rate * self._ahead[self._shown] - self._prepaid
        if 0 < self._frames_to_key < left:
            # A key frame stands where an ordinary one would have.
            rest += max(self._key_bits - rate, 0.0)
        return max(rest, _LEAST_REST * self._frame_budget * left, 1.0)


def reach(info: FrameInfo) -> int:
    """How far from the anchor an agent may take a frame, in qindexes.

    In a static group every frame repeats the first one's errors, so that one wrong step
    costs the whole group: a fifth of the rate on a clip that was tried. Corpora of films
    have next to none of them to learn from, so there libvpx's proposal stands.
    """
    return 0 if info.gop_size > LONGEST_MOVING_GROUP else NUM_QINDEX
