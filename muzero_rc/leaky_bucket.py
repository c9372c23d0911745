"""Leaky bucket: what a decoder's buffer, filled at a constant rate, makes of an encode.

The hypothetical reference decoder of one rate and one buffer size (Ribas-Corbera, Chou and
Regunathan, "A generalized hypothetical reference decoder for H.264/AVC", IEEE Trans. CSVT
13(7), 2003), in its variable-rate form: a full buffer takes no more bits. `evaluate` measures
with it, and `encode --max-bitrate` keeps to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from muzero_rc.errors import InputError

__all__ = ["BufferRun", "Bucket", "Excess", "drain", "needed_seconds"]


@dataclass(frozen=True, slots=True)
class BufferRun:
    """One encode through one buffer.

    Attributes:
      underflows: shown frames whose bits were not all there in time.
      stall_s: how long playback waited for them, all together.
    """

    underflows: int
    stall_s: float


def drain(packets: Sequence[int], kbps: float, fps: Fraction | float, size_s: float) -> BufferRun:
    """Plays an encode from a buffer that starts full.

    Each frame takes its bits at once; until the next one the buffer gains rate / fps, at
    most to its size. A frame whose bits are not all there waits for them; playback then goes
    on from an empty buffer.

    Args:
      packets: [T] bits of each shown frame.
      kbps: rate at which the buffer fills, kbit/s.
      fps: shown frames per second.
      size_s: size of the buffer in seconds at that rate.

    Raises:
      InputError: rate, frame rate or size is not positive.
    """
    rate = _check(kbps, fps)
    if not size_s > 0:
        raise InputError(f"a buffer needs a positive size, not {size_s:g} s")
    size = level = size_s * rate
    underflows, stall = 0, 0.0
    for bits in packets:
        if bits > level * (1 + 1e-12):  # an exact fit must not fail by a rounding error
            underflows += 1
            stall += (bits - level) / rate
        level = min(max(level - bits, 0.0) + rate / float(fps), size)
    return BufferRun(underflows, stall)


def needed_seconds(packets: Sequence[int], kbps: float, fps: Fraction | float) -> float:
    """Smallest buffer, in seconds at the target rate, that never underflows.

    The peak of the mirrored bucket on the encoder's side, which every frame fills with its
    bits and which leaks rate / fps between frames.

    Raises:
      InputError: rate or frame rate is not positive.
    """
    rate = _check(kbps, fps)
    level = peak = 0.0
    for bits in packets:
        level += bits
        peak = max(peak, level)
        level = max(level - rate / float(fps), 0.0)
    return peak / rate


class Excess(NamedTuple):
    """Frames that take more bits than there are.

    Attributes:
      first: shown frame from which on the buffer was never full.
      last: shown frame whose bits are not all there in time.
      share: of their bits that would be.
    """

    first: int
    last: int
    share: float


@dataclass(frozen=True, slots=True)
class Bucket:
    """A buffer that must never underflow.

    Attributes:
      kbps: rate at which it fills, kbit/s.
      size_s: its size, in seconds at that rate.
    """

    kbps: float
    size_s: float

    def most_bits(self, seconds: float) -> float:
        """Bits that any video of this length may have."""
        return 1000.0 * self.kbps * (self.size_s + seconds)

    def excesses(self, packets: Sequence[int], fps: Fraction | float) -> list[Excess]:
        """Where an encode underflows: as `drain` counts it, with the frames that did it.

        Args:
          packets: [T] bits of each shown frame.
          fps: shown frames per second.
        """
        rate = _check(self.kbps, fps)
        size = level = self.size_s * rate
        found = []
        first, taken = 0, 0
        for index, bits in enumerate(packets):
            taken += bits
            if bits > level * (1 + 1e-12):
                found.append(Excess(first, index, 1.0 - (bits - level) / taken))
                first, taken = index + 1, 0
            level = max(level - bits, 0.0) + rate / float(fps)
            if level >= size:
                level, first, taken = size, index + 1, 0
        return found


def _check(kbps: float, fps: Fraction | float) -> float:
    """Bits per second."""
    for name, value in (("rate", kbps), ("frame rate", fps)):
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"a buffer needs a positive {name}, not {float(value):g}")
    return 1000.0 * kbps
