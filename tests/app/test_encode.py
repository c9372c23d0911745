"""From a file to a WebM file: what is in it, and that nothing is left when it fails."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest

from muzero_rc import video
from muzero_rc.agents.config import NetworkConfig
from muzero_rc.agents.muzero.networks import initial_params
from muzero_rc.agents.policy import save_policy
from muzero_rc.cli.main import main as cli
from muzero_rc.encode import workplace as workplace_module
from muzero_rc.encode.film import PHASES, EncodeReport, Progress, check_output, encode
from muzero_rc.env.codec.block_stats import BLOCK_FEATURES
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.control.baselines import ProposalPolicy, VbrPolicy
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.observation.builder import (
    CLIP_FEATURES,
    FRAME_FEATURES,
    GLOBAL_FEATURES,
    HISTORY_FEATURES,
    OBSERVATION_VERSION,
)
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.errors import InputError, OutputError
from muzero_rc.policies.for_target import ConstantForTarget, ConstrainedQuality
from muzero_rc.policies.identity import program_identity
from muzero_rc.policies.registry import make_policy, prepare
from muzero_rc.types import FrameDecision, Observation, Policy, QindexPolicy

MakeVideo = Callable[..., Path]
FAST = EncoderSettings(target_kbps=100, speed=8)
X264 = ("-c:v", "libx264", "-preset", "ultrafast")


THREE = FAST.replace(passes=3)


def run(source: Path, out: Path, **options: object) -> EncodeReport:
    return encode(source, out, THREE, ProposalPolicy(), **options)  # type: ignore[arg-type]


def streams(path: Path) -> list[str]:
    command = ["ffprobe", "-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0"]
    return subprocess.run(
        [*command, path], check=True, capture_output=True, text=True
    ).stdout.split()


def ffmpeg(*words: str | Path) -> str:
    done = subprocess.run(
        ["ffmpeg", "-nostdin", "-y", "-hide_banner", *map(str, words)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_report_and_file_agree(clip_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.webm"
    seen: list[Progress] = []
    report = run(clip_file, out, on_progress=seen.append)
    assert os.listdir(tmp_path) == ["out.webm"]
    assert streams(out) == ["vp9", "opus"]
    assert report.frames == 25
    assert report.file_bytes == out.stat().st_size
    assert report.coded_frames == len(report.qindexes) >= 25
    assert report.actual_kbps == pytest.approx(8 * report.video_bytes / 1.0 / 1000, rel=0.01)
    assert report.deviation == pytest.approx(report.actual_kbps / 100 - 1)
    assert 0 < report.decision_seconds < report.second_pass_seconds < report.seconds
    assert 0 < report.probe_seconds < report.second_pass_seconds
    phases = list(dict.fromkeys(step.phase for step in seen))
    assert phases == list(PHASES)
    for phase in ("probe", "second pass"):
        assert [s.done for s in seen if s.phase == phase][-1] == 25
    assert report.as_dict()["settings"]["target_kbps"] == 100


def test_psnr_is_what_ffmpeg_measures(clip_file: Path, tmp_path: Path) -> None:
    report = run(clip_file, tmp_path / "out.webm")
    text = ffmpeg("-i", tmp_path / "out.webm", "-i", clip_file, "-lavfi",
                  "[0:v]settb=1/25,setpts=N[a];[1:v]settb=1/25,setpts=N[b];[a][b]psnr",
                  "-f", "null", "-")  # fmt: skip
    match = re.search(r"PSNR y:([\d.]+).*average:([\d.]+)", text)
    assert match is not None
    # ffmpeg's `average` comes from the summed error of all planes, weighted by their size.
    assert report.psnr_overall == pytest.approx(float(match[2]), abs=0.02)


def test_same_input_gives_same_file(clip_file: Path, tmp_path: Path) -> None:
    first = run(clip_file, tmp_path / "a.webm")
    second = run(clip_file, tmp_path / "b.webm")
    assert first.sha256 == second.sha256
    assert (tmp_path / "a.webm").read_bytes() == (tmp_path / "b.webm").read_bytes()


@pytest.mark.parametrize(
    ("name", "options", "make"),
    [
        ("one.mp4", (*X264, "-frames:v", "1"), {}),
        ("two.mp4", (*X264, "-frames:v", "2"), {}),
        ("odd.mkv", ("-c:v", "ffv1"), {"size": "97x65"}),
        ("tiny.mkv", ("-c:v", "ffv1"), {"size": "16x16"}),
        ("thin.mkv", ("-c:v", "ffv1"), {"size": "2x130"}),
        ("deep.mkv", ("-c:v", "ffv1", "-pix_fmt", "yuv422p10le"), {}),
        ("rate.mkv", X264, {"rate": "24000/1001"}),
        ("slow.mkv", X264, {"rate": "1/2", "seconds": 8}),
        ("fast.mkv", X264, {"rate": "120", "seconds": 0.3}),
        ("still.png", ("-frames:v", "1"), {}),
        ("wide.mp4", (*X264, "-vf", "setsar=12/11"), {}),
        ("mono.mkv", (*X264, "-c:a", "pcm_s16le"), {"sound": True}),
        ("surround.mkv", (*X264, "-c:a", "ac3", "-ac", "6"), {"sound": True}),
    ],
)
def test_unusual_inputs(
    make_video: MakeVideo, tmp_path: Path, name: str, options: tuple[str, ...], make: dict[str, str]
) -> None:
    source = make_video(name, *options, **make)
    report = run(source, tmp_path / "out.webm")
    before, after = video.probe(source), video.probe(tmp_path / "out.webm")
    assert Fraction(report.fps) == before.fps
    assert before.expected_frames in (None, report.frames)
    assert (after.width, after.height) == before.coded_size()
    assert float(after.display_aspect) == pytest.approx(float(before.display_aspect), rel=0.03)
    assert after.has_audio == before.has_audio
    assert os.listdir(tmp_path) == ["out.webm"]


def test_several_audio_streams_subtitles_chapters_and_tags(clip_file: Path, tmp_path: Path) -> None:
    (tmp_path / "s.srt").write_text("1\n00:00:00,100 --> 00:00:00,900\nhello\n")
    (tmp_path / "c.txt").write_text(
        ";FFMETADATA1\ntitle=A title\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=500\ntitle=One\n"
    )
    source = tmp_path / "rich.mkv"
    ffmpeg("-i", clip_file, "-i", tmp_path / "s.srt", "-i", tmp_path / "c.txt", "-f", "lavfi",
           "-i", "sine=f=880:d=1", "-map", "0", "-map", "1", "-map", "3", "-map_metadata", "2",
           "-c:v", "copy", "-c:a:0", "copy", "-c:a:1", "libopus", "-c:s", "srt",
           "-metadata:s:a:1", "language=fra", source)  # fmt: skip
    run(source, tmp_path / "out.webm")
    assert sorted(streams(tmp_path / "out.webm")) == ["opus", "opus", "vp9", "webvtt"]
    text = ffmpeg("-i", tmp_path / "out.webm", "-f", "ffmetadata", "-")
    assert "title=A title" in text
    assert "[CHAPTER]" in text
    assert "(fre)" in text or "(fra)" in text


@contextmanager
def flash_and_beep(path: Path, *options: str | Path) -> Iterator[Path]:
    """A black video that is white, and a silent sound that beeps, from 1.0 to 1.4 s."""
    ffmpeg("-f", "lavfi", "-i",
           "color=black:s=64x64:r=25:d=2,drawbox=c=white:t=fill:enable='between(t,0.99,1.39)'",
           "-f", "lavfi", "-i", "sine=f=1000:d=2,volume=0:enable='not(between(t,1,1.4))'",
           *X264, "-c:a", "pcm_s16le", *options, path)  # fmt: skip
    yield path


def sync_error_s(path: Path) -> float:
    """Seconds from the flash to the beep."""
    frames = ffmpeg("-i", path, "-vf", "signalstats,metadata=print:file=-", "-an",
                    "-fps_mode", "passthrough", "-f", "null", "-")  # fmt: skip
    times = re.findall(r"pts_time:([\d.]+)", frames)
    levels = re.findall(r"YAVG=([\d.]+)", frames)
    flash = next(float(t) for t, y in zip(times, levels, strict=True) if float(y) > 120)
    sound = ffmpeg("-i", path, "-vn", "-af", "silencedetect=n=-30dB:d=0.2", "-f", "null", "-")
    beep = float(re.findall(r"silence_end: ([\d.]+)", sound)[0])
    return beep - flash


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="plain"),
        pytest.param(
            ("-vf", "select='not(mod(n,3))+gt(n,20)'", "-fps_mode", "vfr"), id="frames-missing"
        ),
        pytest.param(("-vf", "setpts=PTS+0.5/TB", "-af", "adelay=500"), id="video-late"),
        pytest.param(("-output_ts_offset", "3"), id="both-late"),
    ],
)
def test_sound_stays_in_sync(tmp_path: Path, options: tuple[str, ...]) -> None:
    with flash_and_beep(tmp_path / "in.mkv", *options) as source:
        before = sync_error_s(source)
        run(source, tmp_path / "out.webm")
    assert sync_error_s(tmp_path / "out.webm") == pytest.approx(before, abs=0.041)


def test_audio_that_starts_late_stays_late(tmp_path: Path) -> None:
    with flash_and_beep(tmp_path / "in.mkv") as source:
        late = tmp_path / "late.mkv"
        ffmpeg("-i", source, "-itsoffset", "0.4", "-i", source, "-map", "0:v", "-map", "1:a",
               "-c", "copy", late)  # fmt: skip
    run(late, tmp_path / "out.webm")
    assert sync_error_s(tmp_path / "out.webm") == pytest.approx(0.4, abs=0.041)


def test_max_frames_cuts_the_sound_too(clip_file: Path, tmp_path: Path) -> None:
    report = run(clip_file, tmp_path / "out.webm", max_frames=10)
    assert report.frames == 10
    duration = video.probe(tmp_path / "out.webm").duration_s
    assert duration == pytest.approx(0.4, abs=0.05)


def test_the_speed_profile_is_the_one_asked_for(
    clip_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {}
    words = ["encode", str(clip_file), "-b", "100k", "-p", "landed", "--speed", "4", "--json"]
    for profile in ("auto", "uniform", "hierarchical"):
        out = tmp_path / f"{profile}.ivf"
        assert cli([*words, "-o", str(out), "--speed-profile", profile]) == 0
        sizes[profile] = video.packets(out).sizes
        used = json.loads(capsys.readouterr().out.splitlines()[-1])["settings"]
        assert used["speed_profile"] == ("hierarchical" if profile == "auto" else profile)
    assert sizes["auto"] == sizes["hierarchical"] != sizes["uniform"]
    assert cli([*words, "-o", str(tmp_path / "x.ivf"), "--speed-profile", "probe"]) == 2
    assert "must be one of auto, uniform, hierarchical" in capsys.readouterr().out


def test_scale(clip_file: Path, tmp_path: Path) -> None:
    report = run(clip_file, tmp_path / "out.webm", height=32)
    assert (report.width, report.height) == (48, 32)


def test_output_is_replaced_only_by_a_complete_one(
    clip_file: Path, damaged_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.webm"
    out.write_text("old")
    with pytest.raises(InputError, match="damaged"):
        run(damaged_file, out)
    assert out.read_text() == "old"
    run(clip_file, out)
    assert out.stat().st_size > 1000
    assert os.listdir(tmp_path) == ["out.webm"]


def test_output_through_a_link_replaces_its_target(clip_file: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "file.webm"
    target.write_text("old")
    (tmp_path / "out.webm").symlink_to(target)
    run(clip_file, tmp_path / "out.webm")
    assert (tmp_path / "out.webm").is_symlink()
    assert streams(target) == ["vp9", "opus"]


def test_output_that_is_the_input_is_refused(clip_file: Path, tmp_path: Path) -> None:
    (tmp_path / "link.webm").symlink_to(clip_file)
    hard = clip_file.with_name("hard.webm")
    hard.unlink(missing_ok=True)
    hard.hardlink_to(clip_file)
    for out in (tmp_path / "link.webm", hard, clip_file):
        with pytest.raises(OutputError, match="is the input"):
            check_output(clip_file, out)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
@pytest.mark.parametrize("phase", PHASES)
def test_nothing_is_left_whenever_it_stops(
    clip_file: Path, tmp_path: Path, phase: str, error: type[BaseException]
) -> None:
    def stop(step: Progress) -> None:
        if step.phase == phase:
            raise error("stop")

    with pytest.raises(error):
        run(clip_file, tmp_path / "out.webm", on_progress=stop)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("limit_kb", [4, 12, 16, 20])
def test_full_disk(clip_file: Path, tmp_path: Path, limit_kb: int) -> None:
    # A limit on the size of files fails in the same places as a full disk.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    settings = dataclasses.replace(FAST, target_kbps=1)
    first_pass(Clip.load(clip_file), settings)  # its cache must not be what hits the limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_kb * 1024, before[1]))
    try:
        with pytest.raises(OutputError, match=f"no space left in {tmp_path};") as caught:
            encode(clip_file, tmp_path / "out.webm", settings, make_policy("constant:30"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    left = os.listdir(tmp_path)
    # What is encoded to its end is kept where the file of it could not be made.
    assert left == (["out.ivf"] if "kept as" in str(caught.value) else [])
    if left:
        assert video.packets(tmp_path / "out.ivf").frames == 25


def test_space_is_checked_before_the_work(
    clip_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=1000)
    monkeypatch.setattr(workplace_module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match="MB free, this encode needs about"):
        run(clip_file, tmp_path / "out.webm")
    assert os.listdir(tmp_path) == []


def test_a_bitrate_that_cannot_be_met_is_told(clip_file: Path, tmp_path: Path) -> None:
    noise = tmp_path / "noise.mkv"
    random = "nullsrc=s=96x64:r=25:d=0.6,geq=random(1)*255:128:128,format=yuv420p"
    ffmpeg("-f", "lavfi", "-i", random, "-c:v", "ffv1", noise)
    told: list[str] = []
    settings = EncoderSettings(target_kbps=2, speed=9)
    report = encode(
        noise, tmp_path / "out.webm", settings, make_policy("landed"), on_loss=told.append
    )
    assert report.deviation is not None and report.deviation > 0.5
    assert told == report.losses and "not 2, with the coarsest quantizer" in told[0]
    assert not run(clip_file, tmp_path / "plain.webm", audio="none").losses


def test_streamed_clip_gives_the_same_bytes(clip_file: Path) -> None:
    whole = Clip.load(clip_file)
    streamed = Clip.load(clip_file, memory_limit_bytes=20_000)
    assert not streamed.in_memory
    a, b = (
        rollout(clip, FAST, VbrPolicy(), first_pass=first_pass(clip, FAST, cache=False))
        for clip in (whole, streamed)
    )
    assert a.stream.sha256 == b.stream.sha256


def test_damage_in_a_streamed_clip_is_told(damaged_file: Path) -> None:
    streamed = Clip.load(damaged_file, memory_limit_bytes=1_000_000)
    assert not streamed.in_memory
    with pytest.raises(InputError, match="damaged"):
        first_pass(streamed, FAST, cache=False)


def test_constant_finds_the_lowest_qindex_that_fits(clip_file: Path) -> None:
    clip = Clip.load(clip_file, max_frames=8)
    policy = ConstantForTarget()
    statistics = first_pass(clip, FAST)
    assert prepare(policy, clip, FAST, statistics) == FAST
    assert policy.qindex is not None and policy.qindex > 0
    kbps = [
        rollout(clip, FAST, make_policy(f"constant:{q}"), first_pass=statistics).score.actual_kbps
        for q in (policy.qindex - 1, policy.qindex)
    ]
    assert kbps[1] <= FAST.target_kbps < kbps[0]


def test_cq_never_spends_more_than_its_quality_needs(clip_file: Path) -> None:
    clip = Clip.load(clip_file, max_frames=8)
    generous = dataclasses.replace(FAST, target_kbps=5000)
    statistics = first_pass(clip, generous)
    policy = ConstrainedQuality(40)
    settings = prepare(policy, clip, generous, statistics)
    assert (settings.rc_mode, settings.cq_level) == ("cq", 40)
    capped = rollout(clip, settings, policy, first_pass=statistics).score
    free = rollout(clip, generous, VbrPolicy(), first_pass=statistics).score
    assert capped.actual_kbps < 0.7 * free.actual_kbps


@pytest.mark.slow
def test_memory_stays_bounded_on_a_long_video(make_video: MakeVideo, tmp_path: Path) -> None:
    # 9 s at 640x360 are 78 MB raw; with a limit of 10 MB on frames it must stream.
    source = make_video("long.mkv", *X264, size="640x360", seconds=9)
    script = (
        "import resource, sys\n"
        "from muzero_rc.env.codec import clip\n"
        "clip.default_memory_limit = lambda: 10_000_000\n"
        "from muzero_rc.encode.film import encode\n"
        "from muzero_rc.env.control.settings import EncoderSettings\n"
        "from muzero_rc.policies.registry import make_policy\n"
        "base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "encode(sys.argv[1], sys.argv[2], EncoderSettings(target_kbps=60, speed=8),"
        " make_policy('vbr'), verify=False)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, source, tmp_path / "out.webm"],
        capture_output=True, text=True, timeout=240, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    streamed = int(done.stdout)
    # Measured: 77 MB when it streams, 154 MB with all frames in memory.
    assert streamed < 120_000, f"{streamed} KiB"
    assert video.probe(tmp_path / "out.webm").expected_frames == 225


class Learned(QindexPolicy):
    """Stands for a policy with networks: it has a configuration, and fails as told."""

    name = "learned"
    config = object()

    def __init__(self, error: Exception | None = None) -> None:
        self.calls = 0
        self.error = error

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return np.full(len(observations), 90, np.int32)


def test_networks_are_compiled_before_the_second_pass(clip_file: Path, tmp_path: Path) -> None:
    policy = Learned()
    report = encode(clip_file, tmp_path / "out.webm", FAST, policy)
    assert policy.calls == report.coded_frames + 1
    assert set(report.qindexes) == {90}


def test_what_a_policy_raises_is_told(clip_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="other columns"):
        encode(clip_file, tmp_path / "out.webm", FAST, Learned(InputError("other columns")))
    assert os.listdir(tmp_path) == []
    assert not [t for t in threading.enumerate() if t.name == "warm-up"]


class ReadsBlocks(Learned):
    """Keeps the blocks it is shown."""

    needs_blocks = True

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...] | None] = []

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        self.shapes += [None if o.blocks is None else o.blocks.shape for o in observations]
        return super().qindexes(observations)


def test_a_policy_that_needs_blocks_gets_them(clip_file: Path, tmp_path: Path) -> None:
    policy = ReadsBlocks()
    encode(clip_file, tmp_path / "out.webm", FAST, policy, height=32)
    # 48x32: what is compiled beforehand is of the size that is decided on.
    assert policy.shapes[0] == (1, 2, 3, 4)
    assert set(policy.shapes[1:]) == {(25, 2, 3, 4)}


class Blindfolded:
    """A policy that is not shown blocks."""

    name = "blindfolded"

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def decide(
        self, observations: Sequence[Observation], base: Sequence[FrameDecision]
    ) -> Sequence[FrameDecision]:
        blind = [dataclasses.replace(o, first_pass=None) for o in observations]
        return self.policy.decide(blind, base)


@pytest.mark.slow
def test_a_hip_policy_file_encodes_and_reads_its_blocks(clip_file: Path, tmp_path: Path) -> None:
    config = NetworkConfig(
        clip_features=CLIP_FEATURES, history_features=HISTORY_FEATURES,
        frame_features=FRAME_FEATURES, global_features=GLOBAL_FEATURES, representation="hip",
        block_columns=BLOCK_FEATURES, block_frames=4, block_rows=8, width=16, latents=4, heads=2,
        self_attends=1, state_width=16, dynamics_width=16, head_width=16, history_rows=8,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    params = {
        module: {n: x + 0.3 * rng.normal(size=x.shape).astype(np.float32) for n, x in own.items()}
        for module, own in initial_params(config, 0).items()
    }
    save_policy(
        tmp_path / "hip.npz", params, config, observation_version=OBSERVATION_VERSION,
        env_id="muzero_rc/VP9RateControl-v0", training={}, identity=program_identity("network"),
    )  # fmt: skip
    policy = make_policy(str(tmp_path / "hip.npz"))
    first = encode(clip_file, tmp_path / "a.webm", FAST, policy)
    assert encode(clip_file, tmp_path / "b.webm", FAST, policy).qindexes == first.qindexes
    blind = encode(clip_file, tmp_path / "c.webm", FAST, Blindfolded(policy))
    assert blind.frames == first.frames
    assert blind.qindexes != first.qindexes
