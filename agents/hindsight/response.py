"""How frames answer to their own qindex and to their references, measured.

Two encodes that differ in some qindexes tell for every coded frame f, not only for the
clip, what came of it. For a frame of kind k with references r of role j (last, golden,
alternate),

    d psnr_f     = -u_k dq_f + sum_j v_kj d psnr_r(j)
    d log2 bits_f = -w_k dq_f - z_k sum_j d psnr_r(j) / 3

is fitted by ridge regression around usual values. Going back through the references then
gives what every frame's qindex is worth to the whole clip: with the objective

    J = psnr_avg - slope log2(bits / target)

a frame's weight is a_f = dJ/dpsnr_f, its own share 1/T included, and moving it by D

    J(D) - J(0) = -u a D - slope log2(1 + (bits_f / bits) (2^(-w D) - 1))

which is concave, so that it has a best D. The additive form is ours; that a frame's
distortion passes to those that refer to it is what libvpx's TPL estimates beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.hindsight.encoder import Outcome
from muzero_rc.agents.hindsight.plan import FrameKey, frame_key
from muzero_rc.types import FrameInfo, UpdateType

__all__ = ["FrameWorth", "ResponseModel"]

_KINDS = 4  # key; golden and base ARF; deeper ARF; leaf and overlays
_ROLES = 3
_DB_PER_QINDEX = 0.08
_PASSED_ON = (0.25, 0.1, 0.15)
_OCTAVES_PER_QINDEX = 1.0 / 28.0
_SAVED_PER_DB = 0.05
_TRUST_OWN = 400.0  # what the usual values count, in squared qindexes
_TRUST_REFERENCE = 10.0  # likewise, in squared dB
_FLAT_BITS = 400.0  # frames of fewer bits say nothing about rates: their logarithm jumps

_Array = npt.NDArray[np.float64]


def _kind(info: FrameInfo) -> int:
    if info.update_type is UpdateType.KEY:
        return 0
    if info.update_type is UpdateType.GOLDEN or (
        info.update_type is UpdateType.ARF and info.layer_depth <= 1
    ):
        return 1
    return 2 if info.update_type is UpdateType.ARF else 3


class FrameWorth:
    """What a frame's qindex is worth at an encode.

    Attributes:
      key: the frame.
      quality: dB of J lost per qindex by the frame's error, all it is passed on to included.
      price: dB of J that the frame's bits cost.
      rate: octaves of its bits per qindex.
      share: of its bits in all.
    """

    __slots__ = ("_slope", "key", "price", "quality", "rate", "share")

    def __init__(
        self, key: FrameKey, quality: float, share: float, slope: float, rate: float
    ) -> None:
        self.key = key
        self.quality = quality
        self.price = slope * share / math.log(2.0)
        self.rate = rate
        self.share = share
        self._slope = slope

    def gain(self, step: float) -> float:
        """Expected change of J in dB for a step in qindexes."""
        bits = 1.0 + self.share * (2.0 ** (-self.rate * step) - 1.0)
        return -self.quality * step - self._slope * math.log2(max(bits, 1e-6))

    def best_step(self, limit: float) -> float:
        """The step of highest expected gain, -limit to limit."""
        dear = self._slope * self.share * self.rate
        if dear <= 0.0:
            return 0.0
        if self.quality <= 0.0:
            return limit
        # Where the derivative vanishes, with the clip's bits taken as they are.
        step = -math.log2(self.quality / dear) / self.rate
        return min(max(step, -limit), limit)


class ResponseModel:
    """The coefficients, refined with every pair of encodes."""

    def __init__(self) -> None:
        """Starts with the usual values."""
        prior_psnr = np.array([_DB_PER_QINDEX, *_PASSED_ON])
        prior_bits = np.array([_OCTAVES_PER_QINDEX, _SAVED_PER_DB])
        trust_psnr = np.diag([_TRUST_OWN, *[_TRUST_REFERENCE] * _ROLES])
        trust_bits = np.diag([_TRUST_OWN, _TRUST_REFERENCE])
        self._psnr_gram = np.stack([trust_psnr] * _KINDS)
        self._psnr_sum = np.stack([trust_psnr @ prior_psnr] * _KINDS)
        self._bits_gram = np.stack([trust_bits] * _KINDS)
        self._bits_sum = np.stack([trust_bits @ prior_bits] * _KINDS)

    def learn(self, before: Outcome, after: Outcome) -> None:
        """Takes in what changed between two encodes; nothing if their groups differ."""
        if before.structure != after.structure:
            return
        psnr_change: dict[int, float] = {}
        for (info, old), (_, new) in zip(before.frames, after.frames, strict=True):
            if info is None:
                continue
            kind = _kind(info)
            references = [psnr_change.get(r, 0.0) for r in info.ref_coding_indexes]
            change = new.psnr - old.psnr
            psnr_change[info.coding_index] = change
            step = float(new.qindex - old.qindex)
            row = np.array([-step, *references])
            self._psnr_gram[kind] += np.outer(row, row)
            self._psnr_sum[kind] += row * change
            if min(old.bits, new.bits) > _FLAT_BITS:
                row = np.array([-step, -sum(references) / _ROLES])
                self._bits_gram[kind] += np.outer(row, row)
                self._bits_sum[kind] += row * math.log2(new.bits / old.bits)

    def worth(self, outcome: Outcome, slope: float) -> Mapping[FrameKey, FrameWorth]:
        """What each decided frame's qindex is worth.

        Args:
          outcome: the encode.
          slope: price of rate, dB per octave.
        """
        psnr, bits = self._coefficients()
        total = float(sum(result.bits for _, result in outcome.frames))
        weights: dict[int, float] = {}  # dJ/dpsnr by coding index
        shown_again: dict[int, int] = {}  # show index -> times a buffer is shown
        own = 1.0 / max(outcome.score.shown_frames, 1)
        for info, result in outcome.frames:
            if info is None:
                shown_again[result.show_index] = shown_again.get(result.show_index, 0) + 1
        worth: dict[FrameKey, FrameWorth] = {}
        for info, result in reversed(outcome.frames):
            if info is None:
                continue
            kind = _kind(info)
            weight = weights.get(info.coding_index, 0.0)
            shown = int(result.shown)
            if not shown:
                shown = shown_again.pop(info.show_index, 0)
            weight += own * shown
            share = result.bits / max(total, 1.0)
            saved = slope * share * bits[kind, 1] / _ROLES
            for role, reference in enumerate(info.ref_coding_indexes):
                if reference >= 0:
                    passed = max(psnr[kind, 1 + role], 0.0) * weight + saved
                    weights[reference] = weights.get(reference, 0.0) + passed
            key = frame_key(info)
            worth[key] = FrameWorth(key, psnr[kind, 0] * weight, share, slope, bits[kind, 0])
        return worth

    def _coefficients(self) -> tuple[_Array, _Array]:
        """[kinds, own and roles] of PSNR and [kinds, own and references] of bits."""
        psnr = np.linalg.solve(self._psnr_gram, self._psnr_sum[..., None])[..., 0]
        bits = np.linalg.solve(self._bits_gram, self._bits_sum[..., None])[..., 0]
        psnr[:, 0] = np.clip(psnr[:, 0], 0.005, 0.4)
        psnr[:, 1:] = np.clip(psnr[:, 1:], 0.0, 1.0)
        # The error passed on by all references together is no more than there is.
        psnr[:, 1:] /= np.maximum(psnr[:, 1:].sum(axis=1, keepdims=True), 1.0)
        bits[:, 0] = np.clip(bits[:, 0], 0.008, 0.12)
        bits[:, 1] = np.clip(bits[:, 1], 0.0, 0.5)
        return psnr, bits
