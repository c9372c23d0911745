"""Lossless clips, changes to them and the look at a video, against numpy and known cuts."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from muzero_rc import video
from muzero_rc.corpus.scenes import look_at
from muzero_rc.env.codec.clip import Clip
from muzero_rc.errors import InputError, OutputError
from muzero_rc.video import LosslessWriter, Recipe

MakeVideo = Callable[..., Path]
Planes = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
WIDTH, HEIGHT = 96, 64


def read(path: Path, **options: object) -> tuple[video.Decoder, list[bytes]]:
    with video.open_decoder(path, **options) as decoder:  # type: ignore[arg-type]
        return decoder, list(decoder.frames())


def planes(data: bytes, width: int = WIDTH, height: int = HEIGHT) -> Planes:
    values = np.frombuffer(data, np.uint8)
    size = width * height
    y, u, v = values[:size], values[size : size * 5 // 4], values[size * 5 // 4 :]
    half = (height // 2, width // 2)
    return y.reshape(height, width), u.reshape(half), v.reshape(half)


def together(parts: Planes) -> bytes:
    return b"".join(np.ascontiguousarray(part).tobytes() for part in parts)


def write(path: Path, frames: list[bytes], like: video.VideoInfo, rate: str = "25") -> Path:
    with LosslessWriter(path, WIDTH, HEIGHT, Fraction(rate), like) as writer:
        for frame in frames:
            writer.write(frame)
        writer.close()
    return path


@pytest.fixture(scope="module")
def card(make_video: MakeVideo) -> Path:
    """A moving test card, 96x64, 40 frames."""
    return make_video("card.mp4", "-c:v", "libx264", "-crf", "10", "-frames:v", "40", seconds=2)


@pytest.fixture(scope="module")
def frames(card: Path) -> list[bytes]:
    return read(card)[1]


@pytest.fixture(scope="module")
def clip(card: Path, frames: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("clips") / "clip.mp4", frames, video.probe(card))


def test_max_fps_takes_every_nth_frame(card: Path, frames: list[bytes]) -> None:
    assert len(frames) == 40
    half, taken = read(card, max_fps=Fraction(24))
    assert half.fps == Fraction(25, 2)
    assert taken == frames[::2]
    same, whole = read(card, max_fps=Fraction(25))
    assert (same.fps, whole) == (25, frames)
    with pytest.raises(InputError, match="cannot lower the rate to 0"):
        video.open_decoder(card, max_fps=Fraction(0))


def test_frames_of_a_damaged_file_end_with_an_error(damaged_file: Path) -> None:
    with pytest.raises(InputError, match="damaged"):
        read(damaged_file)


def test_a_damaged_file_is_always_damaged_in_the_same_words(damaged_file: Path) -> None:
    words = set()
    for _ in range(3):
        with pytest.raises(InputError, match="is damaged") as caught:
            look_at(damaged_file)
        words.add(str(caught.value))
    # Those of one thread: of several, whichever comes first.
    with pytest.raises(InputError) as alone:
        read(damaged_file, threads=1)
    assert words == {str(alone.value)}


@pytest.mark.parametrize("rate", ["30000/1001", "1000/33", "67419/742"])
def test_lossless_clips_give_back_frames_and_rate(
    card: Path, frames: list[bytes], tmp_path: Path, rate: str
) -> None:
    path = write(tmp_path / "clip.mp4", frames, video.probe(card), rate)
    decoder, back = read(path)
    assert back == frames
    assert decoder.fps == Fraction(rate)
    # The identity in a manifest is the one in an evaluation's results.
    width, height, fps, count, digest = video.hash_frames(path)
    assert (width, height, fps, count) == (WIDTH, HEIGHT, Fraction(rate), 40)
    assert digest == Clip.load(path).sha256


def test_colours_come_along(make_video: MakeVideo, tmp_path: Path) -> None:
    source = make_video(
        "bt601.mp4", "-c:v", "libx264", "-colorspace", "smpte170m", "-color_primaries", "bt470bg",
        "-color_trc", "smpte170m", "-color_range", "tv",
    )  # fmt: skip
    decoder, frames = read(source)
    info = video.probe(write(tmp_path / "clip.mp4", frames, decoder.info))
    assert (info.color_space, info.color_primaries) == ("smpte170m", "bt470bg")
    assert (info.color_transfer, info.color_range) == ("smpte170m", "tv")
    assert read(info.path)[1] == frames


def test_a_clip_that_cannot_be_written_is_an_output_error(
    card: Path, frames: list[bytes], tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write(tmp_path / "none" / "clip.mp4", frames * 50, video.probe(card))


def test_leaving_early_leaves_no_file(card: Path, frames: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with (
        pytest.raises(KeyboardInterrupt),
        LosslessWriter(path, WIDTH, HEIGHT, Fraction(25), video.probe(card)) as writer,
    ):
        writer.write(frames[0])
        raise KeyboardInterrupt
    assert not path.exists()


def rendered(
    clip: Path, recipe: Recipe, out: Path, join: Path | None = None
) -> tuple[video.Decoder, list[bytes]]:
    video.render(clip, recipe, out, join=join)
    return read(out)


def flipped(frame: bytes, axes: tuple[int, ...]) -> bytes:
    return together(tuple(np.flip(p, axes) for p in planes(frame)))  # type: ignore[arg-type]


@pytest.mark.parametrize(("flip", "axes"), [("h", (1,)), ("v", (0,)), ("hv", (0, 1))])
def test_flips(
    clip: Path, frames: list[bytes], tmp_path: Path, flip: str, axes: tuple[int]
) -> None:
    recipe = Recipe(flip=flip)  # type: ignore[arg-type]
    _, out = rendered(clip, recipe, tmp_path / "out.mp4")
    assert out == [flipped(frame, axes) for frame in frames]


def test_reverse_and_crop(clip: Path, frames: list[bytes], tmp_path: Path) -> None:
    recipe = Recipe(reverse=True, crop=(64, 48, 10, 6))
    decoder, out = rendered(clip, recipe, tmp_path / "out.mp4")
    assert (decoder.width, decoder.height, decoder.fps) == (64, 48, 25)
    wanted = []
    for frame in frames[::-1]:
        y, u, v = planes(frame)
        wanted.append(together((y[6:54, 10:74], u[3:27, 5:37], v[3:27, 5:37])))
    assert out == wanted


def test_speed_leaves_out_frames_or_lowers_the_rate(
    clip: Path, frames: list[bytes], tmp_path: Path
) -> None:
    decoder, out = rendered(clip, Recipe(speed=Fraction(2)), tmp_path / "fast.mp4")
    assert decoder.fps == 25
    assert out == frames[::2]
    decoder, out = rendered(clip, Recipe(speed=Fraction(1, 2)), tmp_path / "slow.mp4")
    assert decoder.fps == Fraction(25, 2)
    assert out == frames
    _, out = rendered(clip, Recipe(speed=Fraction(3, 2)), tmp_path / "third.mp4")
    assert out == [frame for n, frame in enumerate(frames) if n % 3 != 1]


def test_a_cut_is_where_it_was_asked_for(
    card: Path, clip: Path, frames: list[bytes], tmp_path: Path
) -> None:
    # The other clip has another rate: its frames are taken as they are.
    other = write(tmp_path / "o.mp4", [flipped(f, (0,)) for f in frames], video.probe(card), "50")
    decoder, out = rendered(clip, Recipe(cut=25, length=40), tmp_path / "out.mp4", other)
    assert decoder.fps == 25
    assert out == frames[:25] + [flipped(f, (0,)) for f in frames[:15]]


def test_a_clip_of_another_shape_fills_the_picture_after_a_cut(
    clip: Path, make_video: MakeVideo, frames: list[bytes], tmp_path: Path
) -> None:
    tall = make_video("tall.mp4", size="50x90")
    decoder, out = rendered(clip, Recipe(cut=10, length=30), tmp_path / "out.mp4", tall)
    assert (decoder.width, decoder.height, len(out)) == (WIDTH, HEIGHT, 30)
    assert out[:10] == frames[:10]


def test_size_noise_and_fade(clip: Path, frames: list[bytes], tmp_path: Path) -> None:
    recipe = Recipe(size=(64, 48), noise=8, noise_seed=3, fade=("out", 30, 10))
    decoder, out = rendered(clip, recipe, tmp_path / "one.mp4")
    assert (decoder.width, decoder.height, len(out)) == (64, 48, 40)
    assert rendered(clip, recipe, tmp_path / "two.mp4")[1] == out
    _, plain = rendered(clip, Recipe(size=(64, 48)), tmp_path / "three.mp4")
    assert planes(plain[-1], 64, 48)[0].max() > 150
    assert planes(out[-1], 64, 48)[0].max() < 50  # a tenth above black, which is 16
    moved = planes(out[0], 64, 48)[0].astype(int) - planes(plain[0], 64, 48)[0]
    assert 1 < np.std(moved) < 8
    _, faded = rendered(clip, Recipe(fade=("in", 0, 10)), tmp_path / "four.mp4")
    assert planes(faded[0])[0].max() <= 20
    assert faded[10:] == frames[10:]


def test_a_rendering_that_is_stopped_leaves_no_file(clip: Path, tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        video.render(clip, Recipe(reverse=True), tmp_path / "out.mp4", on_progress=stop)
    assert not (tmp_path / "out.mp4").exists()


def test_scenes_begin_where_they_were_joined(scenes_file: Path) -> None:
    look = look_at(scenes_file)
    assert (look.frames, look.fps, look.cuts) == (125, "25", (50, 85))
    assert len(look.activity) == len(look.hashes) == 125
    assert np.mean(look.activity[1:50]) > 1
    assert np.mean(look.activity[86:]) < 0.01  # bars stand still
    halved = look_at(scenes_file, max_fps=Fraction(20))
    assert (halved.frames, halved.cuts) == (63, (25, 43))
