"""Cover pictures in the output, as stock ffprobe shows them, with the bytes of the source."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from muzero_rc import video
from muzero_rc.cli import main as cli
from muzero_rc.encode.film import EncodeReport, encode
from muzero_rc.env.control.baselines import ProposalPolicy
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import OutputError

FAST = EncoderSettings(target_kbps=100, speed=8, passes=2)
PICTURES = ("jpg", "png", "bmp", "gif", "webp")
SRT = "1\n00:00:00,300 --> 00:00:00,400\nfirst\n"
CHAPTERS = ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=600\ntitle=One\n"


def run(source: Path, out: Path, **options: Any) -> EncodeReport:
    return encode(source, out, FAST, ProposalPolicy(), **options)


def ffmpeg(*words: str | Path) -> None:
    subprocess.run(["ffmpeg", "-nostdin", "-y", "-v", "error", *words], check=True, timeout=120)


def streams(path: Path) -> list[tuple[str, int, str | None, str | None]]:
    """Of all but the video: its codec, whether it is a cover, name and media type."""
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-of", "json", "-show_streams", path],
        capture_output=True, check=True,
    )  # fmt: skip
    first, *rest = json.loads(done.stdout)["streams"]
    assert first["codec_name"] == "vp9"
    return [
        (
            stream.get("codec_name", "unknown"),
            stream["disposition"]["attached_pic"],
            stream.get("tags", {}).get("filename"),
            stream.get("tags", {}).get("mimetype"),
        )
        for stream in rest
    ]


def covers_of(path: Path, folder: Path) -> list[bytes]:
    info = video.probe(path)
    tracks = [track for track in info.tracks if track.cover]
    return [cover.path.read_bytes() for cover in video.extract_covers(info, tracks, folder)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A picture of each codec, by its ending."""
    folder = tmp_path_factory.mktemp("pictures")
    for ending in PICTURES:
        ffmpeg("-f", "lavfi", "-i", "testsrc=s=32x32:d=0.1:r=10", "-frames:v", "1",
               folder / f"c.{ending}")  # fmt: skip
    return {ending: folder / f"c.{ending}" for ending in PICTURES}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """15 frames with sound, a subtitle and a chapter."""
    folder = tmp_path_factory.mktemp("film")
    (folder / "s.srt").write_text(SRT)
    (folder / "c.txt").write_text(CHAPTERS)
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.6", "-f", "lavfi", "-i", "sine=d=0.6",
           "-i", folder / "s.srt", "-i", folder / "c.txt", "-map", "0", "-map", "1", "-map", "2",
           "-map_chapters", "3", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac",
           "-c:s", "copy", folder / "film.mkv")  # fmt: skip
    return folder / "film.mkv"


@pytest.fixture(scope="module")
def mp4(film: Path, pictures: dict[str, Path]) -> Path:
    """Four covers, two of one codec; MP4 has no names for them."""
    path, shown = film.with_name("covers.mp4"), ("jpg", "png", "bmp", "png")
    words: list[str | Path] = ["-i", film]
    for ending in shown:
        words += ["-i", pictures[ending]]
    for number in range(5):
        words += ["-map", f"{number}:v"]
    for number in range(1, 5):
        words += [f"-disposition:v:{number}", "attached_pic"]
    ffmpeg(*words, "-map", "0:a", "-map_chapters", "-1", "-c", "copy", path)
    return path


@pytest.fixture(scope="module")
def matroska(film: Path, pictures: dict[str, Path]) -> Path:
    """A cover before a font, and two of codecs that few formats take."""
    path, words = film.with_name("covers.mkv"), []
    (film.parent / "f.ttf").write_text("font")
    attached = (
        (pictures["png"], "cover.png", "image/png"),
        (film.parent / "f.ttf", "f.ttf", "application/x-truetype-font"),
        (pictures["jpg"], "small_cover.jpg", "image/jpeg"),
        (pictures["gif"], "c.gif", "image/gif"),
        (pictures["webp"], "c.webp", "image/webp"),
    )
    for number, (picture, name, kind) in enumerate(attached):
        words += ["-attach", picture, f"-metadata:s:t:{number}", f"mimetype={kind}"]
        words += [f"-metadata:s:t:{number}", f"filename={name}"]
    ffmpeg("-i", film, "-map", "0", "-c", "copy", *words, path)
    return path


