"""Encode logs as columns of numbers, a row a frame, for files, and back; nothing is lost.

Columns have the names of the fields of `FrameInfo` and `FrameResult`; those of the decision
begin with `decided`. Byte strings, partitions, lie in a pool that many logs share, since the
encodes of one clip repeat them.
"""

from __future__ import annotations

import bisect
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from muzero_rc.decision_columns import SCALAR_PARTS, decision_of_plain, plain_decision
from muzero_rc.errors import InputError
from muzero_rc.types import (
    EncodeLog,
    FrameDecision,
    FrameInfo,
    FrameRecord,
    FrameResult,
    GopLimits,
    RateAccount,
    UpdateType,
    Work,
)

__all__ = ["BytesPool", "PackedResults", "columns_of_frames", "head_of_log", "log_of_columns"]

_Columns = dict[str, npt.NDArray[Any]]

_SHARED = ("coding_index", "show_index", "shown")  # by description and result
_INFO = {
    "gop_index": np.int16, "gop_size": np.int16, "layer_depth": np.int8,
    "max_layer_depth": np.int8, "frames_to_key": np.int32, "proposal_qindex": np.int16,
    "proposal_bits": np.int64, "min_qindex": np.int16, "max_qindex": np.int16,
    "boost": np.int32, "tpl_intra_cost": np.int64, "tpl_mc_dep_cost": np.int64,
}  # fmt: skip
_RESULT = {
    "coding_index": np.int32, "show_index": np.int32, "shown": np.bool_, "qindex": np.int16,
    "bits": np.int64, "intra_blocks": np.int32, "inter_blocks": np.int32,
    "skip_blocks": np.int32, "cpu_seconds": np.float64,
}  # fmt: skip
_NONE = -1  # in the place of an update type, of a place in the pool, or of a checksum


class BytesPool:
    """Byte strings by number, each kept once."""

    def __init__(self, values: Iterable[bytes] = ()) -> None:
        """Starts with these, in their order."""
        self.values: list[bytes] = []
        self._places: dict[bytes, int] = {}
        for value in values:
            self.add(value)

    def add(self, value: bytes) -> int:
        """The number of a byte string."""
        if value not in self._places:
            self._places[value] = len(self.values)
            self.values.append(value)
        return self._places[value]

    def arrays(self) -> _Columns:
        """All of them, for a file."""
        return {
            "bytes": np.frombuffer(b"".join(self.values), np.uint8),
            "sizes": np.array([len(value) for value in self.values], np.int32),
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> BytesPool:
        """Reads `arrays` back."""
        whole, ends = arrays["bytes"].tobytes(), np.cumsum(arrays["sizes"]).tolist()
        return cls(whole[start:end] for start, end in zip([0, *ends], ends, strict=False))


class PackedResults(Sequence[FrameResult]):
    """Results of many frames in some 160 bytes each, without partitions; made when asked for."""

    def __init__(self) -> None:
        """Starts with none."""
        self._blocks: list[_Columns] = []
        self._ends: list[int] = []

    def extend(self, frames: Sequence[FrameRecord]) -> None:
        """Adds the results of frames."""
        results = [frame.result for frame in frames]
        self._blocks.append(_result_columns(results))
        self._ends.append(len(self) + len(results))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> FrameResult: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[FrameResult]: ...
    def __getitem__(self, index: int | slice) -> FrameResult | Sequence[FrameResult]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = operator.index(index)
        index += len(self) if index < 0 else 0
        if not 0 <= index < len(self):
            raise IndexError("no such frame")
        block = bisect.bisect_right(self._ends, index)
        row = index - (self._ends[block - 1] if block else 0)
        return _result({n: v[row].tolist() for n, v in self._blocks[block].items()}, b"")


def head_of_log(log: EncodeLog) -> dict[str, Any]:
    """What a log has beside its frames, as plain values for JSON."""
    return {
        "size_bytes": log.size_bytes,
        "speed": log.speed,
        "gops": [list(gop) for gop in log.gops],
    }


def columns_of_frames(frames: Sequence[FrameRecord], pool: BytesPool) -> _Columns:
    """All of a log's frames.

    Args:
      frames: N of them.
      pool: gets their byte strings.

    Returns:
      [N] or [N, k] arrays by name. `update_type` is -1 for a frame without a description,
      whose other columns of it are 0, `decided` says whether there was a decision, and
      `partition` and `decided_partition` are places in the pool or -1. There is a `checksum`, -1
      for none, where any frame has one.

    Raises:
      InputError: a description and its result do not belong together.
    """
    for info, _, result in frames:
        if info is not None and any(getattr(info, n) != getattr(result, n) for n in _SHARED):
            raise InputError(f"frame {info.coding_index} has the result of another frame")
    results = [frame.result for frame in frames]
    columns = _result_columns(results)
    partitions = [result.partition for result in results]
    columns["partition"] = np.array([pool.add(p) if p else _NONE for p in partitions], np.int32)
    return columns | _info_columns(frames) | _decision_columns(frames, pool)


def log_of_columns(
    columns: Mapping[str, Any], head: Mapping[str, Any], pool: BytesPool
) -> EncodeLog:
    """What `columns_of_frames` and `head_of_log` were given.

    Args:
      columns: arrays, or lists of the same numbers.
      head: of the log.
      pool: that the columns point into.

    Raises:
      InputError: they are damaged.
    """
    try:
        lists = {name: np.asarray(values).tolist() for name, values in columns.items()}
        count = len(lists["coding_index"])
        if any(len(values) != count for values in lists.values()):
            raise ValueError("columns of different lengths")
        frames = tuple(_frame({n: v[i] for n, v in lists.items()}, pool) for i in range(count))
        gops = tuple(GopLimits(*map(int, gop)) for gop in head["gops"])
        return EncodeLog(frames, int(head["size_bytes"]), int(head["speed"]), gops)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"the log of an encode is damaged: {error}") from error


