"""Constant quality under rate control: a chunk's level follows what its frames take.

A film in two passes has a chunk that makes up for what the others missed, and others that are made
again for the film's target. Of each it is known how many bits it is to take. Its level is to bring
them, so what its first frame has left, G, is expected of all others. An encode in real time has
told how these bits lie in time: up to the shown frame t a share E(t) of them. With each group of
pictures that begins the level changes, so that what is expected of the frames ahead are the bits
that are left. After B bits, where X were expected of the levels that were taken,

    octaves of bits = log2((G - B) / (G (1 - E))) - E log2(B / X)

from the first level. Of what frames took more than expected, those ahead are expected to take
more, too, the more of the chunk is known. Ours, not the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from muzero_rc.encode.level import QINDEXES_PER_QUANTIZER, Level
from muzero_rc.env.control.qp_offsets import ConstantQualityPolicy, is_base
from muzero_rc.env.control.rate.probe import qindex_octaves, qindex_of_octaves
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, QpOffsets, Recipe
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.types import FrameResult, Observation, QindexPolicy

__all__ = ["Goal", "ControlledQualityPolicy", "controlled_quality_at"]


class Goal(NamedTuple):
    """What a chunk is to take.

    Attributes:
      bits: of its packets.
      fixed: of them, in headers, which no level can save.
      frame_bits: [T] what each shown frame takes beside the others.
      octaves_per_octave: bits over the quantizer's step; below 0.
      most: octaves of bits that a group may be away from the first level.
    """

    bits: float
    fixed: float
    frame_bits: Sequence[int]
    octaves_per_octave: float
    most: float


class ControlledQualityPolicy(QindexPolicy):
    """Constant quality at a level that changes with each group, for one encode."""

    name = "controlled quality"

    def __init__(self, goal: Goal, level: float, quantizer: int, offsets: QpOffsets) -> None:
        """Takes what the chunk is to take, and what it begins with.

        Args:
          goal: what it is to take.
          level: qindex that is expected to bring that.
          quantizer: libvpx's, of its constant quality.
          offsets: of the layers.
        """
        self._goal = goal
        self._first = self._level = level
        self._base = QINDEXES_PER_QUANTIZER * quantizer
        self._offsets = offsets
        each = np.maximum(np.asarray(goal.frame_bits, np.float64), 1.0)
        # Of what the frames after the first one take.
        self._parts = (each / max(float(each[1:].sum()), 1.0)).tolist()
        self._shown = 0
        self._spent = 0.0
        self._key = 0.0  # of it, in the first frame
        self._share = 0.0
        self._expected = 0.0  # of the levels that were taken, likewise
        self._levels: list[float] = []

    @property
    def mean_level(self) -> float:
        """Of shown frames; the first one before any."""
        return float(np.mean(self._levels)) if self._levels else self._first

    def take(self, result: FrameResult) -> None:
        """A frame is coded."""
        self._spent += result.bits
        if result.shown and self._shown < len(self._parts):
            if self._shown:
                part = self._parts[self._shown]
                self._share += part
                self._expected += part * 2.0 ** self._octaves(self._level)
            else:
                self._key = result.bits
            self._shown += 1
            self._levels.append(self._level)

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        """qindex for each observation. [B] int32."""
        if self._shown > 1 and is_base(observations).any():
            self._level = self._next_level()
        shift = self._level - self._base
        return ConstantQualityPolicy(shift, self._offsets).qindexes(observations)

    def _octaves(self, level: float) -> float:
        """Octaves of bits that a level brings over the first one."""
        far = float(qindex_octaves(level)) - float(qindex_octaves(self._first))
        return self._goal.octaves_per_octave * far

    def _next_level(self) -> float:
        goal = self._goal
        headers = goal.fixed / len(self._parts)
        # The level is to bring the goal, so after the first frame it is to bring what is left.
        whole = max(goal.bits - self._key - headers * (len(self._parts) - 1), 1.0)
        spent = max(self._spent - self._key - headers * (self._shown - 1), 1.0)
        ahead = 1.0 - self._share
        if ahead <= 0.0 or self._expected <= 0.0:
            return self._level
        dearer = self._share * math.log2(spent / (whole * self._expected))
        octaves = math.log2(max(whole - spent, 1.0) / (whole * ahead)) - dearer
        octaves = min(max(octaves, -goal.most), goal.most)
        start = float(qindex_octaves(self._first))
        return max(qindex_of_octaves(start + octaves / goal.octaves_per_octave), 1.0)


def controlled_quality_at(
    settings: EncoderSettings, level: Level, goal: Goal, *, recipe: Recipe = DEFAULT_RECIPE
) -> ControlledQualityPolicy:
    """The policy of a chunk that is to take a number of bits.

    Args:
      settings: of its constant quality (`level.at_level`).
      level: that it begins with.
      goal: what it is to take.
      recipe: the constants of control.
    """
    offsets = recipe.qp_offsets.scaled(level.offset_scale)
    return ControlledQualityPolicy(goal, level.qindex, settings.cq_level, offsets)
