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
to crf 36 lay at 3 to 18 from what they were made of; two different ones never below 61
"""

_WORDS = HASH_BITS // 64
_QUERY_EVERY = 10  # of a stretch's hashes; all are compared with


class SeenPictures:
    """The hashes of all stretches that were kept, by the file that they are from."""

    def __init__(self) -> None:
        """Starts with none."""
        self._names: list[str] = []
        self._files: list[str] = []
        self._starts: list[int] = []  # of each stretch in the hashes
        self._hashes = np.empty((_WORDS, 1024), np.uint64)  # grows by doubling
        self._count = 0

    def add(self, file: str, name: str, hashes: Sequence[str]) -> None:
        """Remembers a stretch.

        Args:
          file: what it is from; stretches of one file are not compared with each other, as
            moments of a still camera look alike.
          name: what to call it.
          hashes: of its frames, as `Look.hashes` has them.
        """
        if not hashes:
            return
        end = self._count + len(hashes)
        if end > self._hashes.shape[1]:
            more = np.empty((_WORDS, 2 * end), np.uint64)
            more[:, : self._count] = self._hashes[:, : self._count]
            self._hashes = more
        self._hashes[:, self._count : end] = _words(hashes).T
        self._names.append(name)
        self._files.append(file)
        self._starts.append(self._count)
        self._count = end

    def find(self, file: str, hashes: Sequence[str]) -> str | None:
        """The name of a stretch of another file with the same pictures, or None.

        Each hash is compared with the nearest of all of a file's; it does not matter at
        which frame a copy begins, nor how it is divided. The name is that of the stretch
        which has most of the nearest ones.
        """
        if not hashes or not self._names:
            return None
        # [queries, stretches]: distance to the nearest hash of each
        nearest = np.stack([self._nearest(asked) for asked in _words(hashes[::_QUERY_EVERY])])
        of_file: dict[str, list[int]] = {}
        for number, other in enumerate(self._files):
            of_file.setdefault(other, []).append(number)
        for other, numbers in of_file.items():
            theirs = nearest[:, numbers]
            if other != file and theirs.min(axis=1).mean() < ALIKE_BITS:
                votes = np.bincount(theirs.argmin(axis=1), minlength=len(numbers))
                return self._names[numbers[int(votes.argmax())]]
        return None

    def _nearest(self, asked: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint16]:
        """[stretches] least Hamming distance of a hash to those of each stretch."""
        differing = np.bitwise_count(self._hashes[:, : self._count] ^ asked[:, None])
        return np.minimum.reduceat(differing.sum(axis=0, dtype=np.uint16), self._starts)


def _words(hashes: Sequence[str]) -> npt.NDArray[np.uint64]:
    """[hashes, 4] of a sequence of hexadecimal numbers."""
    data = b"".join(bytes.fromhex(text) for text in hashes)
    return np.frombuffer(data, np.uint64).reshape(len(hashes), _WORDS)
