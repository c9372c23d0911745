"""The learner learns, compiles once, resumes exactly, and refuses what is not its own."""

from __future__ import annotations

import dataclasses
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from muzero_rc.agents.config import (
    AgentConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    ReplayConfig,
)
from muzero_rc.agents.muzero.learner import Learner, load_batch, save_batch
from muzero_rc.agents.muzero.networks import Params
from muzero_rc.agents.muzero.replay import Replay
from muzero_rc.agents.muzero.trajectory import Trajectory
from muzero_rc.agents.policy import AgentPolicy
from muzero_rc.checkpoint import write_arrays
from muzero_rc.errors import CheckpointError, InputError
from muzero_rc.types import Observation

MakeEpisode = Callable[..., Trajectory]
STEPS = 200


def teacher(observation: Observation) -> int:
    """Far from the proposal, and a function of the frame's row alone."""
    x, y = observation.frame[0], observation.frame[1]
    return -20 if x > 0.5 else 12 if y > 0.3 else 4


def _config(tiny: NetworkConfig, **loss: float) -> AgentConfig:
    return AgentConfig(
        network=tiny,
        loss=LossConfig.from_dict({"unroll_steps": 2, **loss}),
        # With a target network, for all tests: every configuration is compiled.
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=20, target_every=3),
        replay=ReplayConfig(batch_size=32),
    )


def _replay(config: AgentConfig, make_episode: MakeEpisode) -> Replay:
    replay = Replay(config.network, config.replay, config.loss, seed=0)
    for seed in range(40):
        outcome = 1.0 if seed % 2 else -1.0
        replay.add(make_episode(seed, 12, offset=teacher, outcome=outcome, sigma=1.0))
    return replay


def _imitate(
    tiny: NetworkConfig, make_episode: MakeEpisode, steps: int = STEPS, **loss: float
) -> tuple[float, float]:
    """Trains on the teacher; how far the loss fell, and accuracy on unseen clips."""
    config = _config(tiny, **loss)
    replay, learner = _replay(config, make_episode), Learner(config, seed=0)
    metrics = [learner.update(replay.sample()) for _ in range(steps)]
    first = np.mean([m["policy_kl"] for m in metrics[:10]])
    last = np.mean([m["policy_kl"] for m in metrics[-10:]])
    return float(last / first), _accuracy(learner.params, tiny, make_episode)


def _accuracy(params: Params, tiny: NetworkConfig, make_episode: MakeEpisode) -> float:
    policy = AgentPolicy(params, tiny)
    right = total = 0
    for seed in range(900, 920):
        episode = make_episode(seed, 12)
        observations = [episode.observation(step) for step in range(12)]
        wanted = np.array([o.proposal_qindex + teacher(o) for o in observations])
        right += int((np.abs(policy.qindexes(observations) - wanted) <= 2).sum())
        total += 12
    return right / total


def test_imitation_learns_a_rule_that_holds_on_unseen_clips(
    tiny: NetworkConfig, make_episode: MakeEpisode
) -> None:
    fall, accuracy = _imitate(tiny, make_episode)
    assert fall < 0.5
    assert accuracy > 0.85


