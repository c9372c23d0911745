"""Parts of a streamed clip after a seek have the frames of those without one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from muzero_rc import video
from muzero_rc.env.codec import parts as parts_module
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import InputError
from tests.env.codec.test_clip import ffmpeg

LENGTH = 20
# Key frames every 40 frames, whose B frames before them refer to frames before those.
OPEN_GOP = (
    "-c:v", "libx264", "-pix_fmt", "yuv420p", "-x264-params",
    "open-gop=1:bframes=3:b-pyramid=normal:keyint=40:min-keyint=10",
)  # fmt: skip
VARYING = ("-vf", "select='lt(mod(n,50),20)+not(mod(n,3))'", "-fps_mode", "vfr")

MakeCard = Callable[..., Path]


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny videos are sought in, too."""
    monkeypatch.setattr(parts_module, "LEAST_SOUGHT", 10)


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> MakeCard:
    """card(name, *options, rate=): a file of 64x36, 6 s, whose frames differ; made once."""
    folder = tmp_path_factory.mktemp("cards")

    def make(name: str, *options: str, rate: str = "25") -> Path:
        path = folder / name
        if not path.exists():
            ffmpeg("-f", "lavfi", "-i", f"testsrc2=s=64x36:r={rate}:d=6", *options, path)
        return path

    return make


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first frame of each decode that was begun."""
    found: list[int] = []
    plain = video.open_decoder

    def noted(*args: Any, **options: Any) -> video.Decoder:
        decoder = plain(*args, **options)
        found.append(decoder.first_frame)
        return decoder

    monkeypatch.setattr(video, "open_decoder", noted)
    return found


class Film:
    """A streamed clip in parts of 20 frames, the last one longer; all were read once."""

    def __init__(self, path: Path, *, max_frames: int | None = None, **options: Any) -> None:
        picture = video.picture_of(video.probe(path), **options)
        self.clip = Clip.load(
            path, picture=picture.first(max_frames), memory_limit_bytes=1, max_frames=max_frames
        )
        frames = Clip.load(path, picture=picture, max_frames=max_frames).num_frames
        count = frames // LENGTH
        self.lengths = [LENGTH] * (count - 1) + [frames - LENGTH * (count - 1)]
        self.whole = [data(part) for part in self.clip.parts(self.lengths)]
        assert len(self.clip.frame_hashes) == 8 * frames

    def parts(self, *wanted: int) -> list[bytes]:
        return [data(part) for part in self.clip.parts(self.lengths, wanted)]

    def right(self, *wanted: int) -> list[bytes]:
        return [self.whole[index] for index in wanted]


def data(clip: Clip) -> bytes:
    return b"".join(clip.frame(index).tobytes() for index in range(clip.num_frames))


@pytest.mark.parametrize(
    ("name", "rate", "made", "options"),
    [
        ("gop.mp4", "25", OPEN_GOP, {}),
        ("gop.mkv", "25", OPEN_GOP, {}),
        ("gop.mkv", "25", OPEN_GOP, {"start_s": 0.7}),
        ("gop.mp4", "25", OPEN_GOP, {"start_s": 0.71, "end_s": 5.3}),
        ("gop.mp4", "25", OPEN_GOP, {"max_frames": 123}),
        ("ntsc.mp4", "30000/1001", OPEN_GOP, {}),
        ("ntsc.mkv", "30000/1001", OPEN_GOP, {}),
        ("ntsc.mkv", "30000/1001", OPEN_GOP, {"start_s": 0.35}),
        ("varying.mp4", "25", (*OPEN_GOP, *VARYING), {}),
        ("varying.mkv", "25", (*OPEN_GOP, *VARYING), {"start_s": 0.3, "end_s": 5.5}),
        ("varying.mkv", "25", (*OPEN_GOP, *VARYING), {"fps": Fraction(25)}),
    ],
)
def test_parts_after_a_seek_are_those_without_one(
    card: MakeCard, opened: list[int], name: str, rate: str, made: tuple[str, ...], options: Any
) -> None:
    film = Film(card(name, *made, rate=rate), **options)
    assert (film.clip._source[3].times_ms is not None) == (  # type: ignore[index,union-attr]
        name.startswith("varying") and "fps" not in options
    )
    last = len(film.lengths) - 1
    for wanted in [(n,) for n in range(last + 1)] + [(0, last), (last - 2, last - 1, last)]:
        opened.clear()
        assert film.parts(*wanted) == film.right(*wanted), wanted
        # A second before the part, less than so many frames.
        assert all(LENGTH * n - first < 65 for n in wanted[-1:] for first in opened[1:])
        assert wanted[-1] < 4 or opened[-1] > 0, wanted
    assert film.clip.may_seek


@pytest.mark.parametrize("chroma", ["yuv420p", "yuv420p10le"])
def test_a_first_pass_tells_all_frames(card: MakeCard, chroma: str) -> None:
    path = card(f"{chroma}.mkv", "-c:v", "ffv1", "-pix_fmt", chroma)
    film = Film(path)
    told = bytes(film.clip.frame_hashes)
    film.clip.frame_hashes.clear()
    first_pass(film.clip, EncoderSettings(target_kbps=60), cache=False)
    assert film.clip.frame_hashes == told
    assert film.parts(5) == film.right(5) and film.clip.may_seek


def test_a_part_that_nobody_knows_is_not_sought(card: MakeCard, opened: list[int]) -> None:
    film = Film(card("gop.mp4", *OPEN_GOP))
    del film.clip.frame_hashes[8 * 119 :]
    opened.clear()
    assert film.parts(5, 6) == film.right(5, 6) and opened == [0]
    assert film.parts(5, 6) == film.right(5, 6) and opened[1] > 0


@pytest.mark.parametrize("frame", [100, 119])
def test_a_wrong_hash_has_the_film_decoded_from_its_start(
    card: MakeCard, opened: list[int], frame: int
) -> None:
    film = Film(card("gop.mp4", *OPEN_GOP))
    right = bytes(film.clip.frame_hashes)
    film.clip.frame_hashes[8 * frame + 3] ^= 1
    opened.clear()
    assert film.parts(5, 6) == film.right(5, 6)
    assert len(opened) == 2 and opened[0] > 0 == opened[1]
    assert not film.clip.may_seek and film.clip.frame_hashes == right
    assert film.parts(6) == film.right(6) and opened[2:] == [0], "it was sought again"


@pytest.mark.parametrize("late_s", [0.04, -0.04, 4.0, 1e4])
def test_a_seek_to_another_place_changes_no_byte(
    card: MakeCard, opened: list[int], monkeypatch: pytest.MonkeyPatch, late_s: float
) -> None:
    film = Film(card("gop.mkv", *OPEN_GOP))
    place = film.clip.seek_before(100)
    assert place is not None and place.frame > 10
    wrong = dataclasses.replace(place, after_s=place.after_s + late_s)
    monkeypatch.setattr(film.clip, "seek_before", lambda frame: wrong)
    opened.clear()
    assert film.parts(5, 6) == film.right(5, 6)
    assert opened == [place.frame, 0] and not film.clip.may_seek


def test_a_decoder_that_fails_after_a_seek_changes_no_byte(
    card: MakeCard, opened: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    film = Film(card("gop.mkv", *OPEN_GOP))
    check = video.Decoder.check

    def fails(self: video.Decoder, num_frames: int | None = None) -> None:
        if self.first_frame:
            raise InputError("it does not end well")
        check(self, num_frames)

    monkeypatch.setattr(video.Decoder, "check", fails)
    opened.clear()
    assert film.parts(6) == film.right(6)
    assert len(opened) == 2 and opened[0] > 0 == opened[1]
    assert not film.clip.may_seek


def test_a_file_that_was_changed_is_noticed_after_a_seek_too(
    card: MakeCard, tmp_path: Path, opened: list[int]
) -> None:
    path = tmp_path / "film.mkv"
    path.write_bytes(card("gop.mkv", *OPEN_GOP).read_bytes())
    film = Film(path)
    short, long = tmp_path / "short.mkv", tmp_path / "long.mkv"
    for name, seconds in ((short, 3), (long, 6.08)):
        ffmpeg("-f", "lavfi", "-i", f"testsrc2=s=64x36:r=25:d={seconds}", *OPEN_GOP, name)
    path.write_bytes(short.read_bytes())
    with pytest.raises(InputError, match="has 75 frames now, it had more before"):
        film.parts(5)
    path.write_bytes(long.read_bytes())
    film.clip.may_seek = True
    with pytest.raises(InputError, match="has more frames than before"):
        film.parts(6)


def test_damage_on_the_way_is_found_by_the_first_decode(card: MakeCard, tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    content = bytearray(card("gop.mkv", *OPEN_GOP).read_bytes())
    path.write_bytes(content)
    picture = video.picture_of(video.probe(path))
    middle = len(content) // 2
    content[middle : middle + 500] = bytes(500)
    path.write_bytes(content)
    clip = Clip.load(path, picture=picture, memory_limit_bytes=1)
    with pytest.raises(InputError, match=r"damaged|had more before"):
        list(clip.parts([LENGTH] * 7 + [10], [6]))
    assert len(clip.frame_hashes) < 8 * 150


@pytest.mark.parametrize(
    ("name", "made", "options"),
    [
        ("gop.ts", OPEN_GOP, {}),
        ("gop.mp4", OPEN_GOP, {"filters": "hue=s=0"}),
        ("fields.mkv", ("-c:v", "mpeg2video", "-flags", "+ilme+ildct", "-top", "1"), {}),
        ("bare.h264", OPEN_GOP, {}),
    ],
)
def test_nothing_is_sought_where_frames_depend_on_all_before_them(
    card: MakeCard, opened: list[int], name: str, made: tuple[str, ...], options: Any
) -> None:
    film = Film(card(name, *made), **options)
    opened.clear()
    assert film.parts(6) == film.right(6) and opened == [0]


def test_nothing_is_sought_in_joined_recordings(card: MakeCard) -> None:
    picture = video.picture_of(video.probe(card("gop.mp4", *OPEN_GOP)))
    assert video.seek_before(picture, 100) is not None
    assert video.seek_before(dataclasses.replace(picture, joins=1), 100) is None


@pytest.mark.parametrize("rate", ["25", "30", "24000/1001", "30000/1001", "60000/1001", "997/40"])
def test_decodes_begin_at_whole_milliseconds(card: MakeCard, rate: str) -> None:
    picture = video.picture_of(video.probe(card("gop.mp4", *OPEN_GOP)), fps=Fraction(rate))
    for frame in range(0, 5000, 7):
        seek = video.seek_before(picture, frame)
        if seek is None:
            assert frame < Fraction(rate) + 997
        else:
            assert seek.after_s == pytest.approx(seek.frame / Fraction(rate), abs=1e-9)
            assert 1000 * seek.after_s == pytest.approx(round(1000 * seek.after_s), abs=1e-6)
            assert seek.frame <= frame - Fraction(rate)
