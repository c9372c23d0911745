"""The first pass over a clip: run once per clip and settings, cached on disk."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from muzero_rc import disk_cache
from muzero_rc.code_digest import digest_of_code, digest_of_extension
from muzero_rc.env.codec import _native
from muzero_rc.env.codec.block_stats import BLOCK_VERSION, BlockWriter, map_blocks
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.settings import CodecSettings
from muzero_rc.env.codec.statistics import FIRST_PASS_FIELDS, column
from muzero_rc.errors import EncoderError, InputError

if TYPE_CHECKING:
    from muzero_rc.env.codec.realtime import RealtimeCosts

__all__ = [
    "CACHE_LIMIT_BYTES",
    "FIRST_PASS_FIELDS",
    "FirstPass",
    "block_statistics",
    "cache_folder",
    "first_pass",
    "native_settings",
    "statistics_of",
    "useful_threads",
]

CACHE_LIMIT_BYTES = 256 * 2**20
"""Size of the cache on disk above which the entries used longest ago go; the newest stays."""

# Rows of blocks wait for the row above, so that a thread for each row would stand still. One for
# four rows is a guess: benchmarks/bench_film_cores.py has measured two threads. No byte depends
# on it.
_LINES_OF_THREAD = 4 * 16
_MOST_THREADS = 64  # libvpx refuses more
_SPEED_WITH_THREADS = 4  # libvpx's `vp9_set_row_mt` has rows in threads below speed 5
_RC_MODES = {"vbr": 0, "cq": 2, "q": 3}  # vpx_rc_mode


@dataclass(frozen=True)
class FirstPass:
    """Statistics of the first pass.

    Attributes:
      packed: libvpx's own bytes, as it wants them back in the second pass.
      stats: [T, 25] float64, a row per shown frame, columns `FIRST_PASS_FIELDS`.
      find_blocks: gets `blocks`; None if nothing can.
      realtime: what chunks took that were encoded in real time beside the pass, by (first frame,
        frame after the last one); empty where none were.
    """

    packed: bytes
    stats: npt.NDArray[np.float64]
    find_blocks: Callable[[], npt.NDArray[np.float16]] | None = field(
        default=None, repr=False, compare=False
    )
    realtime: Mapping[tuple[int, int], RealtimeCosts] = field(
        default_factory=dict, repr=False, compare=False
    )

    @functools.cached_property
    def blocks(self) -> npt.NDArray[np.float16] | None:
        """[T, rows, columns, BLOCK_FEATURES] float16, normalised statistics of every block.

        They are large: 8 bytes for a block, 65 kB for a frame of 1080 lines; so they stay on
        disk, mapped into memory. Where neither this pass nor one before it kept them, the
        first access runs the pass again and keeps them in the cache.

        Raises:
          EncoderError: libvpx failed.
          OutputError: the disk does not take them.
        """
        return None if self.find_blocks is None else self.find_blocks()

    @classmethod
    def unpack(cls, packed: bytes) -> FirstPass:
        """Reads libvpx's bytes.

        Raises:
          EncoderError: they are not whole records of statistics.
        """
        record = 8 * _native.FIRST_PASS_RECORD
        if len(packed) < 2 * record or len(packed) % record:
            raise EncoderError(
                f"first-pass statistics of {len(packed)} bytes are not whole records"
            )
        stats = statistics_of(packed, ended=True).copy()
        stats.setflags(write=False)
        return cls(packed, stats)

    def part(self, start: int, end: int) -> FirstPass:
        """The first pass of the frames from `start` to before `end`, as a clip of their own.

        Their statistics stay what they were in the whole; the frames are numbered from 0, and
        the record that sums them up is what libvpx's `accumulate_stats` makes of them.

        Raises:
          InputError: there are no such frames.
        """
        if not 0 <= start < end <= len(self.stats):
            raise InputError(f"no frames {start} to {end} in a first pass of {len(self.stats)}")
        record = _native.FIRST_PASS_RECORD
        rows = np.frombuffer(self.packed, np.float64).reshape(-1, record)[start:end].copy()
        rows[:, column("frame")] -= start
        # Added up one by one, as libvpx does; the duration starts from 1 there.
        total = np.cumsum(rows, axis=0)[-1]
        duration = column("duration")
        total[duration] = np.cumsum([1.0, *rows[:, duration]])[-1]
        total[_native.FIRST_PASS_FIELDS :] = rows[-1, _native.FIRST_PASS_FIELDS :]
        found = FirstPass.unpack(np.vstack([rows, total]).tobytes())
        if self.find_blocks is None:
            return found
        return dataclasses.replace(found, find_blocks=_PartOfBlocks(self.find_blocks, start, end))


def statistics_of(packed: bytes, *, ended: bool) -> npt.NDArray[np.float64]:
    """Statistics of frames, a view. [N, 25], columns `FIRST_PASS_FIELDS`.

    Args:
      packed: libvpx's records.
      ended: the last one sums up the clip.
    """
    rows = np.frombuffer(packed, np.float64).reshape(-1, _native.FIRST_PASS_RECORD)
    return rows[: len(rows) - ended, : _native.FIRST_PASS_FIELDS]


def native_settings(clip: Clip, settings: CodecSettings) -> Any:
    """The settings as the native part wants them, with the clip's size and rate."""
    native = _native.Settings()
    for entry in dataclasses.fields(CodecSettings):
        name, value = entry.name, getattr(settings, entry.name)
        setattr(native, name, _RC_MODES[value] if name == "rc_mode" else int(value))
    native.width, native.height = clip.width, clip.height
    native.fps_num, native.fps_den = clip.fps.numerator, clip.fps.denominator
    native.color_space, native.color_range = clip.color_space, clip.color_range
    native.bit_depth = clip.bit_depth
    if clip.bit_depth > 10:
        # libvpx 1.12's temporal filter spoils frames of 12 bits, stock vpxenc's too: 14.6 dB
        # for 49.1 without it, overall, on 20 frames of a clip.
        native.arnr_max_frames = 0
    return native