def test_without_the_policy_loss_the_same_training_learns_nothing(
    tiny: NetworkConfig, make_episode: MakeEpisode
) -> None:
    fall, accuracy = _imitate(tiny, make_episode, STEPS // 2, policy=0.0)
    assert fall > 0.9
    assert accuracy < 0.5


def test_value_and_auxiliary_heads_learn(tiny: NetworkConfig, make_episode: MakeEpisode) -> None:
    """Outcome and coded bits that follow from clip and frame are predicted after training."""
    config = _config(tiny, policy=0.0)
    replay = Replay(tiny, config.replay, config.loss, seed=0)
    for seed in range(40):
        episode = make_episode(seed, 12, outcome=1.0 if seed % 2 else -1.0)
        episode.globals[:, 0] = episode.outcome
        episode.bits[:] = -4 + 2 * episode.frames[:, 0]
        replay.add(episode)
    learner = Learner(config, seed=0)
    metrics = [learner.update(replay.sample()) for _ in range(STEPS)]
    assert metrics[0]["value_error"] > 0.9 and metrics[-1]["value_error"] < 0.2
    before = np.mean([m["bits"] for m in metrics[:10]])
    after = np.mean([m["bits"] for m in metrics[-10:]])
    # The second unrolled frame's row is not seen from the root: half cannot be known.
    assert after < 0.7 * before


def test_imitation_and_self_play_batches_share_one_compiled_update(
    tiny: NetworkConfig, make_episode: MakeEpisode
) -> None:
    config = _config(tiny)
    replay, learner = _replay(config, make_episode), Learner(config)
    batch = replay.sample()
    learner.update(batch)
    compiled = learner._update._cache_size()
    for weight in (0.0, 0.5, 1.0):
        learner.update(
            batch._replace(
                policy_weight=weight * batch.policy_weight, value_weight=0 * batch.value_weight
            )
        )
    mixed = replay.draw(16)[0] + replay.draw(16)[0]
    learner.update(replay.batch(mixed, np.linspace(0, 1, 32)))
    assert learner._update._cache_size() == compiled
    assert learner.steps == 5
    learner.evaluate(batch)
    assert learner.steps == 5, "evaluation does not learn"


def test_a_resumed_learner_goes_on_exactly(
    tmp_path: Path, tiny: NetworkConfig, make_episode: MakeEpisode
) -> None:
    config = _config(tiny)
    replay, learner = _replay(config, make_episode), Learner(config, seed=4)
    batches = [replay.sample() for _ in range(4)]
    for batch in batches[:2]:
        learner.update(batch)
    learner.save(tmp_path / "learner.npz", {"episodes": 60})
    resumed, meta = Learner.load(tmp_path / "learner.npz")
    assert meta == {"episodes": 60}
    assert resumed.steps == 2 and resumed.config == config
    for batch in batches[2:]:
        assert learner.update(batch) == resumed.update(batch)
    same = jax.tree.map(np.array_equal, learner.state, resumed.state)
    assert all(jax.tree.leaves(same)) and resumed.steps == 4


def test_other_checkpoints_are_refused(tmp_path: Path, tiny: NetworkConfig) -> None:
    learner = Learner(_config(tiny))
    learner.save(tmp_path / "learner.npz")
    wider = AgentConfig(network=tiny.replace(width=32))
    with pytest.raises(CheckpointError, match="other networks"):
        Learner.load(tmp_path / "learner.npz", wider)
    write_arrays(tmp_path / "other.npz", {"x": np.zeros(1)}, {"format": "muzero_rc-policy"})
    with pytest.raises(CheckpointError, match="not a learner's"):
        Learner.load(tmp_path / "other.npz")
    slower = Learner.load(
        tmp_path / "learner.npz",
        AgentConfig(network=tiny, optimizer=OptimizerConfig(learning_rate=1e-5, target_every=5)),
    )[0]
    assert slower.config.optimizer.learning_rate == 1e-5


def test_a_loss_that_is_not_finite_leaves_the_state_alone(
    tmp_path: Path, tiny: NetworkConfig, make_episode: MakeEpisode
) -> None:
    config = _config(tiny)
    replay, learner = _replay(config, make_episode), Learner(config)
    batch = replay.sample()
    before = learner.state
    broken = batch._replace(value=np.full_like(batch.value, np.nan))
    with pytest.raises(FloatingPointError, match="update 0: .*value.*not finite") as caught:
        learner.update(broken)
    assert "psnr" not in str(caught.value), "only what is broken is named"
    assert learner.state is before
    save_batch(tmp_path / "batch.npz", broken, str(caught.value))
    kept = load_batch(tmp_path / "batch.npz")
    for name, array in broken.tokens.items():
        np.testing.assert_array_equal(kept.tokens[name], array)
    np.testing.assert_array_equal(kept.value, broken.value)
    with pytest.raises(FloatingPointError, match="value"):
        learner.update(kept)
    with pytest.raises(CheckpointError, match="not a batch"):
        learner.save(tmp_path / "learner.npz")
        load_batch(tmp_path / "learner.npz")


@pytest.mark.parametrize("term", ["policy", "frame_rd", "episode_rd", "weight"])
def test_infinity_anywhere_is_found_before_it_is_learned(
    tiny: NetworkConfig, make_episode: MakeEpisode, term: str
) -> None:
    config = _config(tiny)
    replay, learner = _replay(config, make_episode), Learner(config)
    batch = replay.sample()
    array = np.array(getattr(batch, term))
    array.flat[0] = np.inf
    with pytest.raises(FloatingPointError, match="not finite"):
        learner.update(batch._replace(**{term: array}))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(learner.params))


