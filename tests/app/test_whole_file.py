"""What goes into the output beside the video, and that the file is read as a player reads it.

Right values are those of stock ffmpeg and ffprobe, with all streams mapped.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muzero_rc import video
from muzero_rc.cli import main as cli
from muzero_rc.encode import file_encode
from muzero_rc.encode.aims import QualityAim
from muzero_rc.encode.film import EncodeReport, Progress, encode
from muzero_rc.encode.size import video_kbps
from muzero_rc.encode.workplace import keep_beside, workplace
from muzero_rc.env.control.baselines import ProposalPolicy
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import AimMissedError, InputError, OutputError, ToolMissingError
from muzero_rc.policies.registry import make_policy
from muzero_rc.video.mp4 import enable_subtitles
from muzero_rc.video.subtitles import clean_ass, clean_cues
from muzero_rc.video.timing import shared_slots, steady_rate
from muzero_rc.video.tools import last_error_line

MakeVideo = Callable[..., Path]
X264 = ("-c:v", "libx264", "-preset", "ultrafast")
CARD = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.6")
TONE = ("-f", "lavfi", "-i", "sine=d=0.6")
FAST = EncoderSettings(target_kbps=100, speed=8, passes=2)


def run(source: Path, out: Path | str, **options: Any) -> EncodeReport:
    return encode(source, out, FAST, ProposalPolicy(), **options)


def ffmpeg(*words: str | Path) -> str:
    done = subprocess.run(
        ["ffmpeg", "-nostdin", "-y", "-v", "error", *words],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


def ask(path: Path, *words: str) -> Any:
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-of", "json", *words, path],
        capture_output=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def packets(path: Path) -> dict[str, int]:
    told = ask(path, "-count_packets", "-show_entries", "stream=codec_name,nb_read_packets")
    return {s["codec_name"]: int(s.get("nb_read_packets", 0)) for s in told["streams"]}


SRT = (
    "1\n00:00:00,100 --> 00:00:00,150\nfirst\n\n2\n00:00:00,200 --> 00:00:00,250\n{\\an8}\n\n"
    "3\n00:00:00,260 --> 00:00:00,290\n<font></font>\n\n"
    "4\n00:00:00,300 --> 00:00:00,350\n{\\p1}m 0 0 l 10 0{\\p0}\n\n"
    "5\n00:00:00,403 --> 00:00:00,450\nsecond\nline\n"
)


@pytest.fixture(scope="module")
def rich_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """15 frames, two audio tracks, a subtitle track with cues of no text, chapters, a font."""
    folder = tmp_path_factory.mktemp("rich")
    (folder / "s.srt").write_text(SRT)
    (folder / "c.txt").write_text(
        ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=123\ntitle=One\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=123\nEND=600\ntitle=Two\n"
    )
    (folder / "f.ttf").write_text("font")
    path = folder / "rich.mkv"
    ffmpeg(*CARD, *TONE, *TONE, "-i", folder / "s.srt", "-i", folder / "c.txt", "-map", "0",
           "-map", "1", "-map", "2", "-map", "3", "-map_chapters", "4", *X264,
           "-c:a:0", "aac", "-c:a:1", "libopus", "-c:s", "copy",
           "-metadata:s:v", "title=Picture", "-metadata:s:a:0", "language=deu",
           "-metadata:s:a:0", "title=Ton", "-metadata:s:a:1", "title=Talk",
           "-disposition:a:0", "default", "-disposition:a:1", "comment",
           "-disposition:s:0", "forced", "-metadata:s:s:0", "language=fra",
           "-attach", folder / "f.ttf", "-metadata:s:t", "mimetype=application/x-truetype-font",
           path)  # fmt: skip
    return path


def test_webm_with_all_tracks_is_read_to_its_end(rich_file: Path, tmp_path: Path) -> None:
    told: list[str] = []
    report = run(rich_file, tmp_path / "out.webm", on_loss=told.append)
    found = ask(tmp_path / "out.webm", "-show_streams", "-count_packets", "-show_chapters")
    video_stream, first, second, text = found["streams"]
    assert [s["codec_name"] for s in found["streams"]] == ["vp9", "opus", "opus", "webvtt"]
    assert (video_stream["nb_read_packets"], text["nb_read_packets"]) == ("15", "2")
    assert min(int(first["nb_read_packets"]), int(second["nb_read_packets"])) >= 30
    assert video_stream["tags"]["title"] == "Picture"
    assert first["tags"]["language"] in ("deu", "ger") and first["tags"]["title"] == "Ton"
    assert second["tags"]["title"] == "Talk"
    assert text["disposition"]["forced"] == 1 and text["tags"]["language"] in ("fra", "fre")
    assert [c["start_time"] for c in found["chapters"]] == ["0.000000", "0.123000"]
    assert ffmpeg("-i", tmp_path / "out.webm", "-map", "0", "-c", "copy", "-f", "null", "-") == ""
    assert report.losses == told
    assert any("f.ttf" in line and "left out" in line for line in told)
    assert any("no longer marked as comment" in line for line in told)
    assert any("cues without text" in line for line in told)
    assert any("drawings" in line for line in told)
    assert "audio stream 1 (aac, deu, Ton) becomes Opus of 64 kbit/s" in told
    assert len(told) == 5


def test_matroska_keeps_everything(rich_file: Path, tmp_path: Path) -> None:
    report = run(rich_file, tmp_path / "out.mkv")
    assert report.losses == []
    found = ask(tmp_path / "out.mkv", "-show_streams", "-count_packets")["streams"]
    assert [s["codec_name"] for s in found] == ["vp9", "aac", "opus", "subrip", "ttf"]
    before = ask(rich_file, "-show_streams", "-count_packets")["streams"]
    for old, new in zip(before[1:], found[1:], strict=True):
        assert new.get("nb_read_packets") == old.get("nb_read_packets")
        assert new["disposition"] == old["disposition"]


def test_mp4_and_ivf(rich_file: Path, tmp_path: Path) -> None:
    run(rich_file, tmp_path / "out.mp4")
    found, before = packets(tmp_path / "out.mp4"), packets(rich_file)
    assert list(found)[:4] == ["vp9", "aac", "opus", "mov_text"]
    assert (found["vp9"], found["aac"]) == (15, before["aac"])
    assert ffmpeg("-i", tmp_path / "out.mp4", "-map", "0:v", "-map", "0:a", "-f", "null", "-") == ""
    report = run(rich_file, tmp_path / "out.ivf")
    assert packets(tmp_path / "out.ivf") == {"vp9": 15}
    assert len([line for line in report.losses if "left out" in line]) == 6
    assert "the tag title of the video is left out: IVF holds the video alone" in report.losses
    # MP4 keeps titles of chapters in a stream of text, which is no loss.
    report = run(tmp_path / "out.mp4", tmp_path / "again.mkv")
    assert [line for line in report.losses if "data stream" in line] == []
    chapters = ask(tmp_path / "again.mkv", "-show_chapters")["chapters"]
    assert [c["tags"]["title"] for c in chapters] == ["One", "Two"]


@pytest.mark.parametrize("mode", ["none", pytest.param("opus", marks=pytest.mark.slow), "copy"])
def test_audio_modes(rich_file: Path, tmp_path: Path, mode: Any) -> None:
    out = tmp_path / "out.webm"
    if mode == "copy":
        with pytest.raises(InputError, match=r"aac.*cannot be copied into WebM; give --audio opus"):
            run(rich_file, out, audio=mode)
        assert os.listdir(tmp_path) == []
        return
    run(rich_file, out, audio=mode)
    names = [s["codec_name"] for s in ask(out, "-show_streams")["streams"]]
    assert names == ["vp9", *(["opus"] * 2 if mode == "opus" else []), "webvtt"]


def test_the_check_reads_what_a_player_reads(rich_file: Path, tmp_path: Path) -> None:
    # What ffmpeg makes of the empty cue: a file that ends there for who reads all of it.
    bad = tmp_path / "bad.webm"
    ffmpeg("-i", rich_file, "-map", "0:v", "-map", "0:s", "-c:v", "libvpx-vp9", "-cpu-used", "8",
           "-b:v", "100k", "-c:s", "webvtt", bad)  # fmt: skip
    assert packets(bad)["vp9"] < 15
    with pytest.raises(OutputError):
        video.verify(bad, 15)


def test_sound_that_starts_late_keeps_no_picture_waiting(tmp_path: Path) -> None:
    # Held back as raw pictures and samples, these would be 200 MB and 70 MB.
    late, tone = tmp_path / "late.webm", "sine=r=48000:d="
    ffmpeg("-f", "lavfi", "-i", "color=gray:s=640x360:r=6:d=100", "-f", "lavfi", "-i", f"{tone}100",
           "-itsoffset", "95", "-f", "lavfi", "-i", f"{tone}5", "-map", "0", "-map", "1",
           "-map", "2", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8",
           "-b:v", "10k", "-g", "600", "-c:a", "libopus", "-ac", "8", late)  # fmt: skip
    check = (
        "import pathlib, resource, sys; from muzero_rc import video\n"
        "video.verify(pathlib.Path(sys.argv[1]), 600)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", check, late], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 150_000  # kB


def test_the_check_misses_no_stream_sound_or_cue(rich_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.webm"
    run(rich_file, out)
    good = (("audio", 0.6), ("audio", 0.6), ("subtitle", 2))
    video.verify(out, video.Promise(15, None, good))
    for tracks, text in (
        (good[:2], "beside the video"),
        ((good[0], ("audio", 1.0), good[2]), r"0\.6\d s instead of 1\.00"),
        ((*good[:2], ("subtitle", 3)), "2 cues instead of 3"),
    ):
        with pytest.raises(OutputError, match=text):
            video.verify(out, video.Promise(15, None, tracks), decode=False)
    with pytest.raises(OutputError, match="15 frames instead of 16"):
        video.verify(out, 16, decode=False)


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_sound_that_is_not_there_from_the_start(tmp_path: Path, suffix: str) -> None:
    # MP4 has no track without a packet: neither what is tried first, nor a stretch in silence.
    source, out = tmp_path / "in.mkv", tmp_path / f"out.{suffix}"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=5:d=3", *TONE, "-itsoffset", "2", *TONE,
           "-map", "0", "-map", "1", "-map", "2", *X264, "-c:a", "libopus", source)  # fmt: skip
    report = run(source, out)
    assert report.losses == []
    names = [s["codec_name"] for s in ask(out, "-show_streams")["streams"]]
    assert names == ["vp9", "opus", "opus"]
    report = run(source, out, max_frames=8)
    lost = [line for line in report.losses if line.startswith("a track of kind audio")]
    assert len(lost) == (suffix == "mp4")
    # What is known to have sound must be there.
    silent = tmp_path / f"silent.{suffix}"
    ffmpeg("-i", out, "-map", "0:v", "-c", "copy", silent)
    told = video.Promise(8, None, (("audio", 0.6),), may_lack=suffix == "mp4")
    with pytest.raises(OutputError, match="nothing beside the video instead of audio"):
        video.verify(silent, told, decode=False)


def test_what_cannot_be_muxed_is_told_before_the_encode(
    rich_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases: list[str] = []
    monkeypatch.setitem(video.mux.__globals__["_MATRICES"], None, -7)
    with pytest.raises(InputError, match=r"tried on one frame before the encode"):
        run(rich_file, tmp_path / "out.webm", on_progress=lambda step: phases.append(step.phase))
    assert phases == [] and os.listdir(tmp_path) == []


@pytest.mark.parametrize("shown", ["0", "default", "forced"])
def test_mp4_shows_no_subtitles_that_were_off(tmp_path: Path, shown: str) -> None:
    (tmp_path / "s.srt").write_text("1\n00:00:00,100 --> 00:00:00,300\nhello\n")
    source, out = tmp_path / "in.mkv", tmp_path / "out.mp4"
    texts = ("-i", tmp_path / "s.srt", "-i", tmp_path / "s.srt")
    ffmpeg(*CARD, *TONE, *texts, "-map", "0", "-map", "1", "-map", "2", "-map", "3", *X264,
           "-c:a", "aac", "-c:s", "ass", "-disposition:s:0", "0", "-disposition:s:1", shown,
           source)  # fmt: skip
    run(source, out)
    before, after = (
        [s["disposition"]["default"] for s in ask(path, "-show_streams")["streams"]
         if s["codec_type"] == "subtitle"]
        for path in (source, out)
    )  # fmt: skip
    assert before == after == [0, shown == "default"]
    assert ffmpeg("-i", out, "-map", "0", "-c", "copy", "-f", "null", "-") == ""


def test_flags_of_another_file_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    for content in (b"", b"not a film at all", b"\0\0\0\4moov"):
        path.write_bytes(content)
        assert not enable_subtitles(path, [True])
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("step", "suffix"),
    [("mux", "webm"), ("mux", "mkv"), ("mux", "mp4"),
     pytest.param("verify", "webm", marks=pytest.mark.slow)],
)  # fmt: skip
def test_a_failure_after_the_encode_keeps_the_stream(
    rich_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, suffix: str
) -> None:
    run(rich_file, tmp_path / f"whole.{suffix}")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "a:b.ivf").write_text("of somebody else")
    real = getattr(video, step)

    def fails(*words: Any, **options: Any) -> Any:
        if not monkeypatch_ready:
            return real(*words, **options)
        raise OutputError("no space left")

    monkeypatch_ready: list[bool] = []
    monkeypatch.setattr(video, step, fails)

    def late(progress: Progress) -> None:
        if progress.phase == "mux":
            monkeypatch_ready.append(True)

    with pytest.raises(OutputError, match="no space left; the encoded video is kept as") as caught:
        run(rich_file, f"a:b.{suffix}", on_progress=late)
    kept = ["a:b-2.ivf", "a:b.ivf", *(["a:b.srt"] if suffix != "mkv" else [])]
    assert sorted(os.listdir(here)) == kept
    assert (here / "a:b.ivf").read_text() == "of somebody else"
    command = str(caught.value).partition("go on with: ")[2]
    subprocess.run(f"{command} -v error", shell=True, check=True, stdin=subprocess.DEVNULL)
    shown = ("-show_streams", "-show_chapters", "-count_packets")
    made, whole = (ask(folder / f"{name}.{suffix}", *shown)
                   for folder, name in ((here, "a:b"), (tmp_path, "whole")))  # fmt: skip
    assert made["chapters"] == whole["chapters"]
    names = ("codec_name", "nb_read_packets", "disposition")
    for mine, other in zip(made["streams"], whole["streams"], strict=True):
        if mine["codec_name"] == "mov_text":  # ffmpeg alone shows the first one unasked
            assert mine["disposition"].pop("default") > other["disposition"].pop("default")
        assert {name: mine.get(name) for name in names} == {name: other.get(name) for name in names}
        told = mine["tags"], other["tags"]
        assert told[0].get("language") == told[1].get("language")
        assert told[0].get("title") == told[1].get("title")


@pytest.mark.parametrize(
    ("primaries", "transfer", "matrix"),
    [("bt470bg", "gamma28", "bt470bg"),
     pytest.param("bt470m", "gamma22", "smpte170m", marks=pytest.mark.slow),
     pytest.param("bt2020", "smpte2084", "bt2020nc", marks=pytest.mark.slow),
     pytest.param("smpte432", "iec61966-2-1", "bt709", marks=pytest.mark.slow)],
)  # fmt: skip
def test_colours_that_ffprobe_names_otherwise_than_ffmpeg(
    make_video: MakeVideo, tmp_path: Path, primaries: str, transfer: str, matrix: str
) -> None:
    source = make_video("colours.mp4", "-color_primaries", primaries, "-color_trc", transfer,
                        "-colorspace", matrix, *X264, size="64x48", seconds=0.2)  # fmt: skip
    run(source, tmp_path / "out.webm")
    names = "stream=color_primaries,color_transfer,color_space"
    before, after = (
        ask(path, "-show_entries", names)["streams"] for path in (source, tmp_path / "out.webm")
    )
    assert before == after and len(before[0]) == 3


@pytest.mark.parametrize(
    ("suffix", "late"),
    [
        ("ts", "video"), ("ts", "audio"), ("mpg", "video"), ("mp4", "video"),
        *(
            pytest.param(suffix, late, marks=pytest.mark.slow)
            for suffix, late in [("mpg", "audio"), ("flv", "video"), ("flv", "audio"),
                                 ("mkv", "video"), ("mkv", "audio"), ("mp4", "audio")]
        ),
    ],
)  # fmt: skip
def test_streams_that_start_late_lose_no_frame(tmp_path: Path, suffix: str, late: str) -> None:
    path = tmp_path / f"in.{suffix}"
    codec = ("-c:v", "mpeg2video") if suffix == "mpg" else X264
    delay = ("-itsoffset", "0.5")
    ffmpeg(*(delay if late == "video" else ()), *CARD, *(delay if late == "audio" else ()), *TONE,
           *codec, "-fps_mode", "passthrough", "-c:a", "aac" if suffix == "flv" else "mp2",
           path)  # fmt: skip
    info = video.probe(path)
    with video.open_decoder(path) as decoder:
        assert sum(1 for _ in decoder.frames()) == 15
    # MPEG's own clock begins at some time, and priming at most a frame of sound earlier.
    assert info.start_s == pytest.approx(0.5 if late == "video" else 0.0, abs=0.06)


def test_late_video_is_late_to_the_millisecond(make_video: MakeVideo, tmp_path: Path) -> None:
    source, out = tmp_path / "in.mp4", tmp_path / "out.webm"
    picture = make_video("late.mp4", *X264, size="64x48", seconds=0.2)
    ffmpeg("-itsoffset", "0.113", "-i", picture, *TONE, "-c:v", "copy", "-c:a", "aac", source)
    run(source, out, audio="none")
    before, after = (
        ask(path, "-select_streams", "v", "-show_entries", "packet=pts_time")["packets"]
        for path in (source, out)
    )
    old, new = ([float(p["pts_time"]) for p in each] for each in (before, after))
    assert 0.11 < old[0] < 0.115  # not a whole number of frames
    assert new == pytest.approx(old, abs=0.00051)


def test_densest_stretch_sets_the_rate() -> None:
    at_30 = [n / 30 for n in range(30)]
    assert steady_rate([*at_30, *(3 + t for t in at_30)], Fraction(59, 4), Fraction(30)) == 30
    film_rate = Fraction(24000, 1001)
    rounded = [round(n / film_rate, 3) for n in range(480)]
    assert steady_rate([float(t) for t in rounded], film_rate) == film_rate
    # Film at field rate, three fields and two in turns: none is lost at its own rate.
    telecine = sorted([n / 59.94 for n in range(0, 600, 5)] + [n / 59.94 for n in range(2, 600, 5)])
    assert shared_slots(telecine, film_rate) == 0
    assert steady_rate(telecine, Fraction(30000, 1001)) == film_rate
    burst = [n / 240 for n in range(480)] + [2 + n / 30 for n in range(60)]
    assert steady_rate(burst) == 240
    assert steady_rate([1.0]) is None
    assert shared_slots([0.0, 0.01, 0.04, 0.08], Fraction(25)) == 1


def test_bursts_and_high_rates_keep_every_frame(make_video: MakeVideo) -> None:
    burst = make_video("burst.mp4", "-vf", "select='lt(t,0.5)+gt(t,1.5)'", "-fps_mode", "vfr",
                       *X264, rate="30", seconds=2, size="64x48")  # fmt: skip
    info = video.probe(burst)
    assert info.fps == 30 and info.lost_slots == 0
    assert info.varying is not None and float(info.varying[0]) == pytest.approx(15, abs=1)
    slow_motion = make_video("480.mp4", *X264, rate="480", seconds=0.1, size="64x48")
    with video.open_decoder(slow_motion) as decoder:
        assert decoder.fps == 480
        assert sum(1 for _ in decoder.frames()) == 48


def test_a_cut_off_matroska_file_is_told(make_video: MakeVideo) -> None:
    path = make_video("cut.mkv", *X264, size="64x48")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="cut off"), video.open_decoder(path) as decoder:
        list(decoder.frames())


def test_names_are_bytes(make_video: MakeVideo, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(bytes(tmp_path) + b"/\xe4\xff \xf3\xb0\x80\x81"))
    folder.mkdir()
    source = folder / os.fsdecode(b"in\xff.mp4")
    source.write_bytes(make_video("name.mp4", *X264, size="64x48", seconds=0.2).read_bytes())
    report = run(source, folder / os.fsdecode(b"out\xfe.webm"))
    assert report.frames == 5
    assert sorted(os.listdir(bytes(folder))) == [b"in\xff.mp4", b"out\xfe.webm"]
    source.write_text("not a video")
    with pytest.raises(InputError, match="cannot read"):
        video.probe(source)


def test_a_stream_is_kept_under_the_longest_name(tmp_path: Path) -> None:
    out = tmp_path / f"{'x' * 251}.ivf"
    out.write_text("there before")
    for number in (2, 3):
        with workplace(out) as place:
            kept = keep_beside(place.ivf, out)
        assert kept.exists() and kept.name.endswith(f"x-{number}.ivf")
    assert out.read_text() == "there before"


def test_what_a_dead_process_left_goes(tmp_path: Path) -> None:
    out = tmp_path / "out.webm"
    dead, alive = (
        tmp_path / ".out.webm.01234567.muzero-rc",
        tmp_path / ".out.webm.89abcdef.muzero-rc",
    )
    other = tmp_path / ".other.webm.01234567.muzero-rc"
    for folder in (dead, alive, other):
        folder.mkdir()
        (folder / "video.ivf").write_text("x")
    lock = os.open(alive, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with workplace(out) as place:
        assert not dead.exists() and alive.exists() and other.exists()
        with pytest.raises(OutputError, match=r"another encode is writing .*out\.webm"):
            workplace(out).__enter__()
        assert place.ivf.exists(), "the folder of a process that lives"
        with workplace(tmp_path / "out.mkv") as elsewhere:
            assert elsewhere.ivf.exists()
    os.close(lock)
    assert not place.folder.exists()
    place.folder.mkdir()
    (place.folder / "trial.webm").write_text("of one that was killed")
    with workplace(out) as again:
        assert sorted(os.listdir(again.folder)) == ["output.webm", "video.ivf"]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("deep.mkv", ("-c:v", "ffv1", "-pix_fmt", "yuv422p10le"), ["10-bit", "4:2:2"]),
        ("alpha.mkv", ("-c:v", "ffv1", "-pix_fmt", "yuva420p"), ["transparency"]),
        ("rgb.mkv", ("-c:v", "ffv1", "-pix_fmt", "bgr0"), ["RGB"]),
        ("hdr.mp4", (*X264, "-color_trc", "smpte2084"), []),
        ("ycgco.mp4", (*X264, "-colorspace", "ycgco"), ["matrix ycgco"]),
        ("plain.mp4", X264, []),
    ],
)
def test_what_a_picture_loses_is_named(
    make_video: MakeVideo, name: str, options: tuple[str, ...], words: list[str]
) -> None:
    info = video.probe(make_video(name, *options, size="64x48", seconds=0.2))
    lines = video.losses(info, video.MuxPlan())
    assert len(lines) == len(words)
    assert all(word in line for word, line in zip(words, lines, strict=True))


def test_odd_sides_are_named(make_video: MakeVideo, tmp_path: Path) -> None:
    source = make_video("odd.mkv", "-vf", "scale=63:47", "-c:v", "ffv1", size="64x48", seconds=0.1)
    report = run(source, tmp_path / "odd.webm")
    assert (report.width, report.height) == (62, 46)
    column, row = (
        line for line in report.losses if "is left out: sides become even, 62x46" in line
    )
    assert "last column" in column and "last row" in row
    info = dataclasses.replace(video.probe(source), width=64)
    assert [line[:12] for line in video.left_at_edges(info, info.coded_size())] == ["the last row"]
    assert video.left_at_edges(info, info.coded_size(32)) == []


def test_cues_without_text() -> None:
    text, cues, empty, drawings = clean_cues(SRT)
    assert (cues, empty, drawings) == (2, 2, 1)
    assert "first" in text and "second\nline" in text and "an8" not in text and "10 0" not in text
    vtt = "WEBVTT\n\n00:01.000 --> 00:02.000 line:0\n<i> </i>\n\nid\n00:03.000 --> 00:04.000\nhi\n"
    assert clean_cues(vtt) == ("WEBVTT\n\nid\n00:03.000 --> 00:04.000\nhi\n\n", 1, 1, 0)
    events = (
        "[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, "
        "MarginV, Effect, Text\n"
        "Dialogue: 0,0:00:00.10,0:00:00.30,Default,,0,0,0,,{\\fad(100,100)}\n"
        "Dialogue: 0,0:00:00.10,0:00:00.30,Default,,0,0,0,,\n"
        "Dialogue: 0,0:00:00.10,0:00:00.30,Default,,0,0,0,,{\\p1}m 0 0 l 1 1{\\p0}\n"
        "Dialogue: 0,0:00:00.10,0:00:00.30,Default,,0,0,0,,{\\p2}m 0 0{\\p0}one, two\n"
    )
    text, cues, empty, drawings = clean_ass(events)
    assert (cues, empty, drawings) == (1, 2, 1)
    assert text.splitlines()[-1].endswith(",,{\\p2}{\\p0}one, two")


@pytest.mark.parametrize("sizes", [("64x48", "96x64"), ("64x48", "32x32")])
@pytest.mark.parametrize("streamed", [False, True])
def test_pictures_of_another_size_keep_their_time(
    tmp_path: Path, sizes: tuple[str, str], streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As recordings of calls have them: the size follows the line.
    parts = [tmp_path / f"{size}.h264" for size in sizes]
    for size, grey, part in zip(sizes, ("0x202020", "0xd0d0d0"), parts, strict=True):
        ffmpeg("-f", "lavfi", "-i", f"color={grey}:s={size}:r=25:d=0.4", *X264, part)
    both = tmp_path / "both.h264"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    ffmpeg("-r", "25", "-i", both, *TONE, "-c:v", "copy", "-c:a", "aac", tmp_path / "in.mkv")
    if streamed:
        monkeypatch.setattr(file_encode, "_memory_for", lambda size, depth: 1000)
    settings = FAST.replace(passes=3)
    for _ in range(2):  # the second time the first pass is known
        report = encode(tmp_path / "in.mkv", tmp_path / "out.webm", settings, make_policy("landed"))
        assert report.frames == 20
        line = "pictures change their size or format on the way: all become 64x48"
        opus, resized = report.losses
        assert "becomes Opus" in opus and resized.startswith(line)
    with video.open_decoder(tmp_path / "out.webm") as decoder:
        light = [frame[0] > 128 for frame in decoder.frames()]
    assert light == [False] * 10 + [True] * 10


def test_pictures_of_one_size_are_decoded_as_they_are(tmp_path: Path) -> None:
    clip = tmp_path / "pal.avi"
    ffmpeg(*CARD, "-pix_fmt", "pal8", "-c:v", "rawvideo", clip)
    with video.open_decoder(clip) as decoder:
        frames = b"".join(decoder.frames())
    assert not decoder.resized
    plain = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", clip, "-vf",
         "scale=out_color_matrix=bt709:out_range=tv:flags=lanczos+accurate_rnd+bitexact",
         "-pix_fmt", "yuv420p", "-f", "rawvideo", "-"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert frames == plain


@pytest.mark.parametrize(
    ("layout", "channels"),
    [("2.1", 3), ("3.1", 4), ("5.1(side)", 6), ("7.1(wide)", 8), ("downmix", 2), ("", 10)],
)
def test_opus_keeps_every_channel_that_it_has_a_place_for(
    tmp_path: Path, layout: str, channels: int
) -> None:
    # One channel after the other sounds for a tenth of a second.
    tones = "|".join(f"if(eq(floor(t*10)\\,{n})\\,sin(600*t)\\,0)" for n in range(channels))
    place = f":c={layout}" if layout else ""
    sound = ("-f", "lavfi", "-i", f"aevalsrc={tones}:s=48000:d={channels / 10}{place}")
    ffmpeg(*CARD, *sound, *X264, "-c:a", "pcm_s16le", tmp_path / "in.mov")
    report = run(tmp_path / "in.mov", tmp_path / "out.webm")
    heard = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", tmp_path / "out.webm", "-f", "f32le", "-"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    out_channels = ask(tmp_path / "out.webm", "-show_entries", "stream=channels")["streams"][1]
    assert out_channels["channels"] >= min(channels, 8)
    samples = np.frombuffer(heard, "<f4").reshape(-1, out_channels["channels"])
    loud = [
        float(np.abs(samples[4800 * n + 1200 : 4800 * n + 3600]).max()) > 0.05
        for n in range(channels)
    ]
    assert loud == [True] * min(channels, 8) + [False] * (channels - 8)
    told = [line for line in report.losses if "of 10 channels 8 are kept" in line]
    opus, *rest = report.losses
    assert "(pcm_s16le) becomes Opus of" in opus
    assert rest == told and bool(told) == (channels == 10)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"audio": "opus"}, ["audio stream 1 (aac) becomes Opus of 64 kbit/s"]),
        ({"audio_kbps": 32}, ["audio stream 1 (aac) becomes Opus of 32 kbit/s"]),
        ({"audio": "none"}, []),
    ],
)
def test_what_is_made_of_full_range_and_of_audio_is_told(
    tmp_path: Path, options: dict[str, Any], told: list[str]
) -> None:
    source, out = tmp_path / "in.mp4", tmp_path / "out.webm"
    ffmpeg(*CARD, *TONE, *X264, "-pix_fmt", "yuvj420p", "-c:a", "aac", source)
    limited = "full range becomes limited range, as all video of 8 bits"
    assert run(source, out, **options).losses == [limited, *told]
    assert ask(out, "-show_streams")["streams"][0]["color_range"] == "tv"


def test_a_font_that_ffmpeg_has_no_name_for_is_kept_by_matroska(tmp_path: Path) -> None:
    (tmp_path / "f.ttf").write_text("font")
    ffmpeg(*CARD, *X264, "-attach", tmp_path / "f.ttf", "-metadata:s:t", "mimetype=font/ttf",
           tmp_path / "in.mkv")  # fmt: skip
    (line,) = run(tmp_path / "in.mkv", tmp_path / "out.webm").losses
    assert line.endswith("WebM does not take it; an output that ends in .mkv keeps it")
    assert run(tmp_path / "in.mkv", tmp_path / "out.mkv").losses == []
    font = ask(tmp_path / "out.mkv", "-show_streams")["streams"][1]
    assert (font["codec_type"], font["tags"]["mimetype"]) == ("attachment", "font/ttf")


def test_ivf_says_which_tags_it_leaves_out(tmp_path: Path) -> None:
    tags = ("-metadata", "title=Title", "-metadata", "artist=Me", "-metadata:s:v", "language=deu")
    ffmpeg(*CARD, *X264, *tags, tmp_path / "in.mp4")
    ffmpeg(*CARD, *X264, tmp_path / "bare.mp4")
    line = "tags artist, title, language of the video are left out: IVF holds the video alone"
    assert run(tmp_path / "in.mp4", tmp_path / "out.ivf").losses == [line]
    assert run(tmp_path / "in.mp4", tmp_path / "out.webm").losses == []
    assert run(tmp_path / "bare.mp4", tmp_path / "out.ivf").losses == []


def test_audio_has_the_bitrate_that_was_asked_for(tmp_path: Path) -> None:
    noise = ("-f", "lavfi", "-i", "anoisesrc=d=4:a=0.5", "-f", "lavfi", "-i", "anoisesrc=d=4")
    card = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=5:d=4")
    source = tmp_path / "in.mkv"
    ffmpeg(*card, *noise, "-map", "0", "-map", "1", "-map", "2", *X264, "-c:a", "flac", source)

    def kbps(path: Path) -> list[float]:
        told = ask(path, "-select_streams", "a", "-show_entries", "packet=stream_index,size")
        sizes = {1: 0, 2: 0}
        for packet in told["packets"]:
            sizes[packet["stream_index"]] += int(packet["size"])
        return [size * 8 / 1000 / 4 for size in sizes.values()]

    run(source, tmp_path / "out.webm", audio_kbps=24)
    assert kbps(tmp_path / "out.webm") == pytest.approx([24, 24], rel=0.25)
    # One channel takes no more than 256 kbit/s, to ffmpeg.
    run(source, tmp_path / "loud.webm", audio_kbps=510)
    assert all(128 < rate <= 270 for rate in kbps(tmp_path / "loud.webm"))
    # What audio leaves is the video's, where the size of the file is given.
    rates = [
        video_kbps(
            source, tmp_path / "out.webm", 200_000, height=None, max_frames=None,
            audio="auto", audio_kbps=asked, picture=video.picture_of(video.probe(source)),
        )
        for asked in (24, 48)
    ]  # fmt: skip
    assert rates[0] - rates[1] == pytest.approx(2 * 24, rel=0.25)


@pytest.mark.parametrize(
    ("sound", "options", "told"),
    [
        ("aac", {}, "all audio is copied; --audio opus makes Opus of it"),
        ("aac", {"audio": "opus"}, None),
        ("libopus", {"audio": "opus"}, "all audio is Opus and is copied"),
        (None, {}, "the output has no audio"),
    ],
)
def test_a_bitrate_that_no_audio_has_is_told(
    tmp_path: Path, sound: str | None, options: dict[str, Any], told: str | None
) -> None:
    audio = () if sound is None else (*TONE, "-c:a", sound)
    ffmpeg(*CARD, *audio, *X264, tmp_path / "in.mkv")
    lines = run(tmp_path / "in.mkv", tmp_path / "out.mkv", audio_kbps=96, **options).losses
    if told is None:
        assert lines == ["audio stream 1 (aac) becomes Opus of 96 kbit/s"]
    else:
        assert lines == [f"--audio-bitrate 96k is left out: {told}"]


@pytest.mark.parametrize(
    ("audio", "rate", "told"),
    [
        ("auto", "5k", "must be 6k to 510k"),
        ("opus", "511k", "must be 6k to 510k"),
        ("copy", "96k", "--audio copy makes none"),
        ("none", "96k", "--audio none makes none"),
        ("auto", "loud", "'loud' is not"),
    ],
)
def test_bitrates_of_audio_that_cannot_be_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], audio: str, rate: str, told: str
) -> None:
    words = ["encode", "none.mkv", "-o", str(tmp_path / "out.webm"), "-b", "100k", "-q"]
    assert cli.main([*words, "--audio", audio, "--audio-bitrate", rate]) == 2
    assert told in capsys.readouterr().err


def test_a_stream_that_is_kept_never_has_the_name_of_the_output(tmp_path: Path) -> None:
    ffmpeg(*CARD, *X264, tmp_path / "in.mkv")
    (tmp_path / "here-2.ivf").write_text("old")
    settings = EncoderSettings(target_kbps=100, speed=8)
    with pytest.raises(AimMissedError) as caught:
        encode(
            tmp_path / "in.mkv", tmp_path / "here.ivf", settings, make_policy("landed"),
            aim=QualityAim("psnr", 15.0),
        )  # fmt: skip
    assert str(caught.value).endswith(f"the encoded video is kept as {tmp_path / 'here-3.ivf'}")
    assert sorted(os.listdir(tmp_path)) == ["here-2.ivf", "here-3.ivf", "in.mkv"]
    assert (tmp_path / "here-2.ivf").read_text() == "old"


def test_an_ffmpeg_that_is_too_old_is_not_called_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ffmpeg(*CARD, *X264, tmp_path / "in.mkv")
    old = tmp_path / "bin" / "ffmpeg"
    old.parent.mkdir()
    # As ffmpeg 4 answers.
    old.write_text(
        "#!/bin/sh\necho \"Unrecognized option 'fps_mode'.\" >&2\n"
        "echo 'Error splitting the argument list: Option not found' >&2\nexit 1\n"
    )
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{old.parent}:{os.environ['PATH']}")
    with pytest.raises(ToolMissingError, match="option -fps_mode: it is too old; install ffmpeg 5"):
        run(tmp_path / "in.mkv", tmp_path / "out.webm")
    assert not (tmp_path / "out.webm").exists()


@pytest.mark.parametrize("varying", [False, True])
def test_the_command_to_go_on_keeps_times_and_stretch(tmp_path: Path, varying: bool) -> None:
    rate = ("-vf", "select='not(mod(n,3))+gt(n,20)',setsar=2", "-fps_mode", "vfr")
    picture = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=2")
    source, out = tmp_path / "in.mkv", tmp_path / "out.webm"
    ffmpeg(*picture, "-f", "lavfi", "-i", "sine=d=2", *(rate if varying else ()), *X264,
           "-c:a", "aac", source)  # fmt: skip
    settings = EncoderSettings(target_kbps=100, speed=8)
    stretch = video.picture_of(video.probe(source), start_s=0.5, end_s=1.5)
    policy = make_policy("landed")
    encode(source, out, settings, policy, picture=stretch)

    def seen() -> tuple[list[float], str, float]:
        streams = ask(out, "-show_streams", "-show_packets")
        times = {kind: [float(p["pts_time"]) for p in streams["packets"]
                        if p["codec_type"] == kind] for kind in ("video", "audio")}  # fmt: skip
        return times["video"], streams["streams"][0]["display_aspect_ratio"], times["audio"][-1]

    whole = seen()
    out.unlink()
    with pytest.raises(AimMissedError) as caught:
        encode(source, out, settings, policy, picture=stretch, aim=QualityAim("psnr", 15.0))
    command = str(caught.value).partition("go on with: ")[2]
    subprocess.run(f"{command} -v error", shell=True, check=True, stdin=subprocess.DEVNULL)
    times, aspect, end = seen()
    assert times == pytest.approx(whole[0], abs=0.0011)
    assert aspect == whole[1] and end == pytest.approx(whole[2], abs=0.05)


@pytest.mark.parametrize("suffix", ["webm", "mkv", "mp4"])
def test_what_an_edit_list_hides_is_not_missed(tmp_path: Path, suffix: str) -> None:
    whole, cut, out = (tmp_path / name for name in ("whole.mp4", "cut.mp4", f"out.{suffix}"))
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=2", "-f", "lavfi", "-i", "sine=d=2",
           *X264, "-g", "50", "-c:a", "aac", whole)  # fmt: skip
    # As people cut: all packets from the key frame on, and an edit list that hides the first.
    ffmpeg("-ss", "1.3", "-i", whole, "-c", "copy", cut)
    assert run(cut, out).frames in (17, 18)
    seen = ask(out, "-count_packets", "-show_entries", "stream=nb_read_packets")["streams"]
    assert int(seen[1]["nb_read_packets"]) * (960 if suffix == "webm" else 1024) >= 0.6 * 44100


def test_tags_that_tell_the_size_of_a_track_are_not_carried_over(tmp_path: Path) -> None:
    stale = {"BPS": "128000", "NUMBER_OF_BYTES-eng": "9", "NUMBER_OF_FRAMES": "77",
             "_STATISTICS_TAGS": "BPS", "DURATION-eng": "00:00:09.000000000"}  # fmt: skip
    words = [word for item in stale.items() for word in ("-metadata:s:a:0", "=".join(item))]
    kept = ("-metadata:s:a:0", "ARTIST=me")
    ffmpeg(*CARD, *TONE, *X264, "-c:a", "aac", *words, *kept, tmp_path / "in.mkv")
    run(tmp_path / "in.mkv", tmp_path / "out.webm")
    tags = ask(tmp_path / "out.webm", "-show_streams")["streams"][1]["tags"]
    assert tags["ARTIST"] == "me" and not set(tags) & set(stale)


def test_mp4_takes_flac_and_a_source_with_a_timecode(tmp_path: Path) -> None:
    source, out = tmp_path / "in.mkv", tmp_path / "out.mp4"
    ffmpeg(*CARD, *TONE, *X264, "-c:a", "flac", "-metadata", "timecode=01:00:00:00", source)
    assert run(source, out).losses == ["the timecode is left out: MP4 keeps none beside VP9"]
    assert list(packets(out)) == ["vp9", "flac"]


def test_what_ffmpeg_says_first_is_told() -> None:
    lines = [
        "[mp4 @ 0x5644d53bac40] flac in MP4 support is experimental",
        "Could not write header for output file #0 (incorrect codec parameters ?): Experimental",
        "Error initializing output stream 0:1 -- ",
    ]
    assert last_error_line(lines) == "flac in MP4 support is experimental"
    assert last_error_line(lines[1:]).startswith("Could not write header")
