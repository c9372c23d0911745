"""Key frames at given times, and where chapters begin."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from muzero_rc import video
from muzero_rc.cli import main as cli
from muzero_rc.errors import InputError
from muzero_rc.video.key_times import frames_at, key_times, parse_time

MakeVideo = Callable[..., Path]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1:30", 90), ("0:01:30.5", 90.5), (" 2.25 ", 2.25), ("1:00:00", 3600)],
)
def test_times_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1:75", "one", "1:2:3:4", "75:1:00:"])
def test_no_times(text: str) -> None:
    with pytest.raises(InputError, match="is no time"):
        parse_time(text)


def test_a_time_is_the_first_frame_at_or_after_it() -> None:
    assert frames_at([0.0, 0.04, 0.05, 1.0, 7.0], Fraction(25), 50) == [1, 2, 25]
    # 100 / (30000 / 1001) s is written as 3.337.
    assert frames_at([3.337], Fraction(30000, 1001), 200) == [100]
    # Frames with times of their own, the first of which is shown at 10 ms.
    assert frames_at([0.0, 0.05, 0.1, 9], Fraction(25), 4, [10, 50, 70, 110]) == [2, 3]


@pytest.fixture(scope="module")
def source(make_video: MakeVideo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48x32, 30 frames in noise, with chapters at 0, 0.4 and 0.8 s."""
    plain = make_video(
        "plain.mkv", "-vf", "noise=alls=12:allf=t", "-c:v", "ffv1", "-pix_fmt", "yuv420p",
        size="48x32", seconds=1.2,
    )  # fmt: skip
    meta = tmp_path_factory.mktemp("chapters") / "meta"
    chapter = "[CHAPTER]\nTIMEBASE=1/1000\nSTART={}\nEND={}\n"
    meta.write_text(";FFMETADATA1\n" + "".join(chapter.format(t, t + 400) for t in (0, 400, 800)))
    path = meta.with_name("in.mkv")
    words = ["ffmpeg", "-v", "error", "-i", plain, "-i", meta, "-map_metadata", "1"]
    subprocess.run([*words, "-map_chapters", "1", "-c", "copy", path], check=True)
    return path


def keys_of(path: Path) -> list[float]:
    """Times of the key frames, as a player would seek to them."""
    words = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries"]
    words += ["packet=pts_time,flags", "-of", "csv=p=0", str(path)]
    out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return [float(line.split(",")[0]) for line in out.splitlines() if "K" in line.split(",")[1]]


@pytest.mark.parametrize("options", [["-b", "60k", "-p", "landed"], ["--crf", "40"]])
def test_a_short_clip_has_key_frames_where_they_are_wanted(
    source: Path, tmp_path: Path, options: list[str]
) -> None:
    out = tmp_path / "out.mkv"
    words = ["encode", str(source), "-o", str(out), "--speed", "8", "-q", *options]
    assert cli.main([*words, "--keyframes", "0.28,1.16"]) == 0
    # The last chunk is one frame long.
    assert keys_of(out) == [0.0, 0.28, 1.16]
    assert os.listdir(tmp_path) == ["out.mkv"]
    assert cli.main([*words, "--keyframes", "chapters"]) == 0
    assert keys_of(out) == [0.0, 0.4, 0.8]


def test_what_cannot_be_is_told_at_once(
    source: Path, clip_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="has no chapters"):
        key_times("chapters", video.picture_of(video.probe(clip_file)))
    with pytest.raises(InputError, match="a key frame at 5 s is after the end"):
        key_times("0.1,5", video.picture_of(video.probe(clip_file)))
    with pytest.raises(InputError, match=r"at 0\.1 s is after the first 2 frames, which have 0\."):
        key_times("0.01,0.1", video.picture_of(video.probe(clip_file)), max_frames=2)
    words = ["encode", str(source), "-o", str(tmp_path / "o.webm"), "-b", "60k", "-p", "vbr"]
    assert cli.main([*words, "--keyframes", "0.5"]) == 2
    assert "need a policy that encodes in chunks" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
