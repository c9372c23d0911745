"""Landing an encode on its target when a probe has told what its frames cost.

Before each frame the feedback solves for the one step x from the probe's qindexes that the
frames left can be taken by, all alike, so that the budget is met:

    sum(h_t) + sum(kappa_k c_t 2^(-a_k (g(q_t + x) - g(q_t)))) = budget - spent

    h_t      = bits of frame t in the probe (`env.probe`) up to those of an empty frame
    c_t      = its bits above those, q_t its qindex there
    kappa_k  = what frames of its kind k cost over what they did in the probe, so far
    a_k      = how steeply bits fall with the quantizer's step, by kind
    g(q)     = log2 of that step

All frames that are not yet coded count, hidden ones by themselves. One step for all frames
to come is the best there is by PSNR, and with the costs known it hardly moves: the quality
stays even. `ProbeShift` is what the probe itself is shifted by. Ours, not the paper's.
"""

from __future__ import annotations

import dataclasses
import enum
import math

import numpy as np
import numpy.typing as npt

from muzero_rc.env.control.probe_record import ProbeFrame, ProbeRecord
from muzero_rc.env.control.rate.two_pass import empty_frame
from muzero_rc.types import NUM_QINDEX, EpisodeScore, FrameInfo, FrameResult, UpdateType

__all__ = [
    "ProbeShift",
    "ProbeRateController",
    "next_probe_step",
    "off_target",
]

_Array = npt.NDArray[np.float64]

# Octaves of bits per qindex of a whole clip: 1/28 in the middle of the range, less where
# headers are most of a frame. Fitted on 200 encodes of 20 training clips, shifted by 0 and
# 16 qindexes.
_SLOPE = 0.0643
_SLOPE_PER_OCTAVE = 0.0057  # of bits per pixel
_LEAST_SLOPE, _MOST_SLOPE = 0.012, 0.075
# How far libvpx's plan ends off its target, in octaves: a line in the qindex that it has
# for the first key frame. Likewise fitted; it explains 42%.
_PLAN_OFF, _PLAN_OFF_PER_QINDEX = -0.50, 0.00674
# a_k, fitted on 270 encodes of 15 training clips, shifted from -24 to 40 qindexes: the bits
# of all frames of a kind are off by 0.12, 0.17 and 0.25 octaves then.
_STEEPNESS = (0.73, 0.95, 1.24)
_STEEPER_KEY = 0.25  # per octave of the step
_CHEAPER = (0.95, 0.925, 0.9)  # kappa_k before the first frame: the last pass searches longer
_PRIOR_FRAMES = 40.0  # frames at that price that kappa starts from, if the first step is 0
_SURE_STEP = 6.0  # qindexes; at a first step of that from the probe half of them, and so on
_KIND_FRAMES = 10.0  # frames at the price of all that the price of a kind starts from
_MEMORY = 0.98  # per coded frame
_MOST_COARSER, _MOST_FINER = 96, 90  # qindexes
_FINER_THAN_BEFORE = 8.0  # qindexes: the last frames are a bad place to spend what is left
_FINER_PER_FRAME = 0.25  # qindexes, for each frame left
_FINER_AT_ONCE = 3.0  # qindexes, from one coded frame to the next
_FRAMES_BEFORE = 40.0  # that "before" is the mean of
_AIM = 0.998  # of the budget: what is left is a smaller miss than what is lacking
_LEAST_LEFT = 0.02  # floor of the bits left
_NOT_WORTH = 0.004  # of the budget: no step is taken for the last of what could be saved
_FAR = 20  # qindexes from where it should have been: such a probe is run again
_WAY = 0.75  # of that distance: what came out empty tells less of finer frames than the reverse
_OVER, _UNDER = 0.01, 0.03  # of the target; an encode that misses by more is made again
_BIN = 8  # qindexes; frames that near are taken for alike, those at the end apart
_BINS = NUM_QINDEX // _BIN + 1


class _Kind(enum.IntEnum):
    """Kinds of frames whose bits follow laws of their own."""

    KEY = 0
    HIDDEN = 1
    SHOWN = 2


_KINDS = len(_Kind)


def _slope(bits_per_pixel: float) -> float:
    slope = _SLOPE + _SLOPE_PER_OCTAVE * math.log2(bits_per_pixel)
    return min(max(slope, _LEAST_SLOPE), _MOST_SLOPE)


def _octaves(qindex: npt.ArrayLike) -> _Array:
    """log2 of the quantizer's step: q + 8 up to 96, from there as good as exponential."""
    q = np.clip(np.asarray(qindex, np.float64), 0.0, NUM_QINDEX - 1.0)
    return np.asarray(np.where(q <= 96.0, np.log2(q + 8.0), math.log2(104.0) + 0.0258 * (q - 96.0)))


