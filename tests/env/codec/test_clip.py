"""What is in a clip: ffmpeg's own pixels, whatever the file, in memory or streamed."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from muzero_rc.env.codec import _native
from muzero_rc.env.codec.clip import Clip, default_memory_limit
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.codec.session import EncoderSession
from muzero_rc.env.control.baselines import ProposalPolicy, VbrPolicy
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.errors import InputError

SCALER = "flags=lanczos+accurate_rnd+bitexact"


def ffmpeg(*words: str | Path) -> bytes:
    """Runs ffmpeg, which must succeed, and returns its output."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, timeout=240).stdout


@pytest.fixture(scope="module")
def make_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """make_file(name, *options, size=, rate=, seconds=): a lossless moving test card."""
    folder = tmp_path_factory.mktemp("files")

    def make(
        name: str, *options: str, size: str = "96x64", rate: str = "25", seconds: float = 1
    ) -> Path:
        path = folder / name
        card = f"testsrc2=s={size}:r={rate}:d={seconds}"
        ffmpeg("-f", "lavfi", "-i", card, "-c:v", "ffv1", *options, path)
        return path

    return make


def data(clip: Clip) -> bytes:
    return b"".join(clip.frame(index).tobytes() for index in range(clip.num_frames))


def test_a_real_file_is_what_ffmpeg_decodes(carphone_path: Path) -> None:
    clip = Clip.load(carphone_path)
    raw = ffmpeg("-i", carphone_path, "-f", "rawvideo", "-pix_fmt", "yuv420p", "-")
    assert (clip.width, clip.height, clip.num_frames) == (176, 144, 120)
    assert clip.fps == Fraction(30000, 1001)
    assert clip.duration_s == pytest.approx(120 * 1001 / 30000)
    assert data(clip) == raw
    short = Clip.load(carphone_path, max_frames=7)
    assert short.num_frames == 7
    assert data(short) == raw[: 7 * 176 * 144 * 3 // 2]


@pytest.mark.parametrize(
    ("name", "options", "size", "how"),
    [
        ("ten.mkv", ("-pix_fmt", "yuv420p10le"), "96x64", f"scale={SCALER}"),
        ("full.mkv", ("-pix_fmt", "yuv444p"), "96x64", f"scale={SCALER}"),
        ("deepfull.mkv", ("-pix_fmt", "yuv444p10le"), "96x64", f"scale={SCALER}"),
        # In 4:2:0, half a chroma sample would be left over: row and column go.
        ("odd.mkv", ("-pix_fmt", "yuv420p"), "97x65", "crop=96:64:0:0"),
        ("oddfull.mkv", ("-pix_fmt", "yuv444p"), "97x65", f"crop=96:64:0:0,scale={SCALER}"),
        # Every third frame of the first second, then all of the second one.
        (
            "vfr.mkv",
            ("-vf", "select='not(mod(n,3))+gt(n,25)'", "-fps_mode", "vfr", "-pix_fmt", "yuv420p"),
            "96x64",
            "fps=25",
        ),
    ],
)
def test_other_formats_become_8_bit_420(
    make_file: Callable[..., Path], name: str, options: tuple[str, ...], size: str, how: str
) -> None:
    path = make_file(name, *options, size=size, seconds=2 if name == "vfr.mkv" else 0.4)
    clip = Clip.load(path)
    assert (clip.width, clip.height, clip.fps) == (96, 64, 25)
    assert clip.num_frames == (50 if name == "vfr.mkv" else 10)
    raw = ffmpeg("-i", path, "-vf", how, "-f", "rawvideo", "-pix_fmt", "yuv420p", "-")
    assert data(clip) == raw


@pytest.mark.parametrize(
    ("size", "height", "scaled"),
    [
        ("96x64", None, (96, 64)),
        ("96x64", 64, (96, 64)),
        ("96x64", 480, (96, 64)),  # never up
        ("96x64", 48, (72, 48)),
        ("96x64", 33, (48, 32)),
        ("130x70", 32, (60, 32)),  # 59.4 wide
        ("97x65", 65, (96, 64)),
        ("97x65", 64, (96, 64)),
    ],
)
def test_height_scales_down_to_even_sizes(
    make_file: Callable[..., Path], size: str, height: int | None, scaled: tuple[int, int]
) -> None:
    path = make_file(f"size{size}.mkv", size=size, seconds=0.2)
    clip = Clip.load(path, height=height)
    assert (clip.width, clip.height) == scaled
    assert clip.frame(0).shape == (scaled[0] * scaled[1] * 3 // 2,)


def test_what_cannot_be_a_clip_is_refused(tmp_path: Path, carphone_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Clip.load(tmp_path / "none.mp4")
    with pytest.raises(InputError, match="frames"):
        Clip.load(carphone_path, max_frames=0)
    with pytest.raises(InputError, match="height"):
        Clip.load(carphone_path, height=2)
    grey = np.full((2, 96 * 64 * 3 // 2), 128, np.uint8)
    for frames, width, height in (
        (grey[:, :-1], 96, 64),
        (grey[0], 96, 64),
        (grey.astype(np.int16), 96, 64),
        (grey[:0], 96, 64),
        (grey, 0, 64),
        (grey, 96, 20000),
    ):
        with pytest.raises(InputError):
            Clip.from_frames(frames, width, height, 25)


def test_progress_is_told(carphone_path: Path) -> None:
    told: list[int] = []
    clip = Clip.load(carphone_path, on_frames=told.append)
    assert told
    assert told == sorted(told)
    assert told[-1] <= clip.num_frames
    with pytest.raises(ZeroDivisionError):
        Clip.load(carphone_path, on_frames=lambda count: 1 // 0)  # type: ignore[arg-type, return-value]


def test_the_hash_is_of_the_content(carphone_path: Path, tmp_path: Path) -> None:
    clip = Clip.load(carphone_path, max_frames=4)
    assert Clip.load(carphone_path, max_frames=4).sha256 == clip.sha256
    copied = tmp_path / "other name.mkv"
    ffmpeg("-i", carphone_path, "-c", "copy", copied)
    assert Clip.load(copied, max_frames=4).sha256 == clip.sha256
    frames = np.frombuffer(data(clip), np.uint8).reshape(4, -1)
    assert Clip.from_frames(frames, 176, 144, clip.fps).sha256 == clip.sha256
    touched = frames.copy()
    touched[3, 5000] ^= 1
    others = [
        Clip.load(carphone_path, max_frames=3),
        Clip.load(carphone_path, max_frames=4, height=72),
        Clip.from_frames(touched, 176, 144, clip.fps),
        Clip.from_frames(frames[::-1], 176, 144, clip.fps),
        Clip.from_frames(frames, 176, 144, 30),
        Clip.from_frames(frames, 144, 176, clip.fps),
    ]
    assert len({clip.sha256, *(other.sha256 for other in others)}) == 7


def test_frames_cannot_be_changed(carphone_path: Path) -> None:
    clip = Clip.load(carphone_path, max_frames=2)
    with pytest.raises(ValueError, match="read-only"):
        clip.frame(0)[0] = 1
    with pytest.raises(IndexError):
        clip.frame(2)


# ---------------------------------------------------------------- streaming


def test_a_streamed_clip_gives_the_same_stream(
    carphone_path: Path, fast: EncoderSettings, tmp_path: Path
) -> None:
    whole = Clip.load(carphone_path, max_frames=40)
    told: list[int] = []
    streamed = Clip.load(carphone_path, max_frames=40, memory_limit_bytes=200_000)
    assert whole.in_memory
    assert not streamed.in_memory
    assert streamed.sha256 != Clip.load(carphone_path, memory_limit_bytes=200_000).sha256
    for early in (lambda: streamed.num_frames, lambda: streamed.duration_s):
        with pytest.raises(InputError, match="first_pass"):
            early()
    with pytest.raises(InputError, match="keeps no frames"):
        streamed.frame(0)
    stats = first_pass(streamed, fast, cache=False, on_frames=told.append)
    assert told
    assert streamed.num_frames == 40
    assert streamed.duration_s == whole.duration_s
    assert stats.packed == first_pass(whole, fast, cache=False).packed
    expected = rollout(whole, fast, ProposalPolicy())
    given = rollout(streamed, fast, ProposalPolicy(), output=tmp_path / "out.ivf")
    assert given.stream.sha256 == expected.stream.sha256
    assert given.score.psnr_avg == expected.score.psnr_avg


def test_the_length_is_known_when_the_first_pass_was_cached(
    carphone_path: Path, fast: EncoderSettings
) -> None:
    def load() -> Clip:
        return Clip.load(carphone_path, max_frames=11, memory_limit_bytes=1)

    first_pass(load(), fast)
    again = load()
    first_pass(again, fast)
    assert again.num_frames == 11


def test_leaving_a_streamed_encode_ends_its_decoder(
    carphone_path: Path, fast: EncoderSettings
) -> None:
    clip = Clip.load(carphone_path, memory_limit_bytes=1)
    stats = first_pass(clip, fast)
    before = len(os.listdir("/proc/self/fd"))
    for steps in (0, 1, 3):
        session = EncoderSession(clip, fast, first_pass=stats)
        for _ in range(steps):
            session.next()
            session.encode(100)
        session.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_streaming_bounds_the_memory(make_file: Callable[..., Path], tmp_path: Path) -> None:
    """250 frames of 640x360 are 86 MB; streamed, an encode stays far below."""
    path = make_file("long.mkv", size="640x360", seconds=10)
    program = textwrap.dedent(r"""
        import re, sys
        from pathlib import Path
        from muzero_rc.env.codec.clip import Clip
        from muzero_rc.env.codec.first_pass import first_pass
        from muzero_rc.env.codec.session import EncoderSession
        from muzero_rc.env.control.settings import EncoderSettings
        def peak():
            status = Path("/proc/self/status").read_text()
            return 1024 * int(re.search(r"VmHWM:\s*(\d+)", status)[1])
        before = peak()
        clip = Clip.load(sys.argv[1], memory_limit_bytes=int(sys.argv[2]))
        settings = EncoderSettings(target_kbps=100, speed=8, lag_in_frames=5)
        with EncoderSession(clip, settings, first_pass=first_pass(clip, settings)) as session:
            for _ in range(30):
                session.next()
                session.encode(255)
        print(clip.num_frames, peak() - before)
    """)
    used = []
    for limit in (10_000_000, 1_000_000_000):
        done = subprocess.run(
            [sys.executable, "-c", program, path, str(limit)],
            capture_output=True, text=True, timeout=120,
            env={**os.environ, "MUZERO_RC_CACHE": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        frames, more = map(int, done.stdout.split())
        assert frames == 250
        used.append(more)
    assert used[0] < 70e6
    assert used[1] > 86e6  # the measure is worth something


def test_the_default_limit_is_a_share_of_the_memory() -> None:
    assert 2**20 < default_memory_limit() < 2**50


# ---------------------------------------------------------------- interruptions


@pytest.fixture
def broken_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """broken_ffmpeg(bytes, status): an ffmpeg that writes so much, complains and ends."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def install(size: int, status: int) -> None:
        tool = folder / "ffmpeg"
        tool.write_text(
            f"#!/bin/sh\nhead -c {size} /dev/zero\necho the disk burns >&2\nexit {status}\n"
        )
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return install


FRAME = 176 * 144 * 3 // 2


def test_a_frame_cut_short_is_told_with_ffmpegs_reason(
    carphone_path: Path, broken_ffmpeg: Callable[[int, int], None]
) -> None:
    broken_ffmpeg(5 * FRAME // 2, 3)
    with pytest.raises(InputError, match="damaged: the disk burns"):
        Clip.load(carphone_path)


def test_a_frame_cut_short_without_a_reason_is_told_too(
    carphone_path: Path, broken_ffmpeg: Callable[[int, int], None]
) -> None:
    broken_ffmpeg(5 * FRAME // 2, 0)
    with pytest.raises(InputError, match=f"cut short: {FRAME // 2} of {FRAME} bytes"):
        Clip.load(carphone_path)


def test_a_frame_cut_short_while_streaming_is_told(
    carphone_path: Path, fast: EncoderSettings, broken_ffmpeg: Callable[[int, int], None]
) -> None:
    clip = Clip.load(carphone_path, memory_limit_bytes=1)
    stats = first_pass(clip, fast)
    broken_ffmpeg(20 * FRAME + 7, 3)
    with pytest.raises(InputError, match="damaged: the disk burns"):
        first_pass(clip, fast, cache=False)
    with pytest.raises(InputError, match="damaged: the disk burns"):
        rollout(clip, fast, VbrPolicy(), first_pass=stats)


@pytest.mark.parametrize("way", ["store", "first_pass", "encode_plain"])
def test_signals_are_seen_while_frames_come_at_full_speed(way: str) -> None:
    """The source never ends and never pauses; only the signal ends the call."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    settings = _native.Settings()
    settings.width, settings.height, settings.fps_num, settings.fps_den = 64, 64, 25, 1
    settings.target_kbps, settings.speed = 100, 8
    with subprocess.Popen(["cat", "/dev/zero"], stdout=subprocess.PIPE) as source:
        assert source.stdout is not None
        reader = _native.FrameReader.from_pipe(source.stdout.fileno(), 64, 64)
        calls: dict[str, Callable[[], object]] = {
            "store": lambda: _native.FrameStore(64, 64).read_from(source.stdout.fileno()),
            "first_pass": lambda: _native.first_pass(settings, reader),
            "encode_plain": lambda: _native.encode_plain(settings, reader, None),
        }
        before = signal.signal(signal.SIGALRM, stop)
        start = time.perf_counter()
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                calls[way]()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            source.kill()
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("limit", [None, 1], ids=["in memory", "streamed"])
def test_a_clip_travels(make_file: Callable[..., Path], limit: int | None) -> None:
    clip = Clip.load(make_file("travels.mkv"), max_frames=7, memory_limit_bytes=limit)
    first_pass(clip, EncoderSettings(target_kbps=50))
    there = pickle.loads(pickle.dumps(clip))
    assert repr(there) == repr(clip) and there.sha256 == clip.sha256
    assert there.in_memory == clip.in_memory == (limit is None)
    settings = EncoderSettings(target_kbps=50, speed=5)
    one, other = (rollout(c, settings, VbrPolicy()).stream.sha256 for c in (clip, there))
    assert one == other
    if clip.in_memory:
        assert data(there) == data(clip)
