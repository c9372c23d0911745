"""Every representation behind one interface: what it sees, and what it must not depend on."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from muzero_rc.agents.config import REPRESENTATIONS, NetworkConfig
from muzero_rc.agents.muzero.networks import (
    Networks,
    make_networks,
    parameter_shapes,
)
from muzero_rc.agents.tokens import Tokenizer, block_groups
from muzero_rc.errors import InputError
from muzero_rc.types import KnownBlocks, Observation

MakeObservations = Callable[..., list[Observation]]
_ROWS = 7


@functools.cache
def _compiled(config: NetworkConfig) -> Networks:
    return Networks(*(jax.jit(function) for function in make_networks(config)))


@functools.cache
def _params(config: NetworkConfig) -> Any:
    """Parameters of the size of fresh ones, none of them zero; nothing is compiled for them."""
    rng = np.random.default_rng(0)

    def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
        values = rng.normal(size=shape).astype(np.float32)
        if name == "scale":
            return 1 + np.float32(0.05) * values
        return values / np.float32(np.sqrt(shape[0])) if len(shape) > 1 else 0.05 * values

    return {
        module: {name: draw(name, shape) for name, shape in leaves.items()}
        for module, leaves in parameter_shapes(config).items()
    }


@pytest.fixture(scope="module", params=REPRESENTATIONS)
def config(request: pytest.FixtureRequest, tiny: NetworkConfig) -> NetworkConfig:
    """A tiny network of each kind."""
    return tiny.replace(
        representation=request.param, sequence_rows=12, sequence_latents=12, block_frames=3,
        block_rows=8, block_columns=3 if request.param == "hip" else 0,
    )  # fmt: skip


def _with_blocks(observations: list[Observation], seed: int = 0) -> list[Observation]:
    rng = np.random.default_rng(seed)
    frames = len(observations[0].clip)
    blocks = rng.normal(size=(frames, 3, 5, 3)).astype(np.float16)
    return [dataclasses.replace(o, first_pass=KnownBlocks(blocks)) for o in observations]


def _states(config: NetworkConfig, observations: list[Observation]) -> np.ndarray:
    # Always as many rows: each other number is compiled anew.
    rows = [*observations, *observations[:1] * (_ROWS - len(observations))]
    tokens = Tokenizer(config).batch(rows)
    states = np.asarray(_compiled(config).representation(_params(config), tokens))
    return states[: len(observations)]


def test_shape_and_scale(config: NetworkConfig, make_observations: MakeObservations) -> None:
    states = _states(config, _with_blocks(make_observations(0, 7)))
    assert states.shape == (7, config.state_width)
    np.testing.assert_allclose(states.mean(-1), 0.0, atol=1e-5)
    np.testing.assert_allclose(states.std(-1), 1.0, atol=1e-2)


def test_every_kind_of_token_matters_and_its_padding_does_not(
    config: NetworkConfig, make_observations: MakeObservations
) -> None:
    networks, params = _compiled(config), _params(config)
    clip = np.random.default_rng(0).normal(size=(2, config.clip_features)).astype(np.float32)
    tokens = Tokenizer(config).batch(_with_blocks(make_observations(1, 4, clip))[2:3] * _ROWS)
    before = networks.representation(params, tokens)
    masks = {
        "window": "window_mask", "segments": "segment_mask", "history": "history_mask",
        "sequence": "sequence_mask", "blocks": "block_mask",
    }  # fmt: skip
    for name in tokens:
        if name.endswith("mask") or name == "query_position":
            continue
        moved = dict(tokens)
        moved[name] = tokens[name] + np.asarray(1, tokens[name].dtype)
        if name == "sequence_position":
            moved[name] = tokens[name] - np.asarray(7, np.int32)
        after = networks.representation(params, moved)
        assert np.abs(after - before).max() > 1e-4, f"{name} is not seen"
    for name, mask in masks.items():
        if name not in tokens:
            continue
        padding = ~tokens[mask]
        assert padding.any(), f"this test is about padding, and {name} has none"
        moved = {n: np.array(x) for n, x in tokens.items()}
        moved[name][padding] = 7.0
        if name == "sequence":
            moved["sequence_position"][padding] = 1
        if name == "history":
            moved["history_position"][padding] = 1
        after = networks.representation(params, moved)
        np.testing.assert_allclose(after, before, atol=1e-5, err_msg=name)
        rows = np.flatnonzero(padding.reshape(-1))
        flat = moved[name].reshape(padding.size, -1)
        flat[rows] = np.random.default_rng(0).permutation(flat[rows])
        after = networks.representation(params, moved)
        np.testing.assert_allclose(after, before, atol=1e-5, err_msg=f"{name} permuted")


@pytest.mark.parametrize("frames", [10, 5000])
def test_short_and_long_clips(
    config: NetworkConfig, make_observations: MakeObservations, frames: int
) -> None:
    rng = np.random.default_rng(0)
    clip = rng.normal(size=(frames, config.clip_features)).astype(np.float32)
    observations = make_observations(0, 12, clip)[-3:]
    history = rng.normal(size=(frames, config.history_features)).astype(np.float32)
    history[:, -2:] = np.arange(frames)[:, None] / config.history_position_scale
    late = [dataclasses.replace(o, history=history, show_index=frames - 1) for o in observations]
    states = _states(config, late)
    assert np.isfinite(states).all()
    np.testing.assert_allclose(_states(config, late[1:2])[0], states[1], atol=2e-5)


def test_a_run_of_decisions_gives_the_states_of_each_alone(
    config: NetworkConfig, make_observations: MakeObservations
) -> None:
    observations = _with_blocks(make_observations(2, 10))
    runs = [observations[3:7], observations[0:4]]
    tokens = Tokenizer(config).steps(runs)
    together = _compiled(config).states(_params(config), tokens)
    assert together.shape == (2, 4, config.state_width)
    for run, states in zip(runs, together, strict=True):
        np.testing.assert_allclose(_states(config, run), states, atol=2e-5)


def test_a_runs_first_state_is_that_of_acting_however_long_the_encode(
    config: NetworkConfig, make_observations: MakeObservations
) -> None:
    """What is learned from a run must be what is seen when deciding."""
    short = config.replace(sequence_rows=6, sequence_latents=3)
    observations = _with_blocks(make_observations(2, 30))
    run = observations[20:25]
    together = _compiled(short).states(_params(short), Tokenizer(short).steps([run]))
    np.testing.assert_allclose(_states(short, run[:1])[0], together[0, 0], atol=2e-5)
    if config.representation != "perceiver_ar":
        np.testing.assert_allclose(_states(short, run), together[0], atol=2e-5)


def test_thousands_of_coded_frames_in_one_pass(
    tiny: NetworkConfig, make_observations: MakeObservations
) -> None:
    config = tiny.replace(representation="perceiver_ar", sequence_rows=3000, sequence_latents=4)
    observations = make_observations(0, 3000)
    networks, params, tokenizer = _compiled(config), _params(config), Tokenizer(config)
    run = observations[2990:2995]
    before = networks.states(params, tokenizer.steps([run]))
    history = np.array(run[-1].history)
    history[5, :-2] += 3.0
    moved = [dataclasses.replace(o, history=history[: len(o.history)]) for o in run]
    after = networks.states(params, tokenizer.steps([moved]))
    assert np.isfinite(before).all()
    assert (np.abs(after - before).max(-1) > 1e-7).all(), "the sixth frame is not seen"


def test_the_same_again(config: NetworkConfig, make_observations: MakeObservations) -> None:
    observations = _with_blocks(make_observations(0, 7))
    np.testing.assert_array_equal(_states(config, observations), _states(config, observations))


def test_later_decisions_change_nothing_before_them(
    config: NetworkConfig, make_observations: MakeObservations
) -> None:
    observations = make_observations(2, 10)
    run = observations[3:7]
    tokenizer = Tokenizer(config)
    networks, params = _compiled(config), _params(config)
    before = networks.states(params, tokenizer.steps([run]))
    history = np.array(run[-1].history)
    history[4:] += 1.0  # what was coded after the second decision of the run
    later = [
        *run[:2],
        dataclasses.replace(run[2], frame=run[2].frame + 1, history=history[:5]),
        dataclasses.replace(run[3], frame=run[3].frame - 1, history=history),
    ]
    after = networks.states(params, tokenizer.steps([later]))
    np.testing.assert_allclose(after[0, :2], before[0, :2], atol=1e-6)
    assert np.abs(after[0, 2:] - before[0, 2:]).min(axis=0).max() > 1e-3


def test_it_is_blind_to_when_the_encode_began(
    config: NetworkConfig, make_observations: MakeObservations
) -> None:
    """The same recent frames at a later place in a longer clip look the same."""
    if config.representation == "mlp":
        pytest.skip("pools the window with the history's place alone")
    observation = make_observations(3, 8)[6]
    shift = 500
    clip = np.zeros((len(observation.clip) + shift, config.clip_features), np.float32)
    history = np.array(observation.history)
    history[:, -2:] += shift / config.history_position_scale
    tokens = Tokenizer(config)
    here = tokens.batch([observation])
    there = tokens.batch(
        [dataclasses.replace(observation, history=history, clip=clip, show_index=6 + shift)]
    )
    name = "sequence" if config.representation == "perceiver_ar" else "history"
    np.testing.assert_allclose(here[name], there[name], atol=1e-4)


def test_default_sizes_fit_a_policy_file() -> None:
    for name in REPRESENTATIONS:
        config = NetworkConfig(
            clip_features=28, history_features=20, frame_features=46, global_features=27,
            representation=name, block_columns=4 if name == "hip" else 0,
        )  # fmt: skip
        shapes = parameter_shapes(config)
        total = sum(int(np.prod(s)) for leaves in shapes.values() for s in leaves.values())
        assert total * 4 < 8e6, f"{name}: {total} weights"


def test_blocks_come_in_few_shapes(tiny: NetworkConfig) -> None:
    config = tiny.replace(representation="hip", block_columns=3, block_rows=256)
    assert [block_groups(n, config) for n in (1, 99, 256, 257, 1200, 8160, 32400)] == [
        1, 1, 1, 2, 8, 32, 128,
    ]  # fmt: skip


def test_unknown_representations_are_refused(tiny: NetworkConfig) -> None:
    with pytest.raises(InputError, match="perceiver_io, perceiver_ar, hip, mlp"):
        tiny.replace(representation="transformer")
