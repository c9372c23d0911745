"""Frames of an encode as rows of numbers, for files, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from muzero_rc.types import FrameInfo, FrameResult, UpdateType, Work

__all__ = ["info_of_row", "info_row", "result_of_row", "result_row"]

_INFO_FIELDS = tuple(field.name for field in dataclasses.fields(FrameInfo))
_NOT_NUMBERS = ("partition",)
_RESULT_FIELDS = tuple(
    field.name for field in dataclasses.fields(FrameResult) if field.name not in _NOT_NUMBERS
)


def info_row(info: FrameInfo) -> list[float]:
    """All fields in order, tuples spread out."""
    return _flat(info, _INFO_FIELDS)


def result_row(result: FrameResult) -> list[float]:
    """All fields in order, tuples spread out, but for the partition."""
    return _flat(result, _RESULT_FIELDS)


def info_of_row(row: Sequence[float]) -> FrameInfo:
    """What `info_row` was given."""
    v = [int(value) for value in row]
    references = (v[9], v[10], v[11])
    fields = (*v[:2], UpdateType(v[2]), bool(v[3]), *v[4:9], references, *v[12:])
    return FrameInfo(*fields)  # type: ignore[arg-type]


def result_of_row(row: Sequence[float]) -> FrameResult:
    """What `result_row` was given, without a partition.

    Rows of before there were counts of work have none.
    """
    v = [int(value) for value in row[:14]]
    return FrameResult(
        v[0], v[1], bool(v[2]), v[3], v[4], (v[5], v[6], v[7]), (v[8], v[9], v[10]),
        v[11], v[12], v[13], float(row[14]), work=Work(*(int(count) for count in row[15:])),
    )  # fmt: skip


def _flat(record: FrameInfo | FrameResult, fields: tuple[str, ...]) -> list[float]:
    values: list[float] = []
    for name in fields:
        value = getattr(record, name)
        values.extend(value) if isinstance(value, tuple) else values.append(value)
    return [float(value) for value in values]
