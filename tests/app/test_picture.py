"""What of a video is encoded and how: depth, HDR, times, joins, stretches, filters.

Right values are those of stock ffmpeg and ffprobe.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muzero_rc import video
from muzero_rc.cli import main as cli
from muzero_rc.cli.picture import parse_rate, parse_time
from muzero_rc.encode.film import EncodeReport, encode
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.control.baselines import ProposalPolicy
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import InputError
from muzero_rc.video.subtitles import earlier_cues, shorter_cues
from muzero_rc.video.timing import is_steady, without_hidden
from muzero_rc.video.transport import count_joins
from tests.app.test_whole_file import ask, ffmpeg, packets

MakeVideo = Callable[..., Path]
X264 = ("-c:v", "libx264", "-preset", "ultrafast")
FAST = EncoderSettings(target_kbps=100, speed=8, passes=2)
TAGS = ("pix_fmt", "color_range", "color_space", "color_primaries", "color_transfer",
        "chroma_location")  # fmt: skip


def slow(value: str) -> Any:
    return pytest.param(value, marks=pytest.mark.slow)


def run(source: Path, out: Path, **options: Any) -> EncodeReport:
    return encode(source, out, FAST, ProposalPolicy(), **options)


def how(source: Path, **options: Any) -> video.Picture:
    return video.picture_of(video.probe(source), **options)


def first_frame(path: Path) -> dict[str, Any]:
    told = ask(path, "-select_streams", "v", "-read_intervals", "%+#1", "-show_frames",
               "-show_streams")  # fmt: skip
    frame, stream = told["frames"][0], told["streams"][0]
    data = {d["side_data_type"]: d for d in frame.get("side_data_list", [])}
    data |= {d["side_data_type"]: d for d in stream.get("side_data_list", [])}
    return {**{name: stream.get(name) for name in TAGS}, "profile": stream["profile"], **data}


def times(path: Path) -> list[float]:
    told = ask(path, "-select_streams", "v", "-show_entries", "packet=pts_time")
    return sorted(float(packet["pts_time"]) for packet in told["packets"])


@pytest.fixture(scope="module")
def hdr_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 frames of HDR10 at 24000/1001 by x265, as cameras and discs have it."""
    path = tmp_path_factory.mktemp("hdr") / "hdr.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=24000/1001:d=0.41", "-vf",
           "format=yuv420p10le", "-c:v", "libx265", "-preset", "ultrafast", "-x265-params",
           "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:"
           "range=limited:chromaloc=2:max-cll=1000,400:"
           "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)"
           "L(10000000,50)", path)  # fmt: skip
    return path


@pytest.mark.parametrize("suffix", ["webm", slow("mkv"), "mp4"])
def test_hdr10_is_kept(hdr_file: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out.{suffix}"
    report = run(hdr_file, out)
    assert report.losses == []
    source, found = first_frame(hdr_file), first_frame(out)
    assert found["profile"] == "Profile 2" and found["pix_fmt"] == "yuv420p10le"
    # ffmpeg 5.1 writes chroma location into MP4 and does not read it there.
    names = TAGS if suffix != "mp4" else TAGS[:-1]
    assert [found[name] for name in names] == [source[name] for name in names]
    for kind in ("Mastering display metadata", "Content light level metadata"):
        ours = {k: Fraction(v) for k, v in found[kind].items() if k != "side_data_type"}
        theirs = {k: Fraction(v) for k, v in source[kind].items() if k != "side_data_type"}
        assert {k: float(v) for k, v in ours.items()} == pytest.approx(
            {k: float(v) for k, v in theirs.items()}, rel=1e-6
        )
    rate = ask(out, "-show_entries", "stream=avg_frame_rate")["streams"][0]["avg_frame_rate"]
    assert rate == "24000/1001"


def test_full_range_of_ten_bits_stays_full(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(
        "full10.mkv", "-vf",
        "format=yuv420p10le,geq=lum=1023*X/W:cb=512:cr=512,setparams=range=pc",
        "-c:v", "ffv1", size="64x48", seconds=0.2,
    )  # fmt: skip
    run(path, tmp_path / "out.webm")
    assert first_frame(tmp_path / "out.webm")["color_range"] == "pc"
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", tmp_path / "out.webm", "-f", "rawvideo", "-pix_fmt",
         "gray10le", "-"], check=True, capture_output=True,
    ).stdout  # fmt: skip
    assert np.frombuffer(raw, "<u2").max() > 980  # beyond limited range, which ends at 940


