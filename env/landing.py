"""Feedback that lands an encode on its target, outside of any network.

libvpx plans bits for every frame, but a frame whose qindex is given from outside is
never recoded, so nothing stops frames from costing more than planned, all through the
clip: the verbatim proposals end 10% off their target on short clips. The feedback adds
a step to the proposal that brings spending back:

    step = P (0.25 log2 rho + 0.125 w log2 tau),   P qindexes per octave of bits
    rho  = recent bits / libvpx's plan for the same frames (key frames apart)
    tau  = bits the rest will cost at the recent rate / bits left of the budget
    w    = share of frames shown

rho corrects the plan's price, tau its sum; tau is uncertain early, hence w. Ours, not
the paper's: its agent has to learn to land from the reward alone.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from muzero_rc.types import NUM_QINDEX, FrameInfo, FrameResult, UpdateType

__all__ = ["LONGEST_MOVING_GROUP", "MAX_RATE_STEP", "BudgetFeedback", "reach"]

LONGEST_MOVING_GROUP = 30
"""Coded frames of a group; libvpx makes longer ones of static pictures only."""

MAX_RATE_STEP = 24
"""Largest step, in qindexes."""

_PER_OCTAVE = 28.0  # qindexes that about halve a frame's bits in the middle of the range
_PRICE_GAIN = 0.25
_SUM_GAIN = 0.125
_PRICE_MEMORY = 0.97  # per coded frame: about two groups of pictures
_RATE_MEMORY = 0.95
_START_FRAMES = 6.0  # frames of budget that damp rho at the start
_SETTLED_FRAMES = 4  # shown frames before tau says anything
_RECENT_FRAMES = 16  # shown frames whose complexity the recent rate stands for
_LEAST_LEFT = 0.02  # floor of the bits left, relative to their plan
_LARGEST_TAU = 2.0  # octaves


class BudgetFeedback:
    """Keeps the account of one encode."""

    def __init__(self, frame_budget: float, coded_error: npt.NDArray[np.float64]) -> None:
        """Starts with nothing spent.

        Args:
          frame_budget: target bits per shown frame.
          coded_error: [T] first-pass coded error of each shown frame, how much each is
            expected to cost: about with the square root.
        """
        self._frame_budget = frame_budget
        self._frames = len(coded_error)
        self._budget = frame_budget * self._frames
        cost = np.sqrt(np.maximum(coded_error, 0.0) + 1.0)
        self._cost_before = np.concatenate([[0.0], np.cumsum(cost)])
        self._planned = self._paid = _START_FRAMES * frame_budget
        self._recent_bits = self._recent_shown = 0.0
        self._spent = 0.0
        self._shown = 0

    def record(self, info: FrameInfo | None, result: FrameResult) -> None:
        """Takes in what a frame cost; `info` is None for a buffer shown again."""
        self._spent += result.bits
        self._shown += result.shown
        if info is not None and info.update_type is UpdateType.KEY:
            return
        self._recent_bits = _RATE_MEMORY * self._recent_bits + result.bits
        self._recent_shown = _RATE_MEMORY * self._recent_shown + result.shown
        if info is not None:
            self._planned = _PRICE_MEMORY * self._planned + max(info.proposal_bits, 0)
            self._paid = _PRICE_MEMORY * self._paid + result.bits

    def step(self) -> int:
        """qindexes to add to libvpx's proposal, -`MAX_RATE_STEP` to `MAX_RATE_STEP`."""
        rho = max(self._paid, 1.0) / max(self._planned, 1.0)
        octaves = _PRICE_GAIN * math.log2(rho)
        left = self._frames - self._shown
        if self._shown >= _SETTLED_FRAMES and left > 0 and self._recent_shown > 0:
            tau = math.log2(max(self._rest(left), 1.0) / self._bits_left(left))
            share = self._shown / self._frames
            octaves += _SUM_GAIN * share * min(max(tau, -_LARGEST_TAU), _LARGEST_TAU)
        return round(min(max(_PER_OCTAVE * octaves, -MAX_RATE_STEP), MAX_RATE_STEP))

    def _bits_left(self, left: int) -> float:
        return max(self._budget - self._spent, _LEAST_LEFT * self._frame_budget * left, 1.0)

    def _rest(self, left: int) -> float:
        """What the frames left cost at the recent rate, scaled by their complexity."""
        now = min(self._shown, self._frames)
        start = max(0, now - _RECENT_FRAMES)
        recent = (self._cost_before[now] - self._cost_before[start]) / (now - start)
        ahead = (self._cost_before[-1] - self._cost_before[now]) / left
        rate = self._recent_bits / max(self._recent_shown, 1.0)
        return float(rate * left * min(max(ahead / recent, 0.25), 4.0))


def reach(info: FrameInfo) -> int:
    """How far from the anchor an agent may take a frame, in qindexes.

    In a static group every frame repeats the first one's errors, so that one wrong step
    costs the whole group: a fifth of the rate on a clip that was tried. Corpora of films
    have next to none of them to learn from, so there libvpx's proposal stands.
    """
    return 0 if info.gop_size > LONGEST_MOVING_GROUP else NUM_QINDEX
