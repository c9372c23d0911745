"""The encoder session: its order of calls, its errors, and that it always lets go."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from muzero_rc.env.codec import _native
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import FirstPass, first_pass, native_settings
from muzero_rc.env.codec.session import EncoderSession, wait_any
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import (
    EncoderError,
    EncoderTimeoutError,
    InputError,
    OutputError,
    SessionClosedError,
)
from muzero_rc.types import UpdateType


def _run(clip: Clip, settings: EncoderSettings, qindex: int) -> tuple[EncoderSession, bytes]:
    with EncoderSession(clip, settings) as session:
        while session.next() is not None:
            session.encode(qindex)
        return session, session.finish().ivf()


def test_frames_come_in_coding_order_with_their_place(
    carphone: Clip, fast: EncoderSettings
) -> None:
    infos = []
    with EncoderSession(carphone, fast) as session:
        while (info := session.next()) is not None:
            infos.append(info)
            result = session.encode(90)
            assert result.qindex == 90
            assert (result.coding_index, result.show_index) == (info.coding_index, info.show_index)
            assert result.shown == info.shown
            assert result.bits > 0
            blocks = result.intra_blocks + result.inter_blocks
            assert blocks == (176 // 8) * (144 // 8)
            assert 0 <= result.skip_blocks <= blocks
            assert result.samples == (176 * 144, 88 * 72, 88 * 72)
        stream = session.finish()
    assert infos[0].update_type is UpdateType.KEY
    assert infos[0].ref_coding_indexes == (-1, -1, -1)
    assert [i.coding_index for i in infos] == sorted({i.coding_index for i in infos})
    assert {UpdateType.ARF, UpdateType.LEAF} <= {i.update_type for i in infos}
    assert {i.layer_depth for i in infos} >= {0, 1, 2, 3}
    assert all(i.gop_index <= i.gop_size for i in infos)
    assert all(i.min_qindex <= i.proposal_qindex <= i.max_qindex for i in infos)
    assert any(i.tpl_mc_dep_cost > i.tpl_intra_cost > 0 for i in infos)
    shown = [r.show_index for r in session.results if r.shown]
    assert sorted(shown) == list(range(60))
    assert stream.num_packets == 60
    # Packets add only superframe indexes to the coded frames.
    coded = sum(r.bits for r in session.results) // 8
    assert 0 <= stream.size_bytes - coded < 0.05 * coded + 200


def test_finer_qindex_is_larger_and_better(carphone: Clip, fast: EncoderSettings) -> None:
    fine, fine_ivf = _run(carphone, fast, 40)
    coarse, coarse_ivf = _run(carphone, fast, 160)
    assert len(fine_ivf) > 2 * len(coarse_ivf)
    assert min(r.psnr for r in fine.results if r.shown) > max(
        r.psnr for r in coarse.results if r.shown
    )


def test_qindex_zero_of_the_first_frame_is_lossless(carphone: Clip, fast: EncoderSettings) -> None:
    with EncoderSession(carphone, fast) as session:
        session.next()
        assert session.encode(0).sse == (0, 0, 0)


@pytest.mark.parametrize("auto_alt_ref", range(7))
def test_every_alternate_reference_setting_finishes(
    auto_alt_ref: int, moving_square: Callable[..., Clip]
) -> None:
    clip = moving_square(40, 96, 80)
    settings = EncoderSettings(target_kbps=60, speed=5, auto_alt_ref=auto_alt_ref)
    session, _ = _run(clip, settings, 120)
    assert sum(r.shown for r in session.results) == 40


@pytest.mark.parametrize("frames", [1, 2, 3, 30])
@pytest.mark.parametrize(("width", "height"), [(16, 16), (33, 17), (2, 2)])
def test_any_length_and_size_finishes(
    frames: int, width: int, height: int, moving_square: Callable[..., Clip]
) -> None:
    clip = moving_square(frames, width, height)
    session, _ = _run(clip, EncoderSettings(target_kbps=20, speed=5), 100)
    assert sum(r.shown for r in session.results) == frames


def test_static_clip_shows_existing_buffers_without_a_decision(
    fast: EncoderSettings, moving_square: Callable[..., Clip]
) -> None:
    clip = moving_square(1, 64, 64)
    still = Clip.from_frames(clip.frame(0)[None].repeat(60, axis=0), 64, 64, 25)
    session, _ = _run(still, fast, 100)
    assert sum(r.shown for r in session.results) == 60


def test_calls_out_of_turn_are_refused(carphone: Clip, fast: EncoderSettings) -> None:
    with EncoderSession(carphone, fast) as session:
        session.next()
        with pytest.raises(InputError, match="qindex must be 0..255"):
            session.encode(256)
        with pytest.raises(SessionClosedError, match="frames are left"):
            session.finish()
        with pytest.raises(SessionClosedError, match="no frame was submitted"):
            session.result()
    with pytest.raises(SessionClosedError):
        session.next()


def test_wrong_first_pass_is_one_clear_error(
    carphone: Clip, fast: EncoderSettings, moving_square: Callable[..., Clip]
) -> None:
    other = first_pass(moving_square(5, 176, 144), fast)
    with pytest.raises(InputError, match="first pass of 5 frames for a clip of 60"):
        EncoderSession(carphone, fast, first_pass=other)


def test_damaged_first_pass_is_an_encoder_error(carphone: Clip, fast: EncoderSettings) -> None:
    with pytest.raises(EncoderError, match="not whole records"):
        FirstPass.unpack(first_pass(carphone, fast).packed[:-8])


def test_libvpx_refusals_carry_its_code_and_text(carphone: Clip, fast: EncoderSettings) -> None:
    settings = fast.replace(lag_in_frames=0, auto_alt_ref=6)
    native = native_settings(carphone, settings)
    native.lag_in_frames = 400  # our own check would not let it through
    with (
        carphone.reader() as reader,
        pytest.raises(EncoderError, match="opening the VP9 encoder failed") as caught,
    ):
        _native.encode_plain(native, reader, None)
    assert caught.value.code == 8  # VPX_CODEC_INVALID_PARAM
    assert caught.value.detail


def test_two_sessions_share_a_clip_and_agree(carphone: Clip, fast: EncoderSettings) -> None:
    with EncoderSession(carphone, fast) as one, EncoderSession(carphone, fast) as two:
        while True:
            wait_any([one, two])
            a, b = one.next(), two.next()
            assert a == b
            if a is None:
                break
            one.submit(77)
            two.submit(77)
            assert one.result().bits == two.result().bits
        assert one.finish().sha256 == two.finish().sha256


def test_stream_on_disk_is_the_stream_in_memory(
    carphone: Clip, fast: EncoderSettings, tmp_path: Path
) -> None:
    _, memory = _run(carphone, fast, 90)
    with EncoderSession(carphone, fast, output=tmp_path / "out.ivf") as session:
        while session.next() is not None:
            session.encode(90)
        session.finish()
    assert (tmp_path / "out.ivf").read_bytes() == memory


def test_unwritable_output_is_an_output_error(
    carphone: Clip, fast: EncoderSettings, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match="No such file"):
        EncoderSession(carphone, fast, output=tmp_path / "missing" / "out.ivf")


def test_full_disk_is_an_output_error(carphone: Clip, fast: EncoderSettings) -> None:
    with (
        EncoderSession(carphone, fast, output="/dev/full") as session,
        pytest.raises(OutputError, match="No space left"),
    ):
        while session.next() is not None:
            session.encode(10)
        session.finish()


def test_watchdog_answers_when_the_encoder_is_late(carphone: Clip, fast: EncoderSettings) -> None:
    with (
        EncoderSession(carphone, fast, timeout_s=0.0) as session,
        pytest.raises(EncoderTimeoutError, match="did not answer within"),
    ):
        while session.next() is not None:
            session.encode(10)


def test_closing_mid_frame_is_quick(moving_square: Callable[..., Clip]) -> None:
    clip = moving_square(30, 640, 360)
    session = EncoderSession(clip, EncoderSettings(target_kbps=500, speed=2))
    session.next()
    session.submit(20)
    start = time.perf_counter()
    session.close()
    assert time.perf_counter() - start < 5.0
    with pytest.raises(SessionClosedError):
        session.result()


def test_dropping_a_session_stops_its_thread(carphone: Clip, fast: EncoderSettings) -> None:
    before = psutil.Process().num_threads()
    session = EncoderSession(carphone, fast)
    session.next()
    session.submit(50)
    assert psutil.Process().num_threads() > before
    del session
    gc.collect()
    assert psutil.Process().num_threads() == before


def test_a_hundred_sessions_dropped_half_way_leak_nothing(
    moving_square: Callable[..., Clip],
) -> None:
    clip = moving_square(12, 192, 112)
    fast = EncoderSettings(target_kbps=80, speed=8)
    stats = first_pass(clip, fast)
    process = psutil.Process()

    def drop(count: int) -> None:
        for number in range(count):
            session = EncoderSession(clip, fast, first_pass=stats)
            for _ in range(number % 5):
                if session.next() is not None:
                    session.encode(80)
            if number % 2:
                session.next()
                session.submit(80)
            if number % 3:
                session.close()
            del session
        gc.collect()

    drop(40)  # allocator's own pools fill first
    memory, threads = process.memory_info().rss, process.num_threads()
    drop(100)
    assert process.num_threads() == threads
    # One encoder of this size holds 17 MB: 200 leaked ones would be 3 GB.
    assert process.memory_info().rss - memory < 20 * 2**20


def test_sessions_work_from_many_python_threads(carphone: Clip, fast: EncoderSettings) -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(_run(carphone, fast, 100)[1]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_ctrl_c_ends_a_wait(tmp_path: Path) -> None:
    """A process that waits inside the native part answers SIGINT with KeyboardInterrupt."""
    program = textwrap.dedent("""
        import sys, time
        import numpy as np
        from muzero_rc.env.codec.clip import Clip
        from muzero_rc.env.codec.session import EncoderSession
        from muzero_rc.env.control.settings import EncoderSettings
        rng = np.random.default_rng(0)
        size = 640 * 360 * 3 // 2
        clip = Clip.from_frames(rng.integers(0, 255, (40, size), np.uint8), 640, 360, 25)
        print("ready", flush=True)
        try:
            with EncoderSession(clip, EncoderSettings(target_kbps=9000, speed=0)) as session:
                while session.next() is not None:
                    session.encode(30)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            sys.exit(130)
    """)
    environment = {**os.environ, "MUZERO_RC_CACHE": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        # Of its processor, not of the clock: other programs may have most of the machine.
        spent = psutil.Process(process.pid).cpu_times()
        assert spent.user + spent.system < 20
        assert process.wait(timeout=240) == 130
