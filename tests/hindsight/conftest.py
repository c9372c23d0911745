"""A private cache for every test of hindsight search, and a clip small enough to search."""

from __future__ import annotations

import numpy as np
import pytest

from muzero_rc.env.codec.clip import Clip


@pytest.fixture(autouse=True)
def _private_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUZERO_RC_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def moving_clip() -> Clip:
    """96x64, 24 frames: texture that drifts, and a square on it."""
    rng = np.random.default_rng(0)
    texture = rng.integers(40, 200, (96, 160), np.uint8)
    texture = (texture // 2 + np.roll(texture, 1, 1) // 4 + np.roll(texture, 1, 0) // 4).astype(
        np.uint8
    )
    frames = []
    for index in range(24):
        luma = texture[index : index + 64, 2 * index : 2 * index + 96].copy()
        luma[20:36, 3 * index : 3 * index + 16] = 230
        frames.append(np.concatenate([luma.ravel(), np.full(2 * 48 * 32, 128, np.uint8)]))
    return Clip.from_frames(np.stack(frames), 96, 64, 25, "moving")
