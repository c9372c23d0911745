"""Lowest qindexes that keep a film in a leaky bucket: where an encode takes too much, coarser.

The frames of a stretch that underflows get floors above what they had, by as many octaves of
the quantizer's step as their bits are too many. What bits really fall by is seen in the next
encode; where that was not enough the next step is longer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from muzero_rc.env.control.rate.probe import qindex_octaves
from muzero_rc.errors import AimMissedError, InputError
from muzero_rc.leaky_bucket import Bucket, Excess, needed_seconds
from muzero_rc.types import NUM_QINDEX, EncodeLog
from muzero_rc.video.ivf import ivf_packet_bits

__all__ = ["HOLD_BACKS", "cannot_be_kept", "check_fits", "coarser", "raised", "what_was_needed"]

HOLD_BACKS = 12
"""Encodes of a chunk for the bucket's sake at most: each is coarser than the one before."""


def check_fits(bucket: Bucket, target_kbps: float, seconds: float) -> None:
    """Says before an encode what cannot be.

    Args:
      bucket: that must never underflow.
      target_kbps: bitrate that is asked for, kbit/s.
      seconds: of the video.

    Raises:
      InputError: so many bits do not go through the bucket.
    """
    if 1000.0 * target_kbps * seconds > bucket.most_bits(seconds):
        raise InputError(
            f"{target_kbps:g} kbit/s do not go through {bucket.kbps:g} kbit/s with a "
            f"buffer of {bucket.size_s:g} s; give a lower bitrate"
        )


def cannot_be_kept(worst: Excess) -> AimMissedError:
    """What is raised of frames, counted in the film, that take too much however coarse they are."""
    which = f"the frames from {worst.first} to {worst.last} take"
    if worst.first == worst.last:
        which = f"frame {worst.first} takes"
    return AimMissedError(
        f"--max-bitrate and --buffer cannot be kept: {which} {1 / max(worst.share, 1e-9) - 1:.1%} "
        "too much with the coarsest quantizer; give more of one of them"
    )


def what_was_needed(bucket: Bucket, ivf: Path, fps: Fraction) -> dict[str, float]:
    """The bucket as it was asked for, and `needed_s`, the smallest that is enough for a stream."""
    needed = needed_seconds(ivf_packet_bits(ivf), bucket.kbps, fps)
    return {"kbps": bucket.kbps, "size_s": bucket.size_s, "needed_s": needed}


def raised(
    log: EncodeLog, floors: Sequence[int], excesses: Sequence[Excess], turn: int
) -> tuple[int, ...]:
    """Floors for another encode of a chunk.

    Args:
      log: of the encode that took too much.
      floors: that it had.
      excesses: stretches of its shown frames, counted from its first.
      turn: how often it was held back before.

    Returns:
      The floor of each coded frame, in coding order.
    """
    found = list(floors)
    shown = coded = 0
    for record in log.frames:
        result = record.result
        if result.qindex >= 0:
            before = floors[coded] if coded < len(floors) else -1
            floor = before
            for excess in excesses:
                # A hidden frame comes with the shown one after it.
                if excess.first <= shown <= excess.last:
                    octaves = (1 + turn) * math.log2(1.0 / max(excess.share, 1e-3))
                    floor = max(floor, coarser(max(result.qindex, before), octaves))
            if coded < len(found):
                found[coded] = floor
            else:
                found.append(floor)
            coded += 1
        shown += result.shown
    return tuple(found)


def coarser(qindex: int, octaves: float) -> int:
    """The first qindex whose step is so many octaves longer, one more at least."""
    goal = float(qindex_octaves(qindex)) + octaves
    for candidate in range(qindex + 1, NUM_QINDEX):
        if float(qindex_octaves(candidate)) >= goal:
            return candidate
    return NUM_QINDEX - 1
