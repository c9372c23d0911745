"""SSIM, MS-SSIM and VMAF of real encodes: against their definitions, and what can go wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from muzero_rc import video
from muzero_rc.cli.evaluate import parse_metrics
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import Rollout, rollout
from muzero_rc.errors import EncoderError, InputError, ToolMissingError
from muzero_rc.evaluation.grid.encoder import ClipSource, Method
from muzero_rc.evaluation.grid.policy_encoder import PolicyEncoder
from muzero_rc.evaluation.measure.quality import clip_quality
from muzero_rc.policies.registry import make_policy
from muzero_rc.video import metrics as measuring

pytestmark = pytest.mark.usefixtures("own_cache")

FRAMES = 12


@pytest.fixture(scope="module")
def source(sample_clips: dict[str, Path]) -> ClipSource:
    """bikes.mp4, 424x180, 25 fps, 12 frames."""
    return ClipSource(sample_clips["bikes"], "bikes", 180, FRAMES)


@pytest.fixture(scope="module")
def clip(source: ClipSource) -> Clip:
    return Clip.load(source.path, height=source.height, max_frames=FRAMES)


@pytest.fixture(scope="module")
def encode(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> tuple[Rollout, Path]:
    path = tmp_path_factory.mktemp("encode") / "it's:a stream.ivf"
    done = rollout(clip, EncoderSettings(target_kbps=150, speed=6), make_policy("vbr"))
    done.stream.write_ivf(path)
    return done, path


def decoded(path: Path, clip: Clip) -> np.ndarray:
    """[T, bytes] uint8, I420."""
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", f"file:{path}", "-f", "rawvideo", "-pix_fmt", "yuv420p",
         "-"], check=True, capture_output=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, clip.width * clip.height * 3 // 2)


def planes(frame: np.ndarray, clip: Clip) -> list[np.ndarray]:
    luma = clip.width * clip.height
    half = (clip.height // 2, clip.width // 2)
    y, u, v = np.split(frame.astype(np.int64), [luma, luma * 5 // 4])
    return [y.reshape(clip.height, clip.width), u.reshape(half), v.reshape(half)]


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2004 over 8x8 windows every 4 pixels, without weights."""
    rows, columns = a.shape[0] // 4 * 4, a.shape[1] // 4 * 4

    def windows(x: np.ndarray) -> np.ndarray:
        blocks = x[:rows, :columns].reshape(rows // 4, 4, columns // 4, 4).sum((1, 3))
        return blocks[:-1, :-1] + blocks[1:, :-1] + blocks[:-1, 1:] + blocks[1:, 1:]

    n = 64
    mean_a, mean_b = windows(a) / n, windows(b) / n
    var = (windows(a * a) + windows(b * b)) / (n - 1) - (mean_a**2 + mean_b**2) * n / (n - 1)
    cov = windows(a * b) / (n - 1) - mean_a * mean_b * n / (n - 1)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    return float((top / ((mean_a**2 + mean_b**2 + c1) * (var + c2))).mean())


def test_psnr_and_ssim_are_those_of_their_definitions(source, clip, encode) -> None:
    done, path = encode
    found = video.measure(path, source.path, ["ssim"], height=180, max_frames=FRAMES)
    assert {k: len(v) for k, v in found.items()} == {"psnr": FRAMES, "ssim": FRAMES}
    shown = sorted((f for _, f in done.frames if f.shown), key=lambda f: f.show_index)
    # To the digits that ffmpeg prints; a tie may be rounded either way.
    assert found["psnr"] == pytest.approx([f.psnr for f in shown], abs=0.0051)
    frames = decoded(path, clip)
    for t in range(FRAMES):
        pairs = zip(planes(frames[t], clip), planes(clip.frame(t), clip), strict=True)
        y, u, v = (ssim(a, b) for a, b in pairs)
        assert found["ssim"][t] == pytest.approx((4 * y + u + v) / 6, abs=2e-5)


def test_our_psnr_is_that_of_ffmpegs_filter(source, clip, encode, tmp_path) -> None:
    """Every plane of every frame, and the clip's, to the printed digits."""
    done, path = encode
    reference = tmp_path / "reference.yuv"
    reference.write_bytes(b"".join(clip.frame(t).tobytes() for t in range(FRAMES)))
    printed = subprocess.run(
        ["ffmpeg", "-nostdin", "-i", f"file:{path}", "-f", "rawvideo", "-pix_fmt", "yuv420p",
         "-video_size", f"{clip.width}x{clip.height}", "-i", str(reference), "-lavfi",
         "[0:v]setpts=N/TB[a];[1:v]setpts=N/TB[b];[a][b]psnr=stats_file=stats.log", "-f", "null",
         "-"], check=True, capture_output=True, text=True, cwd=tmp_path,
    ).stderr  # fmt: skip
    shown = sorted((f for _, f in done.frames if f.shown), key=lambda f: f.show_index)
    lines = (tmp_path / "stats.log").read_text().splitlines()
    for frame, line in zip(shown, lines, strict=True):
        told = dict(word.split(":") for word in line.split())
        ours = [frame.psnr, frame.psnr_y]
        assert [f"{x:.2f}" for x in ours] == [told["psnr_avg"], told["psnr_y"]]
    average = re.search(r"PSNR .* average:([\d.]+)", printed)
    assert average is not None
    quality = clip_quality(shown, clip.fps)
    assert f"{quality.overall:.6f}" == average[1]


def test_vmaf_falls_with_quality_and_knows_its_own(source, clip, encode, tmp_path) -> None:
    _, path = encode
    worse = tmp_path / "worse.ivf"
    rollout(clip, EncoderSettings(target_kbps=40, speed=6), make_policy("vbr")).stream.write_ivf(
        worse
    )
    metrics = list(video.MEASURES)
    good, bad = (
        video.measure(p, source.path, metrics, height=180, max_frames=FRAMES) for p in (path, worse)
    )
    assert list(good) == ["psnr", *metrics]
    for name in metrics:
        assert len(good[name]) == FRAMES
        assert np.mean(bad[name]) < np.mean(good[name])
    for name, top in (("ssim", 1.0), ("ms_ssim", 1.0), ("vmaf", 100.0), ("vmaf_neg", 100.0)):
        assert 0 < min(bad[name]) and max(good[name]) <= top
    # NEG takes no credit for what sharpens, so it never gives more.
    assert all(n <= v + 1e-3 for n, v in zip(good["vmaf_neg"], good["vmaf"], strict=True))


def test_a_colour_space_told_by_the_stream_changes_nothing(source, tmp_path) -> None:
    """Recent ffmpegs would convert labelled frames before comparing them with raw ones."""
    clip = Clip.load(source.path, height=180, max_frames=4)
    found = []
    for space in (-1, 2):  # libvpx's VPX_CS_BT_709
        clip.color_space = space
        path = tmp_path / f"{space}.ivf"
        rollout(
            clip, EncoderSettings(target_kbps=300, speed=8), make_policy("vbr")
        ).stream.write_ivf(path)
        found.append(video.measure(path, source.path, ["ssim"], height=180, max_frames=4))
    assert found[0] == found[1]


def test_an_encode_carries_what_was_asked_for(source, clip) -> None:
    encoder = PolicyEncoder(make_policy)
    settings = EncoderSettings(target_kbps=150, speed=6)
    method = Method("vbr", "vbr", "vbr")
    plain = encoder.encode(source, method, settings, "k")
    found = encoder.encode(source, method, settings, "k", ("ssim", "vmaf"))
    assert plain.quality == {}
    assert set(found.quality) == {"ssim", "vmaf"}
    assert set(found.quality["vmaf"]) == {"mean", "worst", "p5", "deviation", "last_second"}
    assert found.sha256 == plain.sha256
    assert found.psnr_u is not None and found.psnr_u > 30
    assert found.buffer == plain.buffer
    assert found.buffer["needed_s"] > 0
    # Too small for MS-SSIM: left out, and the encode is kept.
    small = ClipSource(source.path, "small", 96, 4)
    found = encoder.encode(small, method, settings, "k", ("ssim", "ms_ssim"))
    assert set(found.quality) == {"ssim"}


def test_frames_that_are_not_the_encoded_ones_are_noticed(source, clip, monkeypatch) -> None:
    encoder = PolicyEncoder(make_policy)
    encoder.open(source)
    monkeypatch.setattr(
        "muzero_rc.evaluation.grid.policy_encoder.video.measure",
        lambda *a, **k: measuring.measure(*a, **{**k, "height": 180, "max_frames": FRAMES - 1}),
    )
    with pytest.raises(EncoderError, match="does not have the PSNR that the encoder told"):
        encoder.encode(
            source, Method("vbr", "vbr", ""), EncoderSettings(target_kbps=150, speed=6), "k",
            ("ssim",),
        )  # fmt: skip


def test_what_cannot_be_measured_is_told(source, encode, tmp_path) -> None:
    _, path = encode
    with pytest.raises(InputError, match="unknown metric 'ssimm'"):
        video.measure(path, source.path, ["ssimm"])
    with pytest.raises(InputError, match="MS-SSIM needs 176 pixels a side"):
        video.measure(path, source.path, ["ms_ssim"], height=96)
    with pytest.raises(InputError, match="no such file"):
        video.measure(path, tmp_path / "none.mp4", ["ssim"])
    with pytest.raises(EncoderError, match="Width and height of input videos must be same"):
        video.measure(path, source.path, ["ssim"], height=96, max_frames=FRAMES)
    broken = tmp_path / "broken.ivf"
    broken.write_bytes(path.read_bytes()[:40])
    with pytest.raises(EncoderError, match=r"measuring broken\.ivf against"):
        video.measure(broken, source.path, ["ssim"], height=180, max_frames=FRAMES)


def test_a_worker_that_is_ended_leaves_nothing(source, encode, tmp_path) -> None:
    _, path = encode
    script = (
        "import sys; from pathlib import Path; from muzero_rc import video\n"
        "video.measure(*map(Path, sys.argv[1:3]), ['ssim'], height=180)"
    )
    # A reference that never ends: a pipe in place of ffmpeg's decoder, which nobody writes to.
    stuck = tmp_path / "bin" / "ffmpeg"
    stuck.parent.mkdir()
    stuck.write_text("#!/bin/sh\nexec sleep 60\n")
    stuck.chmod(0o755)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path), str(source.path)],
        env={
            **os.environ,
            "TMPDIR": str(temporary),
            "PATH": f"{stuck.parent}:{os.environ['PATH']}",
        },
    )
    mine = psutil.Process(process.pid)
    deadline = time.monotonic() + 240
    while len(children := mine.children()) < 2 or not list(temporary.glob("muzero-rc-*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.terminate()
    assert process.wait(240) == 128 + signal.SIGTERM
    assert not list(temporary.glob("muzero-rc-*"))
    _, alive = psutil.wait_procs(children, timeout=120)
    assert not alive


@pytest.fixture
def without_package(monkeypatch):
    """As if imageio-ffmpeg were not installed."""
    caches = (measuring._packaged_program, measuring._has_libvmaf)
    for cached in caches:
        cached.cache_clear()
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    yield
    for cached in caches:
        cached.cache_clear()


def test_without_libvmaf_the_message_names_the_extra(
    without_package, tmp_path, monkeypatch
) -> None:
    plain = tmp_path / "ffmpeg"
    plain.write_text("#!/bin/sh\necho ' ... ssim   VV->V  Calculate the SSIM'\n")
    plain.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert video.measuring_program(["ssim"]) == str(plain)
    with pytest.raises(
        ToolMissingError, match="vmaf, vmaf_neg needs .* pip install imageio-ffmpeg"
    ):
        video.measuring_program(["ssim", "vmaf", "vmaf_neg"])
    plain.write_text("#!/bin/sh\necho ' ... libvmaf   VV->V  Calculate the VMAF'\n")
    measuring._has_libvmaf.cache_clear()
    measuring._ask.cache_clear()
    assert video.measuring_program(["vmaf"]) == str(plain)


def test_metrics_are_read_as_people_write_them() -> None:
    assert parse_metrics("psnr") == ()
    assert parse_metrics("VMAF-neg, ssim,psnr,ssim") == ("ssim", "vmaf_neg")
    with pytest.raises(InputError, match="unknown metric 'vmf' in --metrics; give any of psnr"):
        parse_metrics("psnr,vmf")
