"""A clip: raw frames, decoded once, in native memory or streamed when they do not fit."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from muzero_rc import video
from muzero_rc.env.codec import _native
from muzero_rc.env.codec.parts import PartReader
from muzero_rc.errors import InputError

__all__ = ["Clip", "default_memory_limit"]

_MAX_SIDE = 16384
_LIBVPX_COLOR_SPACE = {"smpte170m": 3, "bt470bg": 1, "bt709": 2, "smpte240m": 4, "bt2020nc": 5}
_LIBVPX_COLOR_RANGE = {"tv": 0, "pc": 1}


def default_memory_limit() -> int:
    """Bytes that one clip's frames may take: a third of the memory that is free now."""
    return int(psutil.virtual_memory().available) // 3


class Clip:
    """Raw I420 frames of one video, at a constant frame rate or at one in the mean.

    A clip in memory is shared by all sessions on it and never changes. A clip larger
    than the limit streams: each pass over it runs its own decoder, and its number of
    frames is known exactly only after the first pass.

    Attributes:
      name: what people call it, a file name.
      width: pixels.
      height: pixels.
      fps: frames per second, exact.
      bit_depth: of a sample: 8, 10 or 12.
      sha256: hash of what was decoded: of all frames with size and frame rate for a
        clip in memory, of the file with size, rate and limits for a streamed one.
      resized: the source has pictures of several sizes or formats, which are all made like the
        first; of a streamed clip only as far as it was read.
      frame_hashes: of a streamed clip: XXH64 of each frame from the first on that was read, 8
        bytes of it, see `env.codec.parts`.
      may_seek: no decode that began within the file has had other frames than one from its start.
    """

    def __init__(
        self,
        *,
        name: str,
        width: int,
        height: int,
        fps: Fraction,
        sha256: str,
        store: Any | None,
        num_frames: int | None,
        source: tuple[Path, int | None, int | None, video.Picture | None] | None = None,
        color_space: int = -1,
        color_range: int = -1,
        bit_depth: int = 8,
    ) -> None:
        self.name = name
        self.width = width
        self.height = height
        self.fps = fps
        self.sha256 = sha256
        self.resized = False
        self.frame_hashes = bytearray()
        self.may_seek = True
        self.color_space = color_space
        self.color_range = color_range
        self.bit_depth = bit_depth
        self._store = store
        self._num_frames = num_frames
        self._source = source

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        height: int | None = None,
        max_frames: int | None = None,
        memory_limit_bytes: int | None = None,
        on_frames: Callable[[int], None] | None = None,
        picture: video.Picture | None = None,
    ) -> Clip:
        """Decodes a video file.

        Args:
          path: any file that ffmpeg reads.
          height: scale down to this many lines, keeping the aspect; never up.
          max_frames: take the first frames only.
          memory_limit_bytes: frames above this are streamed instead of kept;
            `default_memory_limit()` if not given.
          on_frames: told now and then how many frames are decoded.
          picture: how the file becomes frames; all of it, in 8 bits and at a constant rate,
            if not given.

        Raises:
          InputError: the file is missing, damaged, or has no video.
          ToolMissingError: ffmpeg is not installed.
        """
        path = Path(path)
        limit = default_memory_limit() if memory_limit_bytes is None else memory_limit_bytes
        with video.open_decoder(
            path, height=height, max_frames=max_frames, picture=picture
        ) as decoder:
            width, lines, fps, depth = decoder.width, decoder.height, decoder.fps, decoder.bit_depth
            _check_size(path.name, width, lines)
            store = _native.FrameStore(width, lines, depth)
            fits = store.read_from(decoder.fileno(), max_frames or 0, limit, on_frames)
            if fits:
                decoder.check()
        common: dict[str, Any] = {
            "name": path.name,
            "width": width,
            "height": lines,
            "fps": fps,
            "color_space": _LIBVPX_COLOR_SPACE.get(decoder.info.color_space or "", -1),
            "color_range": _LIBVPX_COLOR_RANGE.get(decoder.info.color_range or "", -1),
            "bit_depth": depth,
        }
        if fits:
            if len(store) == 0:
                if picture is not None and picture.cut:
                    raise InputError(f"{path}: no frame begins in the stretch; make it longer")
                if picture is not None and picture.info.fps < picture.source.fps:
                    raise InputError(
                        f"{path}: {fps} frames a second leave none; give a higher rate"
                    )
                raise InputError(f"{path}: no frame could be decoded")
            digest = _hash_frames(store, width, lines, fps, depth)
            clip = cls(sha256=digest, store=store, num_frames=len(store), **common)
            clip.resized = decoder.resized
            return clip
        store.clear()
        how = f"{width}x{lines} {fps} {height} {max_frames}"
        if picture is not None and picture.key():
            how = f"{how} {picture.key()}"
        digest = _hash_file(path, how)
        source = (path, height, max_frames, picture)
        return cls(sha256=digest, store=None, num_frames=None, source=source, **common)

    @classmethod
    def from_frames(
        cls,
        frames: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
        width: int,
        height: int,
        fps: Fraction | int,
        name: str = "array",
        *,
        bit_depth: int = 8,
    ) -> Clip:
        """A clip of frames that are at hand.

        Args:
          frames: [T, samples] uint8, of more than 8 bits uint16, each row one I420 frame: Y,
            then U and V at half the size in each direction (rounded up).
          width: pixels.
          height: pixels.
          fps: frames per second.
          name: what to call it.
          bit_depth: of a sample: 8, 10 or 12.
        """
        _check_size(name, width, height)
        if bit_depth not in (8, 10, 12):
            raise InputError(f"{name}: VP9 has 8, 10 and 12 bits, not {bit_depth}")
        kind = np.dtype(np.uint8 if bit_depth == 8 else "<u2")
        size = width * height + 2 * ((width + 1) // 2) * ((height + 1) // 2)
        if frames.ndim != 2 or frames.shape[1] != size or frames.dtype != kind:
            raise InputError(
                f"{name}: frames must be {kind} [T, {size}] for {width}x{height}, "
                f"not {frames.dtype} {list(frames.shape)}"
            )
        if len(frames) == 0:
            raise InputError(f"{name}: no frames")
        if int(frames.max()) >> bit_depth:
            raise InputError(f"{name}: a sample of {frames.max()} is more than {bit_depth} bits")
        store = _native.FrameStore(width, height, bit_depth)
        for frame in np.ascontiguousarray(frames):
            store.append(frame.view(np.uint8))
        rate = Fraction(fps)
        return cls(
            name=name,
            width=width,
            height=height,
            fps=rate,
            sha256=_hash_frames(store, width, height, rate, bit_depth),
            store=store,
            num_frames=len(frames),
            bit_depth=bit_depth,
        )

    @property
    def in_memory(self) -> bool:
        """False if every pass over the clip decodes it anew."""
        return self._store is not None

    @property
    def num_frames(self) -> int:
        """Shown frames; for a streamed clip only after its first pass."""
        if self._num_frames is None:
            raise InputError(f"{self.name}: a streamed clip's length is known after first_pass()")
        return self._num_frames

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame."""
        chroma = ((self.width + 1) // 2) * ((self.height + 1) // 2)
        return (self.width * self.height + 2 * chroma) * (1 if self.bit_depth == 8 else 2)

    @property
    def duration_s(self) -> float:
        """Seconds."""
        return float(self.num_frames / self.fps)

    @contextlib.contextmanager
    def reader(self, *, hashed: bool = False) -> Iterator[Any]:
        """A native reader over all frames from the first; closes its decoder, if any.

        Args:
          hashed: note the frames' hashes, of a streamed clip. Nobody may read on after the body.
        """
        if self._store is not None:
            yield _native.FrameReader.from_store(self._store)
            return
        assert self._source is not None
        with self.decoder() as decoder:
            reader = _native.FrameReader.from_pipe(
                decoder.fileno(), self.width, self.height, self._source[2] or 0, self.bit_depth,
                hashed=hashed,
            )  # fmt: skip
            yield reader
        if hashed:
            self.frame_hashes[:] = reader.hashes()

    def parts(
        self, lengths: Sequence[int], wanted: Sequence[int] | None = None
    ) -> Generator[Clip, None, None]:
        """Frames in clips of these lengths, one after the other, decoded once.

        A part is in memory as long as somebody has it; the next one is read when it is asked
        for. Behind the last part it is checked that the file ends there.

        Args:
          lengths: frames of each part, together those of the clip.
          wanted: indexes of the parts to give, ascending; all if not given.

        Raises:
          InputError: the file is damaged, or has not as many frames any more.
        """
        ends = list(itertools.accumulate(lengths))
        wanted = range(len(lengths)) if wanted is None else wanted
        if self._store is not None:
            for index in wanted:
                start = ends[index] - lengths[index]
                yield self._part(start, ends[index], self._copied(start, ends[index]))
            return
        with PartReader(self, lengths, wanted) as reader:
            for index in wanted:
                yield self._part(ends[index] - lengths[index], ends[index], reader.read(index))
            if wanted and wanted[-1] == len(lengths) - 1:
                reader.check_end()

    def _copied(self, start: int, end: int) -> Any:
        """A store of some frames of a clip in memory."""
        store = self.new_store()
        for index in range(start, end):
            store.append(self.frame(index))
        return store

    def _part(self, start: int, end: int, store: Any) -> Clip:
        what = f"{self.sha256} {start} {end - start}\n"
        return Clip(
            name=self.name,
            width=self.width,
            height=self.height,
            fps=self.fps,
            sha256=hashlib.sha256(what.encode()).hexdigest(),
            store=store,
            num_frames=end - start,
            color_space=self.color_space,
            color_range=self.color_range,
            bit_depth=self.bit_depth,
        )

    @property
    def path(self) -> Path:
        """The file of a streamed clip."""
        assert self._source is not None
        return self._source[0]

    @contextlib.contextmanager
    def decoder(self, seek: video.Seek | None = None) -> Iterator[video.Decoder]:
        """A decode of a streamed clip, which ends with the body.

        Args:
          seek: where it begins; with the first frame if not given.

        Raises:
          InputError: the file is damaged, if it was read to its end.
        """
        assert self._source is not None
        path, height, max_frames, picture = self._source
        with video.open_decoder(
            path, height=height, max_frames=max_frames, picture=picture, seek=seek
        ) as decoder:
            yield decoder
        self.resized |= decoder.resized

    def seek_before(self, frame: int) -> video.Seek | None:
        """Where a decode of a streamed clip may begin for a frame; None for its start alone."""
        assert self._source is not None
        picture = self._source[3]
        return None if picture is None else video.seek_before(picture, frame)

    def store(self) -> Any:
        """The frames in native memory.

        Raises:
          InputError: the clip is streamed.
        """
        if self._store is None:
            raise InputError(f"{self.name}: a streamed clip keeps no frames")
        return self._store

    def new_store(self) -> Any:
        """An empty native store for frames like these."""
        return _native.FrameStore(self.width, self.height, self.bit_depth)

    def frame(self, index: int) -> npt.NDArray[np.uint8]:
        """A read-only view of one frame of a clip in memory. [bytes] uint8, I420.

        Samples of more than 8 bits are two bytes, little endian: `.view("<u2")` has them.
        """
        if self._store is None:
            raise InputError(f"{self.name}: a streamed clip keeps no frames")
        view: npt.NDArray[np.uint8] = self._store.frame(index)
        return view

    def note_num_frames(self, count: int) -> None:
        """Told by the first pass how many frames a streamed clip really has."""
        self._num_frames = count

    def __getstate__(self) -> dict[str, Any]:
        """A clip in memory travels with its frames, a streamed one by the path of its file."""
        state = dict(vars(self))
        if self._store is not None:
            state["_store"] = [self._store.frame(index) for index in range(len(self._store))]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        frames = state["_store"]
        vars(self).update(state)
        if frames is not None:
            self._store = self.new_store()
            for frame in frames:
                self._store.append(frame)

    def __repr__(self) -> str:
        length = self._num_frames if self._num_frames is not None else "streamed"
        return f"Clip({self.name!r}, {self.width}x{self.height}, {self.fps} fps, {length} frames)"


def _check_size(name: str, width: int, height: int) -> None:
    if not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE):
        raise InputError(f"{name}: {width}x{height} is outside of 1..{_MAX_SIDE} pixels a side")


def _hash_frames(store: Any, width: int, height: int, fps: Fraction, bit_depth: int) -> str:
    kind = "I420" if bit_depth == 8 else f"I420p{bit_depth}"
    digest = hashlib.sha256(f"{kind} {width}x{height} {fps}\n".encode())
    for index in range(len(store)):
        digest.update(store.frame(index))
    return digest.hexdigest()


def _hash_file(path: Path, how: str) -> str:
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(f"file {content} {how}\n".encode()).hexdigest()
