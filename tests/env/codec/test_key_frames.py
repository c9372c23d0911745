"""Key frames as libvpx will place them, and first passes cut at them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import FIRST_PASS_FIELDS, FirstPass, first_pass
from muzero_rc.env.codec.key_frames import KeyFrameFinder, key_frames
from muzero_rc.env.codec.session import EncoderSession
from muzero_rc.env.codec.settings import CodecSettings
from muzero_rc.errors import InputError
from muzero_rc.types import UpdateType

FAST = CodecSettings(target_kbps=50, speed=8, auto_alt_ref=0, lag_in_frames=0, tpl=False)


def black(frames: int, fps: Fraction | int = 25) -> Clip:
    data = np.full((frames, 16 * 16 * 3 // 2), 128, np.uint8)
    return Clip.from_frames(data, 16, 16, fps)


def coded_keys(clip: Clip, statistics: FirstPass, settings: CodecSettings) -> list[int]:
    with EncoderSession(clip, settings, first_pass=statistics) as session:
        found = []
        while (info := session.next()) is not None:
            if info.update_type is UpdateType.KEY:
                found.append(info.show_index)
            session.encode(200)
        return found


def made_up(seed: int, frames: int) -> npt.NDArray[np.float64]:
    """Statistics near every threshold: stretches of motion, cuts, flashes, slides, stills."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((frames, len(FIRST_PASS_FIELDS)))

    def put(name: str, values: npt.ArrayLike) -> None:
        rows[:, FIRST_PASS_FIELDS.index(name)] = values

    put("frame", np.arange(frames))
    put("weight", 1.0)
    inter = rng.choice([0.02, 0.3, 0.6, 0.9, 1.0], frames, p=[0.1, 0.1, 0.2, 0.3, 0.3])
    still = rng.random(frames) < 0.5
    # Half of a clip's stretches of 40 frames stand still.
    quiet = np.repeat(rng.random(frames // 40 + 1) < 0.5, 40)[:frames]
    inter = np.where(quiet, 1.0, np.clip(inter + rng.normal(0, 0.02, frames), 0, 1))
    coded = 10 ** rng.uniform(0, 2.5, frames) * np.where(quiet, 0.1, 1.0)
    put("pcnt_inter", inter)
    put("pcnt_motion", np.where(still | quiet, 0.0, inter * rng.random(frames)))
    put("pcnt_second_ref", rng.choice([0.0, 0.1, 0.3, 0.7], frames) * ~quiet)
    put("pcnt_neutral", (1 - inter) * rng.random(frames))
    put("pcnt_intra_low", (1 - inter) * rng.random(frames))
    put("coded_error", coded)
    put("sr_coded_error", coded * rng.choice([0.9, 1.0, 1.5], frames, p=[0.1, 0.4, 0.5]))
    put("intra_error", coded * 10 ** rng.uniform(-0.8, 1, frames))
    put("duration", 400_000.0)
    put("count", 1.0)
    return rows


def packed(rows: npt.NDArray[np.float64]) -> bytes:
    whole = np.zeros((len(rows) + 1, 26))
    whole[:-1, :25] = rows
    whole[-1, :25] = rows.sum(axis=0)
    return whole.tobytes()


@pytest.mark.parametrize(("seed", "fps", "most"), [(0, 25, 128), (1, 60, 128), (2, 12, 40)])
def test_made_up_statistics_give_libvpx_the_same_keys(seed: int, fps: int, most: int) -> None:
    statistics = FirstPass.unpack(packed(made_up(seed, 1500)))
    clip, settings = black(1500, fps), FAST.replace(kf_max_dist=most)
    keys = key_frames(statistics.stats, clip, settings).tolist()
    assert keys == coded_keys(clip, statistics, settings)
    assert len(set(np.diff(keys))) > 5


@pytest.mark.parametrize(("seed", "most"), [(3, 128), (4, 40)])
def test_keys_are_the_same_ones_as_statistics_come(seed: int, most: int) -> None:
    rows = made_up(seed, 1500)
    clip, settings = black(1500), FAST.replace(kf_max_dist=most)
    keys = key_frames(rows, clip, settings).tolist()
    finder = KeyFrameFinder(clip, settings)
    rng = np.random.default_rng(seed)
    at, lags = 0, []
    while at < len(rows):
        step = int(rng.integers(0, 20))
        finder.add(rows[at : at + step], ended=at + step >= len(rows))
        at = min(at + step, len(rows))
        # What is said to be known is, and no key frame is told too soon.
        assert finder.keys == [key for key in keys if key <= finder.keys[-1]]
        assert all(key in finder.keys for key in keys if key < finder.known)
        lags.append(at - finder.known)
    assert finder.keys == keys
    # As far ahead as libvpx looks, but where all has stood still since a transition.
    assert np.median(lags) <= 18 and max(lags) <= most + 20


def test_a_real_cut_is_found(moving_square: Callable[..., Clip]) -> None:
    one = moving_square(20, 64, 48)
    frames = np.stack([one.frame(i) for i in range(20)])
    other = np.random.default_rng(1).integers(0, 255, frames.shape[1], np.uint8)
    clip = Clip.from_frames(np.concatenate([frames, np.tile(other, (20, 1))]), 64, 48, 25)
    statistics = first_pass(clip, FAST, cache=False)
    keys = key_frames(statistics.stats, clip, FAST).tolist()
    assert keys == [0, 20] == coded_keys(clip, statistics, FAST)


@pytest.fixture
def statistics(moving_square: Callable[..., Clip]) -> FirstPass:
    return first_pass(moving_square(12, 64, 48), FAST, cache=False)


def test_the_first_pass_of_all_frames_is_libvpxs_own(statistics: FirstPass) -> None:
    assert statistics.part(0, 12).packed == statistics.packed


def test_a_part_has_its_rows_and_their_sum(statistics: FirstPass) -> None:
    part = statistics.part(4, 9)
    assert part.stats[:, 1:].tolist() == statistics.stats[4:9, 1:].tolist()
    assert part.stats[:, 0].tolist() == [0, 1, 2, 3, 4]
    total = np.frombuffer(part.packed, np.float64).reshape(-1, 26)[-1]
    count, duration = (FIRST_PASS_FIELDS.index(name) for name in ("count", "duration"))
    assert total[count] == 5 and total[duration] == 1 + part.stats[:, duration].sum()
    # libvpx takes it for a clip of five frames.
    assert coded_keys(black(5), part, FAST) == [0]


def test_a_part_has_the_blocks_of_its_frames(statistics: FirstPass) -> None:
    blocks = np.arange(12, dtype=np.float16)
    known = dataclasses.replace(statistics, find_blocks=lambda: blocks)
    found = known.part(4, 9).blocks
    assert found is not None and found.tolist() == [4, 5, 6, 7, 8]


@pytest.mark.parametrize("ends", [(5, 5), (-1, 4), (3, 13)])
def test_a_part_must_be_there(statistics: FirstPass, ends: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="no frames"):
        statistics.part(*ends)


@pytest.mark.slow
def test_keys_of_a_real_film(sample_clips: dict[str, Path]) -> None:
    clip = Clip.load(sample_clips["bigbuckbunny"], height=90)
    statistics = first_pass(clip, FAST, cache=False)
    keys = key_frames(statistics.stats, clip, FAST).tolist()
    assert keys == coded_keys(clip, statistics, FAST)
