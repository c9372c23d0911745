"""The first pass: what it depends on, how it is kept on disk, and its blocks."""

from __future__ import annotations

import mmap
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter

from muzero_rc.env.codec import block_stats as blocks_module
from muzero_rc.env.codec import first_pass as module
from muzero_rc.env.codec.block_stats import block_features
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import (
    FIRST_PASS_FIELDS,
    FirstPass,
    block_statistics,
    cache_folder,
    first_pass,
)
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import EncoderError, OutputError

SETTINGS = EncoderSettings(target_kbps=80, speed=5)
# What only steers the rate, each with another value.
STEERING = [
    {"target_kbps": 5000},
    {"rc_mode": "cq", "cq_level": 40},
    {"rc_mode": "q", "cq_level": 20},
    {"min_quantizer": 20},
    {"max_quantizer": 40},
    {"undershoot_pct": 90},
    {"overshoot_pct": 0},
    {"speed_profile": "hierarchical"},
    {"passes": 3},
    {"frame_parallel": False},
    {"show_existing": False},
    {"budget_kbps": 90.5},
    {"time": 2.0},
    {"budget_work": 1.0},
]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of its own."""
    monkeypatch.setenv("MUZERO_RC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "first_pass"


def runs(
    clip: Clip,
    settings: EncoderSettings = SETTINGS,
    *,
    blocks: bool = False,
    told: bool = True,
    cache: bool = True,
) -> int:
    """How often libvpx's first pass is run, not taken from the cache.

    With `blocks` they are read, and with `told` that is known before.
    """
    real = module._native.first_pass
    with mock.patch.object(module._native, "first_pass", side_effect=real) as native:
        found = first_pass(clip, settings, blocks=blocks and told, cache=cache)
        if blocks:
            assert found.blocks is not None and found.blocks is found.blocks
    return native.call_count


def column(stats: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
    return stats[:, FIRST_PASS_FIELDS.index(name)]


def test_a_row_for_every_frame(carphone: Clip) -> None:
    found = first_pass(carphone, SETTINGS)
    assert found.stats.shape == (carphone.num_frames, len(FIRST_PASS_FIELDS)) == (60, 25)
    np.testing.assert_array_equal(column(found.stats, "frame"), np.arange(60))
    np.testing.assert_array_equal(column(found.stats, "count"), np.ones(60))
    assert column(found.stats, "pcnt_inter")[0] == 0
    assert (column(found.stats, "pcnt_inter")[1:] > 0.5).all()
    assert np.isfinite(found.stats).all()
    with pytest.raises(ValueError, match="read-only"):
        found.stats[0, 0] = 1
    np.testing.assert_array_equal(FirstPass.unpack(found.packed).stats, found.stats)


@pytest.mark.parametrize("size", [0, 1, 207, 208, 417])
def test_what_is_no_statistics_is_refused(size: int) -> None:
    with pytest.raises(EncoderError, match="not whole records"):
        FirstPass.unpack(bytes(size))


# ---------------------------------------------------------------- cache


def test_the_second_call_does_not_run(carphone: Clip, cache: Path) -> None:
    assert runs(carphone)
    assert len(list(cache.iterdir())) == 1
    assert not runs(carphone)
    assert (
        first_pass(carphone, SETTINGS).packed == first_pass(carphone, SETTINGS, cache=False).packed
    )
    assert runs(carphone, cache=False)


@pytest.mark.parametrize("part", ["digest_of_extension", "digest_of_code"])
def test_other_code_runs_again(
    carphone: Clip, cache: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_pass(carphone, SETTINGS)
    monkeypatch.setattr(f"muzero_rc.env.codec.first_pass.{part}", lambda *_: "another")
    assert runs(carphone) == 1 and runs(carphone) == 0


def test_what_steers_the_rate_changes_nothing(carphone: Clip, cache: Path) -> None:
    """The reason why the key may leave it out."""
    packed = first_pass(carphone, SETTINGS).packed
    for change in STEERING:
        other = SETTINGS.replace(**change)
        assert first_pass(carphone, other, cache=False).packed == packed, change
        assert not runs(carphone, other)


def test_the_key_leaves_out_nothing_else() -> None:
    changed = {name for change in STEERING for name in change}
    assert set(SETTINGS.as_dict()) - set(SETTINGS.first_pass_key()) == changed


def test_other_clips_and_settings_run(
    carphone: Clip, cache: Path, moving_square: Callable[..., Clip]
) -> None:
    assert runs(carphone)
    assert runs(carphone, SETTINGS.replace(speed=1))
    assert runs(carphone, SETTINGS.replace(lag_in_frames=5))
    assert runs(moving_square(3, 64, 64, 25))
    assert runs(moving_square(3, 64, 64, 30))
    assert runs(moving_square(4, 64, 64, 25))


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "whole records of nothing"])
def test_a_damaged_entry_is_made_anew(carphone: Clip, cache: Path, damage: str) -> None:
    good = first_pass(carphone, SETTINGS).packed
    (entry,) = cache.iterdir()
    data = bytearray(entry.read_bytes())
    if damage == "cut":
        del data[-208:]
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
    elif damage == "empty":
        data.clear()
    else:
        data[:] = bytes(32 + 208 * 61)
    entry.write_bytes(data)
    assert runs(carphone)
    assert first_pass(carphone, SETTINGS).packed == good
    assert not runs(carphone)


def test_a_cache_that_cannot_be_written_is_no_error(
    carphone: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    for root in (file, Path("/proc/none"), Path("/dev/full")):
        monkeypatch.setenv("MUZERO_RC_CACHE", str(root))
        assert runs(carphone)
        assert runs(carphone)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_no_error(carphone: Clip, cache: Path) -> None:
    cache.mkdir(parents=True, mode=0o500)
    assert runs(carphone)
    assert runs(carphone)


def test_nothing_is_left_of_an_entry_that_could_not_be_written(
    carphone: Clip, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: str, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert runs(carphone)
    assert list(cache.iterdir()) == []


def test_the_longest_unused_go_when_there_is_too_much(
    cache: Path, monkeypatch: pytest.MonkeyPatch, moving_square: Callable[..., Clip]
) -> None:
    clips = [moving_square(3, 32, 32, 20 + index) for index in range(4)]
    size = 32 + 4 * 208
    monkeypatch.setattr(module, "CACHE_LIMIT_BYTES", 3 * size)
    for age, clip in enumerate(clips[:3]):
        before = set(cache.iterdir()) if cache.exists() else set()
        first_pass(clip, SETTINGS)
        (entry,) = set(cache.iterdir()) - before
        assert entry.stat().st_size == size
        os.utime(entry, (1000 + age, 1000 + age))
    assert not runs(clips[0])  # used: now the youngest
    first_pass(clips[3], SETTINGS)
    assert len(list(cache.iterdir())) == 3
    assert [runs(clip, cache=True) for clip in (clips[0], clips[2], clips[3])] == [False] * 3
    assert runs(clips[1])


def test_the_folder_may_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MUZERO_RC_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "first_pass"
    monkeypatch.delenv("MUZERO_RC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert cache_folder() == tmp_path / "user" / "muzero_rc" / "first_pass"


# ---------------------------------------------------------------- blocks


def test_blocks_add_up_to_the_frame(carphone: Clip) -> None:
    """vp9_firstpass.c: sums / 256, plus 200 sqrt(blocks), over blocks; 1024 for intra mode."""
    stats = first_pass(carphone, SETTINGS).stats
    blocks = block_statistics(carphone, SETTINGS)
    assert blocks.shape == (60, 9, 11, 4)
    assert blocks.dtype == np.int32
    intra, inter = (blocks[..., i].astype(np.int64) for i in (0, 1))
    assert (inter[0] == -1).all()
    assert (inter[1:] >= 0).all()
    num = 9 * 11
    best = np.where(inter < 0, intra + 1024, np.minimum(intra + 1024, inter))
    for name, errors in (("intra_error", intra + 1024), ("coded_error", best)):
        expected = (errors.sum((1, 2)) // 256 + 200 * np.sqrt(num)) / num
        np.testing.assert_allclose(column(stats, name), expected, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize(("down", "right"), [(0, 2), (2, 0), (0, -3), (-1, 0), (-2, 3)])
def test_motion_of_a_pan_is_found(down: int, right: int) -> None:
    """The window moves; the vector says where in the last frame a block's content was."""
    width, height, num = 128, 96, 5
    scene = gaussian_filter(np.random.default_rng(0).normal(size=(200, 232)), 2)
    scene = 30 + 200 * (scene - scene.min()) / np.ptp(scene)
    frames = []
    for index in range(num):
        top, left = 50 + down * index, 50 + right * index
        luma = scene[top : top + height, left : left + width].astype(np.uint8)
        frames.append(np.concatenate([luma.ravel(), np.full(luma.size // 2, 128, np.uint8)]))
    clip = Clip.from_frames(np.stack(frames), width, height, 25)
    moved = block_statistics(clip, SETTINGS)[1:, :, :, 2:]
    assert (np.median(moved, (0, 1, 2)) == [8 * down, 8 * right]).all()
    assert (moved == [8 * down, 8 * right]).all(-1).mean() > 0.7
    stats = first_pass(clip, SETTINGS).stats[1:]
    np.testing.assert_allclose(column(stats, "MVr"), 8 * down, atol=2)
    np.testing.assert_allclose(column(stats, "MVc"), 8 * right, atol=2)


def test_blocks_come_from_the_same_pass_and_stay_on_disk(carphone: Clip, cache: Path) -> None:
    told: list[int] = []
    found = first_pass(carphone, SETTINGS, blocks=True, on_frames=told.append)
    assert told and found.packed == first_pass(carphone, SETTINGS, cache=False).packed
    expected = block_features(block_statistics(carphone, SETTINGS), 176, 144)
    again = first_pass(carphone, SETTINGS, blocks=True)
    apart = first_pass(carphone, SETTINGS, blocks=True, cache=False)
    later = first_pass(carphone, SETTINGS, cache=False)
    for blocks in (found.blocks, again.blocks, apart.blocks, later.blocks):
        assert blocks is not None
        assert blocks.shape == (60, 9, 11, 4)
        np.testing.assert_array_equal(blocks, expected)
        assert not blocks.flags.writeable
        base = blocks
        while isinstance(base, np.ndarray):
            base = base.base
        assert isinstance(base, mmap.mmap), "a film's blocks do not fit into memory"
    assert len(list(cache.iterdir())) == 2


def test_nothing_is_passed_twice_for_blocks(carphone: Clip, cache: Path) -> None:
    assert runs(carphone, blocks=True) == 1
    assert runs(carphone, blocks=True) == 0
    assert runs(carphone) == 0
    other = SETTINGS.replace(speed=1)
    assert runs(carphone, other) == 1
    assert runs(carphone, other, blocks=True) == 1  # nobody had asked for them
    assert runs(carphone, other, blocks=True) == 0


def test_blocks_that_nobody_was_told_of_take_one_pass_more(carphone: Clip, cache: Path) -> None:
    assert runs(carphone, blocks=True, told=False) == 2
    assert runs(carphone, blocks=True, told=False) == 0


def test_damaged_blocks_are_made_anew(carphone: Clip, cache: Path) -> None:
    first_pass(carphone, SETTINGS, blocks=True)
    (entry,) = cache.glob("*.blocks*")
    entry.write_bytes(entry.read_bytes()[:-8])
    assert runs(carphone, blocks=True)
    assert not runs(carphone, blocks=True)
    entry.unlink()
    assert runs(carphone, blocks=True)


def test_blocks_without_a_cache_that_can_be_written(
    carphone: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MUZERO_RC_CACHE", str(tmp_path / "file"))
    found = first_pass(carphone, SETTINGS, blocks=True)
    assert found.blocks is not None and found.blocks.shape == (60, 9, 11, 4)


def test_what_goes_wrong_with_a_block_ends_the_pass(
    carphone: Clip, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Exception):
        """Nothing else raises it."""

    def stop(*_: object) -> None:
        raise Stop

    monkeypatch.setattr(blocks_module, "block_features", stop)
    with pytest.raises(Stop):
        first_pass(carphone, SETTINGS, blocks=True)
    assert list(cache.iterdir()) == []


def test_a_disk_that_is_full_of_blocks_is_told(
    moving_square: Callable[..., Clip], cache: Path
) -> None:
    clip = moving_square(40, 256, 256)  # 80 kB of blocks
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OutputError, match="free some space or set MUZERO_RC_CACHE"):
            first_pass(clip, SETTINGS, blocks=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert list(cache.iterdir()) == []


def test_the_newest_stays_however_large(
    carphone: Clip, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CACHE_LIMIT_BYTES", 1000)
    assert runs(carphone, blocks=True)
    assert not runs(carphone, blocks=True)
    assert runs(carphone, SETTINGS.replace(speed=1), blocks=True)
    assert runs(carphone, blocks=True)


@pytest.mark.parametrize(("width", "height", "depth"), [(96, 200, 8), (131, 391, 8), (90, 258, 10)])
def test_threads_change_no_byte(width: int, height: int, depth: int) -> None:
    rng = np.random.default_rng(width)
    samples = width * height + 2 * ((width + 1) // 2) * ((height + 1) // 2)
    start = rng.integers(0, 1 << depth, samples)
    kind = np.uint8 if depth == 8 else np.uint16
    frames = np.stack([np.roll(start, 3 * shift) for shift in range(9)]).astype(kind)
    frames[5:] = rng.integers(0, 1 << depth, samples)  # another scene
    clip = Clip.from_frames(frames, width, height, 25, bit_depth=depth)
    alone = first_pass(clip, SETTINGS, cache=False)
    for threads in (2, 3, 16):
        assert first_pass(clip, SETTINGS, cache=False, threads=threads).packed == alone.packed


def test_threads_are_started_where_rows_have_work_for_them() -> None:
    def started(height: int, threads: int) -> int:
        counts = [len(os.listdir("/proc/self/task"))]
        frames = np.zeros((40, 96 * height + 2 * 48 * (height // 2)), np.uint8)
        clip = Clip.from_frames(frames, 96, height, 25)
        first_pass(
            clip, SETTINGS, cache=False, threads=threads,
            on_frames=lambda _: counts.append(len(os.listdir("/proc/self/task"))),
        )  # fmt: skip
        assert len(counts) > 1
        return max(counts) - counts[0]

    assert started(256, 3) - started(256, 1) == 2
    assert started(120, 3) == started(120, 1)
