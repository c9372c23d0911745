"""Encodes that aim at a quality or at libvpx's constant quality."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from muzero_rc import video
from muzero_rc.cli import main as cli
from muzero_rc.encode import cut as cut_module
from muzero_rc.encode import passes
from muzero_rc.encode.aims import Quality, QualityAim, SizeAim, Try
from muzero_rc.encode.chunk_jobs import Probe, ProbeTask
from muzero_rc.encode.chunk_store import ChunkFiles
from muzero_rc.encode.film import EncodeReport, Progress, encode
from muzero_rc.encode.share import Curve, bits_for_psnr, mean_psnr
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.codec.session import encode_plain
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import AimMissedError, InputError, OutputError
from muzero_rc.policies.registry import make_policy

MakeVideo = Callable[..., Path]
SETTINGS = EncoderSettings(target_kbps=1, speed=8, kf_max_dist=22)


def tried(aim: QualityAim, kbps: float, quality_at: Callable[[float], float]) -> list[Try]:
    """What an encoder makes of an aim that always takes 3% less than it is asked for."""
    tries: list[Try] = []
    while True:
        actual = 0.97 * kbps
        quality = Quality(aim.metric, quality_at(actual), 0.0)
        tries.append(Try(kbps, actual, 1000, quality))
        wanted = aim.next_kbps(tries)
        if wanted is None:
            return tries
        kbps = wanted


@pytest.mark.parametrize("start", [40, 300, 2000])
def test_tries_meet_a_quality_from_far_off(start: float) -> None:
    bent = {
        "psnr=42": lambda kbps: 24 + 2.2 * math.log2(kbps) - 0.02 * math.log2(kbps) ** 2,
        "ssim=0.97": lambda kbps: 1 - 1 / (1 + 0.4 * kbps**0.75),
        "vmaf=93": lambda kbps: 100 * (1 - math.exp(-((kbps / 150) ** 0.7))),
    }
    for text, quality_at in bent.items():
        aim = QualityAim.parse(text)
        tries = tried(aim, start, quality_at)
        assert tries[-1].quality is not None
        assert abs(tries[-1].quality.mean - aim.value) <= aim.tolerance
        assert len(tries) <= 6


def test_tries_meet_a_quality_where_the_curve_bends() -> None:
    """As a film has it whose still pages become lossless above 90 kbit/s."""
    aim = QualityAim.parse("psnr=35")
    rates = np.log2([15.0, 40.8, 55.4, 63.8, 67.9, 90.0, 120.0, 200.0])
    quality = [30.6, 32.72, 33.76, 34.37, 34.63, 36.1, 40.72, 44.0]
    tries = tried(aim, 19.3, lambda kbps: float(np.interp(math.log2(kbps), rates, quality)))
    assert abs(tries[-1].quality.mean - 35.0) <= aim.tolerance
    assert max(one.quality.mean for one in tries) > 38.0  # one is far off on the other side
    assert len(tries) <= 6


def test_a_quality_that_cannot_be_reached_is_told() -> None:
    with pytest.raises(AimMissedError, match=r"psnr=50 was not met in \d encodes: .* has 41"):
        tried(QualityAim.parse("psnr=50"), 100, lambda kbps: 41.0)


@pytest.mark.parametrize("text", ["psnr", "psnr=", "psnr=nan", "mse=3", "psnr=80", "ssim=98"])
def test_no_qualities(text: str) -> None:
    with pytest.raises(InputError, match=r"write psnr=42|must be between"):
        QualityAim.parse(text)


def test_a_size_is_aimed_at_by_what_was_too_large() -> None:
    aim = SizeAim(10_000)
    fits = Try(80.0, 79.0, 9000)
    assert aim.next_kbps([fits]) is None
    large = Try(80.0, 81.0, 12_000, file_bytes=13_000, rest_bytes=1000)
    assert aim.next_kbps([large]) == 60.0
    with pytest.raises(OutputError, match="no encode fits into 10000 bytes"):
        aim.next_kbps([large] * 6)
    assert Try.from_dict(large.as_dict()) == large


def test_curves_tell_the_bits_of_a_quality() -> None:
    curves = [
        Curve(100.0, 5000.0, 300.0, 50.0, 1e9, frames=20, psnr=40.0),
        Curve(200.0, 9000.0, 900.0, 50.0, 1e9, frames=40, psnr=36.0),
    ]
    for psnr in (33.0, 40.0, 47.0):
        assert mean_psnr(curves, bits_for_psnr(curves, psnr)) == pytest.approx(psnr, abs=1e-6)
    assert bits_for_psnr(curves, 40.0) < bits_for_psnr(curves, 41.0)


@pytest.fixture(scope="module")
def source(make_video: MakeVideo) -> Path:
    """48x32, 44 frames in noise, with sound."""
    return make_video(
        "aims.mkv", "-vf", "noise=alls=12:allf=t", "-c:v", "ffv1", "-pix_fmt", "yuv420p",
        size="48x32", seconds=44 / 25, sound=True,
    )  # fmt: skip


def psnr_of(path: Path, source: Path, max_frames: int | None = None) -> float:
    """PSNR avg of a finished file, as ffmpeg has it."""
    return statistics.fmean(video.measure(path, source, (), max_frames=max_frames)["psnr"])


def test_a_clip_meets_its_quality_with_one_first_probe(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, made = [], 0
    real_probe, real_encode = passes.first_probe, passes.encode_clip

    def count(*given: object, **options: object) -> object:
        nonlocal made
        made += 1
        return real_probe(*given, **options)  # type: ignore[arg-type]

    def note(clip: Clip, used: EncoderSettings, *given: object, **options: object) -> object:
        settings.append((used.target_kbps, used.budget_kbps))
        return real_encode(clip, used, *given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(passes, "first_probe", count)
    monkeypatch.setattr(passes, "encode_clip", note)
    phases: list[str] = []
    out = tmp_path / "out.webm"
    report = encode(
        source, out, SETTINGS, make_policy("landed"), max_frames=24,
        aim=QualityAim.parse("psnr=36"), on_progress=lambda step: phases.append(step.phase),
    )  # fmt: skip
    assert report.quality is not None and report.quality.p5 < report.quality.mean
    assert abs(psnr_of(out, source, 24) - 36) <= 0.11
    assert report.encodes == len(settings) and made <= 3
    # All of one plan: the tries share the last probe encode.
    assert len({plan for plan, _ in settings}) == 1
    assert len({budget for _, budget in settings}) == len(settings)
    starts = [a for a, b in zip(phases, ["", *phases], strict=False) if a != b]
    assert starts.count("decode") == starts.count("first pass") == starts.count("mux") == 1
    assert report.as_dict()["quality"]["metric"] == "psnr"


@pytest.fixture
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut_module, "WHOLE_FRAMES", 40)
    monkeypatch.setattr(cut_module, "LEAST_FRAMES", 20)


def run_film(source: Path, out: Path, **options: object) -> EncodeReport:
    aim = QualityAim.parse("psnr=35")
    return encode(
        source, out, SETTINGS.replace(speed=5), make_policy("landed"), policy_key="landed",
        aim=aim, workers=1, **options,
    )  # type: ignore[arg-type]  # fmt: skip


def test_tries_of_a_film_are_written_down(tmp_path: Path) -> None:
    files = ChunkFiles(tmp_path)
    assert files.tries() == []
    for name in ("00000.0.ivf", "00000.0.npz", "00000.2.ivf", "00000.3.ivf", "00000.probe.npz"):
        (tmp_path / name).touch()
    one = Try(80.0, 81.0, 12_000, Quality("psnr", 40.0, 35.0))
    files.add_try(3, [one.as_dict()])
    assert [Try.from_dict(values) for values in files.tries()] == [one]
    assert {p.name for p in tmp_path.iterdir()} == {"tries.json", "00000.3.ivf", "00000.probe.npz"}


@pytest.mark.slow
@pytest.mark.usefixtures("_short_chunks")
def test_a_film_meets_its_quality_and_goes_on_with_its_tries(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The curves promise 3 dB too much, so that a second try is needed.
    real = QualityAim.start_kbps
    monkeypatch.setattr(QualityAim, "start_kbps", lambda *given: 0.6 * real(*given))
    undisturbed = run_film(source, tmp_path / "a.webm")
    assert undisturbed.chunks == 2 and undisturbed.encodes >= 2
    assert abs(psnr_of(tmp_path / "a.webm", source) - 35) <= 0.11
    probes: list[tuple[int, int]] = []
    real_probe = Probe.__call__

    def count(self: Probe, task: ProbeTask) -> object:
        probes.append((task.chunk.index, task.plan))
        return real_probe(self, task)

    monkeypatch.setattr(Probe, "__call__", count)
    passed = 0

    def stop(step: Progress) -> None:
        nonlocal passed
        passed += step.phase == "second pass"
        if passed > 50:  # in the second try
            raise KeyboardInterrupt

    out = tmp_path / "b.webm"
    with pytest.raises(KeyboardInterrupt):
        run_film(source, out, on_progress=stop)
    assert run_film(source, out).encodes == undisturbed.encodes
    assert len(probes) == len(set(probes))  # none twice, in both starts and all tries
    assert out.read_bytes() == (tmp_path / "a.webm").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.webm", "b.webm"]


@pytest.mark.usefixtures("_short_chunks")
def test_constant_quality_is_libvpx_own(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def packets(ivf: bytes) -> list[bytes]:
        found, place = [], 32
        while place < len(ivf):
            size = int.from_bytes(ivf[place : place + 4], "little")
            found.append(ivf[place + 12 : place + 12 + size])
            place += 12 + size
        return found

    def stream(*options: str) -> list[bytes]:
        out = tmp_path / "out.ivf"
        words = ["encode", str(source), "-o", str(out), "--crf", "40", "--speed", "5", "-q"]
        assert cli.main([*words, *options]) == 0
        return packets(out.read_bytes())

    clip = Clip.load(source, max_frames=24)
    plain = EncoderSettings(target_kbps=256, speed=5, rc_mode="q", cq_level=40)
    ivf, _ = encode_plain(clip, plain, first_pass(clip, plain))
    assert stream("--frames", "24", "-p", "vbr", "--frame-parallel") == packets(ivf)
    # A film goes in chunks, without any probe encode.
    assert len(stream("--keyint", "22")) == 44
    assert "kbit/s, PSNR" in capsys.readouterr().out
    assert cli.main(["encode", str(source), "-o", "x.ivf", "--crf", "4", "-b", "1M"]) == 2
    assert "give one of" in capsys.readouterr().err


def test_a_metric_that_cannot_be_measured_is_told_at_once(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from muzero_rc.video import metrics

    monkeypatch.setattr(metrics, "_packaged_program", lambda: None)
    monkeypatch.setattr(metrics, "_has_libvmaf", lambda program: False)
    words = ["encode", str(source), "-o", str(tmp_path / "o.webm"), "--quality", "vmaf=90"]
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "needs an ffmpeg with libvmaf" in error
    assert video.measuring_program(("ssim",)) and os.listdir(tmp_path) == []