def cache_folder() -> Path:
    """Where first passes are kept."""
    return disk_cache.cache_root() / "first_pass"


def first_pass(
    clip: Clip,
    settings: CodecSettings,
    *,
    blocks: bool = False,
    cache: bool = True,
    threads: int = 1,
    run: Callable[[Any, Any], bytes] | None = None,
    on_frames: Callable[[int], None] | None = None,
) -> FirstPass:
    """Runs the first pass, or takes it from the cache.

    Args:
      clip: the clip; a streamed one learns its number of frames.
      settings: all but what steers the rate matters, see `first_pass_key`.
      blocks: if the pass must be run, keep its `blocks` at once, for somebody who is known
        to read them.
      cache: look into the cache on disk and add to it.
      threads: that it may take where no blocks are kept; the statistics are the same bytes.
      run: runs it, if it must be run and no blocks are kept: of libvpx's settings and a reader of
        frames it makes libvpx's bytes.
      on_frames: told now and then how many frames are done.

    Raises:
      EncoderError: libvpx failed.
      OutputError: the disk does not take the blocks.
    """
    path = cache_folder() / f"{_key(clip, settings)}.stats" if cache else None
    found = None if path is None else _read(path)
    features = None
    if found is None:
        if blocks:
            packed, features = _run_with_blocks(clip, settings, path, on_frames)
        else:
            native = _on_threads(native_settings(clip, settings), threads)
            plain = functools.partial(_native.first_pass, on_frames=on_frames)
            with clip.reader(hashed=True) as reader:
                packed = (run or plain)(native, reader)
        found = FirstPass.unpack(packed)
        if path is not None:
            _write(path, packed)
    if not clip.in_memory:
        clip.note_num_frames(len(found.stats))

    finder = _BlockFinder(clip, settings, path, len(found.stats), features)
    return dataclasses.replace(found, find_blocks=finder)


