"""Checksums of what is shown are those of stock ffmpeg's decoder; hashes of frames are XXH64."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from muzero_rc.env.codec import _native
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.session import EncoderSession
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.types import FrameDecision, FrameResult, ShowExisting

FRAMES = 30


def decoded(path: Path) -> list[int]:
    """Checksums of all pictures, by ffmpeg's own decoder and its muxer framecrc."""
    words = ["ffmpeg", "-v", "error", "-c:v", "vp9", "-i", path, "-fps_mode", "passthrough"]
    told = subprocess.run(
        [*words, "-f", "framecrc", "-"], check=True, capture_output=True, text=True
    ).stdout
    return [int(line.split(",")[5], 16) for line in told.splitlines() if line[0] != "#"]


def moved_page(width: int, height: int, bit_depth: int) -> Clip:
    """A page of noise that stands still, with a white bar, and has moved in the second half."""
    rng = np.random.default_rng(1)
    samples = width * height + 2 * ((width + 1) // 2) * ((height + 1) // 2)
    page = rng.integers(0, 1 << bit_depth, samples)
    page[: samples // 3] = (1 << bit_depth) - 1
    frames = np.stack([page] * FRAMES).astype(np.uint8 if bit_depth == 8 else np.uint16)
    frames[FRAMES // 2 :] = np.roll(frames[FRAMES // 2 :], 3, axis=1)
    return Clip.from_frames(frames, width, height, 25, bit_depth=bit_depth)


def encoded(clip: Clip, output: Path, *, checksums: bool) -> list[FrameResult]:
    settings = EncoderSettings(target_kbps=60, speed=5)
    with EncoderSession(clip, settings, output=output, checksums=checksums) as session:
        while session.next() is not None:
            session.encode(FrameDecision(120, show_existing=ShowExisting.CHEAPER))
        session.finish()
        return session.results


@pytest.mark.parametrize("bit_depth", [8, 10, 12])
@pytest.mark.parametrize(("width", "height"), [(89, 73), (96, 64), (1031, 65)])
def test_they_are_those_of_the_decoded_pictures(
    tmp_path: Path, width: int, height: int, bit_depth: int
) -> None:
    out = tmp_path / "out.ivf"
    results = encoded(moved_page(width, height, bit_depth), out, checksums=True)
    assert sum(result.shows_existing for result in results) > FRAMES // 2
    assert width > 1000 or any(not result.shown for result in results)
    assert [result.checksum for result in results if result.shown] == decoded(out)
    assert all(result.checksum is None for result in results if not result.shown)
    assert len(set(decoded(out))) > 1


def test_they_are_there_where_they_are_asked_for_and_change_nothing(tmp_path: Path) -> None:
    clip = moved_page(96, 64, 8)
    results = encoded(clip, tmp_path / "without.ivf", checksums=False)
    assert all(result.checksum is None for result in results)
    encoded(clip, tmp_path / "with.ivf", checksums=True)
    assert (tmp_path / "with.ivf").read_bytes() == (tmp_path / "without.ivf").read_bytes()


@pytest.mark.parametrize(
    ("text", "height", "told"),
    [
        # From the test suites of xxHash's implementations.
        (b"abc", 1, 0x44BC2CF5AD770999),
        (b"Nobody inspects the spammish repetition", 19, 0xFBCEA83C8A378BF1),
    ],
)
def test_hashes_of_frames_are_xxh64(text: bytes, height: int, told: int) -> None:
    store = _native.FrameStore(1, height)
    for frame in (text, text[::-1]):
        store.append(np.frombuffer(frame, np.uint8))
    hashes = np.frombuffer(store.hashes(), "<u8")
    assert hashes[0] == told and hashes[1] != told


def test_every_byte_of_a_frame_counts() -> None:
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, 7 * 9 + 2 * 4 * 5).astype(np.uint8)
    store = _native.FrameStore(7, 9)
    store.append(frame)
    for place in range(len(frame)):
        other = frame.copy()
        other[place] ^= 1
        store.append(other)
    assert len({store.hashes()[n : n + 8] for n in range(0, 8 * len(store), 8)}) == len(store)
