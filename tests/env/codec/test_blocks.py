"""Blocks: how they are normalised, and who gets them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from muzero_rc.env.codec import _native
from muzero_rc.env.codec import first_pass as first_pass_module
from muzero_rc.env.codec.block_stats import (
    BLOCK_COLUMNS,
    BLOCK_FEATURES,
    block_features,
    block_grid,
)
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.control.baselines import ProposalPolicy
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.gym.env import VP9RateControlEnv
from muzero_rc.env.observation.builder import ObservationBuilder
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.env.testing.fakes import FakeBackend, FakeClip
from muzero_rc.types import Observation, QindexPolicy


class Watcher(QindexPolicy):
    """Follows the proposal and keeps the blocks it is shown."""

    name = "watcher"

    def __init__(self, needs_blocks: bool) -> None:
        self.needs_blocks = needs_blocks
        self.seen: list[npt.NDArray[np.float16] | None] = []

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        self.seen += [o.blocks for o in observations]
        return np.array([o.proposal_qindex for o in observations], np.int32)


def test_golden() -> None:
    raw = np.array([[[1000, 250, -8, 16], [0, -1, 0, 0]]], np.int32)  # one row of two blocks
    out = block_features(raw, 320, 180)
    assert out.shape == (1, 2, BLOCK_FEATURES) and out.dtype == np.float16
    expected = [
        math.log(1001) / 3 - 2,
        math.log(251) / 3 - 2,
        math.asinh(-100 * 1 / 180) / 2,  # one pixel up
        math.asinh(100 * 2 / 320) / 2,  # two to the right
    ]
    np.testing.assert_allclose(out[0, 0].astype(float), expected, atol=2e-3)
    np.testing.assert_allclose(out[0, 1].astype(float), [-2, -2, 0, 0], atol=1e-6)
    assert len(BLOCK_COLUMNS) == BLOCK_FEATURES == 4


def test_whatever_a_block_holds_is_bounded() -> None:
    ends = np.array([-(2**31), -1, 0, 1, 2**31 - 1], np.int32)
    raw = np.stack(np.meshgrid(ends, ends, ends, ends), axis=-1).reshape(1, -1, 1, 4)
    out = block_features(raw, 16, 16)
    assert np.isfinite(out).all() and (np.abs(out) <= 3).all()
    # A block that is not predicted looks like one whose prediction gains nothing.
    np.testing.assert_array_equal(out[raw[..., 1] < 0][:, 1], out[raw[..., 1] < 0][:, 0])


@pytest.mark.parametrize(
    ("size", "grid"), [((16, 16), (1, 1)), ((18, 34), (3, 2)), ((1920, 1080), (68, 120))]
)
def test_grid(size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert block_grid(*size) == grid


def test_the_grid_is_libvpxs(moving_square: Callable[..., Clip], fast: EncoderSettings) -> None:
    for size in ((34, 50), (40, 24), (64, 72)):
        watcher = Watcher(True)
        rollout(moving_square(2, *size), fast, watcher)
        assert watcher.seen[0] is not None
        assert watcher.seen[0].shape == (2, *block_grid(*size), BLOCK_FEATURES)


def test_observations_share_the_first_passs_blocks() -> None:
    class WithBlocks:
        stats = FakeBackend().first_pass(FakeClip(), EncoderSettings(target_kbps=100)).stats
        blocks = np.zeros((len(stats), 2, 3, BLOCK_FEATURES), np.float16)

    clip, settings = FakeClip(), EncoderSettings(target_kbps=100)
    session = FakeBackend().open(clip, settings, WithBlocks)
    info = session.next()
    builder = ObservationBuilder(clip, settings, WithBlocks())
    assert builder.observe(info).blocks is WithBlocks.blocks
    without = ObservationBuilder(clip, settings, FakeBackend().first_pass(clip, settings))
    assert without.observe(info).blocks is None


def test_blocks_are_made_when_somebody_reads_them(
    carphone: Clip, fast: EncoderSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUZERO_RC_CACHE", str(tmp_path))
    other = rollout(carphone, fast, ProposalPolicy())
    assert not list((tmp_path / "first_pass").glob("*.blocks*"))
    reads = Watcher(False)
    one = rollout(carphone, fast, reads)
    assert one.stream.sha256 == other.stream.sha256
    assert all(blocks is reads.seen[0] for blocks in reads.seen)
    assert reads.seen[0] is not None and reads.seen[0].shape == (60, 9, 11, 4)
    assert len(list((tmp_path / "first_pass").glob("*.blocks*"))) == 1


def test_a_pass_for_a_policy_that_needs_blocks_keeps_them(
    carphone: Clip, fast: EncoderSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUZERO_RC_CACHE", str(tmp_path))
    passes: list[object] = []

    def counting(*args: Any, **more: Any) -> Any:
        passes.append(more)
        return native(*args, **more)

    native = _native.first_pass
    monkeypatch.setattr(first_pass_module._native, "first_pass", counting)
    reads = Watcher(True)
    rollout(carphone, fast, reads)
    assert len(passes) == 1 and reads.seen[0] is not None


def test_the_environment_has_them(carphone: Clip) -> None:
    env = VP9RateControlEnv([carphone], 80, speed=5)
    arrays, _ = env.reset(seed=0)
    found = env.observation.blocks
    assert found is not None and found.shape == (60, 9, 11, BLOCK_FEATURES)
    assert arrays in env.observation_space  # which does not know them: sizes vary
    env.close()
