"""Hashes of a film's frames, kept beside its chunks, so that a later start can seek in the film."""

from __future__ import annotations

from muzero_rc.encode.chunk_store import ChunkFiles
from muzero_rc.env.codec.clip import Clip

__all__ = ["KeptHashes"]


class KeptHashes:
    """Those of one film."""

    def __init__(self, clip: Clip, files: ChunkFiles) -> None:
        """Gives the clip what an earlier start has kept.

        Args:
          clip: the film.
          files: where its chunks are.
        """
        self._clip = clip
        self._files = files
        self._kept = files.frame_hashes()
        if len(self._kept) > len(clip.frame_hashes):
            clip.frame_hashes[:] = self._kept

    def keep(self) -> None:
        """Keeps what is known by now.

        Raises:
          OSError: it cannot be written.
        """
        known = bytes(self._clip.frame_hashes)
        if known != self._kept:
            same = len(self._kept) if known.startswith(self._kept) else 0
            self._files.set_frame_hashes(known, same)
            self._kept = known
