"""Encode logs as columns: everything of every frame comes back, through arrays and JSON."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muzero_rc.errors import InputError
from muzero_rc.log_columns import (
    BytesPool,
    PackedResults,
    columns_of_frames,
    head_of_log,
    log_of_columns,
)
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
    Work,
)

_qindex = st.integers(0, 255)
_count = st.integers(0, 2**31 - 1)
_large = st.integers(0, 2**53)
_bytes = st.binary(min_size=1, max_size=4)
_decision = st.builds(
    FrameDecision,
    qindex=st.integers(-1, 255),
    speed=st.integers(-1, 9),
    features=st.sampled_from(list(SpeedFeatures)),
    show_existing=st.sampled_from(list(ShowExisting)),
    show_existing_price=st.floats(0, 1),
    show_existing_change=st.floats(0, 10),
    rate_account=st.none() | st.builds(RateAccount, st.integers(-1, 255), _large),
    partition=st.none() | st.builds(PartitionHint, _bytes, st.integers(0, 3), st.integers(0, 3)),
    next_gop=st.builds(GopDecision, st.integers(0, 25), st.integers(0, 6)),
)
_DRAWN = {
    "qindex", "speed", "features", "show_existing", "show_existing_price",
    "show_existing_change", "rate_account", "partition", "next_gop",
}  # fmt: skip


@st.composite
def _records(draw: st.DrawFn) -> FrameRecord:
    """A frame with or without a description, a decision, a partition."""
    three = st.tuples(_large, _large, _large)
    result = FrameResult(
        coding_index=draw(st.integers(-1, 10**6)),
        show_index=draw(_count),
        shown=draw(st.booleans()),
        qindex=draw(st.integers(-1, 255)),
        bits=draw(_large),
        sse=draw(three),
        samples=draw(three),
        intra_blocks=draw(_count),
        inter_blocks=draw(_count),
        skip_blocks=draw(_count),
        cpu_seconds=draw(st.floats(0, 1e3)),
        partition=draw(st.just(b"") | _bytes),
        work=Work(*draw(st.tuples(*[_large] * len(Work._fields)))),
        checksum=draw(st.none() | st.integers(0, 2**32 - 1)),
    )
    if draw(st.booleans()):
        return FrameRecord(None, None, result)
    reference = st.integers(-1, 10**6)
    info = FrameInfo(
        result.coding_index, result.show_index, draw(st.sampled_from(list(UpdateType))),
        result.shown, draw(st.integers(0, 255)), draw(st.integers(0, 255)),
        draw(st.integers(0, 6)), draw(st.integers(0, 6)), draw(st.integers(0, 10**6)),
        draw(st.tuples(reference, reference, reference)), draw(_qindex), draw(_large),
        draw(_qindex), draw(_qindex), draw(st.integers(0, 10**6)), draw(_large), draw(_large),
    )  # fmt: skip
    return FrameRecord(info, draw(st.none() | _decision), result)


_gops = st.lists(st.builds(GopLimits, *[st.integers(0, 300)] * 3), max_size=3).map(tuple)
_logs = st.builds(
    EncodeLog, st.lists(_records(), max_size=5).map(tuple), _large, st.integers(-1, 9), _gops
)


def test_every_part_of_a_decision_is_tried() -> None:
    # A part that a strategy leaves at its default could be lost without a word.
    assert {field.name for field in dataclasses.fields(FrameDecision)} == _DRAWN


@settings(deadline=None)
@given(logs=st.lists(_logs, min_size=1, max_size=3))
def test_every_frame_comes_back_exactly(logs: list[EncodeLog]) -> None:
    pool = BytesPool()
    stored = [(columns_of_frames(log.frames, pool), head_of_log(log)) for log in logs]
    back = BytesPool.of_arrays(pool.arrays())
    assert len(set(back.values)) == len(back.values), "each is kept once"
    assert [log_of_columns(*one, back) for one in stored] == logs
    for (columns, head), log in zip(stored, logs, strict=True):
        lists = {name: values.tolist() for name, values in columns.items()}
        assert log_of_columns(*json.loads(json.dumps([lists, head])), back) == log


def _one() -> tuple[FrameInfo, FrameResult]:
    info = FrameInfo(3, 2, UpdateType.LEAF, True, 0, 1, 1, 1, 9, (-1, 0, 1), 90, 1, 0, 255, 0)
    return info, FrameResult(3, 2, True, 90, 8, (1, 1, 1), (4, 1, 1), 1, 0, 0, 0.0)


def test_a_description_with_anothers_result_is_refused() -> None:
    info, result = _one()
    for wrong in ({"coding_index": 4}, {"show_index": 1}, {"shown": False}):
        other = FrameResult(**{n: getattr(result, n) for n in result.__slots__} | wrong)
        with pytest.raises(InputError, match="another frame"):
            columns_of_frames([FrameRecord(info, None, other)], BytesPool())


@pytest.mark.parametrize("name", ["bits", "work", "update_type", "decided_speed", "partition"])
def test_damaged_columns_are_refused(name: str) -> None:
    info, result = _one()
    pool = BytesPool()
    log = EncodeLog((FrameRecord(info, FrameDecision(3), result),), 9, 1)
    columns = columns_of_frames(log.frames, pool)
    columns[name] = np.full((2, *columns[name].shape[1:]), 99)
    with pytest.raises(InputError, match="damaged"):
        log_of_columns(columns, head_of_log(log), pool)
    del columns[name]
    with pytest.raises(InputError, match="damaged"):
        log_of_columns(columns, head_of_log(log), pool)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.lists(_records(), max_size=4), max_size=4), st.slices(12))
def test_packed_results_are_what_they_were(blocks: list[list[FrameRecord]], some: slice) -> None:
    packed = PackedResults()
    for block in blocks:
        packed.extend(block)
    bare = [
        dataclasses.replace(record.result, partition=b"") for block in blocks for record in block
    ]
    assert len(packed) == len(bare) and list(packed) == bare
    assert packed[some] == bare[some]
    assert [packed[i - len(bare)] for i in range(len(bare))] == bare
    for wrong in (len(bare), -len(bare) - 1):
        with pytest.raises(IndexError):
            packed[wrong]
