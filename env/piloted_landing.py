"""Landing an encode on its target when a pilot has told what its frames cost.

Before each frame the feedback solves for the one step x from the pilot's qindexes that the
frames left can be taken by, all alike, so that the budget is met:

    sum(h_t) + sum(k_t 2^(-x_t / P_key)) + (kappa sum(c_t) - prepaid) 2^(-x_t / P)
        = budget - spent

    h_t    = bits of frame t in the pilot (`env.pilot`) up to those of an empty frame
    c_t    = its bits above those
    k_t    = likewise, of key frames
    x_t    = x as far as the pilot's qindex of frame t leaves room for it up to 255 and to 0
    kappa  = what frames cost over what they did in the pilot, of the frames so far
    P      = qindexes that halve a frame's bits, by the bits per pixel

Hidden frames' bits are shared by the frames from their coding to their display, as in
`env.landing`; prepaid is what is paid for frames not yet shown. One step for all frames to
come is the best there is by PSNR, and with the costs known it hardly moves: the quality
stays even. `PilotShift` is what the pilot itself is shifted by. Ours, not the paper's.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from muzero_rc.env.landing import share
from muzero_rc.env.pilot import Pilot
from muzero_rc.types import NUM_QINDEX, FrameInfo, FrameResult, UpdateType

__all__ = ["PILOTED_LANDING_VERSION", "PilotShift", "PilotedFeedback"]

_Array = npt.NDArray[np.float64]

PILOTED_LANDING_VERSION = 2
"""Raised whenever any step changes: encodes of before are not taken for these."""

# Octaves of bits per qindex: 1/28 in the middle of the range, less where headers are most
# of a frame. Fitted on 200 encodes of 20 training clips, shifted by 0 and 16 qindexes.
_SLOPE = 0.0643
_SLOPE_PER_OCTAVE = 0.0057  # of bits per pixel
_LEAST_SLOPE, _MOST_SLOPE = 0.012, 0.075
_KEY_SLOPE = 1.0 / 50.0
# How far libvpx's plan ends off its target, in octaves: a line in the qindex that it has
# for the first key frame. Likewise fitted; it explains 42%.
_PLAN_OFF, _PLAN_OFF_PER_QINDEX = -0.40, 0.00674
_HEADER_BITS = 130.0  # of a frame without residual
_BITS_PER_PIXEL = 1.0 / 2048.0  # of it: two bits for each superblock of 64x64
_CHEAPER = 0.95  # kappa before the first frame: the last pass searches longer
_PRIOR_FRAMES = 40.0  # frames at that price that kappa starts from, if the first step is 0
_SURE_STEP = 6.0  # qindexes; at a first step of that from the pilot half of them, and so on
_MEMORY = 0.97  # per shown frame
_MOST_COARSER, _MOST_FINER = 96.0, 40.0  # qindexes
_FINER_THAN_BEFORE = 8.0  # qindexes: the last frames are a bad place to spend what is left
_FINER_PER_FRAME = 0.25  # qindexes, for each frame left
_FRAMES_BEFORE = 40.0  # that "before" is the mean of
_AIM = 0.998  # of the budget: what is left is a smaller miss than what is lacking
_LEAST_LEFT = 0.02  # floor of the bits left and of what the rest costs
_BIN = 8  # qindexes; frames that near are taken for alike, those at the end apart
_BINS = NUM_QINDEX // _BIN + 1


def _slope(bits_per_pixel: float) -> float:
    slope = _SLOPE + _SLOPE_PER_OCTAVE * math.log2(bits_per_pixel)
    return min(max(slope, _LEAST_SLOPE), _MOST_SLOPE)


def _empty_frame(frame_budget: float, pixels: int) -> float:
    return min(_HEADER_BITS + _BITS_PER_PIXEL * pixels, 0.5 * frame_budget)


def _reach(qindex: int, step: float) -> float:
    """A step as far as the qindexes go."""
    return min(max(qindex + step, 0.0), NUM_QINDEX - 1.0) - qindex


class PilotShift:
    """Shifts all of a pilot by what libvpx's plan is expected to be off its target."""

    def __init__(self, frame_budget: float, pixels: int) -> None:
        """Takes bits per shown frame and pixels of a frame."""
        self._per_octave = 1.0 / _slope(frame_budget / pixels)
        self._step: int | None = None

    def step(self, info: FrameInfo) -> int:
        """qindexes to add to libvpx's proposal, the same for all frames."""
        if self._step is None:
            octaves = _PLAN_OFF + _PLAN_OFF_PER_QINDEX * info.proposal_qindex
            self._step = round(self._per_octave * octaves)
        return self._step

    def record(self, info: FrameInfo | None, result: FrameResult) -> None:
        """Nothing is learned on the way."""


