"""Decisions as columns: what `replay` encodes by."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muzero_rc.decision_columns import columns_of_log, log_settings_of_columns
from muzero_rc.errors import InputError
from muzero_rc.types import (
    EncodeLog,
    FrameDecision,
    FrameInfo,
    FrameRecord,
    FrameResult,
    GopDecision,
    GopLimits,
    PartitionHint,
    RateAccount,
    ShowExisting,
    SpeedFeatures,
    UpdateType,
)

_INFO = FrameInfo(0, 0, UpdateType.LEAF, True, 0, 1, 1, 1, 9, (-1, -1, -1), 90, 1, 0, 255, 0)
_RESULT = FrameResult(0, 0, True, 90, 8, (1, 1, 1), (4, 1, 1), 1, 0, 0, 0.0)

_decisions = st.builds(
    FrameDecision,
    qindex=st.integers(-1, 255),
    speed=st.integers(-1, 9),
    features=st.sampled_from(list(SpeedFeatures)),
    show_existing=st.sampled_from(list(ShowExisting)),
    show_existing_price=st.floats(0, 1),
    show_existing_change=st.floats(0, 10),
    rate_account=st.none() | st.builds(RateAccount, st.integers(-1, 255), st.integers(0, 9999)),
    partition=st.none() | st.builds(PartitionHint, st.binary(max_size=4), st.just(1), st.just(2)),
    next_gop=st.builds(GopDecision, st.integers(0, 25), st.integers(0, 6)),
)
_gops = st.lists(st.builds(GopLimits, *[st.integers(0, 30)] * 3), max_size=3).map(tuple)


@given(decisions=st.lists(_decisions, max_size=6), gops=_gops, speed=st.integers(0, 9))
def test_columns_are_the_decisions(
    decisions: list[FrameDecision], gops: tuple[GopLimits, ...], speed: int
) -> None:
    frames = [FrameRecord(_INFO, decision, _RESULT) for decision in decisions]
    log = EncodeLog([*frames, FrameRecord(None, None, _RESULT)], 9, speed, gops)
    columns = json.loads(json.dumps(columns_of_log(log)))
    assert log_settings_of_columns(columns) == (speed, gops, decisions)


def test_columns_of_before_there_were_group_decisions() -> None:
    frames = [FrameRecord(_INFO, FrameDecision(3), _RESULT)]
    columns = columns_of_log(EncodeLog(frames, 9, 1))
    del columns["next_gop"]
    assert log_settings_of_columns(columns) == (1, (), [FrameDecision(3)])


def test_equal_values_are_kept_once() -> None:
    frames = [FrameRecord(_INFO, FrameDecision(q, speed=2), _RESULT) for q in (3, 4)]
    columns = columns_of_log(EncodeLog(frames, 9, 1))
    assert columns["speed"] == {"all": 2} and columns["qindex"] == [3, 4]


@pytest.mark.parametrize("name", ["qindex", "speed", "frames", "gops", "rate_account"])
def test_damaged_columns_are_refused(name: str) -> None:
    frames = [FrameRecord(_INFO, FrameDecision(q), _RESULT) for q in (3, 4)]
    columns = columns_of_log(EncodeLog(frames, 9, 1))
    for damage in ({}, [1], "x"):
        with pytest.raises(InputError, match="damaged"):
            log_settings_of_columns(columns | {name: damage})
