"""Tells how far a film in chunks is: what chunks weigh, and whether some are made again.

A chunk's last pass takes more, the more bits it is asked for and the more its probe encode took:

    time of a frame ~ bits^a seconds^b

Where nothing was probed, or nobody knows what it took, the square root of the bits counts.

Chunks are made again if the film misses its target. Later chunks make up for what early ones took
too much, so what the last ones miss is left. It is expected to be as much as others have missed,
and is known when they are finished.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from muzero_rc.encode.chunk_jobs import Taken
from muzero_rc.encode.cut import Chunk
from muzero_rc.encode.job_progress import OnAhead, OnChance, OnFrames

__all__ = ["FilmTeller", "chance_again"]

_Floats = Sequence[float] | npt.NDArray[np.float64]

# Exponents of bits alone; of bits and seconds, of uniform encodes and others. Fitted on training
# films by benchmarks/bench_chunk_times.py (docs/notes/2026-11-30-time-left-of-films.md).
_BITS = 0.5
_WITH_PROBE = {True: (0.3, 0.5), False: (0.1, 1.4)}
# Chunks that what is usually missed counts for beside what a film's chunks have missed. By hand.
_TRUST = 4.0


def chance_again(
    misses: Mapping[int, float],
    parts: _Floats,
    unsettled: Collection[int],
    usual: float,
    tolerance: float,
) -> float:
    """How likely a film misses its target, so that chunks are made again, 0 to 1.

    Misses are taken as independent and normal. Their mean square is that of bits, so that chunks
    of few bits, which miss by most, count little.

    Args:
      misses: of finished chunks by index, shares of what each was expected to take.
      parts: what each chunk is expected to take, shares of the film. [chunks].
      unsettled: chunks that no later one makes up for.
      usual: what a chunk misses in other films, root of the mean square.
      tolerance: share of its target that a film may miss it by.
    """
    squares = np.asarray(parts, np.float64) ** 2
    trust = _TRUST * float(squares.mean())
    square = trust * usual**2 + sum(squares[i] * miss**2 for i, miss in misses.items())
    square /= trust + sum(squares[i] for i in misses)
    known = sum(parts[i] * miss for i, miss in misses.items() if i in unsettled)
    ahead = sum(squares[i] for i in unsettled if i not in misses)
    spread = math.sqrt(2.0 * square * ahead)
    if spread == 0.0:
        return float(abs(known) > tolerance)
    above = math.erfc((tolerance - known) / spread)
    return 0.5 * (above + math.erfc((tolerance + known) / spread))


class FilmTeller:
    """Tells how far a film is, by the weights of its chunks."""

    def __init__(
        self,
        chunks: Sequence[Chunk],
        workers: int,
        uniform: bool,
        on_frames: OnFrames,
        on_ahead: OnAhead,
        on_chance: OnChance,
    ) -> None:
        """Takes a film.

        Args:
          chunks: of the film.
          workers: chunks in work at a time.
          uniform: all frames are searched at one speed.
          on_frames: told how many frames are done.
          on_ahead: told what comes on top.
          on_chance: told how likely that is.
        """
        self._frames = np.array([chunk.frames for chunk in chunks], np.float64)
        self._workers = workers
        self._with_probe = _WITH_PROBE[uniform]
        self._on_frames = on_frames
        self._on_ahead = on_ahead
        self._on_chance = on_chance
        self._parts = self._frames / self._frames.sum()
        self._weights = self._mean_weights = [1.0] * len(chunks)

    def weigh(self, bits: _Floats, seconds: _Floats | None = None) -> None:
        """Weighs the frames of chunks by what these are expected to take.

        Args:
          bits: of each chunk, beside those of the others. [chunks].
          seconds: CPU time of its probe encode; 0 if it is not known. [chunks].
        """
        asked = np.maximum(np.asarray(bits, np.float64), 0.0)
        took = np.zeros_like(asked) if seconds is None else np.asarray(seconds, np.float64)
        if asked.sum() > 0.0:
            self._parts = asked / asked.sum()
        each = asked / self._frames
        if took.all():
            found = each ** self._with_probe[0] * (took / self._frames) ** self._with_probe[1]
        else:
            found = each**_BITS
        mean = float(found @ self._frames) / float(self._frames.sum())
        ones = np.ones_like(found)
        self._mean_weights = (found / mean if mean > 0.0 else ones).tolist()
        self._weights = self._mean_weights

    def add(self, phase: str, index: int, frames: int) -> None:
        """So many frames more of a chunk are done."""
        self._on_frames(phase, frames, False, self._weights[index])

    def add_kept(self, phase: str, index: int) -> None:
        """A chunk was done by an earlier start."""
        self._on_frames(phase, round(self._frames[index]), True, self._weights[index])

    def add_ahead(self, phase: str, indexes: Collection[int]) -> None:
        """Chunks are made again; where they are few, not all workers share them."""
        self._weights = [max(self._workers / len(indexes), 1.0) * w for w in self._mean_weights]
        for index in indexes:
            self._on_ahead(phase, round(self._frames[index]), self._weights[index])

    def close(self, phase: str, index: int) -> None:
        """A chunk comes alone, after all others: it has the time of all workers."""
        frames, weight = round(self._frames[index]), self._weights[index]
        self._on_ahead(phase, -frames, weight)
        self._weights = [*self._weights]
        self._weights[index] = self._workers * weight
        self._on_ahead(phase, frames, self._weights[index])

    def doubt(
        self,
        phase: str,
        expected: Mapping[int, float],
        taken: Mapping[int, Taken],
        bits: float,
        unsettled: Collection[int],
        usual: float,
        tolerance: float,
        *,
        alike: bool = True,
    ) -> None:
        """Tells how likely it is that chunks are made again.

        Args:
          phase: that they would count for.
          expected: what chunks were expected to take, bits; not known of some.
          taken: what finished ones took.
          bits: of the film, its target.
          unsettled: see `chance_again`.
          usual: likewise.
          tolerance: likewise.
          alike: what finished chunks missed tells of the others.
        """
        if len(taken) == len(self._parts):
            off = sum(found.bits for found in taken.values()) / bits - 1.0
            self._on_chance(phase, float(abs(off) > tolerance))
            return
        known = [i for i, found in taken.items() if found.bits and expected.get(i, 0.0) > 0.0]
        ratios = {index: taken[index].bits / expected[index] for index in known}
        # What all miss alike is asked for by that much less.
        common = float(np.median([*ratios.values()])) if ratios else 1.0
        misses = {index: ratio / common - 1.0 for index, ratio in ratios.items()}
        chance = chance_again(misses if alike else {}, self._parts, unsettled, usual, tolerance)
        self._on_chance(phase, chance)
