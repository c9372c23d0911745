"""10 and 12 bits: the bytes of stock vpxenc, and the same numbers for the same picture."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import block_statistics, first_pass
from muzero_rc.env.codec.session import EncoderSession, encode_plain
from muzero_rc.env.codec.statistics import column
from muzero_rc.env.control.baselines import ConstantPolicy
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.errors import InputError
from muzero_rc.types import FrameDecision, ShowExisting

WIDTH, HEIGHT, FRAMES = 64, 48, 12
SIZE = WIDTH * HEIGHT * 3 // 2
FAST = EncoderSettings(target_kbps=60, speed=5)


def picture() -> npt.NDArray[np.uint8]:
    """A texture that moves, with noise. [FRAMES, SIZE] uint8."""
    rng = np.random.default_rng(7)
    texture = rng.integers(30, 220, (HEIGHT // 8, WIDTH // 8 + FRAMES)).repeat(8, 0).repeat(8, 1)
    frames = []
    for index in range(FRAMES):
        luma = texture[:, 3 * index : 3 * index + WIDTH] + rng.normal(0, 3, (HEIGHT, WIDTH))
        chroma = np.full(SIZE - WIDTH * HEIGHT, 120 + index)
        frames.append(np.concatenate([luma.ravel(), chroma]))
    return np.clip(np.array(frames), 16, 235).astype(np.uint8)


def clip_of(bit_depth: int) -> Clip:
    frames = picture()
    if bit_depth > 8:
        deep = frames.astype(np.uint16) << (bit_depth - 8)
        return Clip.from_frames(deep, WIDTH, HEIGHT, 25, bit_depth=bit_depth)
    return Clip.from_frames(frames, WIDTH, HEIGHT, 25)


@pytest.mark.parametrize("passes", [1, 2])
def test_ten_bits_are_those_of_stock_vpxenc(passes: int, tmp_path: Path) -> None:
    clip = clip_of(10)
    y4m, out = tmp_path / "clip.y4m", tmp_path / "stock.ivf"
    with y4m.open("wb") as file:
        file.write(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F25:1 Ip C420p10 XYSCSS=420P10\n".encode())
        for index in range(FRAMES):
            file.write(b"FRAME\n" + clip.frame(index).tobytes())
    subprocess.run(
        [
            "vpxenc", "--codec=vp9", "--ivf", "--quiet", "--good", f"--passes={passes}",
            "--cpu-used=5", "--target-bitrate=60", "--auto-alt-ref=6", "--lag-in-frames=25",
            "--kf-max-dist=128", "--threads=1", "--row-mt=0", "--enable-tpl=1",
            "--frame-parallel=1", "--aq-mode=0", "--arnr-maxframes=7", "--arnr-strength=5",
            "--arnr-type=3", "--end-usage=vbr", "--undershoot-pct=25", "--overshoot-pct=25",
            "--timebase=1/25", "--profile=2", "--bit-depth=10", "--input-bit-depth=10",
            "-o", str(out), str(y4m),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    stats = first_pass(clip, FAST, cache=False) if passes == 2 else None
    assert encode_plain(clip, FAST, stats)[0] == out.read_bytes()


@pytest.mark.parametrize("bit_depth", [10, 12])
def test_statistics_do_not_depend_on_the_depth(bit_depth: int) -> None:
    plain, deep = clip_of(8), clip_of(bit_depth)
    for name in ("intra_error", "coded_error"):
        ours = first_pass(plain, FAST, cache=False).stats[:, column(name)]
        theirs = first_pass(deep, FAST, cache=False).stats[:, column(name)]
        assert theirs == pytest.approx(ours, rel=0.15)
    ours, theirs = block_statistics(plain, FAST), block_statistics(deep, FAST)
    assert theirs[..., 0].mean() == pytest.approx(ours[..., 0].mean(), rel=0.05)
    inter = ours[..., 1] >= 0
    assert theirs[..., 1][inter].mean() == pytest.approx(ours[..., 1][inter].mean(), rel=0.1)


@pytest.mark.parametrize("bit_depth", [10, 12])
def test_errors_are_scaled_to_8_bits(bit_depth: int) -> None:
    settings = FAST.replace(auto_alt_ref=0)  # at 12 bits libvpx's filter of references is off
    scores = [
        rollout(clip_of(depth), settings, ConstantPolicy(120)).score for depth in (8, bit_depth)
    ]
    assert scores[1].psnr_avg == pytest.approx(scores[0].psnr_avg, abs=0.3)
    assert scores[1].psnr_y == pytest.approx(scores[0].psnr_y, abs=0.3)


def test_the_error_is_that_of_the_decoded_samples(tmp_path: Path) -> None:
    clip = clip_of(10)
    done = rollout(clip, FAST, ConstantPolicy(120), output=tmp_path / "out.ivf")
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", tmp_path / "out.ivf", "-f", "rawvideo", "-pix_fmt",
         "yuv420p10le", "-fps_mode", "passthrough", "-"],
        check=True, capture_output=True,
    ).stdout  # fmt: skip
    decoded = np.frombuffer(raw, "<u2").reshape(FRAMES, SIZE).astype(np.int64)
    source = np.array([clip.frame(i).view("<u2") for i in range(FRAMES)]).astype(np.int64)
    errors = ((decoded - source) ** 2).sum(axis=1)
    psnr = 10 * np.log10(SIZE * 1023.0**2 / errors)
    assert done.score.psnr_avg == pytest.approx(psnr.mean(), abs=0.005)


def test_a_reference_is_shown_again_at_the_same_price(tmp_path: Path) -> None:
    """Where 8 bits repeat a frame of a still picture by rate and distortion, 10 bits do."""
    repeated = []
    for bit_depth in (8, 10):
        rng = np.random.default_rng(3)
        frame = rng.integers(60, 200, SIZE)
        frames = np.array([frame + rng.integers(0, 2, SIZE) for _ in range(FRAMES)])
        kind = np.uint8 if bit_depth == 8 else np.uint16
        deep = (frames << (bit_depth - 8)).astype(kind)
        clip = Clip.from_frames(deep, WIDTH, HEIGHT, 25, bit_depth=bit_depth)
        count = 0
        with EncoderSession(clip, FAST.replace(auto_alt_ref=0)) as session:
            while session.next() is not None:
                result = session.encode(
                    FrameDecision(100, show_existing=ShowExisting.CHEAPER, show_existing_price=0.0)
                )
                count += result.bits == 8
        repeated.append(count)
    assert repeated[0] == repeated[1] > 0


def test_streamed_and_kept_frames_are_the_same(tmp_path: Path) -> None:
    from muzero_rc import video

    path = tmp_path / "deep.mkv"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.4",
         "-pix_fmt", "yuv420p10le", "-c:v", "ffv1", path],
        check=True,
    )  # fmt: skip
    how = video.picture_of(video.probe(path))
    kept = Clip.load(path, picture=how)
    streamed = Clip.load(path, picture=how, memory_limit_bytes=1)
    assert kept.in_memory and not streamed.in_memory and kept.bit_depth == 10
    assert kept.frame(0).nbytes == kept.frame_bytes == 2 * SIZE
    assert streamed.sha256 != Clip.load(path, memory_limit_bytes=1).sha256
    settings = FAST.replace(speed=8)
    ivf = [
        encode_plain(clip, settings, first_pass(clip, settings, cache=False))[0]
        for clip in (kept, streamed)
    ]
    assert ivf[0] == ivf[1]


def test_samples_out_of_range_are_refused() -> None:
    frames = np.full((1, SIZE), 1024, np.uint16)
    with pytest.raises(InputError, match="1024 is more than 10 bits"):
        Clip.from_frames(frames, WIDTH, HEIGHT, Fraction(25), bit_depth=10)
    with pytest.raises(InputError, match="must be uint16"):
        Clip.from_frames(frames.astype(np.uint8), WIDTH, HEIGHT, 25, bit_depth=10)
    with pytest.raises(InputError, match="8, 10 and 12 bits, not 9"):
        Clip.from_frames(frames, WIDTH, HEIGHT, 25, bit_depth=9)
