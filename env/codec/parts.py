"""Parts of a streamed clip: read in their order, and sought where others lie between them.

A decode that begins within a file need not give the frames of one from its start: formats, decoders
and files differ. So every frame that comes after a seek is compared, by a hash, with the one that
came without. If one differs, the clip is decoded from its start, and nothing is sought in it any
more. That is why a seek can change the time that a film takes, and no byte of it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from muzero_rc import video
from muzero_rc.errors import InputError

if TYPE_CHECKING:
    from muzero_rc.env.codec.clip import Clip

__all__ = ["HASH_BYTES", "LEAST_SOUGHT", "PartReader"]

HASH_BYTES = 8
"""Of a frame, XXH64."""

LEAST_SOUGHT = 250
"""Frames that a decode must save to begin anew further on.

x264's and x265's default distance between key frames, so a seek decodes no more than so many on its
way. It was measured to take the CPU of 249 frames of 320x180 and of 89 of 854x480
(docs/notes/2026-11-29-films-in-chunks.md).
"""

_STEP = 16  # frames in memory of those that nobody wants; by hand: far fewer than a part's


class PartReader:
    """Reads parts of a clip whose frames are not in memory. A context manager."""

    def __init__(self, clip: Clip, lengths: Sequence[int], wanted: Sequence[int]) -> None:
        """Takes what to read.

        Args:
          clip: a streamed one.
          lengths: frames of each part, together those of the clip.
          wanted: indexes of the parts that are read, ascending.
        """
        self._clip = clip
        self._bounds = [0, *itertools.accumulate(lengths)]
        # After a seek nothing can be read but what is known.
        end = self._bounds[wanted[-1] + 1] if wanted else 0
        self._all_known = HASH_BYTES * end <= len(clip.frame_hashes)
        self._stack = contextlib.ExitStack()
        self._decoder: video.Decoder | None = None
        self._at = 0  # the frame that comes next

    def __enter__(self) -> PartReader:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(exc_type, exc, traceback)

    def read(self, index: int) -> Any:
        """The frames of a part that comes after all that were read, in a native store.

        Raises:
          InputError: the file is damaged, or has not as many frames any more.
        """
        start, end = self._bounds[index : index + 2]
        self._go_to(start)
        try:
            return self._take(start, end)
        except InputError:
            if not self._sought:
                raise
        self._begin_anew()
        return self._take(start, end)

    def check_end(self) -> None:
        """Call when the last part was read: whether the file decodes to its end, and ends there.

        Raises:
          InputError: it is damaged, or has more frames.
        """
        try:
            self._check_end()
        except InputError:
            if not self._sought:
                raise
            self._begin_anew()
            self._pass_over(self._bounds[-1])
            self._check_end()

    @property
    def _sought(self) -> bool:
        return self._decoder is not None and self._decoder.first_frame > 0

    def _go_to(self, frame: int) -> None:
        """Has a decoder that comes to a frame."""
        if self._all_known and self._clip.may_seek:
            seek = self._clip.seek_before(frame)
            if seek is not None and seek.frame - self._at >= LEAST_SOUGHT:
                self._open(seek)
        if self._decoder is None:
            self._open()

    def _open(self, seek: video.Seek | None = None) -> None:
        if self._decoder is not None:
            self._decoder.close()  # that it ends within the file is no damage
        self._stack.close()
        self._decoder = self._stack.enter_context(self._clip.decoder(seek))
        self._at = self._decoder.first_frame

    def _begin_anew(self) -> None:
        """Trusts neither seeks nor what frames are said to be."""
        self._clip.may_seek = False
        self._clip.frame_hashes.clear()
        self._open()

    def _take(self, start: int, end: int) -> Any:
        self._pass_over(start)
        store = self._clip.new_store()
        self._fill(store, end - start)
        known = self._clip.frame_hashes[HASH_BYTES * start : HASH_BYTES * end]
        if self._sought and store.hashes() != known:
            raise InputError(f"{self._clip.name} has other frames after a seek")
        return store

    def _pass_over(self, frame: int) -> None:
        """Reads what comes before a frame."""
        store = self._clip.new_store()
        while self._at < frame:
            store.clear()
            self._fill(store, min(_STEP, frame - self._at))

    def _fill(self, store: Any, count: int) -> None:
        """Reads frames into an empty store, and notes their hashes if nobody knows them."""
        assert self._decoder is not None
        store.read_from(self._decoder.fileno(), count, 0, None)
        if len(store) < count:
            raise InputError(
                f"{self._clip.name} has {self._at + len(store)} frames now, it had more before; "
                "it may be changing"
            )
        known = self._clip.frame_hashes
        first, last = HASH_BYTES * self._at, HASH_BYTES * (self._at + count)
        if last > len(known):  # never after a seek
            known[first:] = store.hashes()
        self._at += count

    def _check_end(self) -> None:
        assert self._decoder is not None
        rest = self._clip.new_store()
        rest.read_from(self._decoder.fileno(), 1, 0, None)
        self._decoder.check()
        if len(rest):
            raise InputError(f"{self._clip.path} has more frames than before; it may be changing")
