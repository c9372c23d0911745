"""What is read from files, what comes out of the decoder, and that the output is checked."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from muzero_rc import video
from muzero_rc.errors import InputError, OutputError, ToolMissingError
from muzero_rc.video.timing import frame_rate
from muzero_rc.video.tools import last_error_line

MakeVideo = Callable[..., Path]
X264 = ("-c:v", "libx264", "-preset", "ultrafast")


def read_all(decoder: video.Decoder) -> bytes:
    parts = []
    while part := os.read(decoder.fileno(), 1 << 20):
        parts.append(part)
    return b"".join(parts)


def decode(path: Path, **options: int) -> tuple[video.Decoder, bytes]:
    with video.open_decoder(path, **options) as decoder:
        data = read_all(decoder)
        assert len(data) % decoder.frame_bytes == 0
        decoder.check(len(data) // decoder.frame_bytes)
    return decoder, data


@pytest.mark.parametrize(
    ("average", "nominal", "rate"),
    [
        ("25/1", "25/1", Fraction(25)),
        ("30000/1001", "30000/1001", Fraction(30000, 1001)),
        ("2997/100", "30000/1001", Fraction(30000, 1001)),
        ("2997/100", "0/0", Fraction(30000, 1001)),
        ("25/1", "50/1", Fraction(25)),  # interlaced: the field rate
        ("24/1", "1000/1", Fraction(24)),  # irregular time stamps
        ("24/1", "90000/1", Fraction(24)),
        ("27/1", "30/1", Fraction(30)),  # frames missing here and there
        ("0/0", "30/1", Fraction(30)),
        ("1/10", "1/10", Fraction(1, 10)),
        ("0/0", "90000/1", None),
        ("0/0", "0/0", None),
        (None, None, None),
    ],
)
def test_frame_rate(average: str | None, nominal: str | None, rate: Fraction | None) -> None:
    assert frame_rate(average, nominal) == rate


@pytest.mark.parametrize(
    ("name", "options", "make", "size", "frames"),
    [
        ("plain.mp4", X264, {}, (96, 64), 25),
        ("rate.mkv", X264, {"rate": "30000/1001"}, (96, 64), 30),
        ("odd.mkv", ("-c:v", "ffv1"), {"size": "97x65"}, (96, 64), 25),
        ("deep.mkv", ("-c:v", "ffv1", "-pix_fmt", "yuv420p10le"), {}, (96, 64), 25),
        ("full444.mkv", ("-c:v", "ffv1", "-pix_fmt", "yuv444p"), {}, (96, 64), 25),
        ("rgb.mkv", ("-c:v", "ffv1", "-pix_fmt", "bgr0"), {}, (96, 64), 25),
        ("one.mp4", (*X264, "-frames:v", "1"), {}, (96, 64), 1),
        ("two.mp4", (*X264, "-frames:v", "2"), {}, (96, 64), 2),
        ("grey.mkv", ("-c:v", "ffv1", "-pix_fmt", "gray"), {}, (96, 64), 25),
        ("still.png", ("-frames:v", "1"), {}, (96, 64), 1),
        ("name:with 'odd' %03d.mkv", X264, {}, (96, 64), 25),
        ("-dash.mkv", X264, {}, (96, 64), 25),
        (
            "wide.mp4",
            (*X264, "-vf", "setsar=12/11"),
            {},
            (96, 64),
            25,
        ),
    ],
)
def test_decodes_to_even_i420(
    make_video: MakeVideo,
    name: str,
    options: tuple[str, ...],
    make: dict[str, str],
    size: tuple[int, int],
    frames: int,
) -> None:
    decoder, data = decode(make_video(name, *options, **make))
    assert (decoder.width, decoder.height) == size
    assert len(data) == frames * decoder.frame_bytes


def test_rotated_video_is_turned(make_video: MakeVideo) -> None:
    upright = make_video("upright.mp4", *X264)
    turned = upright.with_name("turned.mp4")
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", "-i", upright, "-c", "copy"]
        + ["-metadata:s:v", "rotate=90", turned],
        check=True,
    )
    info = video.probe(turned)
    assert (info.width, info.height) == (64, 96)
    decoder, data = decode(turned)
    assert (decoder.width, decoder.height) == (64, 96)
    _, original = decode(upright)
    first = np.frombuffer(original, np.uint8)[: 96 * 64].reshape(64, 96)
    luma = np.frombuffer(data, np.uint8)[: 64 * 96].reshape(96, 64)
    assert any(np.array_equal(luma, np.rot90(first, turns)) for turns in (1, 3))


def test_full_range_becomes_limited(make_video: MakeVideo) -> None:
    path = make_video("full.mkv", "-vf", "geq=lum=255:cb=128:cr=128,scale=out_range=pc",
                      "-c:v", "ffv1", "-pix_fmt", "yuvj420p", "-color_range", "pc")  # fmt: skip
    assert video.probe(path).color_range == "pc"
    decoder, data = decode(path)
    assert decoder.info.color_range == "tv"
    assert max(data[: 96 * 64]) <= 236


@pytest.mark.parametrize(("height", "size"), [(32, (48, 32)), (33, (48, 32)), (128, (96, 64))])
def test_height_only_scales_down(clip_file: Path, height: int, size: tuple[int, int]) -> None:
    with video.open_decoder(clip_file, height=height) as decoder:
        assert (decoder.width, decoder.height) == size


def test_max_frames_and_second_start(clip_file: Path) -> None:
    _, whole = decode(clip_file)
    decoder, start = decode(clip_file, max_frames=7)
    assert len(start) == 7 * decoder.frame_bytes
    assert whole.startswith(start)
    assert decode(clip_file)[1] == whole


def test_irregular_frames_become_regular(make_video: MakeVideo) -> None:
    # Every third frame of the first second, then all: at 25 per second it lasts 2 s.
    path = make_video(
        "vfr.mkv", "-vf", "select='not(mod(n,3))+gt(n,25)'", "-fps_mode", "vfr", *X264, seconds=2
    )
    decoder, data = decode(path)
    assert decoder.fps == 25
    assert len(data) // decoder.frame_bytes == 50


def test_rate_is_measured_where_none_is_told(make_video: MakeVideo) -> None:
    # Frames every 40 and every 93 ms: ffprobe tells 1000 a second and no average.
    path = make_video(
        "irregular.mkv", "-vf", "select='not(mod(n,40))+not(mod(n,93))',settb=1/1000",
        "-fps_mode", "passthrough", "-enc_time_base", "1/1000", "-c:v", "ffv1",
        rate="1000", seconds=2,
    )  # fmt: skip
    info = video.probe(path)
    times = sorted({*range(0, 2000, 40), *range(0, 2000, 93)})
    # Some are 1 ms apart: no rate up to 120 parts them all, and none leaves fewer together.
    lost = len(times) - len({int(t * float(info.fps) / 1000 + 0.5) for t in times})
    assert info.lost_slots == lost == 2
    assert info.varying is not None and float(info.varying[0]) == pytest.approx(36, abs=1)
    decoder, data = decode(path)
    assert len(data) // decoder.frame_bytes == pytest.approx(times[-1] * info.fps / 1000, abs=2)


def test_pixel_aspect_is_told(make_video: MakeVideo) -> None:
    info = video.probe(make_video("aspect.mp4", "-vf", "setsar=12/11", *X264))
    assert info.pixel_aspect == Fraction(12, 11)
    assert info.display_aspect == Fraction(96 * 12, 64 * 11)


def test_cover_picture_is_no_video(make_video: MakeVideo, tmp_path: Path) -> None:
    cover = make_video("cover.png", "-frames:v", "1")
    song = tmp_path / "song.mp3"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=d=1", "-i", cover, "-map", "0"]
        + ["-map", "1", "-c:v", "copy", "-disposition:v", "attached_pic", song],
        check=True,
    )
    with pytest.raises(InputError, match="no video stream"):
        video.probe(song)


def test_damage_is_told_after_the_end(damaged_file: Path) -> None:
    with video.open_decoder(damaged_file) as decoder:
        read_all(decoder)
        with pytest.raises(InputError, match="damaged"):
            decoder.check()


def test_damage_is_told_on_leaving_even_if_nobody_checks(damaged_file: Path) -> None:
    with pytest.raises(InputError, match="damaged"), video.open_decoder(damaged_file) as decoder:
        read_all(decoder)
    with video.open_decoder(damaged_file) as decoder:
        os.read(decoder.fileno(), 1000)  # left early: nobody asked for the damaged part
    with (
        pytest.raises(RuntimeError, match="of the caller"),
        video.open_decoder(damaged_file) as decoder,
    ):
        read_all(decoder)
        raise RuntimeError("of the caller")


def test_cut_off_file_is_damaged(make_video: MakeVideo) -> None:
    path = make_video("cut.mp4", *X264, "-movflags", "+faststart", size="320x180", seconds=2)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with video.open_decoder(path) as decoder:
        read_all(decoder)
        with pytest.raises(InputError, match="damaged"):
            decoder.check()


def test_no_frames_is_an_error(clip_file: Path) -> None:
    with video.open_decoder(clip_file) as decoder:
        read_all(decoder)
        with pytest.raises(InputError, match="no frame"):
            decoder.check(0)


def test_close_is_quick_at_any_time(make_video: MakeVideo) -> None:
    path = make_video("slow.mp4", *X264, size="1280x720", seconds=4)
    before = len(os.listdir("/proc/self/fd"))
    for read in (0, 1, 100_000):
        decoder = video.open_decoder(path)
        if read:
            os.read(decoder.fileno(), read)
        start = time.monotonic()
        decoder.close()
        decoder.close()
        assert time.monotonic() - start < 4.0
    assert len(os.listdir("/proc/self/fd")) == before
    assert not [t for t in threading.enumerate() if t.name == "ffmpeg-stderr"]


def test_verify_counts_frames(clip_file: Path, damaged_file: Path) -> None:
    seen: list[int] = []
    video.verify(clip_file, 25, on_progress=seen.append)
    assert seen[-1] == 25
    with pytest.raises(OutputError, match="25 frames instead of 26"):
        video.verify(clip_file, 26)
    with pytest.raises(OutputError, match="does not decode"):
        video.verify(damaged_file, 50)


def test_missing_tools_are_named(
    clip_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = tmp_path / "fresh.mp4"  # what is known of a file is not asked for again
    fresh.write_bytes(clip_file.read_bytes())
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolMissingError, match="ffprobe is not installed"):
        video.probe(fresh)


def test_a_changed_file_is_probed_anew(
    clip_file: Path, make_video: MakeVideo, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip_file.read_bytes())
    assert (video.probe(path).width, video.probe(path).height) == (96, 64)
    path.write_bytes(make_video("other.mp4", size="64x48").read_bytes())
    assert (video.probe(path).width, video.probe(path).height) == (64, 48)


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        ([], ""),
        (["[h264 @ 0x55] [x @ 0x7] bad slice", "Conversion failed!", ""], "bad slice"),
        (["[mov @ 0x1] moov atom not found", "f.mp4: Invalid data found when processing input"],
         "moov atom not found"),
        (["file:/x.mp4: Invalid data found when processing input"],
         "/x.mp4: Invalid data found when processing input"),
    ],
)  # fmt: skip
def test_last_error_line(lines: list[str], line: str) -> None:
    assert last_error_line(lines) == line


@pytest.mark.parametrize("segments", ["mpegts", "fmp4"])
def test_a_playlist_has_the_frames_of_its_segments(make_video: MakeVideo, segments: str) -> None:
    # The sound begins before the pictures, by what AAC needs to begin.
    playlist = make_video(
        f"{segments}.m3u8", *X264, "-g", "12", "-f", "hls", "-hls_time", "0.4",
        "-hls_list_size", "0", "-hls_segment_type", segments, sound=True,
    )  # fmt: skip
    assert 0 < (video.probe(playlist).start_s or 0.0) < 0.04
    decoder, data = decode(playlist)
    assert len(data) == 25 * decoder.frame_bytes
    first, second = data[: decoder.frame_bytes], data[decoder.frame_bytes : 2 * decoder.frame_bytes]
    assert first != second
