"""The Perceiver residual: the same in JAX and numpy, nothing before training, and it learns."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_rc.agents.world_model.accuracy import explained
from muzero_rc.agents.world_model.constant import NUM_STEP_KINDS, MeanSteps
from muzero_rc.agents.world_model.features import NUM_FEATURES, features_of
from muzero_rc.agents.world_model.gain import Objective
from muzero_rc.agents.world_model.linear import NUM_OUTPUTS, NUM_TERMS, LinearModel
from muzero_rc.agents.world_model.normal_equations import NormalEquations, Ridge
from muzero_rc.agents.world_model.plan_model import PlanModel
from muzero_rc.agents.world_model.planner import PlanSettings
from muzero_rc.agents.world_model.residual.arrays import Scale, study_arrays
from muzero_rc.agents.world_model.residual.config import NetworkConfig
from muzero_rc.agents.world_model.residual.loss import predicted
from muzero_rc.agents.world_model.residual.model import CorrectedModel, Residual
from muzero_rc.agents.world_model.residual.network import network
from muzero_rc.agents.world_model.residual.plain import forward
from muzero_rc.agents.world_model.residual.train import TrainSettings, train_residual
from muzero_rc.checkpoint import read_arrays, write_arrays
from muzero_rc.errors import CheckpointError, InputError

SMALL = NetworkConfig(channels=16, latents=4, self_attends=1, heads=2, dropout=0.0)


def _params(config: NetworkConfig, noise: float = 0.0) -> Any:
    tokens = np.zeros((1, 32, NUM_FEATURES), np.float32)
    init = jax.jit(lambda key: network(config).init(key, tokens, tokens[..., 0], False))
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: np.array(leaf + noise * rng.normal(size=leaf.shape), np.float32),
        init(jax.random.key(0)),
    )


def test_numpy_computes_what_jax_computes_and_padding_changes_nothing() -> None:
    config = dataclasses.replace(SMALL, self_attends=2)
    params = _params(config, noise=0.1)
    tokens = np.random.default_rng(0).normal(size=(37, NUM_FEATURES)).astype(np.float32)
    padded = np.pad(tokens, ((0, 27), (0, 0)), constant_values=9.0)[None]
    real = (np.arange(64) < 37).astype(np.float32)[None]
    apply = jax.jit(lambda *inputs: network(config).apply(params, None, *inputs, False))
    theirs = apply(padded, real)[0][:, :37]
    ours = forward(params, tokens, config)
    assert ours.shape == (NUM_OUTPUTS, 37, NUM_TERMS) and np.abs(ours).max() > 0.1
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_untrained_it_leaves_the_linear_model_as_it_is(studies: Any, law: Any) -> None:
    study = studies[0]
    linear = LinearModel(law.coefficients)
    residual = Residual([_params(SMALL)], Scale.of(studies), SMALL)
    known = linear.response(study.base)
    corrected = CorrectedModel(linear, residual).response(study.base, features_of(study.base))
    np.testing.assert_array_equal(corrected.bits, known.bits)
    np.testing.assert_array_equal(corrected.sse, known.sse)


@pytest.mark.parametrize("average_share", [0.5, 0.2])
def test_errors_pass_on_in_jax_as_in_numpy(studies: Any, law: Any, average_share: float) -> None:
    """Bits, errors and gains of every encode, against the recursion and the objective."""
    linear = LinearModel(law.coefficients)
    arrays = study_arrays(studies[:3], [linear] * 3, Scale.of(studies), average_share)
    bits, sse, gains = jax.jit(predicted)(arrays.clip.linear, arrays)
    for place, study in enumerate(studies[:3]):
        objective = Objective(study.base, study.slope, average_share)
        response = linear.response(study.base)
        for row, changes in enumerate(study.changes()):
            wanted_bits, wanted_sse = response.changes(changes.octaves)
            count = len(wanted_bits)
            np.testing.assert_allclose(bits[place, row, :count], wanted_bits, atol=1e-4)
            np.testing.assert_allclose(sse[place, row, :count], wanted_sse, atol=1e-4)
            wanted = objective.gain(wanted_bits, objective.shown(wanted_sse))
            assert float(gains[place, row]) == pytest.approx(wanted, abs=1e-4)
            assert float(arrays.gain[place, row]) == pytest.approx(objective.realised(changes))


@pytest.mark.slow
def test_it_learns_what_the_linear_model_lacks_and_not_from_shuffled_gains(
    studies: Any, law: Any
) -> None:
    """A linear model that knows nothing of propagation; a clip held out."""
    lacking = np.array(law.coefficients)
    lacking[:, 2:] = 0.0
    models = [LinearModel(lacking)] * len(studies)
    arrays = study_arrays(studies, models, Scale.of(studies[:-2]), 0.5)
    train, test = (
        jax.tree.map(lambda values, part=part: values[part], arrays)
        for part in (slice(-2), slice(-2, None))
    )
    settings = TrainSettings(steps=60, batch=10, rate=1e-2, network=SMALL)

    def r2(params: Any) -> float:
        apply = jax.jit(
            lambda params: network(SMALL).apply(
                params, None, test.clip.tokens, test.clip.frames, False
            )
        )
        gains = predicted(test.clip.linear + apply(params), test)[2]
        return explained(np.ravel(test.gain).astype(float), np.ravel(gains).astype(float))

    before = r2(_params(SMALL))
    learned = r2(train_residual(train, settings, seed=0))
    # Each encode gets the outcomes of another.
    turned = train._replace(
        bits=np.roll(train.bits, 1, axis=1), sse=np.roll(train.sse, 1, axis=1),
        gain=np.roll(train.gain, 1, axis=1),
    )  # fmt: skip
    shuffled = r2(train_residual(turned, settings, seed=0))
    assert before < 0.2 and learned > 0.7
    assert shuffled < 0.2


def test_another_network_reads_what_goes_with_its_studies(studies: Any, law: Any) -> None:
    models = [LinearModel(law.coefficients)] * len(studies)
    arrays = study_arrays(studies, models, Scale.of(studies), 0.5)

    def forward(tokens: Any, frames: Any, training: bool, beside: Any) -> Any:
        """Not a number, where the tokens beside are not those of the study."""
        added = hk.get_parameter("added", (NUM_OUTPUTS, 1, NUM_TERMS), init=jnp.zeros)
        odd = jnp.where(jnp.all(tokens == beside), 0.0, jnp.nan)
        return jnp.broadcast_to(added + odd, (len(tokens), NUM_OUTPUTS, tokens.shape[1], NUM_TERMS))

    settings = TrainSettings(steps=60, batch=4, noise=0.0, network=SMALL)
    tokens = arrays.clip.tokens
    for beside, finite in ((tokens, True), (np.roll(tokens, 1, axis=0), False)):
        params = train_residual(arrays, settings, 0, hk.transform(forward), (beside,))
        added = np.asarray(params["~"]["added"])
        assert np.isfinite(added).all() == finite and np.any(added != 0.0)


def _model(studies: Any, residual: Residual | None) -> PlanModel:
    equations = sum((study.equations() for study in studies[:4]), NormalEquations.empty())
    kinds, one = np.zeros((1, NUM_STEP_KINDS)), np.ones(1)
    steps = MeanSteps(np.array([5]), one, one, one, kinds, kinds)
    settings = PlanSettings(step_strength=1.0)
    return PlanModel(equations, Ridge(), steps, settings, 4.0, residual=residual)


def test_a_plan_model_keeps_its_residual_in_its_file(studies: Any, tmp_path: Path) -> None:
    residual = Residual([_params(SMALL, 0.02), _params(SMALL)], Scale.of(studies), SMALL)
    model, path = _model(studies, residual), tmp_path / "plan.npz"
    model.save(path)
    again = PlanModel.load(path)
    assert again.residual is not None and again.residual.config == SMALL
    base = studies[5].base
    features = features_of(base)
    np.testing.assert_allclose(
        again.residual.coefficients(features), residual.coefficients(features), atol=1e-3
    )
    assert model.plan(base, 5).steps.any()
    plain = _model(studies, None)
    plain.save(path)
    assert PlanModel.load(path).residual is None
    assert (plain.plan(base, 5).steps != model.plan(base, 5).steps).any()


def test_a_damaged_residual_is_told(studies: Any, tmp_path: Path) -> None:
    path = tmp_path / "plan.npz"
    broken = _params(SMALL)
    broken["linear_1"]["b"][0] = np.nan
    _model(studies, Residual([broken], Scale.of(studies), SMALL)).save(path)
    with pytest.raises(CheckpointError, match="not finite"):
        PlanModel.load(path)
    _model(studies, Residual([_params(SMALL)], Scale.of(studies), SMALL)).save(path)
    tree, meta = read_arrays(path)
    del tree["residual"]["members"]["0"]["linear_1"]
    write_arrays(path, tree, meta)
    with pytest.raises(CheckpointError, match="damaged"):
        PlanModel.load(path)


def test_sizes_out_of_range_are_input_errors() -> None:
    for change in ({"heads": 3}, {"latents": 0}, {"dropout": 1.0}):
        with pytest.raises(InputError):
            dataclasses.replace(SMALL, **change)
