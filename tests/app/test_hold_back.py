"""Encodes that never underflow a leaky bucket."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muzero_rc import video
from muzero_rc.cli import main as cli
from muzero_rc.cli.bitrate import parse_buffer
from muzero_rc.encode.chunk_jobs import LastPass
from muzero_rc.encode.coarsest import hardest
from muzero_rc.encode.cut import Chunk
from muzero_rc.encode.film import encode
from muzero_rc.encode.film_phases import FilmPhases
from muzero_rc.encode.hold_back import coarser
from muzero_rc.env.codec.statistics import column
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import AimMissedError, InputError
from muzero_rc.evaluation.measure.buffer import drain
from muzero_rc.leaky_bucket import Bucket
from muzero_rc.policies.registry import make_policy

MakeVideo = Callable[..., Path]


@given(
    st.lists(st.integers(0, 100_000), min_size=1, max_size=60), st.floats(10, 5000),
    st.floats(5, 60), st.floats(0.05, 3),
)  # fmt: skip
def test_excesses_are_the_underflows_of_evaluation(packets, kbps, fps, size) -> None:  # type: ignore[no-untyped-def]
    found = Bucket(kbps, size).excesses(packets, fps)
    assert len(found) == drain(packets, kbps, fps, size).underflows
    ends = [excess.last for excess in found]
    assert ends == sorted(set(ends))
    assert all(0 <= e.first <= e.last and 0 <= e.share < 1 for e in found)


def test_an_excess_by_hand() -> None:
    """10 kbit/s at 10 frames a second: 1000 bits arrive for each frame, 2000 fit."""
    assert Bucket(10, 0.2).excesses([2000, 1000, 1000], 10) == []
    (one,) = Bucket(10, 0.2).excesses([500, 1500, 1500, 1500, 500], 10)
    # Full before frame 1; 4500 bits, for which there were 2000 + 2 * 1000.
    assert (one.first, one.last) == (1, 3) and one.share == pytest.approx(4000 / 4500)


def test_coarser_by_octaves() -> None:
    assert coarser(100, 0.0) == 101
    # 38.8 qindexes are an octave there.
    assert coarser(120, 1.0) == 159
    assert coarser(250, 3.0) == coarser(255, 1.0) == 255


def test_buffers_as_people_write_them() -> None:
    assert parse_buffer("2s", 400) == 2 and parse_buffer(" .5 s", 400) == 0.5
    assert parse_buffer("800k", 400) == 2
    for text in ("0s", "two", ""):
        with pytest.raises(InputError):
            parse_buffer(text, 400)


@pytest.fixture(scope="module")
def source(make_video: MakeVideo) -> Path:
    """48x32, 24 frames: still, then noise."""
    return make_video(
        "bursts.mkv", "-vf", "noise=alls=70:allf=t:enable='gte(n,12)'", "-c:v", "ffv1",
        "-pix_fmt", "yuv420p", size="48x32", seconds=0.96,
    )  # fmt: skip


def underflows(path: Path, kbps: float, size_s: float) -> int:
    return drain([8 * size for size in video.packets(path).sizes], kbps, 25, size_s).underflows


def test_a_file_never_underflows_its_bucket(source: Path, tmp_path: Path) -> None:
    settings = EncoderSettings(target_kbps=70, speed=8)
    policy = make_policy("landed")
    free = encode(source, tmp_path / "free.webm", settings, policy)
    assert free.buffer is None and underflows(tmp_path / "free.webm", 80, 0.2) > 0
    bucket = Bucket(80, 0.2)
    report = encode(source, tmp_path / "held.webm", settings, policy, bucket=bucket)
    assert underflows(tmp_path / "held.webm", 80, 0.2) == 0
    assert report.buffer is not None and report.buffer["needed_s"] <= 0.2
    # No more is taken away than the bucket asks for.
    assert report.actual_kbps > 0.5 * free.actual_kbps
    assert sorted(os.listdir(tmp_path)) == ["free.webm", "held.webm"]


def test_what_cannot_be_is_told(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o.webm"
    words = ["encode", str(source), "-o", str(out), "-p", "landed", "--speed", "8", "-q"]
    # Known before anything is encoded.
    assert cli.main([*words, "-b", "300k", "--max-bitrate", "100k", "--buffer", "0.5s"]) == 2
    assert "do not go through 100 kbit/s" in capsys.readouterr().err
    assert cli.main([*words, "-b", "30k", "--buffer", "2s"]) == 2
    assert "filled by --max-bitrate" in capsys.readouterr().err
    assert cli.main([*words, "-p", "vbr", "-b", "30k", "--max-bitrate", "60k"]) == 2
    assert "a largest bitrate needs a policy that encodes in chunks" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("options", [{}, {"passes": 2}, {"rc_mode": "q", "cq_level": 40}])
def test_a_bucket_that_cannot_be_kept_is_refused_before_the_encode(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """A key frame is larger than the buffer at any quantizer."""
    monkeypatch.setattr(LastPass, "__call__", lambda self, task: pytest.fail("encoded for good"))
    policy = make_policy("vbr" if "rc_mode" in options else "landed")
    with pytest.raises(AimMissedError, match=r"cannot be kept: .* coarsest quantizer; give more"):
        encode(
            source, tmp_path / "o.webm", EncoderSettings(target_kbps=12, speed=8, **options),
            policy, bucket=Bucket(14, 0.02), max_frames=4,
        )  # fmt: skip
    assert os.listdir(tmp_path) == []


def test_a_bucket_that_is_too_small_for_a_chunk_that_was_not_looked_at(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FilmPhases, "check_bucket", lambda self, bucket: None)
    with pytest.raises(AimMissedError, match=r"cannot be kept: .* the encoded video is kept as"):
        encode(
            source, tmp_path / "o.webm", EncoderSettings(target_kbps=12, speed=8),
            make_policy("landed"), bucket=Bucket(14, 0.02), max_frames=4,
        )  # fmt: skip
    assert os.listdir(tmp_path) == ["o.ivf"]


def test_the_hardest_chunks_are_those_that_ask_most_of_the_bucket() -> None:
    stats = np.zeros((40, 25))
    stats[:, column("intra_error")], stats[:, column("coded_error")] = 100.0, 10.0
    stats[20:30, column("coded_error")] = 50.0
    stats[30, column("intra_error")] = 400.0
    chunks = [Chunk(number, 10 * number, 10) for number in range(4)]
    # 0.1 s at 10 frames a second: one frame. A key frame alone decides.
    assert hardest(stats, chunks, Bucket(100, 0.1), 10, 1) == [chunks[3]]
    # 10 s: the whole chunk does, 100 + 9 * 50 there, 400 + 9 * 10 in the last one.
    assert hardest(stats, chunks, Bucket(100, 10), 10, 1) == [chunks[2]]
    assert hardest(stats, chunks, Bucket(100, 10), 10, 2) == [chunks[2], chunks[3]]
