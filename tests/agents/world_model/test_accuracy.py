"""Measures of predictions, and that the model learns what it is meant to learn."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from muzero_rc.agents.world_model.accuracy import (
    Calibration,
    Predictions,
    explained,
    held_out,
    predict_held_out,
    within_group_correlation,
)
from muzero_rc.agents.world_model.frames import NO_REFERENCE, EncodeFrames
from muzero_rc.agents.world_model.normal_equations import NormalEquations, Ridge
from muzero_rc.agents.world_model.study import Study, equations_by_source
from muzero_rc.errors import InputError

RIDGE = Ridge(features=0.03, kinds=0.0003)
WANTED_R2 = 0.78


def of_bases(change: Callable[[EncodeFrames], EncodeFrames]) -> Callable[..., list[Study]]:
    return lambda studies: [replace(study, base=change(study.base)) for study in studies]


def without_references(studies: list[Study]) -> list[Study]:
    return of_bases(
        lambda base: replace(base, references=np.full_like(base.references, NO_REFERENCE))
    )(studies)


def without_frames_shown_later(studies: list[Study]) -> list[Study]:
    return of_bases(lambda base: replace(base, weight=base.shown.astype(float)))(studies)


def with_shuffled_labels(studies: list[Study]) -> list[Study]:
    """What came of each frame goes to another; qindexes stay."""
    rng = np.random.default_rng(0)

    def shuffled(base: EncodeFrames, encode: EncodeFrames) -> EncodeFrames:
        order = rng.permutation(len(encode))
        grown = {
            name: getattr(base, name) * (getattr(encode, name) / getattr(base, name))[order]
            for name in ("bits", "sse", "shown_sse")
        }
        return replace(encode, **grown)

    return [
        replace(study, encodes=[shuffled(study.base, encode) for encode in study.encodes])
        for study in studies
    ]


def gain_r2(taught: list[Study], truth: list[Study]) -> float:
    """Models learn from `taught`, sources held out, and predict the true encodes' gains."""
    by_source = equations_by_source(taught)
    everything = sum(by_source.values(), NormalEquations.empty())
    models = [(everything - by_source[study.source]).solve(RIDGE) for study in taught]
    asked = [replace(study, base=told.base) for study, told in zip(truth, taught, strict=True)]
    expected = Predictions.of(models, asked).gains[1]
    came = np.concatenate([study.gains() for study in truth])
    return explained(came, expected)


def test_it_learns(studies: list[Study]) -> None:
    assert gain_r2(studies, studies) > WANTED_R2
    assert held_out(studies, RIDGE).gain_r2 == pytest.approx(gain_r2(studies, studies))


@pytest.mark.parametrize(
    "spoil", [with_shuffled_labels, without_references, without_frames_shown_later]
)
def test_it_does_not_learn_from_less(
    studies: list[Study], spoil: Callable[[list[Study]], list[Study]]
) -> None:
    """The test above would find a fault that does as much harm as these."""
    assert gain_r2(spoil(studies), studies) < WANTED_R2 - 0.15


def test_accuracy_of_held_out_sources(studies: list[Study]) -> None:
    accuracy = held_out(studies, RIDGE)
    assert accuracy.encodes == 72
    assert accuracy.within_clip > 0.9
    assert accuracy.bits_r2 > 0.98 and accuracy.sse_r2 > 0.98
    assert 0.8 < accuracy.calibration.kept < 1.2


def test_own_encodes_help_a_clip_that_is_unlike_the_others(
    synthetic: Any, law: Any, studies: list[Study]
) -> None:
    theta = np.array(law.coefficients)
    theta[1, 0, :7] *= np.linspace(1.5, 0.5, 7)  # errors of references answer more, of leaves less
    odd = synthetic(50).study(type(law)(theta), 12, 50)
    both = [*studies, odd]
    errors = []
    for own in (0, 6):
        predictions = predict_held_out(both, RIDGE, own_encodes=own, own_weight=10.0)
        came, expected = predictions.gains[:, predictions.study == len(studies)][:, -6:]
        errors.append(float(np.abs(came - expected).mean()))
    assert errors[1] < 0.8 * errors[0]


def test_a_model_that_is_held_to_the_slope_is_better_on_clips_unlike_the_others(
    synthetic: Any, law: Any, studies: list[Study]
) -> None:
    """Errors of the new clips answer half as much again; their slopes tell."""
    theta = np.array(law.coefficients)
    theta[1, :2] *= 1.5
    odd = [synthetic(50 + n).study(type(law)(theta), 6, 50 + n) for n in range(3)]
    model = sum((s.equations() for s in studies), NormalEquations.empty()).solve(RIDGE)
    free, held = (
        Predictions.of([model] * 3, odd, calibrated=calibrated).accuracy()
        for calibrated in (False, True)
    )
    assert free.gain_r2 < 0 < 0.7 < held.gain_r2
    assert held.sse_r2 > free.sse_r2


def test_a_ridge_that_is_too_strong_explains_less(studies: list[Study]) -> None:
    strong = Ridge(features=1e4, kinds=1e4)
    assert held_out(studies, strong).gain_r2 < held_out(studies, RIDGE).gain_r2


def test_one_source_cannot_be_held_out(studies: list[Study]) -> None:
    with pytest.raises(InputError, match="takes studies of two"):
        held_out(studies[:1])
    with pytest.raises(InputError, match="no encode to predict"):
        held_out(studies[:2], own_encodes=6)


def test_share_of_variance() -> None:
    came = np.array([1.0, 2.0, 3.0, 6.0])
    assert explained(came, came) == 1.0
    assert explained(came, np.full(4, 3.0)) == 0.0
    assert explained(came, came[::-1]) < 0
    assert explained(came, np.array([1.0, 2, 3, 0]), np.array([1.0, 1, 1, 0])) == 1.0
    assert np.isnan(explained(np.ones(3), np.ones(3)))


def test_correlation_within_groups() -> None:
    groups = np.array([0, 0, 1, 1])
    came = np.array([0.0, 1.0, 10.0, 11.0])
    assert within_group_correlation(came, np.array([5.0, 7.0, -9, -7]), groups) == (
        pytest.approx(1.0)
    )
    assert within_group_correlation(came, -came, groups) == pytest.approx(-1.0)
    assert np.isnan(within_group_correlation(came, np.array([1.0, 1, 2, 2]), groups))


def test_calibration() -> None:
    promised = np.array([0.03, 0.06, 0.09])
    calibration = Calibration.of(promised, promised / 3)
    assert calibration.kept == pytest.approx(1 / 3)
    assert (calibration.promised, calibration.realised) == pytest.approx((0.06, 0.02))
    with pytest.raises(InputError):
        Calibration.of(promised, promised[:1])
