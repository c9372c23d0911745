"""What a leaky bucket makes of the hardest chunks with the coarsest quantizer, before an encode.

A bucket that underflows then cannot be kept: a chunk finds it full at best, and its frames cannot
be coarser. Which chunks are the hardest, the first pass tells, so a bucket that is not refused may
still turn out to be too small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from muzero_rc.compute import check_cancelled
from muzero_rc.encode.chunk_jobs import HeldBack, LastPassTask
from muzero_rc.encode.cut import Chunk
from muzero_rc.encode.level import at_level
from muzero_rc.env.codec.backend import Backend
from muzero_rc.env.codec.statistics import column, finite
from muzero_rc.env.control.recipe import Recipe
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.leaky_bucket import Bucket
from muzero_rc.types import NUM_QINDEX, FrameResult, Policy

__all__ = ["Coarsest", "hardest"]

_CODED_FRAMES = 3  # for each shown one, more than there are


def hardest(
    stats: npt.NDArray[np.float64],
    chunks: Sequence[Chunk],
    bucket: Bucket,
    fps: Fraction | float,
    count: int,
) -> list[Chunk]:
    """The chunks that ask most of a bucket by their first pass, in the film's order.

    A frame is taken to cost its error: of the first one that of intra prediction, of others that
    of prediction. A chunk asks for the largest cost of a stretch over what the bucket gives for it,
    its size and what arrives meanwhile.

    Args:
      stats: [T, 25] of the film's first pass.
      chunks: of the film.
      bucket: that must never underflow.
      fps: shown frames per second.
      count: of the chunks, at most.
    """
    sane = finite(np.asarray(stats, np.float64))
    intra, coded = (sane[:, column(name)] for name in ("intra_error", "coded_error"))

    def asked(chunk: Chunk) -> float:
        cost = coded[chunk.start : chunk.end].copy()
        cost[0] = intra[chunk.start]
        until = np.cumsum(cost)
        most = 0.0
        for first in range(chunk.frames):
            stretch = until[first:] - (until[first - 1] if first else 0.0)
            given = bucket.size_s + np.arange(len(stretch)) / float(fps)
            most = max(most, float((stretch / given).max()))
        return most

    found = sorted(chunks, key=asked, reverse=True)[:count]
    return sorted(found, key=lambda chunk: chunk.start)


@dataclass(frozen=True, slots=True)
class Coarsest:
    """Handler: encodes a chunk as coarsely as can be, and answers with bits of its shown frames.

    Nothing is kept. A hidden frame counts for the shown one after it, as it comes with it.

    Attributes:
      policy: that decides on all else.
      backend: the encoder.
      recipe: the constants of control.
    """

    policy: Policy
    backend: Backend
    recipe: Recipe

    def __call__(self, task: LastPassTask) -> list[int]:
        """Runs a task; reports nothing."""
        settings, policy = task.settings.replace(time=None), self.policy
        if task.level is not None:
            settings, policy = at_level(settings, task.level, recipe=self.recipe)
        floors = [NUM_QINDEX - 1] * (_CODED_FRAMES * task.chunk.frames)
        done = rollout(
            task.clip, settings, HeldBack(policy, floors),
            first_pass=task.first_pass, on_frame=_check, on_probe_frame=_check,
            backend=self.backend, recipe=self.recipe,
        )  # fmt: skip
        bits, waiting = [], 0
        for record in done.log.frames:
            waiting += record.result.bits
            if record.result.shown:
                bits.append(waiting)
                waiting = 0
        return bits


def _check(result: FrameResult) -> None:
    check_cancelled()