def _halvings(qindex: npt.ArrayLike) -> _Array:
    """How often the bits of frames of each kind are halved at a qindex. [kinds, ...]."""
    octaves = _octaves(qindex)
    steep = np.multiply.outer(np.array(_STEEPNESS), octaves)
    # Of key frames above 96 more and more blocks are left without residual.
    steep[_Kind.KEY] += _STEEPER_KEY * np.maximum(octaves - math.log2(104.0), 0.0)
    return np.asarray(steep)


def _changes() -> _Array:
    """What each of `_STEPS` makes of the bits of each kind and bin. [steps, kinds * bins]."""
    centre = np.minimum(_BIN * np.arange(_BINS) + 0.5 * (_BIN - 1), NUM_QINDEX - 1.0)
    there = _halvings(centre + _STEPS[:, None])  # [kinds, steps, bins]
    change = np.exp2(_halvings(centre)[:, None] - there)
    return np.ascontiguousarray(change.swapaxes(0, 1).reshape(len(_STEPS), -1))


_STEPS = np.arange(-_MOST_FINER, _MOST_COARSER + 1)
_CHANGE = _changes()


def next_probe_step(
    probe: ProbeRecord, frame_budget: float, num_frames: int, pixels: int
) -> int | None:
    """Where to run a probe again that was too far from its target to tell much.

    The law of bits holds in the neighbourhood; frames that were empty say nothing of what
    they cost where they are not. One probe in twelve is that far off.

    Args:
      probe: the record of the probe_encode so far.
      frame_budget: target bits per shown frame.
      num_frames: shown frames.
      pixels: of a frame.

    Returns:
      qindexes to add to libvpx's proposals; None if the probe was near enough.
    """
    off = ProbeRateController(frame_budget, probe, num_frames, pixels).first_step() - probe.shift
    return probe.shift + round(_WAY * off) if abs(off) >= _FAR else None


def off_target(score: EpisodeScore) -> bool:
    """Whether an encode missed its target by so much that another one is worth its time."""
    return not -_UNDER <= score.overshoot <= _OVER


class ProbeShift:
    """Shifts all of a probe by what libvpx's plan is expected to be off its target."""

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