def test_the_target_network_follows_in_steps(
    tmp_path: Path, tiny: NetworkConfig, make_episode: MakeEpisode
) -> None:
    config = _config(tiny)
    replay, learner = _replay(config, make_episode), Learner(config)
    first = learner.params
    for step in range(1, 7):
        learner.update(replay.sample())
        wanted = {1: first, 2: first, 3: learner.params}.get(step, learner.target_params)
        same = jax.tree.map(np.array_equal, learner.target_params, wanted)
        assert all(jax.tree.leaves(same)), step
    compiled = learner._update._cache_size()
    learner.update(replay.sample())
    assert learner._update._cache_size() == compiled
    learner.save(tmp_path / "learner.npz")
    again, _ = Learner.load(tmp_path / "learner.npz")
    same = jax.tree.map(np.array_equal, again.state, learner.state)
    assert all(jax.tree.leaves(same))
    with pytest.raises(CheckpointError, match="other networks or another optimizer"):
        alone = config.optimizer.replace(target_every=0)
        Learner.load(tmp_path / "learner.npz", dataclasses.replace(config, optimizer=alone))


@pytest.mark.slow
def test_bfloat16_learns_the_same_rule_with_parameters_in_float32(
    tiny: NetworkConfig, make_episode: MakeEpisode
) -> None:
    full = _config(tiny)
    half = dataclasses.replace(full, optimizer=full.optimizer.replace(precision="bfloat16"))
    replay = _replay(full, make_episode)
    learners = [Learner(config, seed=1) for config in (full, half)]
    for _ in range(30):
        batch = replay.sample()
        exact, rounded = (learner.update(batch) for learner in learners)
    assert exact["loss"] != rounded["loss"], "it does compute with other numbers"
    assert rounded["loss"] == pytest.approx(exact["loss"], rel=0.1)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(learners[1].params))
    jaxpr = str(jax.make_jaxpr(learners[1]._update)(learners[1].state, batch))
    assert "bf16" in jaxpr


_SPREAD = """
import dataclasses, pickle, sys
import jax, numpy as np
from muzero_rc.agents.config import AgentConfig
from muzero_rc.agents.muzero.learner import Learner
from muzero_rc.errors import InputError

config, batches = pickle.loads(sys.stdin.buffer.read())
spread = dataclasses.replace(config, optimizer=config.optimizer.replace(devices=4))
one, many = Learner(config, seed=2), Learner(spread, seed=2)
for batch in batches:
    alone, together = one.update(batch), many.update(batch)
    np.testing.assert_allclose(alone["loss"], together["loss"], rtol=1e-4)
for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(many.params)):
    np.testing.assert_allclose(a, b, rtol=1e-2, atol=2e-4)
assert len(jax.tree.leaves(many.params)[0].sharding.device_set) == 4
assert "all-reduce" in many._update.lower(
    many.state, jax.device_put(batches[0], many._sharding[0])
).compile().as_text()
assert many._update._cache_size() == 1, many._update._cache_size()
every = dataclasses.replace(config, optimizer=config.optimizer.replace(devices=0))
assert Learner(every)._sharding == many._sharding
try:
    Learner(dataclasses.replace(every, replay=config.replay.replace(batch_size=10)))
except InputError as error:
    print(error)
print("same on", len(jax.devices()))
"""


@pytest.mark.slow
def test_four_devices_share_a_batch_and_find_the_same(
    tiny: NetworkConfig, make_episode: MakeEpisode
) -> None:
    config = _config(tiny)
    replay = _replay(config, make_episode)
    batches = [replay.sample() for _ in range(3)]
    done = subprocess.run(
        [sys.executable, "-c", _SPREAD],
        input=pickle.dumps((config, batches)),
        capture_output=True,
        timeout=300,
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().splitlines() == [
        "replay.batch_size must be a multiple of the 4 devices found, not 10",
        "same on 4",
    ]
    every = dataclasses.replace(config, optimizer=config.optimizer.replace(devices=0))
    assert Learner(every)._sharding is None, "alone, a device has nothing to share"
    many = dataclasses.replace(config, optimizer=config.optimizer.replace(devices=32))
    with pytest.raises(InputError, match="but there are"):
        Learner(many)
