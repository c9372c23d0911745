"""Chunks of a film: where it is cut.

A chunk begins where libvpx would put a key frame in the whole film, so a cut costs no key
frame. Chunks are as short as that allows: the shorter they are, the more cores have work and
the less memory each takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "LEAST_FRAMES",
    "WHOLE_FRAMES",
    "Chunk",
    "cut",
    "is_film",
    "starts_so_far",
    "uncut_bytes",
]

WHOLE_FRAMES = 300
"""A film of so many frames, or fewer, is not cut."""

LEAST_FRAMES = 60
"""Of a chunk. Policies and rate control are tuned on clips of 48 to 100 frames."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of a film that is encoded by itself.

    Attributes:
      index: place among the chunks, from 0.
      start: first shown frame.
      frames: shown frames.
    """

    index: int
    start: int
    frames: int

    @property
    def end(self) -> int:
        """The shown frame after its last."""
        return self.start + self.frames


def is_film(frames: int) -> bool:
    """Whether so many frames are cut."""
    return frames > WHOLE_FRAMES


def uncut_bytes(width: int, height: int, bit_depth: int = 8) -> int:
    """Of the frames of the longest clip that is not cut."""
    return WHOLE_FRAMES * (width * height * 3 // 2) * (1 if bit_depth == 8 else 2)


def cut(keys: Sequence[int], frames: int) -> list[Chunk]:
    """Cuts a film at key frames.

    A chunk ends at the first key frame that is `LEAST_FRAMES` or more away; what is left at
    the end and shorter goes to the chunk before. With libvpx's largest distance of 128 frames
    between key frames that makes chunks of 60 to 246 frames. Where key frames may be further
    apart, a shot is cut only if it is longer than two times `WHOLE_FRAMES`: a key frame more
    is the price of a bounded memory.

    Args:
      keys: show indexes of all key frames, from 0, ascending.
      frames: of the film.
    """
    if not is_film(frames):
        return [Chunk(0, 0, frames)]
    starts = [0]
    for key in [*keys, frames]:
        while key - starts[-1] > 2 * WHOLE_FRAMES:
            starts.append(starts[-1] + WHOLE_FRAMES)
        if key - starts[-1] >= LEAST_FRAMES and frames - key >= LEAST_FRAMES:
            starts.append(key)
    ends = [*starts[1:], frames]
    return [
        Chunk(index, start, end - start)
        for index, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


def starts_so_far(keys: Sequence[int], known: int, seen: int) -> tuple[list[int], int]:
    """Where `cut` will have chunks begin, of a film that has not ended.

    Args:
      keys: show indexes of the key frames so far, ascending, the first one 0.
      known: of the frames before this one it is known which are key frames.
      seen: frames so far.

    Returns:
      The starts, and the frame before which there will be no other.
    """
    starts = [0]
    for key in keys:
        while key - starts[-1] > 2 * WHOLE_FRAMES:
            starts.append(starts[-1] + WHOLE_FRAMES)
        if key - starts[-1] >= LEAST_FRAMES:
            if seen - key < LEAST_FRAMES:  # it may be too near the film's end
                return starts, key
            starts.append(key)
    while known - starts[-1] > 2 * WHOLE_FRAMES:
        starts.append(starts[-1] + WHOLE_FRAMES)
    # A shot is cut there, if no key frame comes before twice as many frames.
    return starts, min(known, starts[-1] + WHOLE_FRAMES)
