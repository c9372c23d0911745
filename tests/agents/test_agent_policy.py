"""The agent as a policy: batches, determinism, files."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from muzero_rc.agents.actions import valid_actions
from muzero_rc.agents.config import NetworkConfig, SearchConfig
from muzero_rc.agents.muzero.networks import initial_params
from muzero_rc.agents.policy import AgentPolicy, load_policy, save_policy
from muzero_rc.checkpoint import read_arrays, write_arrays
from muzero_rc.errors import CheckpointError, InputError
from muzero_rc.types import Observation, Policy

MakeObservations = Callable[..., list[Observation]]


@pytest.fixture(scope="module")
def params(tiny: NetworkConfig) -> Any:
    return initial_params(tiny, 0)


@pytest.fixture(scope="module")
def trained(params: Any) -> Any:
    """Parameters that disagree with the proposal, as training would leave them."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), params
    )


def test_untrained_and_greedy_it_is_libvpx_own_proposal(
    tiny: NetworkConfig, params: Any, make_observations: MakeObservations
) -> None:
    observations = make_observations(0, 12)
    policy = AgentPolicy(params, tiny)
    assert isinstance(policy, Policy)
    qindexes = policy.qindexes(observations)
    assert qindexes.dtype == np.int32
    assert qindexes.tolist() == [o.proposal_qindex for o in observations]


@pytest.mark.parametrize("simulations", [0, 4])
def test_decisions_are_valid_reported_and_padded_away(
    tiny: NetworkConfig, trained: Any, make_observations: MakeObservations, simulations: int
) -> None:
    observations = make_observations(0, 11)
    policy = AgentPolicy(
        trained, tiny, simulations=simulations, search=SearchConfig(depth=3), batch_size=4
    )
    policy.qindexes(observations[:4])
    compiled = policy._plan._cache_size()  # type: ignore[attr-defined]
    qindexes = policy.qindexes(observations)
    last = policy.last
    assert last is not None and qindexes.shape == (11,)
    assert ((qindexes >= 0) & (qindexes <= 255)).all()
    np.testing.assert_array_equal(last.qindexes, qindexes)
    assert last.policies.shape == last.priors.shape == (11, 256) and last.values.shape == (11,)
    valid = valid_actions([o.proposal_qindex for o in observations], "proposal")
    assert valid[np.arange(11), last.actions].all()
    assert (last.policies[~valid] == 0).all()
    np.testing.assert_allclose(last.policies.sum(-1), 1.0, atol=1e-5)
    assert policy._plan._cache_size() == compiled  # type: ignore[attr-defined]
    assert policy.qindexes([]).shape == (0,)


def test_a_digest_tells_policies_apart(tiny: NetworkConfig, params: Any, trained: Any) -> None:
    first, again, other = (AgentPolicy(p, tiny).digest for p in (params, params, trained))
    assert first == again != other
    assert AgentPolicy(params, tiny, temperature=1.0).digest is None
    assert AgentPolicy(params, tiny, simulations=4).digest is None


def test_a_greedy_decision_does_not_depend_on_its_batch(
    tiny: NetworkConfig, trained: Any, make_observations: MakeObservations
) -> None:
    observations = make_observations(0, 12) + make_observations(1, 3)
    policy = AgentPolicy(trained, tiny)
    together = policy.qindexes(observations)
    assert policy.last is not None
    priors = policy.last.priors
    assert any(together != [o.proposal_qindex for o in observations])
    for row, observation in enumerate(observations):
        policy.qindexes([observation])
        np.testing.assert_allclose(policy.last.priors[0], priors[row], rtol=1e-3, atol=1e-5)


def test_sampling_repeats_with_its_seed_and_varies_without(
    tiny: NetworkConfig, params: Any, make_observations: MakeObservations
) -> None:
    observations = make_observations(0, 12)

    def play(seed: int) -> list[list[int]]:
        policy = AgentPolicy(params, tiny, temperature=1.0, seed=seed)
        return [policy.qindexes(observations).tolist() for _ in range(2)]

    assert play(1) == play(1) != play(2)
    assert play(1)[0] != play(1)[1]