def _result_columns(results: Sequence[FrameResult]) -> _Columns:
    columns: _Columns = {
        name: np.array([getattr(result, name) for result in results], kind)
        for name, kind in _RESULT.items()
    }
    columns["sse"] = _wide([result.sse for result in results], 3)
    columns["samples"] = _wide([result.samples for result in results], 3)
    columns["work"] = _wide([result.work for result in results], len(Work._fields))
    sums = [_NONE if result.checksum is None else result.checksum for result in results]
    if any(checksum != _NONE for checksum in sums):
        columns["checksum"] = np.array(sums, np.int64)
    return columns


def _result(row: Mapping[str, Any], partition: bytes) -> FrameResult:
    checksum = row.get("checksum", _NONE)
    return FrameResult(
        **{name: row[name] for name in _RESULT},
        sse=_three(row["sse"]),
        samples=_three(row["samples"]),
        partition=partition,
        work=Work(*row["work"]),
        checksum=None if checksum == _NONE else checksum,
    )


def _wide(rows: Sequence[Sequence[int]], width: int) -> npt.NDArray[np.int64]:
    return np.array(rows, np.int64).reshape(-1, width)


def _info_columns(frames: Sequence[FrameRecord]) -> _Columns:
    infos = [frame.info for frame in frames]
    columns: _Columns = {
        name: np.array([0 if info is None else getattr(info, name) for info in infos], kind)
        for name, kind in _INFO.items()
    }
    types = [_NONE if info is None else int(info.update_type) for info in infos]
    columns["update_type"] = np.array(types, np.int8)
    references = [(0, 0, 0) if info is None else info.ref_coding_indexes for info in infos]
    columns["ref_coding_indexes"] = _wide(references, 3).astype(np.int32)
    return columns


def _decision_columns(frames: Sequence[FrameRecord], pool: BytesPool) -> _Columns:
    rows = [plain_decision(frame.decision or FrameDecision()) for frame in frames]
    columns: _Columns = {
        f"decided_{name}": np.array([row[name] for row in rows], part.kind)
        for name, part in SCALAR_PARTS.items()
    }
    columns["decided"] = np.array([frame.decision is not None for frame in frames], np.bool_)
    accounts = [row["rate_account"] for row in rows]
    columns["decided_account"] = np.array([account is not None for account in accounts], np.bool_)
    columns["decided_model"] = _wide([account or RateAccount() for account in accounts], 2)
    hints = [row["partition"] for row in rows]
    places = [_NONE if hint is None else pool.add(hint[0]) for hint in hints]
    columns["decided_partition"] = np.array(places, np.int32)
    margins = [(0, 0) if hint is None else hint[1:] for hint in hints]
    columns["decided_margin"] = _wide(margins, 2).astype(np.int8)
    columns["decided_next_gop"] = _wide([row["next_gop"] for row in rows], 2)
    return columns


def _frame(row: Mapping[str, Any], pool: BytesPool) -> FrameRecord:
    place = row["partition"]
    result = _result(row, b"" if place == _NONE else pool.values[place])
    info = None
    if row["update_type"] != _NONE:
        info = FrameInfo(
            **{name: row[name] for name in (*_SHARED, *_INFO)},
            update_type=UpdateType(row["update_type"]),
            ref_coding_indexes=_three(row["ref_coding_indexes"]),
        )
    return FrameRecord(info, _decision(row, pool) if row["decided"] else None, result)


def _decision(row: Mapping[str, Any], pool: BytesPool) -> FrameDecision:
    place = row["decided_partition"]
    return decision_of_plain(
        {name: row[f"decided_{name}"] for name in (*SCALAR_PARTS, "next_gop")}
        | {
            "rate_account": row["decided_model"] if row["decided_account"] else None,
            "partition": None if place == _NONE else [pool.values[place], *row["decided_margin"]],
        }
    )


def _three(values: Sequence[int]) -> tuple[int, int, int]:
    first, second, third = values
    return first, second, third
