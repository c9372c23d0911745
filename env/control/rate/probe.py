"""Landing an encode on its target when a probe has told what its frames cost.

Before each frame the feedback solves for the one step x from the probe's qindexes that the
frames left can be taken by, all alike, so that the budget is met:

    sum(h_t) + sum(kappa_k c_t 2^(-a_k (g(q_t + x) - g(q_t)))) = budget - spent

    h_t      = bits of frame t in the probe (`env.passes.probe`) up to those of an empty frame
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
import functools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from muzero_rc.env.control.probe_record import ProbeFrame, ProbeRecord
from muzero_rc.env.control.rate.two_pass import empty_frame
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, ProbeRate, Recipe
from muzero_rc.types import NUM_QINDEX, EpisodeScore, FrameInfo, FrameResult, UpdateType

__all__ = [
    "ProbeShift",
    "ProbeRateController",
    "next_probe_step",
    "off_target",
    "qindex_octaves",
    "qindex_of_octaves",
]

_Array = npt.NDArray[np.float64]


class _Kind(enum.IntEnum):
    """Kinds of frames whose bits follow laws of their own."""

    KEY = 0
    HIDDEN = 1
    SHOWN = 2


_KINDS = len(_Kind)
# libvpx's table of steps: its formula up to a qindex, and octaves of one above that.
_EXPONENTIAL, _OCTAVES_PER_QINDEX = 96.0, 0.0258


def _slope(bits_per_pixel: float, recipe: Recipe) -> float:
    law = recipe.probe_encodes
    slope = law.slope + law.slope_per_octave * math.log2(bits_per_pixel)
    return min(max(slope, law.min_slope), law.max_slope)


def qindex_octaves(qindex: npt.ArrayLike) -> _Array:
    """log2 of the quantizer's step: q + 8 up to 96, from there as good as exponential."""
    q = np.clip(np.asarray(qindex, np.float64), 0.0, NUM_QINDEX - 1.0)
    above = math.log2(_EXPONENTIAL + 8.0) + _OCTAVES_PER_QINDEX * (q - _EXPONENTIAL)
    return np.asarray(np.where(q <= _EXPONENTIAL, np.log2(q + 8.0), above))


def qindex_of_octaves(octaves: float) -> float:
    """The qindex, in the range and between whole ones too, of a quantizer's log2: the inverse."""
    top = math.log2(_EXPONENTIAL + 8.0)
    if octaves <= top:
        return float(max(2.0**octaves - 8.0, 0.0))
    return min(_EXPONENTIAL + (octaves - top) / _OCTAVES_PER_QINDEX, NUM_QINDEX - 1.0)


def _halvings(qindex: npt.ArrayLike, recipe: ProbeRate) -> _Array:
    """How often the bits of frames of each kind are halved at a qindex. [kinds, ...]."""
    octaves = qindex_octaves(qindex)
    steep = np.multiply.outer(np.array(recipe.steepness), octaves)
    # Of key frames above 96 more and more blocks are left without residual.
    steep[_Kind.KEY] += recipe.steeper_key * np.maximum(
        octaves - math.log2(_EXPONENTIAL + 8.0), 0.0
    )
    return np.asarray(steep)


class _Tables(NamedTuple):
    """What follows from a recipe.

    Attributes:
      steps: [steps] qindexes from the probe.
      change: [steps, kinds * bins] what each step makes of the bits of each kind and bin.
      bins: of qindexes.
    """

    steps: npt.NDArray[np.int64]
    change: _Array
    bins: int


@functools.lru_cache(maxsize=8)
def _tables(recipe: ProbeRate) -> _Tables:
    width = recipe.bin_width
    bins = NUM_QINDEX // width + 1
    steps = np.arange(-recipe.max_finer, recipe.max_coarser + 1)
    centre = np.minimum(width * np.arange(bins) + 0.5 * (width - 1), NUM_QINDEX - 1.0)
    there = _halvings(centre + steps[:, None], recipe)  # [kinds, steps, bins]
    change = np.exp2(_halvings(centre, recipe)[:, None] - there)
    return _Tables(steps, np.ascontiguousarray(change.swapaxes(0, 1).reshape(len(steps), -1)), bins)


def next_probe_step(
    probe: ProbeRecord,
    frame_budget: float,
    num_frames: int,
    pixels: int,
    *,
    recipe: Recipe = DEFAULT_RECIPE,
) -> int | None:
    """Where to run a probe again that was too far from its target to tell much.

    The law of bits holds in the neighbourhood; frames that were empty say nothing of what
    they cost where they are not. One probe in twelve is that far off.

    Args:
      probe: the record of the probe_encode so far.
      frame_budget: target bits per shown frame.
      num_frames: shown frames.
      pixels: of a frame.
      recipe: the constants.

    Returns:
      qindexes to add to libvpx's proposals; None if the probe was near enough.
    """
    rate = ProbeRateController(frame_budget, probe, num_frames, pixels, recipe=recipe)
    off, law = rate.first_step() - probe.shift, recipe.probe_encodes
    return probe.shift + round(law.way * off) if abs(off) >= law.far else None


def off_target(score: EpisodeScore, *, recipe: Recipe = DEFAULT_RECIPE) -> bool:
    """Whether an encode missed its target by so much that another one is worth its time."""
    return not -recipe.retry.under <= score.overshoot <= recipe.retry.over


