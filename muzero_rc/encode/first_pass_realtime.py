"""A first pass with an encode in real time beside it, so that a film is decoded once for both.

An encode in real time of each chunk tells what the chunk will take (`encode.realtime_probe`). Where
chunks begin is a matter of the first pass, and known some 60 frames later. So frames wait in
memory until it is, and no longer. What comes of it is what came of encodes of the finished chunks.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from muzero_rc.encode.cut import cut, starts_so_far
from muzero_rc.encode.level import quantizer_of
from muzero_rc.encode.realtime_probe import START_LEVEL
from muzero_rc.env.codec import _native
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import statistics_of
from muzero_rc.env.codec.key_frames import KeyFrameFinder
from muzero_rc.env.codec.realtime import RealtimeCosts, RealtimeEncoder
from muzero_rc.env.codec.settings import CodecSettings

__all__ = ["FirstPassInRealtime"]

_STEP = 16  # frames that are taken at a time; by hand: far fewer than those that wait


class FirstPassInRealtime:
    """Runs a first pass, and encodes chunks in real time.

    Attributes:
      costs: of chunks at `START_LEVEL`, by (first frame, frame after the last one). Empty until
        the pass is over.
    """

    def __init__(
        self,
        clip: Clip,
        settings: CodecSettings,
        *,
        own_thread: bool,
        on_frames: Callable[[int], None] | None = None,
    ) -> None:
        """Takes what to encode.

        Args:
          clip: the film.
          settings: of its encode.
          own_thread: encode in real time in a thread of its own.
          on_frames: told now and then how many frames the first pass has seen.
        """
        self.costs: dict[tuple[int, int], RealtimeCosts] = {}
        self._clip = clip
        self._settings = settings
        self._own_thread = own_thread
        self._on_frames = on_frames
        self._waiting: collections.deque[Any] = collections.deque()  # stores of frames
        self._offset = 0  # frames of the first store that are encoded
        self._encoder: RealtimeEncoder | None = None
        self._start = self._end = 0  # of the chunk in work, and of what is encoded of it

    def __call__(self, native: Any, reader: Any) -> bytes:
        """Runs the pass: libvpx's packed statistics.

        Args:
          native: its settings.
          reader: gives the frames.

        Raises:
          EncoderError: libvpx failed.
        """
        steps = _native.FirstPassSteps(native, reader)
        finder = KeyFrameFinder(self._clip, self._settings)
        packed: list[bytes] = []
        seen = done = 0
        with ThreadPoolExecutor(1) as pool:
            work: Future[None] | None = None
            ended = False
            while not ended:
                store = self._clip.new_store()
                ended = steps.advance(store, _STEP) < _STEP
                self._waiting.append(store)
                done += len(store)
                if self._on_frames is not None:
                    self._on_frames(done)
                if ended:
                    steps.finish()
                packed.append(steps.take_stats())
                stats = statistics_of(packed[-1], ended=ended)
                seen += len(stats)
                finder.add(stats, ended=ended)
                if ended:
                    starts, safe = [chunk.start for chunk in cut(finder.keys, seen)], seen
                else:
                    starts, safe = starts_so_far(finder.keys, finder.known, seen)
                if work is not None:
                    work.result()
                work = pool.submit(self._encode, starts, safe)
                if ended or not self._own_thread:
                    work.result()
            self._close_chunk()
        return b"".join(packed)

    def _encode(self, starts: list[int], safe: int) -> None:
        """Encodes the frames before one, all of which belong to known chunks."""
        ahead = [start for start in starts if start > self._start and start < safe]
        for end in [*ahead, safe]:
            while self._end < end:
                store = self._waiting[0]
                count = min(end - self._end, len(store) - self._offset)
                if self._encoder is None:
                    self._encoder = RealtimeEncoder(
                        self._clip, self._settings, quantizer_of(START_LEVEL)
                    )
                self._encoder.encode(store, self._offset, count)
                self._end += count
                self._offset += count
                if self._offset == len(store):
                    self._waiting.popleft()
                    self._offset = 0
            if end != safe:
                self._close_chunk()

    def _close_chunk(self) -> None:
        """The chunk in work is whole."""
        if self._encoder is not None:
            self.costs[self._start, self._end] = self._encoder.costs
        self._encoder = None
        self._start = self._end