def useful_threads(height: int, threads: int) -> int:
    """How many of some threads a first pass over pictures of so many lines would start."""
    return max(min(threads, height // _LINES_OF_THREAD, _MOST_THREADS), 1)


def _on_threads(native: Any, threads: int) -> Any:
    """The settings with threads over rows of blocks."""
    threads = useful_threads(native.height, threads)
    if threads > native.threads:
        native.threads, native.row_mt = threads, 1
        # Of the speed the statistics know nothing.
        native.speed = min(native.speed, _SPEED_WITH_THREADS)
    return native


@dataclass(frozen=True)
class _PartOfBlocks:
    """Finds the blocks of some frames in those of all. Can be pickled if that one can."""

    find_all: Callable[[], npt.NDArray[np.float16]]
    start: int
    end: int

    def __call__(self) -> npt.NDArray[np.float16]:
        return self.find_all()[self.start : self.end]


@dataclass(frozen=True)
class _BlockFinder:
    """Finds a pass's blocks: kept by it, in the cache, or by another pass. Can be pickled."""

    clip: Clip
    settings: CodecSettings
    path: Path | None
    frames: int
    known: npt.NDArray[np.float16] | None

    def __call__(self) -> npt.NDArray[np.float16]:
        known = self.known
        if known is None:
            known = _read_blocks(self.path, self.clip, self.frames)
        if known is None:
            known = _run_with_blocks(self.clip, self.settings, self.path)[1]
        return known

    def __reduce__(self) -> tuple[Any, ...]:
        # Blocks stay where they are: the other side finds them again.
        return type(self), (self.clip, self.settings, self.path, self.frames, None)


def _run_with_blocks(
    clip: Clip,
    settings: CodecSettings,
    path: Path | None,
    on_frames: Callable[[int], None] | None = None,
) -> tuple[bytes, npt.NDArray[np.float16]]:
    """libvpx's bytes, and the blocks, kept beside `path`, the file of statistics in the cache."""
    folder, keep_as = (None, None) if path is None else (path.parent, _blocks_path(path))
    with (
        BlockWriter(folder, clip.width, clip.height) as writer,
        clip.reader(hashed=True) as reader,
    ):
        packed = _native.first_pass(
            native_settings(clip, settings), reader, on_blocks=writer.add, on_frames=on_frames
        )
        return packed, writer.finish(keep_as)


def block_statistics(clip: Clip, settings: CodecSettings) -> npt.NDArray[np.int32]:
    """First-pass statistics of every 16x16 block as libvpx has them. [T, rows, columns, 4].

    The last axis, int32: intra error, inter error into the last frame (-1 where there is
    none), its motion vector down and right in eighths of a pixel.
    """
    frames: list[npt.NDArray[np.int32]] = []
    with clip.reader() as reader:
        _native.first_pass(native_settings(clip, settings), reader, on_blocks=frames.append)
    return np.stack(frames)


def _key(clip: Clip, settings: CodecSettings) -> str:
    what = {
        "clip": clip.sha256,
        "settings": settings.first_pass_key(),
        "extension": digest_of_extension(),
        "code": digest_of_code(__name__),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _blocks_path(path: Path) -> Path:
    return path.with_suffix(f".blocks{BLOCK_VERSION}")


def _read(path: Path) -> FirstPass | None:
    try:
        with path.open("rb") as file:
            digest, packed = file.read(32), file.read()
        os.utime(path)  # used now: goes last
        if hashlib.sha256(packed).digest() != digest:
            return None
        return FirstPass.unpack(packed)
    except (OSError, EncoderError, ValueError):
        return None


def _read_blocks(path: Path | None, clip: Clip, frames: int) -> npt.NDArray[np.float16] | None:
    if path is None:
        return None
    try:
        with _blocks_path(path).open("rb") as file:
            features = map_blocks(file, frames, clip.width, clip.height)
            os.utime(file.fileno())
        return features
    except (OSError, ValueError):
        return None


def _write(path: Path, packed: bytes) -> None:
    # A cache that cannot be written costs time, not the encode.
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            try:
                # The digest in front tells a damaged file from a good one.
                file.write(hashlib.sha256(packed).digest())
                file.write(packed)
                file.flush()
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
        disk_cache.trim(path.parent, CACHE_LIMIT_BYTES, [path.stem])
    except OSError:
        return
