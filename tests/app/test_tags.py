"""Tags of a file, its streams and chapters: kept, or named where a format has no place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from muzero_rc.video import tracks
from tests.app.test_whole_file import CARD, TONE, X264, ask, ffmpeg, run


@pytest.fixture(scope="module")
def tagged_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With tags of the file, of each stream and of a chapter that a player may not know."""
    folder = tmp_path_factory.mktemp("tags")
    (folder / "s.srt").write_text("1\n00:00:00,100 --> 00:00:00,300\nfirst\n")
    (folder / "c.txt").write_text(
        ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=600\ntitle=One\nmood=calm\n"
    )
    path = folder / "tagged.mkv"
    ffmpeg(*CARD, *TONE, "-i", folder / "s.srt", "-i", folder / "c.txt", "-map", "0", "-map", "1",
           "-map", "2", "-map_chapters", "3", *X264, "-c:a", "aac", "-c:s", "srt",
           "-metadata", "artist=Me", "-metadata", "site=here",
           "-metadata:s:v", "timecode=10:00:00:00", "-metadata:s:v", "lens=50mm",
           "-metadata:s:a", "mic=M1", "-metadata:s:s", "writer=Ann", path)  # fmt: skip
    return path


def tags(path: Path, *words: str) -> list[dict[str, str]]:
    told: dict[str, Any] = ask(path, "-show_format", "-show_streams", "-show_chapters")
    things = [told["format"], *told["streams"], *told["chapters"]]
    return [{k.lower(): v for k, v in thing.get("tags", {}).items()} for thing in things]


def test_webm_and_matroska_keep_tags_of_all_streams(tagged_file: Path, tmp_path: Path) -> None:
    for suffix in ("webm", "mkv"):
        report = run(tagged_file, tmp_path / f"out.{suffix}")
        of_file, picture, sound, text, chapter = tags(tmp_path / f"out.{suffix}")
        assert (of_file["artist"], of_file["site"]) == ("Me", "here")
        assert (picture["timecode"], picture["lens"]) == ("10:00:00:00", "50mm")
        assert (sound["mic"], text["writer"]) == ("M1", "Ann")
        lines = [line for line in report.losses if "tag" in line]
        assert ("mood" in chapter) == (suffix == "mkv")
        assert lines == [] if suffix == "mkv" else ["mood" in line for line in lines] == [True]


def test_mp4_says_which_tags_it_has_no_place_for(tagged_file: Path, tmp_path: Path) -> None:
    losses = run(tagged_file, tmp_path / "out.mp4").losses
    assert "the tags lens, mic, site, writer are left out: MP4 has no place for them" in (
        line.partition(";")[0] for line in losses
    )
    assert "the timecode is left out: MP4 keeps none beside VP9" in losses
    assert sum("of chapters the tags mood are left out" in line for line in losses) == 1


def test_a_stretch_has_no_timecode_of_the_whole(tagged_file: Path, tmp_path: Path) -> None:
    from muzero_rc import video

    picture = video.picture_of(video.probe(tagged_file), start_s=0.2)
    losses = run(tagged_file, tmp_path / "out.mkv", picture=picture).losses
    assert losses == ["the timecode is left out: it is that of the file's first frame"]
    assert "timecode" not in tags(tmp_path / "out.mkv")[1]


@pytest.mark.parametrize("suffix", ["webm", "mkv", "mp4"])
def test_tags_of_old_files_become_utf8(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "old.avi"
    title, artist = "Café d’été €5", "Œuvre nº1"
    words = ["-metadata", "title=" + "T" * len(title), "-metadata", "artist=" + "A" * len(artist)]
    ffmpeg(*CARD, *words, "-c:v", "mpeg4", path)
    data = path.read_bytes()
    for mark, text in ((b"T", title), (b"A", artist)):
        data = data.replace(mark * len(text), text.encode("cp1252"))
    path.write_bytes(data)
    run(path, tmp_path / f"out.{suffix}")
    told = ask(tmp_path / f"out.{suffix}", "-show_format")["format"]["tags"]
    assert {name.lower(): value for name, value in told.items()}.items() >= {
        ("title", title), ("artist", artist)
    }  # fmt: skip
    # UTF-8 stays as it is, and needs no word.
    ffmpeg(*CARD, "-metadata", f"title={title}", *X264, tmp_path / "new.mkv")
    assert tracks.tags_in_utf8(tmp_path / "new.mkv") == []


def test_tags_of_programs_are_told(tmp_path: Path) -> None:
    for name, words in (
        ("named", ["-metadata", "service_name=Here", "-metadata", "service_provider=Us"]),
        ("plain", []),
    ):
        path = tmp_path / f"{name}.ts"
        ffmpeg(*CARD, *X264, *words, path)
        for suffix in ("mkv", "mp4", "ivf"):
            losses = run(path, tmp_path / f"{name}.{suffix}").losses
            told = [line for line in losses if "service_name, service_provider" in line]
            assert len(told) == (name == "named"), losses
