"""First-pass statistics of every 16x16 block, normalised for an agent that reads them."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from muzero_rc.errors import OutputError

__all__ = [
    "BLOCK_COLUMNS",
    "BLOCK_FEATURES",
    "BLOCK_VERSION",
    "BlockWriter",
    "block_features",
    "block_grid",
    "map_blocks",
]

BLOCK_COLUMNS = ("intra_error", "inter_error", "mv_down", "mv_right")
"""Columns of a block in `Observation.blocks`."""

BLOCK_FEATURES = len(BLOCK_COLUMNS)

BLOCK_VERSION = 1
"""Changes with the columns and how they are normalised: files of another one are not read."""

_BLOCK = 16  # pixels
_BOUND = 3.0
_ERROR_SCALE, _ERROR_SHIFT = 3.0, 2.0  # ln(1 + squared error of a block): 0 to 16.6
_MOTION_SCALE = 2.0  # asinh(percent of the picture)
_MV_UNITS = 8.0  # motion vectors are in 1/8 pixel


def block_grid(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of blocks of a frame; cut-off ones at the edges count."""
    return -(-height // _BLOCK), -(-width // _BLOCK)


def block_features(
    statistics: npt.NDArray[np.int32], width: int, height: int
) -> npt.NDArray[np.float16]:
    """Normalises block statistics.

    Args:
      statistics: [..., rows, columns, 4] int32: intra error, inter error (-1 where there is
        none), motion down and right in eighths of a pixel.
      width: pixels per row.
      height: rows.

    Returns:
      [..., rows, columns, BLOCK_FEATURES] float16 within [-3, 3]. Without an inter error a
      block has its intra error there: prediction gains nothing.
    """
    intra, inter = statistics[..., 0], statistics[..., 1]
    out = np.empty((*statistics.shape[:-1], BLOCK_FEATURES), np.float16)
    inter = np.where(inter < 0, intra, inter)
    for column, error in enumerate((intra, inter)):
        logs = np.log1p(np.maximum(error, 0).astype(np.float32))
        out[..., column] = np.clip(logs / _ERROR_SCALE - _ERROR_SHIFT, -_BOUND, _BOUND)
    for column, size in ((2, height), (3, width)):
        percent = statistics[..., column].astype(np.float32) * (100.0 / (_MV_UNITS * size))
        out[..., column] = np.clip(np.arcsinh(percent) / _MOTION_SCALE, -_BOUND, _BOUND)
    return out


def map_blocks(file: BinaryIO, frames: int, width: int, height: int) -> npt.NDArray[np.float16]:
    """What a `BlockWriter` wrote, mapped into memory, read-only.

    Args:
      file: open for reading; may be closed afterwards.
      frames: of the clip.
      width: pixels per row.
      height: rows.

    Returns:
      [frames, rows, columns, BLOCK_FEATURES] float16.

    Raises:
      OSError: it cannot be read.
      ValueError: it is of another size than these.
    """
    shape = (frames, *block_grid(width, height), BLOCK_FEATURES)
    size, wanted = os.fstat(file.fileno()).st_size, 2 * math.prod(shape)
    if size != wanted:
        raise ValueError(f"the file of blocks has {size} bytes, not {wanted}")
    # A plain array over the mapping: slices of numpy's own class are slow to make.
    return np.asarray(np.memmap(file, np.float16, "r", shape=shape))


class BlockWriter:
    """Takes blocks frame by frame, normalised, into a file: a film's do not fit into memory.

    A context; the file goes at its end, or stays under the name that `finish` gave it.
    """

    def __init__(self, folder: Path | None, width: int, height: int) -> None:
        """Opens a file.

        Args:
          folder: where; the system's folder for temporary files if it is None or takes none.
          width: pixels per row.
          height: rows.

        Raises:
          OutputError: there is no place for it.
        """
        self._size = (width, height)
        self._frames = 0
        places = (folder, Path(tempfile.gettempdir()))
        for place in filter(None, places):
            with contextlib.suppress(OSError):
                place.mkdir(parents=True, exist_ok=True)
                handle, name = tempfile.mkstemp(dir=place)
                self._path = Path(name)
                self._file = os.fdopen(handle, "w+b")
                return
        raise OutputError("no folder takes the first pass's blocks; set MUZERO_RC_CACHE to one")

    def __enter__(self) -> BlockWriter:
        """The writer."""
        return self

    def __exit__(self, *error: object) -> None:
        """Removes the file, if `finish` did not keep it."""
        with contextlib.suppress(OSError):  # of a full disk, which was told before
            self._file.close()
        self._path.unlink(missing_ok=True)

    def add(self, statistics: npt.NDArray[np.int32]) -> None:
        """Takes the statistics of the next frame. [rows, columns, 4] int32.

        Raises:
          OutputError: the disk is full.
        """
        self._frames += 1
        try:
            self._file.write(block_features(statistics, *self._size).tobytes())
        except OSError as error:
            raise self._full(error) from None

    def finish(self, keep_as: Path | None = None) -> npt.NDArray[np.float16]:
        """All blocks, mapped into memory; they outlive the file.

        Args:
          keep_as: the file's name from now on, if it can be renamed.

        Raises:
          OutputError: the disk is full.
        """
        try:
            self._file.flush()
        except OSError as error:
            raise self._full(error) from None
        found = map_blocks(self._file, self._frames, *self._size)
        if keep_as is not None:
            with contextlib.suppress(OSError):
                os.replace(self._path, keep_as)
        return found

    def _full(self, error: OSError) -> OutputError:
        return OutputError(
            f"cannot write the first pass's blocks in {self._path.parent}: {error.strerror}; "
            "free some space or set MUZERO_RC_CACHE to another folder"
        )
