"""Finding pictures that were there before, in another size or compressed again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from muzero_rc.corpus.scenes import HASH_BITS

__all__ = ["ALIKE_BITS", "SeenPictures"]

ALIKE_BITS = 48
"""Mean Hamming distance under which two stretches are one.

Measured on 87 clips: nine of them scaled to 240 lines, cut at another frame and compressed
to crf 36 lay at 3 to 18 from what they were made of; two different ones never below 59
"""

_QUERY_EVERY = 10  # of a stretch's hashes; all are compared with


class SeenPictures:
    """The hashes of all stretches that were kept, by the file that they are from."""

    def __init__(self) -> None:
        """Starts with none."""
        self._files: dict[str, list[tuple[str, npt.NDArray[np.uint64]]]] = {}

    def add(self, file: str, name: str, hashes: Sequence[str]) -> None:
        """Remembers a stretch.

        Args:
          file: what it is from; stretches of one file are not compared with each other, as
            moments of a still camera look alike.
          name: what to call it.
          hashes: of its frames, as `Look.hashes` has them.
        """
        if hashes:
            self._files.setdefault(file, []).append((name, _words(hashes)))

    def find(self, file: str, hashes: Sequence[str]) -> str | None:
        """The name of a stretch of another file with the same pictures, or None.

        Each hash is compared with the nearest of all of a file's; it does not matter at
        which frame a copy begins, nor how it is divided. The name is that of the stretch
        which has most of the nearest ones.
        """
        if not hashes:
            return None
        asked = _words(hashes[::_QUERY_EVERY])
        for other, stretches in self._files.items():
            if other == file:
                continue
            # [queries, stretches]
            nearest = np.stack([_nearest(asked, known) for _, known in stretches], axis=1)
            if nearest.min(axis=1).mean() < ALIKE_BITS:
                votes = np.bincount(nearest.argmin(axis=1), minlength=len(stretches))
                return stretches[int(votes.argmax())][0]
        return None


def _words(hashes: Sequence[str]) -> npt.NDArray[np.uint64]:
    """[hashes, 4] of a sequence of hexadecimal numbers."""
    data = b"".join(bytes.fromhex(text) for text in hashes)
    return np.frombuffer(data, np.uint64).reshape(len(hashes), HASH_BITS // 64)


def _nearest(asked: npt.NDArray[np.uint64], known: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """[queries] Hamming distance of each to the nearest of the known."""
    differing = np.bitwise_count(asked[:, None, :] ^ known[None, :, :])
    return differing.sum(axis=2, dtype=np.int64).min(axis=1)