class ProbeShift:
    """Shifts all of a probe by what libvpx's plan is expected to be off its target."""

    def __init__(
        self, frame_budget: float, pixels: int, *, recipe: Recipe = DEFAULT_RECIPE
    ) -> None:
        """Takes bits per shown frame, pixels of a frame, and the constants."""
        self._law = recipe.probe_encodes
        self._per_octave = 1.0 / _slope(frame_budget / pixels, recipe)
        self._step: int | None = None

    def step(self, info: FrameInfo) -> int:
        """qindexes to add to libvpx's proposal, the same for all frames."""
        if self._step is None:
            law = self._law
            octaves = law.plan_off + law.plan_off_per_qindex * info.proposal_qindex
            self._step = round(self._per_octave * octaves)
        return self._step

    def record(self, info: FrameInfo | None, result: FrameResult) -> None:
        """Nothing is learned on the way."""


class ProbeRateController:
    """Keeps the account of one encode that a probe went ahead of."""

    def __init__(
        self,
        frame_budget: float,
        probe: ProbeRecord,
        num_frames: int,
        pixels: int,
        *,
        recipe: Recipe = DEFAULT_RECIPE,
    ) -> None:
        """Starts with nothing spent.

        Args:
          frame_budget: target bits per shown frame.
          probe: the record of the probe.
          num_frames: shown frames.
          pixels: of a frame; what an empty frame costs follows from it.
          recipe: the constants.
        """
        self._recipe = recipe.probe_rate
        self._tables = _tables(recipe.probe_rate)
        self._floor = empty_frame(frame_budget, pixels, recipe=recipe)
        self._budget = self._recipe.aim * frame_budget * num_frames - probe.superframe_index_bits
        self._least_left = self._recipe.min_left * frame_budget
        self._frames = num_frames
        self._probe = probe
        self._place = {id(frame): place for place, frame in enumerate(probe.frames)}
        self._final_pass_bits: dict[int, float] = {}  # by place
        # What is to come, by kind and bin of qindexes, and its headers.
        self._ahead = np.zeros((_KINDS, self._tables.bins))
        self._headers_ahead = 0.0
        for frame in probe.frames:
            self._count(frame, 1.0)
        self._shown_before = np.cumsum([frame.shown for frame in probe.frames])
        self._cheaper = np.ones(_KINDS) if probe.refined else np.array(self._recipe.cheaper)
        self._shift = probe.shift
        mean = max(float(self._ahead.sum()) / max(len(probe.coded), 1), 1.0)
        self._paid, self._expected = np.zeros(_KINDS), np.zeros(_KINDS)
        self._belief = self._recipe.prior_frames * mean  # in what was expected, as bits that met it
        self._kind_belief = self._recipe.kind_frames * mean
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
                self._belief /= 1.0 + ((self._step - self._shift) / self._recipe.sure_step) ** 2
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
            recipe = self._recipe
            finer = recipe.finer_than_before + recipe.finer_per_frame * left
            step = max(step, self._before - finer)
            step = max(step, self._last - recipe.finer_at_once)
        self._step = round(step)
        return self._step

    def range_of_bits(self) -> tuple[float, float]:
        """Fewest and most bits that the frames can be made to cost, before any is coded."""
        costs = self._tables.change @ (self._price()[:, None] * self._ahead).ravel()
        fixed = self._headers_ahead + self._probe.superframe_index_bits
        return fixed + float(costs[-1]), fixed + float(costs[0])

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
        recipe = self._recipe
        there = _halvings(matching_frame.proposal_qindex + self._step, recipe)
        taken = there - _halvings(matching_frame.qindex, recipe)
        cost = max(result.bits - self._floor, 0.0) * 2.0 ** float(taken[kind])
        self._belief *= recipe.memory
        self._paid *= recipe.memory
        self._expected *= recipe.memory
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
        steps = self._tables.steps
        costs = self._tables.change @ rest.ravel()  # by step, falling
        # Where next to nothing can be saved any more, quality would be lost for it.
        have = max(have, float(costs[-1]) + self._recipe.not_worth * self._budget)
        place = int(np.searchsorted(-costs, -have))
        if place == 0:
            return float(steps[0])
        if place == len(costs):
            return float(steps[-1])
        dearer, cheaper = float(costs[place - 1]), float(costs[place])
        return float(steps[place]) - (have - cheaper) / max(dearer - cheaper, 1e-9)

    def _mean_step(self) -> float:
        if self._before is None:
            return float(self._step)
        frames = min(self._shown + 1.0, self._recipe.frames_before)
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
        self._ahead[_kind(frame), self._bin(frame.qindex)] += sign * (frame.cost - header)

    def _bin(self, qindex: int) -> int:
        # A buffer shown again, qindex -1, costs as good as nothing: any bin will do.
        last = self._tables.bins - 1
        return last if qindex == NUM_QINDEX - 1 else max(qindex, 0) // self._recipe.bin_width


def _kind(frame: ProbeFrame) -> _Kind:
    if frame.update_type is UpdateType.KEY:
        return _Kind.KEY
    return _Kind.SHOWN if frame.shown else _Kind.HIDDEN
