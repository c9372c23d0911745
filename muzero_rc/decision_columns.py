"""Decisions of an encode as columns of plain values, for files, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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

__all__ = ["columns_of_log", "log_settings_of_columns"]


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
    account, hint = decision.rate_account, decision.partition
    return {
        "qindex": decision.qindex,
        "speed": decision.speed,
        "features": int(decision.features),
        "show_existing": int(decision.show_existing),
        "show_existing_price": decision.show_existing_price,
        "show_existing_change": decision.show_existing_change,
        "rate_account": None if account is None else list(account),
        "partition": None if hint is None else [hint.packed.hex(), hint.coarser, hint.finer],
        "next_gop": list(decision.next_gop),
    }


def _decision(row: Mapping[str, Any]) -> FrameDecision:
    account, hint = row["rate_account"], row["partition"]
    return FrameDecision(
        qindex=int(row["qindex"]),
        speed=int(row["speed"]),
        features=SpeedFeatures(row["features"]),
        show_existing=ShowExisting(row["show_existing"]),
        show_existing_price=float(row["show_existing_price"]),
        show_existing_change=float(row["show_existing_change"]),
        rate_account=None if account is None else RateAccount(*map(int, account)),
        partition=None
        if hint is None
        else PartitionHint(bytes.fromhex(hint[0]), int(hint[1]), int(hint[2])),
        next_gop=GopDecision(*map(int, row["next_gop"])),
    )


def _short(values: Sequence[Any]) -> Any:
    same = all(value == values[0] for value in values)
    return {"all": values[0]} if values and same else list(values)


def _long(values: Any, count: int) -> list[Any]:
    found = [values["all"]] * count if isinstance(values, Mapping) else list(values)
    if len(found) != count:
        raise ValueError(f"{len(found)} values for {count} frames")
    return found