class PilotedFeedback:
    """Keeps the account of one encode that a pilot went ahead of."""

    def __init__(self, frame_budget: float, pilot: Pilot, num_frames: int, pixels: int) -> None:
        """Starts with nothing spent.

        Args:
          frame_budget: target bits per shown frame.
          pilot: the record of the pilot.
          num_frames: shown frames.
          pixels: of a frame; what an empty frame costs follows from it.
        """
        self._floor = _empty_frame(frame_budget, pixels)
        self._slope = _slope(frame_budget / pixels)
        self._frame_budget = _AIM * frame_budget - pilot.binding_bits / num_frames
        self._frames = num_frames
        costs, keys, headers = self._costs(pilot)
        self._headers_ahead = [*np.cumsum(headers[::-1])[::-1].tolist(), 0.0]
        # [T+1, bins] what is to come from each shown frame on.
        self._ahead, self._keys_ahead = _from_here(costs), _from_here(keys)
        self._expected = costs.sum(axis=1).tolist()
        centre = _BIN * np.arange(_BINS) + 0.5 * (_BIN - 1)
        self._centre = np.minimum(centre, NUM_QINDEX - 1.0)
        self._shift = pilot.shift
        mean = max(float(np.mean(self._expected)), 1.0)
        self._recent = self._recent_expected = 0.0
        self._belief = _PRIOR_FRAMES * mean  # in what was expected, as bits that met it
        self._paid_for = [0.0] * num_frames
        self._prepaid = 0.0
        self._spent = 0.0
        self._shown = 0
        self._step = 0
        self._before: float | None = None

    def record(self, info: FrameInfo | None, result: FrameResult) -> None:
        """Takes in what a frame cost; `info` is None for a buffer shown again."""
        floor = self._floor if result.shown else 0.0
        self._spent += result.bits
        cost = max(result.bits - floor, 0.0)
        key = info is not None and info.update_type is UpdateType.KEY
        if info is not None:
            step = _reach(info.proposal_qindex, self._step)
            step -= _reach(info.proposal_qindex, self._shift)
            cost *= 2.0 ** (step * (_KEY_SLOPE if key else self._slope))
            self._before = self._mean_step()
        if not key:
            shown_at = self._shown if result.shown or info is None else info.show_index
            share(self._paid_for, cost, self._shown, shown_at)
            self._prepaid += cost
        if result.shown and self._shown < self._frames:
            paid = self._paid_for[self._shown]
            self._prepaid -= paid
            if self._shown == 0:
                # The further from the pilot, the less is its price to be trusted.
                self._belief /= 1.0 + ((self._step - self._shift) / _SURE_STEP) ** 2
            self._belief *= _MEMORY
            self._recent = _MEMORY * self._recent + paid
            self._recent_expected *= _MEMORY
            self._recent_expected += _CHEAPER * self._expected[self._shown]
            self._shown += 1

    def step(self, info: FrameInfo) -> int:
        """qindexes to add to libvpx's proposal."""
        left = self._frames - self._shown
        if left <= 0:
            return self._step
        least = _LEAST_LEFT * self._frame_budget * left
        have = self._frame_budget * self._frames - self._spent - self._headers_ahead[self._shown]
        have = max(have, least)
        rest = self._ahead[self._shown]
        seen = (self._belief + self._recent) / (self._belief + self._recent_expected)
        price = _CHEAPER * seen
        expected = float(rest.sum())
        scale = max(price * expected - self._prepaid, least) / max(expected, 1.0)
        step = self._shift + self._solve(scale * rest, self._keys_ahead[self._shown], have)
        if self._before is not None:
            step = max(step, self._before - _FINER_THAN_BEFORE - _FINER_PER_FRAME * left)
        self._step = round(step)
        return self._step

    def _solve(self, rest: _Array, keys: _Array, have: float) -> float:
        """The step from the pilot at which the rest costs what there is, by bisection."""
        low, high = -_MOST_FINER, _MOST_COARSER
        for _ in range(12):  # to a twentieth of a qindex
            middle = 0.5 * (low + high)
            steps = np.clip(self._centre + middle, 0.0, NUM_QINDEX - 1.0) - self._centre
            cost = rest @ np.exp2(-self._slope * steps) + keys @ np.exp2(-_KEY_SLOPE * steps)
            if cost > have:
                low = middle
            else:
                high = middle
        return 0.5 * (low + high)

    def _mean_step(self) -> float:
        if self._before is None:
            return float(self._step)
        frames = min(self._shown + 1.0, _FRAMES_BEFORE)
        return self._before + (self._step - self._before) / frames

    def _costs(self, pilot: Pilot) -> tuple[_Array, _Array, _Array]:
        """Costs by shown frame and bin of qindexes, keys apart; headers by shown frame."""
        # Differences along time; the last row takes what ends after the last frame.
        costs = np.zeros((self._frames + 1, _BINS))
        keys = np.zeros((self._frames, _BINS))
        headers = np.zeros(self._frames)
        last = self._frames - 1
        shown = 0
        for frame in pilot.frames:
            now = min(shown, last)
            shown += frame.shown
            header = min(frame.bits, self._floor) if frame.shown else 0.0
            headers[now] += header
            cost = frame.bits - header
            where = _bin(frame.qindex)
            if frame.update_type is UpdateType.KEY:
                keys[now, where] += cost
                continue
            hidden = not frame.shown and frame.update_type is not None
            until = min(max(frame.show_index, now), last) if hidden else now
            costs[now, where] += cost / (until - now + 1)
            costs[until + 1, where] -= cost / (until - now + 1)
        return np.maximum(np.cumsum(costs, axis=0)[:-1], 0.0), keys, headers


def _bin(qindex: int) -> int:
    # A buffer shown again, qindex -1, costs as good as nothing: any bin will do.
    return _BINS - 1 if qindex == NUM_QINDEX - 1 else max(qindex, 0) // _BIN


def _from_here(costs: _Array) -> _Array:
    ahead = np.zeros((len(costs) + 1, costs.shape[1]))
    ahead[:-1] = np.cumsum(costs[::-1], axis=0)[::-1]
    return ahead
