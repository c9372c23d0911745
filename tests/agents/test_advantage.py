"""The teacher's additive model: steps of kinds, and what it learns of single frames."""

from __future__ import annotations

import numpy as np
import pytest

from muzero_rc.agents.advantage import (
    NUM_KINDS,
    STEP,
    AdvantageExample,
    AdvantageModel,
)
from muzero_rc.env.control.recipe import DEFAULT_RECIPE
from muzero_rc.types import UpdateType

KIND_STEPS = DEFAULT_RECIPE.qp_offsets.by_kind()
_FEATURES = 12
_DEPTH = len(UpdateType) + 1
_SIGNAL = 11


def _frames(rng: np.random.Generator, count: int) -> np.ndarray:
    """Leaf frames whose only telling column is `_SIGNAL`."""
    features = np.zeros((count, _FEATURES), np.float32)
    features[:, UpdateType.LEAF] = 1.0
    features[:, _SIGNAL] = rng.normal(size=count)
    return features


def _example(rng: np.random.Generator, source: str, slope: float) -> AdvantageExample:
    features = _frames(rng, 40)
    steps = (STEP * rng.normal(size=40)).astype(np.float32)
    x = steps / STEP
    # A frame with a high signal gains from being coarser; all lose by the square.
    gain = float(np.sum(slope * features[:, _SIGNAL] * x - 0.5 * x * x) / 40)
    return AdvantageExample(source, features, steps, features, np.zeros_like(steps), 40, gain)


def _fitted(slope: float) -> AdvantageModel:
    rng = np.random.default_rng(0)
    model = AdvantageModel(KIND_STEPS, [_SIGNAL])
    model.fit([_example(rng, f"s{i % 6}", slope) for i in range(300)])
    return model


def _kind(update: UpdateType, depth: float) -> np.ndarray:
    features = np.zeros((1, _FEATURES), np.float32)
    features[0, update] = 1.0
    features[0, _DEPTH] = depth
    return features


def test_what_depends_on_the_frame_is_found() -> None:
    model = _fitted(0.6)
    assert model.explained > 0.9
    high, low = (np.zeros((1, _FEATURES), np.float32) for _ in range(2))
    for features, signal in ((high, 1.0), (low, -1.0)):
        features[0, UpdateType.LEAF] = 1.0
        features[0, _SIGNAL] = signal
    # The top is at slope / (2 * 0.5) steps of ten; half of it is trusted.
    assert model.best_steps(high)[0] == pytest.approx(0.5 * STEP * 0.6, rel=0.2)
    assert model.best_steps(low)[0] == pytest.approx(-0.5 * STEP * 0.6, rel=0.2)


@pytest.mark.parametrize(
    ("update", "depth", "kind"),
    [
        (UpdateType.KEY, 0.0, 0),
        (UpdateType.LEAF, 1.0, 1),
        (UpdateType.GOLDEN, 0.0, 2),
        (UpdateType.ARF, 0.25, 2),
        (UpdateType.ARF, 0.5, 3),
        (UpdateType.ARF, 0.8, 4),
        (UpdateType.OVERLAY, 1.0, 5),
    ],
)
def test_a_kind_has_its_own_step_where_nothing_else_is_known(
    update: UpdateType, depth: float, kind: int
) -> None:
    assert len(KIND_STEPS) == NUM_KINDS
    step = _fitted(0.0).best_steps(_kind(update, depth))[0]
    assert step == pytest.approx(KIND_STEPS[kind], abs=1.0)


def test_steps_stay_near_their_kinds() -> None:
    steps = _fitted(50.0).best_steps(_frames(np.random.default_rng(1), 200), limit=16.0)
    assert np.abs(steps - KIND_STEPS[1]).max() <= 16.0