def test_new_parameters_are_used_without_compiling(
    tiny: NetworkConfig, params: Any, trained: Any, make_observations: MakeObservations
) -> None:
    observations = make_observations(0, 8)
    policy = AgentPolicy(params, tiny)
    before = policy.qindexes(observations)
    compiled = policy._plan._cache_size()  # type: ignore[attr-defined]
    policy.set_params(trained)
    after = policy.qindexes(observations)
    assert (after != before).any()
    np.testing.assert_array_equal(after, AgentPolicy(trained, tiny).qindexes(observations))
    assert policy._plan._cache_size() == compiled  # type: ignore[attr-defined]


def test_bad_settings_are_refused(tiny: NetworkConfig, params: Any) -> None:
    for settings in ({"simulations": -1}, {"temperature": -0.5}, {"batch_size": 0}):
        with pytest.raises(InputError, match=next(iter(settings))):
            AgentPolicy(params, tiny, **settings)  # type: ignore[arg-type]


def _save(path: Path, params: Any, config: NetworkConfig) -> None:
    save_policy(
        path, params, config, observation_version=3, env_id="muzero_rc/VP9RateControl-v0",
        training={"updates": 7, "clips": ["a", "b"]}, name="mine",
    )  # fmt: skip


def test_a_saved_policy_decides_as_before(
    tmp_path: Path, tiny: NetworkConfig, trained: Any, make_observations: MakeObservations
) -> None:
    observations = make_observations(0, 12)
    _save(tmp_path / "p.npz", trained, tiny)
    policy = load_policy(tmp_path / "p.npz", observation_version=3)
    assert policy.name == "mine" and policy.config == tiny
    assert policy.meta["training"] == {"updates": 7, "clips": ["a", "b"]}
    assert policy.meta["env_id"] == "muzero_rc/VP9RateControl-v0"
    np.testing.assert_array_equal(
        policy.qindexes(observations), AgentPolicy(trained, tiny).qindexes(observations)
    )
    searching = load_policy(tmp_path / "p.npz", simulations=2, name="other")
    assert searching.name == "other" and searching.qindexes(observations[:2]).shape == (2,)


def test_files_that_do_not_fit_are_refused_in_one_line(
    tmp_path: Path, tiny: NetworkConfig, trained: Any
) -> None:
    good = tmp_path / "p.npz"
    _save(good, trained, tiny)
    tree, meta = read_arrays(good)
    broken = {
        "format": ({**meta, "format": "muzero_rc-learner"}, tree, "not a policy"),
        "version": ({**meta, "format_version": 99}, tree, "version 99"),
        "network": ({**meta, "network": {"width": 3}}, tree, "networks"),
        "unknown": ({**meta, "network": {**meta["network"], "new": 1}}, tree, "network.new"),
        "shape": ({**meta, "network": {**meta["network"], "latents": 6}}, tree, "weights"),
        "weights": (meta, {"params": {}}, "weights"),
        "empty": (meta, {"x": np.zeros(1)}, "weights"),
    }
    for name, (header, arrays, message) in broken.items():
        write_arrays(tmp_path / name, arrays, header)
        with pytest.raises(CheckpointError, match=message) as caught:
            load_policy(tmp_path / name)
        assert "\n" not in str(caught.value), name
    with pytest.raises(CheckpointError, match="observations of version 3"):
        load_policy(good, observation_version=4)
    with pytest.raises(CheckpointError, match="does not exist"):
        load_policy(tmp_path / "none.npz")


def test_a_decision_of_the_default_size_vanishes_beside_a_frame() -> None:
    """Deployment: one observation, no search. A 480p frame takes 20 ms or more."""
    config = NetworkConfig(
        clip_features=28, history_features=20, frame_features=45, global_features=26
    )
    rng = np.random.default_rng(0)
    clip = rng.normal(size=(300, 28)).astype(np.float32)
    history = rng.normal(size=(200, 20)).astype(np.float32)
    observation = Observation(
        clip, history, rng.normal(size=45).astype(np.float32),
        rng.normal(size=26).astype(np.float32), 150, 99,
    )  # fmt: skip
    policy = AgentPolicy(initial_params(config, 0), config)
    policy.qindexes([observation])
    seconds = []
    for _ in range(200):
        # Of the CPU: waiting for a core counts for nothing.
        start = time.process_time()
        policy.qindexes([observation])
        seconds.append(time.process_time() - start)
    # 0.4 ms on idle cores, 2 ms while both have other work; a frame is slower then, too.
    assert np.quantile(seconds, 0.1) < 5e-3
