"""Random corrections: opposite in pairs, of the size asked for, shared by kind."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from muzero_rc.env.control.baselines import ConstantPolicy
from muzero_rc.env.observation.builder import FRAME_FEATURES, GLOBAL_FEATURES
from muzero_rc.training.perturbation import MODEL_COLUMNS, PerturbedPolicy
from muzero_rc.types import FrameDecision, Observation, UpdateType

_BASE = 128
_SCALE = 10.0


def _observations(count: int, kind: UpdateType, spread: float) -> list[Observation]:
    """Frames of a kind; what the model looks at varies by `spread`."""
    rng = np.random.default_rng(7)
    made = []
    for _ in range(count):
        row = np.zeros(FRAME_FEATURES + GLOBAL_FEATURES, np.float32)
        row[list(MODEL_COLUMNS)] = spread * rng.normal(size=len(MODEL_COLUMNS))
        row[: len(UpdateType) + 3] = 0.0  # type, shown, depth and its greatest
        row[kind] = 1.0
        made.append(
            Observation(
                clip=np.zeros((1, 1), np.float32),
                history=np.zeros((0, 1), np.float32),
                frame=row[:FRAME_FEATURES],
                globals=row[FRAME_FEATURES:],
                show_index=0,
                proposal_qindex=_BASE,
            )
        )
    return made


def _shifts(seed: int, sign: int, observations: list[Observation]) -> npt.NDArray[np.int32]:
    policy = PerturbedPolicy(ConstantPolicy(_BASE), _SCALE, sign, seed)
    base = [FrameDecision(_BASE)]
    qindexes = [policy.decide([o], base)[0].qindex for o in observations]
    return np.array(qindexes, np.int32) - _BASE


def test_a_pair_is_opposite_and_a_seed_repeats_itself() -> None:
    frames = _observations(40, UpdateType.LEAF, 0.3)
    plus = _shifts(3, 1, frames)
    assert np.array_equal(plus, -_shifts(3, -1, frames))
    assert np.array_equal(plus, _shifts(3, 1, frames))
    assert not np.array_equal(plus, _shifts(4, 1, frames))


def test_corrections_have_the_size_asked_for() -> None:
    frames = _observations(60, UpdateType.ARF, 0.3)
    drawn = np.concatenate([_shifts(seed, 1, frames) for seed in range(60)])
    assert float(np.std(drawn)) == pytest.approx(_SCALE, rel=0.15)
    assert abs(float(np.mean(drawn))) < 0.15 * _SCALE


def test_frames_of_a_kind_move_together_and_with_what_is_observed() -> None:
    """Less is left to the single frame where nothing that is observed differs."""

    def variance_within(spread: float) -> float:
        frames = _observations(60, UpdateType.LEAF, spread)
        return float(np.mean([np.var(_shifts(seed, 1, frames)) for seed in range(40)]))

    alike, differing = variance_within(0.0), variance_within(0.3)
    assert alike == pytest.approx((0.5 * _SCALE) ** 2, rel=0.15)
    assert differing > 1.8 * alike