def test_matroska_has_covers_as_attachments(
    mp4: Path, pictures: dict[str, Path], tmp_path: Path
) -> None:
    outs = [tmp_path / name for name in ("out.mkv", "again.mkv")]
    assert [run(mp4, out, audio="none").losses for out in outs] == [[], []]
    jpeg, png, *others, second = streams(outs[0])
    assert jpeg == ("mjpeg", 1, "cover.jpg", "image/jpeg")
    assert png == ("png", 1, "cover.png", "image/png")
    assert second == ("png", 1, "cover-2.png", "image/png")
    assert [other[2:] for other in others] == [("cover.bmp", "image/bmp")]
    first, *_, last = covers_of(outs[0], tmp_path)
    assert first == pictures["jpg"].read_bytes() and last == pictures["png"].read_bytes()
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_covers_stay_beside_fonts(
    matroska: Path, pictures: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out.mkv"
    assert run(matroska, out).losses == []
    sound, text, *attached = streams(out)
    assert (sound[0], text[0]) == ("aac", "subrip")
    assert [stream[2] for stream in attached[:2]] == ["f.ttf", "c.webp"]
    assert attached[2:] == [
        ("png", 1, "cover.png", "image/png"),
        ("mjpeg", 1, "small_cover.jpg", "image/jpeg"),
        ("gif", 1, "c.gif", "image/gif"),
    ]
    assert pictures["png"].read_bytes() in covers_of(out, tmp_path)


@pytest.mark.parametrize("options", [(), ("--start", "0.2", "--end", "0.5")])
def test_mp4_has_covers_behind_its_chapters(
    matroska: Path,
    pictures: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
) -> None:
    out = tmp_path / "out.mp4"
    words = ["encode", str(matroska), "-o", str(out), "-b", "100k", "--speed", "8"]
    assert cli.main([*words, "--policy", "proposal", "-q", *options]) == 0
    found = streams(out)
    assert [stream[0] for stream in found if not stream[1]] == ["aac", "mov_text", "bin_data"]
    assert [stream[0] for stream in found[-2:]] == ["png", "mjpeg"]
    both = [pictures[ending].read_bytes() for ending in ("png", "jpg")]
    assert covers_of(out, tmp_path) == both
    assert "cover picture 6 (gif, c.gif) is left out: MP4 does not" in capsys.readouterr().err


def test_what_has_no_place_for_covers_says_so(mp4: Path, tmp_path: Path) -> None:
    report = run(mp4, tmp_path / "out.webm", audio="none")
    assert [line.partition(": ")[0] for line in report.losses] == [
        f"cover picture {number} ({codec}) is left out"
        for number, codec in enumerate(("mjpeg", "png", "bmp", "png"), 2)
    ]
    assert report.losses[0].endswith("an output that ends in .mkv keeps it")
    report = run(mp4, tmp_path / "out.ivf", audio="none")
    assert sum("cover picture" in line for line in report.losses) == 4


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_damaged_cover_ends_no_encode(
    film: Path, pictures: dict[str, Path], tmp_path: Path, suffix: str
) -> None:
    damaged, bad, source = tmp_path / "c.jpg", tmp_path / "c.png", tmp_path / "in.mkv"
    data = pictures["jpg"].read_bytes()
    damaged.write_bytes(data[: len(data) // 2])
    bad.write_bytes(pictures["png"].read_bytes()[:20] + bytes(60))
    ffmpeg("-i", film, "-map", "0:v", "-c", "copy", "-attach", damaged,
           "-metadata:s:t:0", "mimetype=image/jpeg", "-attach", bad,
           "-metadata:s:t:1", "mimetype=image/png", source)  # fmt: skip
    report = run(source, tmp_path / f"out.{suffix}")
    # ffmpeg takes no picture whose size nobody knows.
    left, complaint = report.losses
    assert left == "cover picture 2 (png, c.png) is left out: it cannot be read"
    assert "something in the source is damaged" in complaint
    assert covers_of(tmp_path / f"out.{suffix}", tmp_path) == [damaged.read_bytes()]


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_the_check_counts_covers(
    mp4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    out, told = tmp_path / f"out.{suffix}", []
    real = video.verify

    def verify(path: Path, promise: video.Promise, **options: Any) -> Any:
        told.append(promise)
        return real(path, promise, **options)

    monkeypatch.setattr(video, "verify", verify)
    run(mp4, out, audio="none")
    tried, promise = told
    assert tried.tracks == promise.tracks
    sizes = [size for kind, size in promise.tracks if kind == "cover"]
    assert len(sizes) == (3 if suffix == "mkv" else 4)  # ffmpeg 5.1 takes bmp for any file there
    other = dataclasses.replace(promise, tracks=(("cover", 7), *promise.tracks[1:]))
    with pytest.raises(OutputError, match=r"cover picture 1 .* has \d+ bytes instead of 7"):
        real(out, other, decode=False)
    bare = tmp_path / f"bare.{suffix}"
    ffmpeg("-i", out, "-map", "0:V", "-c", "copy", bare)
    with pytest.raises(OutputError, match="has nothing beside the video instead of cover, "):
        real(bare, promise, decode=False)


def test_a_cover_that_is_lost_is_told_before_the_encode(
    mp4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases: list[str] = []
    command = video.mux.__globals__["mux_command"]

    def without_covers(*words: Any, **options: Any) -> list[str]:
        made: list[str] = command(*words, **options)
        at = [number for number, word in enumerate(made) if word == "-attach"]
        return [word for n, word in enumerate(made) if n not in at and n - 1 not in at]

    monkeypatch.setitem(video.mux.__globals__, "mux_command", without_covers)
    with pytest.raises(OutputError, match="tried on one frame before the encode"):
        run(mp4, tmp_path / "out.mkv", on_progress=lambda step: phases.append(step.phase))
    assert phases == [] and list(tmp_path.iterdir()) == []


def test_the_film_is_not_read_for_its_cover(
    pictures: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "in.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=320x240:r=25:d=8", "-c:v", "rawvideo", "-attach",
           pictures["jpg"], "-metadata:s:t", "mimetype=image/jpeg", source)  # fmt: skip
    read: list[int] = []
    covers = video.extract_covers.__globals__

    class Counting(covers["Child"]):  # type: ignore[misc, name-defined]
        def wait(self, *words: Any) -> int:
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
            with open(f"/proc/{self.process.pid}/io", "rb") as file:
                read.append(int(file.read().split(b"rchar: ")[1].split()[0]))
            return super().wait(*words)

    monkeypatch.setitem(covers, "Child", Counting)
    assert covers_of(source, tmp_path) == [pictures["jpg"].read_bytes()]
    assert source.stat().st_size > 20_000_000 and read[0] < 5_000_000