def test_8bit_maps_the_tones_and_says_so(hdr_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.webm"
    report = run(hdr_file, out, picture=how(hdr_file, eight_bits=True))
    found = first_frame(out)
    assert found["profile"] == "Profile 0"
    assert [found[n] for n in TAGS[2:5]] == ["bt709", "bt709", "bt709"]
    assert "Mastering display metadata" not in found
    assert report.losses[0] == "10-bit video becomes 8-bit"
    assert "tones are mapped" in report.losses[1]


def test_8bit_without_the_filters_says_that_tones_are_not_mapped(
    hdr_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muzero_rc.video.picture._maps_tones", lambda: False)
    report = run(hdr_file, tmp_path / "out.webm", picture=how(hdr_file, eight_bits=True))
    found = first_frame(tmp_path / "out.webm")
    assert (found["pix_fmt"], found["color_transfer"]) == ("yuv420p", "smpte2084")
    assert any("tones are not mapped" in line for line in report.losses)


@pytest.mark.parametrize(("pix_fmt", "kept", "line"), [
    ("yuv422p10le", "yuv420p10le", "chroma of 4:2:2 becomes 4:2:0"),
    ("yuv444p", "yuv420p", "chroma of 4:4:4 becomes 4:2:0"),
    ("yuv420p12le", "yuv420p12le", None),
    ("gray16le", "yuv420p12le", "16-bit video becomes 12-bit"),
])  # fmt: skip
def test_other_formats_become_what_vp9_has(
    make_video: MakeVideo, tmp_path: Path, pix_fmt: str, kept: str, line: str | None
) -> None:
    source = make_video(
        f"{pix_fmt}.mkv", "-c:v", "ffv1", "-pix_fmt", pix_fmt, size="64x48", seconds=0.12
    )
    report = run(source, tmp_path / "out.webm")
    assert first_frame(tmp_path / "out.webm")["pix_fmt"] == kept
    assert report.losses == ([line] if line else [])
    assert report.psnr_avg > 25


def test_ten_bits_on_stdin(hdr_file: Path, tmp_path: Path) -> None:
    y4m = tmp_path / "in.y4m"
    ffmpeg("-i", hdr_file, "-strict", "-1", "-f", "yuv4mpegpipe", y4m)
    with y4m.open("rb") as file:
        video.store_y4m(file.fileno(), tmp_path / "in.mkv")
    run(tmp_path / "in.mkv", tmp_path / "out.webm")
    assert first_frame(tmp_path / "out.webm")["pix_fmt"] == "yuv420p10le"


@pytest.mark.parametrize(
    "kind", ["gray", "gray10le", "yuv411p", "yuv420p", "yuv420p10le", "yuv422p12le", "yuv444p",
             "yuva444p"],
)  # fmt: skip
def test_y4m_that_is_cut_off(tmp_path: Path, kind: str) -> None:
    y4m, out = tmp_path / "in.y4m", tmp_path / "in.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=63x47:r=25:d=0.12,format=" + kind, "-strict", "-1",
           "-f", "yuv4mpegpipe", y4m)  # fmt: skip
    whole = y4m.read_bytes()
    assert Clip.load(y4m).num_frames == 3
    with y4m.open("rb") as file:
        video.store_y4m(file.fileno(), out)
    assert video.packets(out).frames == 3
    frame = (len(whole) - whole.index(b"\n") - 1) // 3
    y4m.write_bytes(whole[:-frame])  # nobody can know that there was another one
    assert Clip.load(y4m).num_frames == 2
    head = whole.index(b"\n") + 1
    for size, text in ((len(whole) - 1, "within frame 2"), (head + frame + 3, "within frame 1"),
                       (head, "stdin has no frame")):  # fmt: skip
        y4m.write_bytes(whole[:size])
        with y4m.open("rb") as file, pytest.raises(InputError, match=text):
            video.store_y4m(file.fileno(), out)
        if size > head:
            with pytest.raises(InputError, match=f"in.y4m is cut off: it ends {text}"):
                run(y4m, tmp_path / "out.webm")
            with pytest.raises(InputError, match=f"in.y4m is cut off: it ends {text}"):
                Clip.load(y4m)
            assert Clip.load(y4m, max_frames=1).num_frames == 1


@pytest.mark.parametrize(
    ("filters", "frames", "seconds"),
    [("setpts=0.5*PTS", 25, 0.5), ("setpts=2*PTS", 25, 2.0), ("hflip", 25, 1.0),
     ("framestep=5", 5, 1.0)],
)  # fmt: skip
def test_filters_that_stretch_time(
    clip_file: Path, tmp_path: Path, filters: str, frames: int, seconds: float
) -> None:
    report = run(clip_file, tmp_path / "out.mkv", picture=how(clip_file, filters=filters))
    assert report.frames == frames and report.duration_s == pytest.approx(seconds, abs=0.03)
    told = ask(tmp_path / "out.mkv", "-select_streams", "v", "-show_packets")["packets"]
    times = [float(packet["pts_time"]) for packet in told]
    assert max(times) - min(times) == pytest.approx(seconds * (1 - 1 / frames), abs=0.01)


@pytest.mark.parametrize(
    ("filters", "fps", "frames"),
    [
        ("select='lt(n,12)+not(mod(n,6))'", None, 15), ("select='lt(n,12)+not(mod(n,6))'", 25, 25),
        ("fps=20,select='lt(n,12)+not(mod(n,6))'", None, 14), ("decimate", None, 20),
        ("telecine", None, 31),
    ],
)  # fmt: skip
def test_filters_with_a_rate_of_their_own(
    clip_file: Path, tmp_path: Path, filters: str, fps: int | None, frames: int
) -> None:
    asked = None if fps is None else Fraction(fps)
    out = tmp_path / "out.mkv"
    report = run(clip_file, out, picture=how(clip_file, filters=filters, fps=asked))
    assert report.frames == frames and max(times(out)) == pytest.approx(0.95, abs=0.04)


def test_a_rate_for_filters_that_stretch_time(clip_file: Path, tmp_path: Path) -> None:
    shown = how(clip_file, filters="setpts=2*PTS", fps=Fraction(25))
    report = run(clip_file, tmp_path / "out.mkv", picture=shown)
    assert report.frames == 50 and report.duration_s == pytest.approx(2.0, abs=0.03)


def test_a_rate_that_leaves_no_frame(clip_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1/4 frames a second leave none; give a higher rate"):
        run(clip_file, tmp_path / "out.mkv", picture=how(clip_file, fps=Fraction(1, 4)))


def test_a_stretch_behind_the_last_frame(make_video: MakeVideo, tmp_path: Path) -> None:
    source = make_video("stretch.mkv", "-c:v", "ffv1", size="64x48", seconds=0.12)
    with pytest.raises(InputError, match=r"no frame begins in the stretch"):
        run(source, tmp_path / "out.webm", picture=how(source, start_s=0.1))


@pytest.fixture(scope="module")
def varying_file(make_video: MakeVideo) -> Path:
    """Nine frames at 30 a second, none for a second, nine again."""
    return make_video(
        "varying.mp4", "-vf", "select='lt(n,9)+gt(n,38)'", "-fps_mode", "vfr", *X264,
        "-c:a", "aac", size="64x48", rate="30", seconds=1.6, sound=True,
    )  # fmt: skip


@pytest.mark.parametrize("suffix", ["webm", slow("mkv"), slow("mp4"), slow("ivf")])
def test_frames_keep_their_own_times(varying_file: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out.{suffix}"
    report = run(varying_file, out)
    source, found = times(varying_file), times(out)
    assert len(found) == len(source) == report.frames == 18
    first = found[0] - source[0]
    assert [time - first for time in found] == pytest.approx(source, abs=0.001)
    assert not any("rate" in line for line in report.losses)
    # What the rate control went by: the frames' true time.
    true_s = source[-1] - source[0] + (source[-1] - source[0]) / 17
    assert report.duration_s == pytest.approx(true_s, abs=0.01)


@pytest.mark.parametrize("suffix", ["mkv", slow("flv"), "ts", slow("nut")])
def test_times_are_kept_where_the_header_tells_a_constant_rate(
    varying_file: Path, tmp_path: Path, suffix: str
) -> None:
    copied, out = tmp_path / f"in.{suffix}", tmp_path / "out.mkv"
    ffmpeg("-i", varying_file, "-map", "0:v", "-c", "copy", copied)
    report = run(copied, out)
    assert report.frames == 18 and not any("rate" in line for line in report.losses)
    assert np.diff(times(out)) == pytest.approx(np.diff(times(varying_file)), abs=0.002)


@pytest.mark.parametrize("suffix", ["mkv", "webm", "ts"])
def test_a_constant_rate_stays_what_the_header_tells(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"in.{suffix}"
    codec = ("-c:v", "libvpx") if suffix == "webm" else ("-c:v", "libx264", "-bf", "2")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=30000/1001:d=3", *codec, source)
    info = video.probe(source)
    assert info.fps == Fraction(30000, 1001)
    assert info.varying is None and info.lost_slots == 0


def test_hidden_pictures_of_vp8_make_no_rate() -> None:
    shown = tuple(n / 25 for n in range(20))
    hidden = (shown[3] + 0.001, shown[9] + 0.001, shown[12])
    assert without_hidden(sorted((*shown, *hidden))) == shown
    assert is_steady(shown, Fraction(25)) and not is_steady(shown, Fraction(20))
    assert not is_steady((*shown, 9.0), Fraction(25))


def test_a_constant_rate_is_made_where_it_is_asked_for(varying_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    report = run(varying_file, out, picture=how(varying_file, fps=Fraction(15)))
    steps = np.diff(times(out))
    assert report.fps == "15" and steps == pytest.approx(np.full(len(steps), 1 / 15), abs=0.001)


def test_some_frames_of_a_varying_rate(varying_file: Path, tmp_path: Path) -> None:
    run(varying_file, tmp_path / "out.mkv", max_frames=10)
    assert np.diff(times(tmp_path / "out.mkv")) == pytest.approx(
        np.diff(times(varying_file)[:10]), abs=0.001
    )


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder: one.ts, and joined.ts of two; lost.ts without a packet, half.ts of one and a half."""
    folder = tmp_path_factory.mktemp("recordings")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=160x96:r=25:d=0.6", "-f", "lavfi", "-i", "sine=d=0.6",
           *X264, "-c:a", "mp2", folder / "one.ts")  # fmt: skip
    data = (folder / "one.ts").read_bytes()
    middle = len(data) // 188 // 2 * 188
    (folder / "joined.ts").write_bytes(data + data)
    (folder / "lost.ts").write_bytes(data[:middle] + data[middle + 3 * 188 :])
    (folder / "half.ts").write_bytes(data[:middle] + data)
    return folder


def test_joined_recordings_are_encoded_with_a_line(recordings: Path, tmp_path: Path) -> None:
    report = run(recordings / "joined.ts", tmp_path / "out.webm")
    assert report.frames == packets(tmp_path / "out.webm")["vp9"] == 30
    assert report.losses == [
        "the file is joined from 2 recordings; times go on where they are joined",
        "audio stream 1 (mp2) becomes Opus of 64 kbit/s",
    ]


@pytest.mark.parametrize("name", ["lost.ts", "half.ts"])
def test_real_damage_is_refused(recordings: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="damaged"):
        run(recordings / name, tmp_path / "out.webm")


def test_joins_are_counted_in_packets_of_192_bytes_too(recordings: Path, tmp_path: Path) -> None:
    data = (recordings / "one.ts").read_bytes()
    within = next(  # a packet of the video that begins no frame
        i for i in range(0, len(data), 188) if data[i + 1 : i + 3] == b"\x01\x00"
    )
    (recordings / "within.ts").write_bytes(data[:within] + data[within + 188 :])
    for name, joins in (("one.ts", 0), ("joined.ts", 1), ("within.ts", None)):
        data = (recordings / name).read_bytes()
        packed = b"".join(b"\0\0\0\0" + data[i : i + 188] for i in range(0, len(data), 188))
        (tmp_path / name).write_bytes(packed)
        assert count_joins(recordings / name, 256) == count_joins(tmp_path / name, 256) == joins


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 s, black and silent but white and sounding from 2.0 to 2.4 s; chapters, three cues."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "s.srt").write_text(
        "1\n00:00:00,500 --> 00:00:01,000\nfirst\n\n2\n00:00:02,500 --> 00:00:03,000\nsecond\n\n"
        "3\n00:00:03,700 --> 00:00:03,900\nthird\n"
    )
    (folder / "c.txt").write_text(
        ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=2000\ntitle=One\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=2000\nEND=4000\ntitle=Two\n"
    )
    path = folder / "whole.mp4"
    box = "drawbox=c=white:t=fill:enable='between(t,1.99,2.39)'"
    ffmpeg("-f", "lavfi", "-i", f"color=black:s=64x48:r=25:d=4,{box}", "-f", "lavfi", "-i",
           "sine=f=1000:d=4,volume=0:enable='not(between(t,2,2.4))'", "-i", folder / "s.srt",
           "-i", folder / "c.txt", "-map", "0", "-map", "1", "-map", "2", "-map_chapters", "3",
           *X264, "-g", "50", "-c:a", "aac", "-c:s", "mov_text", path)  # fmt: skip
    ffmpeg("-i", path, "-map", "0:v", "-map", "0:a", "-map", "0:s", "-c", "copy", "-c:s", "subrip",
           path.with_suffix(".mkv"))  # fmt: skip
    ffmpeg("-i", path, "-map", "0:v", "-map", "0:a", "-c:v", "copy", "-c:a", "mp2",
           path.with_suffix(".ts"))  # fmt: skip
    return path


def flash_and_beep(path: Path) -> tuple[float, float]:
    """Seconds at which a player shows white, and sounds."""
    told = subprocess.run(
        ["ffmpeg", "-nostdin", "-copyts", "-i", path, "-map", "0:v", "-map", "0:a", "-vf",
         "signalstats,metadata=print", "-af", "silencedetect=n=-30dB:d=0.2", "-fps_mode",
         "passthrough", "-f", "null", "-"],
        check=True, capture_output=True, text=True,
    ).stderr  # fmt: skip
    now, flash, beep = 0.0, None, None
    for line in told.splitlines():
        if "pts_time:" in line:
            now = float(line.partition("pts_time:")[2].split()[0])
        if flash is None and "YAVG=" in line and float(line.partition("YAVG=")[2]) > 120:
            flash = now
        if beep is None and "silence_end: " in line:
            beep = float(line.partition("silence_end: ")[2].split()[0])
    assert flash is not None and beep is not None
    return flash, beep


@pytest.mark.parametrize("suffix", [".mp4", slow(".mkv"), ".ts"])
def test_a_stretch_has_its_sound_cues_and_chapters(
    whole_file: Path, tmp_path: Path, suffix: str
) -> None:
    source, out = whole_file.with_suffix(suffix), tmp_path / "out.webm"
    report = run(source, out, picture=how(source, start_s=1.2, end_s=3.4))
    assert report.frames in (55, 56)  # a clock of milliseconds rounds
    flash, beep = flash_and_beep(out)
    assert (flash, beep) == pytest.approx((0.8, 0.8), abs=0.075)
    assert abs(flash - beep) < 0.06
    if suffix == ".ts":
        return
    told = ask(out, "-show_chapters", "-show_entries", "packet=pts_time", "-select_streams", "s")
    assert [float(p["pts_time"]) for p in told["packets"]] == pytest.approx(
        [1.3], abs=0.04
    )  # a frame
    assert [c["tags"]["title"] for c in told["chapters"]] == ["One", "Two"]
    assert float(told["chapters"][1]["start_time"]) == pytest.approx(0.8, abs=0.002)


@pytest.mark.parametrize("suffix", ["mp4", slow("mkv"), "ts"])
@pytest.mark.parametrize(("late", "start", "end"), [
    (0, 1.0, 2.0), (0, 1.01, 2.0), (0, 1.02, 1.99), (0.023, 1.0, 2.0),
])  # fmt: skip
def test_a_stretch_begins_and_ends_between_frames(
    tmp_path: Path, suffix: str, late: float, start: float, end: float
) -> None:
    source = tmp_path / f"in.{suffix}"
    ffmpeg("-itsoffset", f"{late}", "-f", "lavfi", "-i",
           "testsrc2=s=64x48:r=25:d=3,noise=alls=40:allf=t", "-f", "lavfi", "-i", "sine=d=3",
           *X264, "-fps_mode", "passthrough", "-c:a", "mp2", source)  # fmt: skip
    zero = float(ask(source, "-show_format")["format"]["start_time"])
    shown = [time - zero for time in times(source)]
    wanted = [n for n, time in enumerate(shown) if start <= time + 0.0005 and time < end - 0.0005]
    picture = how(source, start_s=start, end_s=end)
    with video.open_decoder(source) as decoder:
        whole = list(dict.fromkeys(decoder.frames()))  # one that waits for its time comes twice
    with video.open_decoder(source, picture=picture) as decoder:
        found = list(decoder.frames())
    assert len(whole) == 75 and [whole.index(frame) for frame in found] == wanted
    assert picture.first_s == pytest.approx(shown[wanted[0]] - start, abs=0.002)


def test_filters_change_size_and_rate(whole_file: Path, tmp_path: Path) -> None:
    picture = how(whole_file, filters="crop=48:32,yadif=1,scale=32:32", end_s=0.4)
    report = run(whole_file, tmp_path / "out.webm", picture=picture)
    assert (report.width, report.height, report.fps, report.frames) == (32, 32, "50", 20)
    aspect = ask(tmp_path / "out.webm", "-show_entries", "stream=sample_aspect_ratio")
    assert aspect["streams"][0]["sample_aspect_ratio"] == "3:2"


@pytest.mark.parametrize(("options", "message"), [
    ({"filters": "crop=640:48"}, "'crop=640:48' fail: Invalid too big"),
    ({"filters": "nosuch"}, "'nosuch' fail: No such filter"),
    ({"filters": "select=0"}, "leave no frame"),
    ({"start_s": 9.0}, "nothing is left from 9 s"),
    ({"start_s": 2.0, "end_s": 1.0}, "not after the start"),
    ({"fps": Fraction(2000)}, "cannot encode 2000 frames"),
])  # fmt: skip
def test_what_cannot_be_is_said_at_once(
    whole_file: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        how(whole_file, **options)


def test_the_command_takes_it_all(whole_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    words = ["encode", str(whole_file), "-o", str(out), "-b", "50k", "--speed", "8", "-q", "-p"]
    words += ["proposal", "--start", "0:01.2", "--end", "2", "--vf", "scale=32:24", "--fps", "12.5"]
    assert cli.main(words) == 0
    stream = ask(out, "-show_streams")["streams"][0]
    assert (stream["width"], stream["avg_frame_rate"]) == (32, "25/2")


def test_streams_of_other_stretches_are_other_films(whole_file: Path) -> None:
    keys = [
        how(whole_file, **options).key()
        for options in ({}, {"start_s": 1.0}, {"end_s": 3.0}, {"filters": "hflip"})
    ]
    assert len(set(keys)) == 4 and keys[0] == ""


def test_times_and_rates_are_read() -> None:
    assert [parse_time(t, "--start") for t in ("90", "1:30.5", "1:01:00", ".5")] == [
        90, 90.5, 3660, 0.5,
    ]  # fmt: skip
    assert [parse_rate(t) for t in ("25", "30000/1001", "29.97", "23.976", "12.5")] == [
        25, Fraction(30000, 1001), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(25, 2),
    ]  # fmt: skip
    for text in ("1:x", "x", "-1"):
        with pytest.raises(InputError, match="--start takes"):
            parse_time(text, "--start")


@pytest.mark.parametrize(
    ("container", "cut"),
    [
        ("mkv", {"start_s": 0.4, "end_s": 2.0}),  # a frame's time: else the video is late
        ("webm", {"end_s": 2.0}),
        ("webm", {"frames": 40}),
        ("mp4", {"start_s": 0.4, "end_s": 2.0}),
    ],
)
def test_no_subtitle_is_shown_after_the_end(
    tmp_path: Path, container: str, cut: dict[str, float]
) -> None:
    words = tmp_path / "words.srt"
    words.write_text(
        "1\n00:00:00,200 --> 00:00:00,900\none\n\n2\n00:00:01,000 --> 00:00:09,000\ntwo\n\n"
        "3\n00:00:05,000 --> 00:00:06,000\nthree\n"
    )
    source = tmp_path / "source.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=6", "-i", words, "-map", "0", "-map", "1",
           "-map", "1", *X264, "-pix_fmt", "yuv420p", "-c:s:0", "copy", "-c:s:1", "ass",
           source)  # fmt: skip
    out = tmp_path / f"out.{container}"
    times = {name: value for name, value in cut.items() if name != "frames"}
    run(source, out, picture=how(source, **times), max_frames=cut.get("frames"))
    length = cut["frames"] / 25 if "frames" in cut else cut["end_s"] - cut.get("start_s", 0.0)
    for track in range(2):
        cues = tmp_path / f"{track}.srt"
        ffmpeg("-i", out, "-map", f"0:s:{track}", cues)
        shown = [float(second.replace(",", ".")) for second in
                 re.findall(r"00:00:(\d\d,\d{3})", cues.read_text())]  # fmt: skip
        assert shown[-2] == pytest.approx(1.0 - cut.get("start_s", 0.0), abs=0.01)
        assert length - 0.1 < shown[-1] == max(shown) < length + 0.1


@pytest.mark.parametrize(
    ("text", "shorter"),
    [
        (
            "1\n00:00:01,000 --> 00:00:09,000\n1 --> 2\n",
            "1\n00:00:01,000 --> 00:00:02,500\n1 --> 2\n",
        ),
        ("WEBVTT\n\n00:01.000 --> 00:09.000 line:0\na\n",
         "WEBVTT\n\n00:01.000 --> 00:00:02.500 line:0\na\n"),
        ("Dialogue: 0,0:00:01.00,0:00:09.00,Default,,0,0,0,,a, b\n",
         "Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,a, b\n"),
        ("1\n00:00:01,000 --> 00:00:02,000\na\n", "1\n00:00:01,000 --> 00:00:02,000\na\n"),
    ],
)  # fmt: skip
def test_cues_end_with_the_video(text: str, shorter: str) -> None:
    assert shorter_cues(text, 2.5) == shorter


def test_cues_move_and_those_before_go() -> None:
    text = "1\n00:00:00,500 --> 00:00:01,000\nfirst\n\n2\n00:01:02,500 --> 00:01:03,000\nsecond\n"
    assert earlier_cues(text, 1.2) == "1\n00:01:01,300 --> 00:01:01,800\nsecond\n\n"


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_stretch_that_starts_in_an_open_group(make_video: MakeVideo, suffix: str) -> None:
    """ffmpeg calls frames before the start damaged: they refer to what it has not decoded."""
    source = make_video(
        f"open.{suffix}", "-c:v", "libx264", "-preset", "veryfast",
        "-x264-params", "bframes=3:open-gop=1:keyint=60", size="64x48", seconds=8.0,
    )  # fmt: skip
    with video.open_decoder(source) as decoder:
        whole = list(decoder.frames())
    picture = how(source, start_s=5.01, end_s=6.5)
    with video.open_decoder(source, picture=picture) as decoder:
        assert list(decoder.frames()) == whole[126:163]
    assert picture.from_first and picture.late_s == pytest.approx(0.03, abs=0.001)
    assert not how(source, start_s=0.5).from_first
