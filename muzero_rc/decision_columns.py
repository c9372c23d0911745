"""The parts of a decision as plain values, and the decisions of an encode as columns for JSON.

`muzero_rc.log_columns` has the same parts as arrays, beside all else of a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from muzero_rc.errors import InputError
from muzero_rc.types import (
    EncodeLog,
    FrameDecision,
    GopDecision,
    GopLimits,
    PartitionHint,
    RateAccount,
    ShowExisting,
    SpeedFeatures,
)

__all__ = [
    "SCALAR_PARTS",
    "ScalarPart",
    "columns_of_log",
    "decision_of_plain",
    "log_settings_of_columns",
    "plain_decision",
]


class ScalarPart(NamedTuple):
    """A part of a decision that is one number.

    Attributes:
      read: makes the field's value of the number.
      kind: of the number in an array.
    """

    read: Callable[[Any], Any]
    kind: type[np.generic]


SCALAR_PARTS: Mapping[str, ScalarPart] = {
    "qindex": ScalarPart(int, np.int16),
    "speed": ScalarPart(int, np.int8),
    "features": ScalarPart(SpeedFeatures, np.int8),
    "show_existing": ScalarPart(ShowExisting, np.int8),
    "show_existing_price": ScalarPart(float, np.float64),
    "show_existing_change": ScalarPart(float, np.float64),
}
"""By the names of `FrameDecision`'s fields; the other parts are in `plain_decision`."""


def plain_decision(decision: FrameDecision) -> dict[str, Any]:
    """Every part of a decision by its field's name, as numbers, lists of them, or None.

    The list of `partition` begins with its byte string.
    """
    account, hint = decision.rate_account, decision.partition
    return {
        **{name: part.kind(getattr(decision, name)).item() for name, part in SCALAR_PARTS.items()},
        "rate_account": None if account is None else list(account),
        "partition": None if hint is None else [hint.packed, hint.coarser, hint.finer],
        "next_gop": list(decision.next_gop),
    }


def decision_of_plain(row: Mapping[str, Any]) -> FrameDecision:
    """Reads `plain_decision` back.

    Raises:
      KeyError, TypeError, ValueError, IndexError: it is damaged.
    """
    account, hint = row["rate_account"], row["partition"]
    return FrameDecision(
        **{name: part.read(row[name]) for name, part in SCALAR_PARTS.items()},
        rate_account=None if account is None else RateAccount(*map(int, account)),
        partition=None if hint is None else PartitionHint(hint[0], *map(int, hint[1:])),
        next_gop=GopDecision(*map(int, row["next_gop"])),
    )


def columns_of_log(log: EncodeLog) -> dict[str, Any]:
    """What gives the same bytes again, with clip, settings and first pass.

    Returns:
      `frames`, the number N of coded frames; `speed` and `gops` of the stream; and one entry
      for each part of a `FrameDecision`: a list of N values, or one value if all are the same.
    """
    rows = [_row(decision) for decision in log.decisions]
    names = _row(FrameDecision())
    columns = {name: _short([row[name] for row in rows]) for name in names}
    return {
        "frames": len(rows),
        "stream_speed": log.speed,
        "gops": [list(gop) for gop in log.gops],
        **columns,
    }


def log_settings_of_columns(
    columns: Mapping[str, Any],
) -> tuple[int, tuple[GopLimits, ...], list[FrameDecision]]:
    """Speed of the stream, limits of its groups and all decisions, as `columns_of_log` had them.

    Raises:
      InputError: they are damaged.
    """
    try:
        count = int(columns["frames"])
        columns = {"next_gop": {"all": list(GopDecision())}, **columns}  # of before there were any
        lists = {name: _long(columns[name], count) for name in _row(FrameDecision())}
        rows = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
        if not isinstance(columns["gops"], list):
            raise ValueError("gops is not a list")
        gops = tuple(GopLimits(*map(int, gop)) for gop in columns["gops"])
        return int(columns["stream_speed"]), gops, [_decision(row) for row in rows]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"the recorded decisions are damaged: {error}") from error


def _row(decision: FrameDecision) -> dict[str, Any]:
    row = plain_decision(decision)
    if row["partition"] is not None:
        packed, *margin = row["partition"]
        row["partition"] = [packed.hex(), *margin]
    return row


def _decision(row: Mapping[str, Any]) -> FrameDecision:
    hint = row["partition"]
    if hint is not None:
        row = {**row, "partition": [bytes.fromhex(hint[0]), *hint[1:]]}
    return decision_of_plain(row)


def _short(values: Sequence[Any]) -> Any:
    same = all(value == values[0] for value in values)
    return {"all": values[0]} if values and same else list(values)


def _long(values: Any, count: int) -> list[Any]:
    found = [values["all"]] * count if isinstance(values, Mapping) else list(values)
    if len(found) != count:
        raise ValueError(f"{len(found)} values for {count} frames")
    return found
