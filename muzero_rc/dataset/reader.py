"""Reads the data set; nothing of it is copied before somebody asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from muzero_rc.checkpoint import read_arrays, read_meta
from muzero_rc.dataset.schema import FORMAT, FRAME_COLUMNS, VERSION, FrameColumn, unpack
from muzero_rc.errors import CheckpointError

__all__ = ["Dataset", "EncodeView", "StudyView", "load_dataset", "sources_of"]

_BY_NAME: dict[str, FrameColumn] = {column.name: column for column in FRAME_COLUMNS}


@dataclass(frozen=True, eq=False)
class _Stored:
    """The file's arrays."""

    tree: Mapping[str, Any]
    meta: Mapping[str, Any]

    def column(self, name: str, rows: slice) -> npt.NDArray[Any]:
        """Some rows of a frame column as they were given."""
        column = _BY_NAME[name]
        frames = self.tree["frames"]
        values = unpack(column, frames[name][rows], self.meta["scales"][name])
        if column.kind != "back":
            return values
        own = frames["coding_index"][rows].astype(np.int64)[:, None]
        coded = frames["update_type"][rows][:, None] >= 0
        # Frames without a description have 0 in all of its columns.
        return np.where(coded, np.where(values > 0, own - values, -1), 0)


@dataclass(frozen=True, eq=False)
class EncodeView(Mapping[str, npt.NDArray[Any]]):
    """An encode: a mapping from names of frame columns to arrays, a row a frame.

    Views are equal to themselves alone, and can be in sets. Attributes are those of
    `muzero_rc.dataset.schema.ENCODE_COLUMNS`.
    """

    name: str
    size_bytes: int
    target_kbps: float
    kbps: float
    psnr_avg: float
    psnr_overall: float
    psnr_y: float
    stream_speed: int
    pattern: str
    step_size: int
    pair: int
    sign: int
    gops: npt.NDArray[np.int32]
    _stored: _Stored = field(repr=False)
    _rows: slice = field(repr=False)

    # A mapping compares its values, and arrays have no truth.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """A column of its frames. [N] or [N, width]."""
        if name not in _BY_NAME:
            raise KeyError(name)
        return self._stored.column(name, self._rows)

    def __iter__(self) -> Iterator[str]:
        """Names of the columns."""
        return iter(_BY_NAME)

    def __len__(self) -> int:
        """Number of columns; `num_frames` counts rows."""
        return len(_BY_NAME)

    @property
    def num_frames(self) -> int:
        """Frames, those that only show a reference included."""
        return int(self._rows.stop - self._rows.start)


@dataclass(frozen=True, eq=False)
class StudyView:
    """A study: one part of a clip at one target and speed, encoded many times.

    Attributes are those of `muzero_rc.dataset.schema.STUDY_COLUMNS`.
    """

    clip: str
    source: str
    set: str
    part: tuple[int, int, int]
    width: int
    height: int
    fps: Fraction
    speed: int
    target_kbps: float
    slope: float
    identity: str
    stats: npt.NDArray[np.float32] = field(repr=False)
    encodes: Sequence[EncodeView] = field(repr=False)

    def encode(self, name: str) -> EncodeView:
        """The first encode of a name.

        Raises:
          KeyError: there is none.
        """
        for encode in self.encodes:
            if encode.name == name:
                return encode
        raise KeyError(name)

    def named(self, name: str) -> list[EncodeView]:
        """All encodes of a name."""
        return [encode for encode in self.encodes if encode.name == name]

    def gain_db(self, encode: EncodeView, reference: EncodeView) -> float:
        """PSNR avg in dB that an encode wins over another at equal rate, by the slope."""
        rate = float(np.log2(encode.kbps / reference.kbps))
        return encode.psnr_avg - reference.psnr_avg - self.slope * rate


@dataclass(frozen=True, eq=False)
class Dataset:
    """All studies.

    Attributes:
      studies: in the order of their numbers.
      about: what else is known of the data.
      num_frames: of all encodes.
    """

    studies: Sequence[StudyView]
    about: Mapping[str, Any]
    num_frames: int
    _stored: _Stored = field(repr=False)

    @property
    def sources(self) -> list[str]:
        """Sources of the clips, each once, sorted."""
        return sorted({study.source for study in self.studies})

    def column(self, name: str) -> npt.NDArray[Any]:
        """A frame column of all encodes, one after the other.

        Raises:
          KeyError: there is no such column.
        """
        if name not in _BY_NAME:
            raise KeyError(name)
        return self._stored.column(name, slice(0, self.num_frames))


def load_dataset(path: str | os.PathLike[str]) -> Dataset:
    """Reads a data set.

    Args:
      path: the file.

    Raises:
      CheckpointError: it is missing, damaged, of another version or something else.
    """
    tree, meta = read_arrays(path)
    _check_format(path, meta)
    try:
        stored = _Stored(tree, meta)
        studies = [_study(stored, number) for number in range(len(meta["clip"]))]
        num_frames = int(tree["encodes"]["frames"][-1])
        if any(len(tree["frames"][name]) != num_frames for name in _BY_NAME):
            raise ValueError("columns of different lengths")
        return Dataset(studies, meta["about"], num_frames, stored)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}; get it again") from error


def sources_of(path: str | os.PathLike[str]) -> list[str]:
    """`Dataset.sources` of a file whose arrays are not read.

    Raises:
      CheckpointError: it is missing, damaged, of another version or something else.
    """
    meta = read_meta(path)
    _check_format(path, meta)
    try:
        return sorted(set(meta["source"]))
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}; get it again") from error


def _check_format(path: str | os.PathLike[str], meta: Mapping[str, Any]) -> None:
    if meta.get("format") != FORMAT or meta.get("version") != VERSION:
        raise CheckpointError(f"{path} is no {FORMAT} of version {VERSION}; give another file")


def _study(stored: _Stored, number: int) -> StudyView:
    meta, table = stored.meta, stored.tree["studies"]
    height, first, frames = map(int, table["part"][number])
    return StudyView(
        clip=meta["clip"][number],
        source=meta["source"][number],
        set=meta["set"][number],
        part=(height, first, frames),
        width=int(table["width"][number]),
        height=int(table["height"][number]),
        fps=Fraction(*map(int, table["fps"][number])),
        speed=int(table["speed"][number]),
        target_kbps=float(table["target_kbps"][number]),
        slope=float(table["slope"][number]),
        identity=meta["identity"][number],
        stats=stored.tree["stats"][_rows(table["stats"], number)],
        encodes=[_encode(stored, n) for n in _range(table["encodes"], number)],
    )


def _encode(stored: _Stored, number: int) -> EncodeView:
    table, texts = stored.tree["encodes"], stored.meta["texts"]
    values: dict[str, Any] = {
        name: texts[name][int(table[name][number])] for name in ("name", "pattern")
    }
    for name in ("size_bytes", "stream_speed", "step_size", "pair", "sign"):
        values[name] = int(table[name][number])
    for name in ("target_kbps", "kbps", "psnr_avg", "psnr_overall", "psnr_y"):
        values[name] = float(table[name][number])
    return EncodeView(
        **values,
        gops=stored.tree["gops"][_rows(table["gops"], number)],
        _stored=stored,
        _rows=_rows(table["frames"], number),
    )


def _rows(offsets: npt.NDArray[np.int64], number: int) -> slice:
    return slice(int(offsets[number]), int(offsets[number + 1]))


def _range(offsets: npt.NDArray[np.int64], number: int) -> range:
    return range(int(offsets[number]), int(offsets[number + 1]))