class ProbeRateController:
    """Keeps the account of one encode that a probe went ahead of."""

    def __init__(
        self, frame_budget: float, probe: ProbeRecord, num_frames: int, pixels: int
    ) -> None:
        """Starts with nothing spent.

        Args:
          frame_budget: target bits per shown frame.
          probe: the record of the probe.
          num_frames: shown frames.
          pixels: of a frame; what an empty frame costs follows from it.
        """
        self._floor = empty_frame(frame_budget, pixels)
        self._budget = _AIM * frame_budget * num_frames - probe.superframe_index_bits
        self._least_left = _LEAST_LEFT * frame_budget
        self._frames = num_frames
        self._probe = probe
        self._place = {id(frame): place for place, frame in enumerate(probe.frames)}
        self._final_pass_bits: dict[int, float] = {}  # by place
        # What is to come, by kind and bin of qindexes, and its headers.
        self._ahead = np.zeros((_KINDS, _BINS))
        self._headers_ahead = 0.0
        for frame in probe.frames:
            self._count(frame, 1.0)
        self._shown_before = np.cumsum([frame.shown for frame in probe.frames])
        self._cheaper = np.ones(_KINDS) if probe.refined else np.array(_CHEAPER)
        self._shift = probe.shift
        mean = max(float(self._ahead.sum()) / max(len(probe.coded), 1), 1.0)
        self._paid, self._expected = np.zeros(_KINDS), np.zeros(_KINDS)
        self._belief = _PRIOR_FRAMES * mean  # in what was expected, as bits that met it
        self._kind_belief = _KIND_FRAMES * mean
        self._spent = 0.0
        self._next = 0  # in the probe's frames
        self._shown = 0
        self._step = self._last = 0
        self._before: float | None = None

    def record(self, info: FrameInfo | None, result: FrameResult) -> None:
        """Takes in what a frame cost; `info` is None for a buffer shown again."""
        self._spent += result.bits
        matching_frame = None if info is None else self._probe.matching_frame(info)
        if matching_frame is not None:
            self._compare(matching_frame, result)
        self._pass(
            self._next + 1 if matching_frame is None else self._place[id(matching_frame)] + 1
        )
        if info is not None:
            self._before = self._mean_step()
            self._last = self._step
        if result.shown:
            if self._shown == 0:
                # The further from the probe, the less is its price to be trusted.
                self._belief /= 1.0 + ((self._step - self._shift) / _SURE_STEP) ** 2
            self._shown += 1
        if matching_frame is None and info is not None:
            # Another way than the probe's: what is shown has been coded.
            self._pass(int(np.searchsorted(self._shown_before, self._shown, side="right")))

    def first_step(self) -> int:
        """The step that all frames are expected to be coded with, before any of them is."""
        return round(self._shift + self._solve_for(self._frames))

    def step(self, info: FrameInfo) -> int:
        """qindexes to add to libvpx's proposal."""
        left = self._frames - self._shown
        if left <= 0:
            return self._step
        step = self._shift + self._solve_for(left)
        if self._before is not None:
            step = max(step, self._before - _FINER_THAN_BEFORE - _FINER_PER_FRAME * left)
            step = max(step, self._last - _FINER_AT_ONCE)
        self._step = round(step)
        return self._step

    def refined(self) -> ProbeRecord:
        """The probe with what its frames cost in this encode, for another last pass."""
        frames = tuple(
            dataclasses.replace(
                frame, final_pass_bits=self._final_pass_bits.get(place, frame.final_pass_bits)
            )
            for place, frame in enumerate(self._probe.frames)
        )
        coded = {i: frames[self._place[id(frame)]] for i, frame in self._probe.coded.items()}
        return dataclasses.replace(self._probe, frames=frames, coded=coded, refined=True)

    def _compare(self, matching_frame: ProbeFrame, result: FrameResult) -> None:
        """What a frame cost at the probe's qindex, beside what it did there."""
        kind = _kind(matching_frame)
        # As if the policy had not moved it: what it does to all of a kind is in the price.
        taken = _halvings(matching_frame.proposal_qindex + self._step) - _halvings(
            matching_frame.qindex
        )
        cost = max(result.bits - self._floor, 0.0) * 2.0 ** float(taken[kind])
        self._belief *= _MEMORY
        self._paid *= _MEMORY
        self._expected *= _MEMORY
        self._paid[kind] += cost
        self._expected[kind] += self._cheaper[kind] * max(matching_frame.cost - self._floor, 0.0)
        header = min(float(result.bits), self._floor)
        self._final_pass_bits[self._place[id(matching_frame)]] = header + cost

    def _price(self) -> _Array:
        """kappa_k. [kinds]."""
        paid, expected = float(self._paid[1:].sum()), float(self._expected[1:].sum())
        price = (self._belief + paid) / (self._belief + expected)
        known = (self._kind_belief * price + self._paid) / (self._kind_belief + self._expected)
        return np.asarray(self._cheaper * known)

    def _solve_for(self, left: int) -> float:
        """The step from the probe at which the frames left cost what there is."""
        have = self._budget - self._spent - self._headers_ahead
        have = max(have, self._least_left * left)
        return self._solve(self._price()[:, None] * np.maximum(self._ahead, 0.0), have)

    def _solve(self, rest: _Array, have: float) -> float:
        costs = _CHANGE @ rest.ravel()  # by step, falling
        # Where next to nothing can be saved any more, quality would be lost for it.
        have = max(have, float(costs[-1]) + _NOT_WORTH * self._budget)
        place = int(np.searchsorted(-costs, -have))
        if place == 0:
            return float(_STEPS[0])
        if place == len(costs):
            return float(_STEPS[-1])
        dearer, cheaper = float(costs[place - 1]), float(costs[place])
        return float(_STEPS[place]) - (have - cheaper) / max(dearer - cheaper, 1e-9)

    def _mean_step(self) -> float:
        if self._before is None:
            return float(self._step)
        frames = min(self._shown + 1.0, _FRAMES_BEFORE)
        return self._before + (self._step - self._before) / frames

    def _pass(self, place: int) -> None:
        """What comes before this place in the probe is no longer to come."""
        frames = self._probe.frames
        for frame in frames[self._next : place]:
            self._count(frame, -1.0)
        self._next = max(self._next, min(place, len(frames)))

    def _count(self, frame: ProbeFrame, sign: float) -> None:
        header = min(frame.cost, self._floor)
        self._headers_ahead += sign * header
        self._ahead[_kind(frame), _bin(frame.qindex)] += sign * (frame.cost - header)


def _kind(frame: ProbeFrame) -> _Kind:
    if frame.update_type is UpdateType.KEY:
        return _Kind.KEY
    return _Kind.SHOWN if frame.shown else _Kind.HIDDEN


def _bin(qindex: int) -> int:
    # A buffer shown again, qindex -1, costs as good as nothing: any bin will do.
    return _BINS - 1 if qindex == NUM_QINDEX - 1 else max(qindex, 0) // _BIN
