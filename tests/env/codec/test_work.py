"""Counted work and CPU time of frames: what they go by, and what they do not."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from muzero_rc.env.codec._native import FrameDecision
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.session import EncoderSession
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import InputError
from muzero_rc.types import FrameResult, Work


def _results(clip: Clip, settings: EncoderSettings) -> tuple[list[FrameResult], str]:
    """All frames at libvpx's proposals, and the stream's hash."""
    with EncoderSession(clip, settings) as session:
        while (info := session.next()) is not None:
            session.encode(info.proposal_qindex)
        return session.results, session.finish().sha256


def _total(results: Sequence[FrameResult]) -> npt.NDArray[np.int64]:
    return np.array([result.work for result in results]).sum(0)


def test_the_same_encode_is_the_same_work(carphone: Clip, fast: EncoderSettings) -> None:
    first, again = (_results(carphone, fast)[0] for _ in range(2))
    assert [r.work for r in first] == [r.work for r in again]


def test_every_kind_of_work_is_done_by_some_frame(carphone: Clip, fast: EncoderSettings) -> None:
    results, _ = _results(carphone, fast)
    total = Work(*_total(results))
    assert min(total) > 0, total
    key = results[0].work
    assert key.searched == key.inter == key.propagated == 0 < key.intra
    assert len({r.work for r in results if r.qindex >= 0}) > len(results) // 2


@pytest.mark.parametrize("tiles", [0, 1])
def test_threads_share_the_work_and_change_nothing(
    moving_square: Callable[..., Clip], tiles: int
) -> None:
    clip = moving_square(12, 512, 64)
    alone = EncoderSettings(target_kbps=200, speed=4, tile_columns=tiles)
    one, stream = _results(clip, alone)
    two, stream_of_two = _results(clip, alone.replace(threads=2))
    assert stream == stream_of_two
    assert [r.work for r in one] == [r.work for r in two]


def test_work_does_not_go_by_the_machines_instructions(tmp_path: Path, carphone_path: Path) -> None:
    """libvpx without any vector instruction does the same and counts the same."""
    code = """
        import sys
        from muzero_rc.env.codec.clip import Clip
        from muzero_rc.env.codec.session import EncoderSession
        from muzero_rc.env.control.settings import EncoderSettings

        clip = Clip.load(sys.argv[1], max_frames=12)
        with EncoderSession(clip, EncoderSettings(target_kbps=80, speed=2)) as session:
            while (info := session.next()) is not None:
                print(tuple(session.encode(info.proposal_qindex).work))
            print(session.finish().sha256)
    """
    said = []
    for capabilities in ({}, {"VPX_SIMD_CAPS": "0"}):
        run = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), str(carphone_path)],
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path), **capabilities},
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        said.append(run.stdout)
    assert said[0] == said[1]


def test_slower_speeds_do_more(carphone: Clip, fast: EncoderSettings) -> None:
    modes, transformed = [], []
    for speed in (4, 2, 0):
        total = Work(*_total(_results(carphone, fast.replace(speed=speed))[0]))
        modes.append(total.modes)
        transformed.append(total.transformed)
    assert modes == sorted(modes) and modes[-1] > 2 * modes[0]
    assert transformed == sorted(transformed) and transformed[-1] > 2 * transformed[0]


def test_a_frames_own_speed_is_its_own_work(carphone: Clip, fast: EncoderSettings) -> None:
    work = []
    for slow in (4, 0):
        with EncoderSession(carphone, fast) as session:
            while (info := session.next()) is not None:
                speed = slow if info.coding_index == 3 else 4
                session._native.submit(FrameDecision(info.proposal_qindex, speed=speed))
                session.result()
        work.append([r.work for r in session.results if r.qindex >= 0])
    assert work[0][:3] == work[1][:3]
    assert work[1][3].modes > 2 * work[0][3].modes


def test_a_frame_that_only_shows_a_buffer_is_no_work(
    moving_square: Callable[..., Clip], fast: EncoderSettings
) -> None:
    results, _ = _results(moving_square(40, 64, 64), fast.replace(auto_alt_ref=6))
    shown = [r for r in results if r.qindex < 0]
    assert shown and all(r.work == Work() for r in shown)
    assert all(r.work != Work() for r in results if r.qindex >= 0)


def test_a_frame_that_is_coded_and_replaced_was_work(carphone: Clip) -> None:
    kinds = []
    for how in (1, 2):  # if it is cheaper, always
        with EncoderSession(carphone, EncoderSettings(target_kbps=20, speed=5)) as session:
            while session.next() is not None:
                session._native.submit(FrameDecision(200, show_existing=how))
                session.result()
        kinds.append([r.work for r in session.results if r.shows_existing])
    coded, never_coded = kinds
    assert coded and all(work.modes > 0 for work in coded)
    assert never_coded  # what the temporal filter did came before the decision
    assert all(w._replace(inter=0) == Work() for w in never_coded)


def test_cpu_time_is_the_encoders_alone(
    moving_square: Callable[..., Clip], fast: EncoderSettings
) -> None:
    """Neither a policy that sleeps nor one that computes is in it."""
    with EncoderSession(moving_square(6, 64, 64), fast) as session:
        while (info := session.next()) is not None:
            until = time.monotonic() + 0.1
            time.sleep(0.1)
            while time.monotonic() < until + 0.1:
                pass
            result = session.encode(info.proposal_qindex)
            assert 0 < result.cpu_seconds < 0.1
        total = session.encode_seconds
        assert sum(r.cpu_seconds for r in session.results) <= total < 0.1
        session.finish()


def test_cpu_time_of_the_frames_is_that_of_the_encode(
    carphone: Clip, fast: EncoderSettings
) -> None:
    before = time.process_time()
    with EncoderSession(carphone, fast) as session:
        begun = time.process_time()
        while (info := session.next()) is not None:
            session.encode(info.proposal_qindex)
        spent, total = time.process_time() - begun, session.encode_seconds
        session.finish()
    frames = sum(r.cpu_seconds for r in session.results)
    assert 0.9 * total < frames <= total
    assert 0.5 * spent < total < time.process_time() - before


_WRONG = (
    ("qindex", -2), ("qindex", 256), ("speed", -2), ("speed", 10), ("features", -1),
    ("features", 8), ("model_qindex", -2), ("model_qindex", 256), ("model_bits", -1),
    ("coarser", -1), ("coarser", 4), ("finer", 4), ("show_existing", -1), ("show_existing", 3),
    ("show_existing_price", -0.1), ("show_existing_price", float("nan")),
    ("show_existing_change", float("inf")),
)  # fmt: skip


@pytest.mark.parametrize(("field", "value"), _WRONG)
def test_a_decision_out_of_range_is_an_input_error(
    carphone: Clip, fast: EncoderSettings, field: str, value: float
) -> None:
    with pytest.raises(InputError, match=f"{field} must be"):
        FrameDecision(**{field: value})
    decision = FrameDecision(100)
    setattr(decision, field, value)
    with EncoderSession(carphone, fast) as session:
        assert session.next() is not None
        with pytest.raises(InputError, match=f"{field} must be"):
            session._native.submit(decision)
        assert session.encode(100).qindex == 100  # nothing was lost


def test_a_decision_says_back_what_it_was_given() -> None:
    given = {
        "qindex": 7, "speed": 3, "features": 2, "frozen_rate_account": True, "model_qindex": 9,
        "model_bits": 11, "partition": b"ab", "coarser": 1, "finer": 2, "show_existing": 1,
        "show_existing_price": 0.5, "show_existing_change": 6.0,
    }  # fmt: skip
    decision = FrameDecision(**given)
    assert {name: getattr(decision, name) for name in given} == given
