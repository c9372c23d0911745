"""Writes the data set: one file of flat arrays with offsets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from muzero_rc.checkpoint import write_arrays
from muzero_rc.dataset.schema import FORMAT, FRAME_COLUMNS, VERSION, pack
from muzero_rc.errors import InputError

__all__ = ["DatasetWriter", "EncodeRow", "StudyRow"]

_TEXTS = ("name", "pattern")  # of an encode: kept as numbers of a list


@dataclass(frozen=True)
class EncodeRow:
    """An encode, for the writer; attributes as in `ENCODE_COLUMNS`.

    `columns` are those of `FRAME_COLUMNS`, a row a frame, others are left out.
    """

    name: str
    size_bytes: int
    target_kbps: float
    kbps: float
    psnr_avg: float
    psnr_overall: float
    psnr_y: float
    stream_speed: int
    columns: Mapping[str, npt.NDArray[Any]]
    gops: Sequence[Sequence[int]] = ()
    pattern: str = ""
    step_size: int = 0
    pair: int = -1
    sign: int = 0


@dataclass(frozen=True)
class StudyRow:
    """A study, for the writer; attributes as in `STUDY_COLUMNS`."""

    clip: str
    source: str
    set: str
    part: tuple[int, int, int]
    width: int
    height: int
    fps: tuple[int, int]
    speed: int
    target_kbps: float
    slope: float
    stats: npt.NDArray[np.float64]
    identity: str
    encodes: Sequence[EncodeRow]


class DatasetWriter:
    """Collects studies, then writes them."""

    def __init__(self) -> None:
        """Starts empty."""
        self._frames: dict[str, list[npt.NDArray[Any]]] = {c.name: [] for c in FRAME_COLUMNS}
        self._encodes: list[EncodeRow] = []
        self._studies: list[StudyRow] = []

    @property
    def studies(self) -> int:
        """Studies so far."""
        return len(self._studies)

    @property
    def frames(self) -> int:
        """Frames so far."""
        return sum(map(len, self._frames["qindex"]))

    def add(self, study: StudyRow) -> None:
        """Takes a study.

        Raises:
          InputError: a column is missing, or not as long as the others; or it is not one of
            the training set, which alone may be given away to learn from.
        """
        if study.set != "train":
            raise InputError(f"{study.clip} is of the set {study.set}; only train is published")
        for encode in study.encodes:
            self._add(encode)
        self._studies.append(study)

    def write(self, path: Path, about: Mapping[str, Any]) -> None:
        """Writes the file, atomically.

        Args:
          path: the file.
          about: anything else to say of the data, for JSON.

        Raises:
          InputError: there is nothing, or a value out of range.
          OutputError: it cannot be written.
        """
        if not self._studies:
            raise InputError("there is no study to make a data set of")
        frames, scales = {}, {}
        for column in FRAME_COLUMNS:
            frames[column.name], scales[column.name] = pack(
                column, np.concatenate(self._frames[column.name])
            )
        texts = {name: sorted({getattr(e, name) for e in self._encodes}) for name in _TEXTS}
        encodes: dict[str, npt.NDArray[Any]] = {
            name: np.array([texts[name].index(getattr(e, name)) for e in self._encodes], np.uint8)
            for name in _TEXTS
        }
        numbers: dict[str, Any] = {
            "size_bytes": np.int64, "target_kbps": np.float64, "kbps": np.float64,
            "psnr_avg": np.float64, "psnr_overall": np.float64, "psnr_y": np.float64,
            "stream_speed": np.int8, "step_size": np.int16, "pair": np.int8, "sign": np.int8,
        }  # fmt: skip
        for name, kind in numbers.items():
            encodes[name] = np.array([getattr(e, name) for e in self._encodes], kind)
        encodes["frames"] = _offsets([len(block) for block in self._frames["qindex"]])
        encodes["gops"] = _offsets([len(e.gops) for e in self._encodes])
        encodes["study"] = np.repeat(
            np.arange(len(self._studies), dtype=np.int32), [len(s.encodes) for s in self._studies]
        )
        studies: dict[str, npt.NDArray[Any]] = {
            name: np.array([getattr(s, name) for s in self._studies])
            for name in ("part", "width", "height", "fps", "speed", "target_kbps", "slope")
        }
        studies["encodes"] = _offsets([len(s.encodes) for s in self._studies])
        studies["stats"] = _offsets([len(s.stats) for s in self._studies])
        gops = [row for e in self._encodes for row in e.gops]
        tree: dict[str, Any] = {
            "frames": frames,
            "encodes": encodes,
            "studies": studies,
            "stats": np.concatenate([s.stats for s in self._studies]).astype(np.float32),
            "gops": np.array(gops, np.int32).reshape(-1, 3),
        }
        meta = {
            "format": FORMAT,
            "version": VERSION,
            "scales": scales,
            "texts": texts,
            **{
                name: [getattr(s, name) for s in self._studies]
                for name in ("clip", "source", "set", "identity")
            },
            "about": dict(about),
        }
        write_arrays(path, tree, meta, compressed=True)

    def _add(self, encode: EncodeRow) -> None:
        count = len(encode.columns["qindex"])
        for column in FRAME_COLUMNS:
            try:
                values = np.asarray(encode.columns[column.name])
            except KeyError as error:
                raise InputError(f"{encode.name} has no column {column.name}") from error
            wide = (count, column.width) if column.width > 1 else (count,)
            if values.shape != wide:
                raise InputError(f"{column.name} must be {wide}, not {values.shape}")
            if column.kind == "back":
                own = np.asarray(encode.columns["coding_index"], np.int64)[:, None]
                coded = np.asarray(encode.columns["update_type"])[:, None] >= 0
                values = np.where(coded & (values >= 0), own - values, 0)
                if values.size and values.min() < 0:
                    raise InputError(f"{column.name} points at a frame that is still to come")
            self._frames[column.name].append(values)
        self._encodes.append(dataclasses.replace(encode, columns={}))


def _offsets(counts: Sequence[int]) -> npt.NDArray[np.int64]:
    """Where each begins in a flat array, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
