"""Films of which few chunks are wanted: the same bytes, and less of the source is decoded."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from muzero_rc import video
from muzero_rc.encode.chunk_store import ChunkFiles, ChunkStore
from muzero_rc.encode.film import EncodeReport, Progress, encode
from muzero_rc.encode.frame_hashes import KeptHashes
from muzero_rc.encode.share import FilmBudget
from muzero_rc.env.codec import parts as parts_module
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.parts import PartReader
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.policies.registry import make_policy
from tests.app.conftest import MakeVideo
from tests.app.test_chunks import shorten_chunks

FRAMES, LENGTH = 110, 22
CHUNKS = FRAMES // LENGTH
SETTINGS = EncoderSettings(target_kbps=60, speed=5, kf_max_dist=LENGTH)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Short chunks, and seeks in short films; first passes of other tests are not found."""
    shorten_chunks(monkeypatch)
    monkeypatch.setattr(parts_module, "LEAST_SOUGHT", 10)
    monkeypatch.setenv("MUZERO_RC_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def source(make_video: MakeVideo) -> Path:
    """48x32 in noise, H.264 with open groups of pictures, with sound."""
    return make_video(
        "sought.mp4", "-vf", "noise=alls=12:allf=t", "-c:v", "libx264", "-pix_fmt", "yuv420p",
        "-x264-params", "open-gop=1:keyint=30:min-keyint=10", "-c:a", "aac",
        size="48x32", seconds=FRAMES / 25, sound=True,
    )  # fmt: skip


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Frames that were read for chunks: (first, how many), without those of the first pass."""
    found: list[tuple[int, int]] = []
    fill = PartReader._fill

    def noted(self: PartReader, store: Any, count: int) -> None:
        found.append((self._at, count))
        fill(self, store, count)

    monkeypatch.setattr(PartReader, "_fill", noted)
    return found


def run(source: Path, out: Path, settings: EncoderSettings, **options: Any) -> EncodeReport:
    name = "vbr" if settings.rc_mode == "q" else "planned" if settings.passes == 2 else "landed"
    policy = make_policy(name)
    return encode(source, out, settings, policy, policy_key=policy.name, workers=1, **options)


TWO_PASSES = SETTINGS.replace(passes=2, speed_profile="uniform")
CONSTANT_QUALITY = SETTINGS.replace(rc_mode="q", cq_level=40)


@pytest.mark.parametrize(
    ("settings", "damaged"),
    [(SETTINGS, False), (SETTINGS, True), (TWO_PASSES, False), (CONSTANT_QUALITY, False)],
    ids=["three passes", "wrong hashes", "two passes", "constant quality"],
)
def test_a_film_that_goes_on_decodes_what_is_left(
    source: Path, tmp_path: Path, read: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch,
    settings: EncoderSettings, damaged: bool,
) -> None:  # fmt: skip
    undisturbed = run(source, tmp_path / "undisturbed.webm", settings)
    assert undisturbed.chunks == CHUNKS
    monkeypatch.setenv("MUZERO_RC_CACHE", str(tmp_path.with_name(f"{tmp_path.name}-cache")))

    def stop(step: Progress) -> None:
        if step.phase == "second pass" and step.done >= 2 * LENGTH:
            raise KeyboardInterrupt

    out = tmp_path / "out.webm"
    with pytest.raises(KeyboardInterrupt):
        run(source, out, settings, on_progress=stop)
    (hashes,) = tmp_path.glob(".out.webm.*/frames.xxh64")
    assert hashes.stat().st_size == 8 * FRAMES
    if damaged:
        hashes.write_bytes(bytes(8 * FRAMES))
    read.clear()
    done = run(source, out, settings)
    assert out.read_bytes() == (tmp_path / "undisturbed.webm").read_bytes()
    assert not list(tmp_path.glob(".out*"))
    # From a second before the third chunk on, and not from the start. In two passes that one
    # closes the film.
    closes = settings.passes == 2
    assert read[0][0] == (3 if closes else 2) * LENGTH - 25
    # Chunks that are made again for the film's target come after that.
    end = next(index for index, (at, count) in enumerate(read) if at + count == FRAMES)
    assert damaged == any(at == 0 for at, _ in read[:end])
    if not damaged:
        frames = itertools.chain.from_iterable(range(at, at + n) for at, n in read[: end + 1])
        assert list(frames) == list(range(read[0][0], FRAMES))
        rest = read[end + 1 :]
        if closes:
            assert rest[0][0] == 2 * LENGTH - 25
            at = next(place for place, (at, n) in enumerate(rest) if at + n >= 3 * LENGTH)
            rest = rest[at + 1 :]
        assert done.chunks_again or not rest


def test_chunks_that_are_made_again_are_sought(
    source: Path, tmp_path: Path, read: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    share = FilmBudget.share

    def wrong(self: FilmBudget, index: int, asked: Any, taken: Any) -> float:
        return share(self, index, asked, taken) * (0.7 if index == CHUNKS - 1 else 1.0)

    monkeypatch.setattr(FilmBudget, "share", wrong)
    sought = run(source, tmp_path / "sought.webm", SETTINGS)
    begun = [at for (before, n), (at, _) in itertools.pairwise(read) if at not in (0, before + n)]
    assert begun and sought.chunks_again < CHUNKS
    monkeypatch.setattr(video, "seek_before", lambda picture, frame: None)
    read.clear()
    whole = run(source, tmp_path / "whole.webm", SETTINGS)
    assert whole.sha256 == sought.sha256 and whole.chunks_again == sought.chunks_again
    assert all(at in (0, before + n) for (before, n), (at, _) in itertools.pairwise(read))


def test_hashes_that_were_cut_or_are_others_are_written_anew(tmp_path: Path) -> None:
    files = ChunkFiles(tmp_path)
    (tmp_path / "frames.xxh64").write_bytes(b"12345678abc")
    assert files.frame_hashes() == b"12345678"
    clip = Clip.__new__(Clip)
    clip.frame_hashes = bytearray()
    kept = KeptHashes(clip, files)
    assert clip.frame_hashes == b"12345678"
    for known in (b"12345678ABCDEFGH", b"1234567_ABCDEFGH", b"1234567_"):
        clip.frame_hashes[:] = known
        kept.keep()
        assert files.frame_hashes() == (tmp_path / "frames.xxh64").read_bytes() == known
    assert clip.frame_hashes == b"1234567_"


def test_hashes_alone_do_not_stay(tmp_path: Path) -> None:
    with ChunkStore(tmp_path / "out.webm", "a" * 16) as store:
        store.files.set_frame_hashes(b"12345678", 0)
    assert os.listdir(tmp_path) == []
    with ChunkStore(tmp_path / "out.webm", "a" * 16) as store:
        store.files.set_frame_hashes(b"12345678", 0)
        (store.folder / "00000.probe.npz").touch()
    assert len(os.listdir(store.folder)) == 2
