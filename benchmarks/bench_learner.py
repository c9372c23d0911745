"""What our learner's update costs over a plain one: updates per second, same network, same batch.

The plain one is what small MuZero implementations do: unroll in a Python loop, cross-entropy
of policy and value, Adam, compiled, metrics left on the device. Ours has in addition
weights per sample and step, the auxiliary losses, clipping, decay, and looks at every
number for NaN. "with replay" also draws the batch from the replay. They take turns; ratios
are those of medians, and there is no limit: the figures say what the additions cost.

    .venv/bin/python benchmarks/bench_learner.py [--batch 32 128] [--unroll 5 10]
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import print_table

from muzero_rc.agents.config import AgentConfig
from muzero_rc.agents.muzero.learner import Learner
from muzero_rc.agents.muzero.losses import scale_gradient
from muzero_rc.agents.muzero.networks import initial_params, make_networks
from muzero_rc.agents.muzero.replay import Replay
from muzero_rc.agents.muzero.support import two_hot
from muzero_rc.agents.muzero.targets import Batch
from muzero_rc.agents.muzero.trajectory import Trajectory, TrajectoryRecorder
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.stepper import Stepper
from muzero_rc.env.testing.encoder_model import ModelBackend, ModelClip
from muzero_rc.training.presets import PRESETS


def _trajectory(seed: int, config: AgentConfig) -> Trajectory:
    """An encode of the model with qindexes drawn around the proposal."""
    rng = np.random.default_rng(seed)
    backend, clip = ModelBackend(), ModelClip(seed=seed, num_frames=60)
    settings = EncoderSettings(target_kbps=500)
    stats = backend.first_pass(clip, settings)
    episode = Stepper.open(backend, clip, settings, stats)
    recorder = TrajectoryRecorder(config.network.action_frame)
    while episode.info is not None:
        observation = episode.observe()
        qindex = int(np.clip(observation.base_qindex + rng.integers(-20, 21), 0, 255))
        result = episode.step(qindex)
        recorder.step(
            observation, qindex, bits_per_pixel=result.bits / result.samples[0],
            psnr_db=result.psnr, policy=np.full(256, 1 / 256), value=0.0,
        )  # fmt: skip
    return recorder.finish(outcome=1.0, overshoot=0.0, psnr_gain_db=0.1)


def _plain(config: AgentConfig) -> Callable[[Batch], Any]:
    networks = make_networks(config.network)
    optimizer = optax.adam(config.optimizer.learning_rate)

    def loss(params: Any, batch: Batch) -> Any:
        state = networks.representation(params, batch.tokens)
        total: Any = 0.0
        steps = batch.actions.shape[1]
        for step in range(steps + 1):
            prediction = networks.prediction(params, state)
            target = two_hot(jnp.asarray(batch.value[:, step]), prediction.value_logits.shape[-1])
            policy = jnp.asarray(batch.policy[:, step])
            total += optax.softmax_cross_entropy(prediction.policy_logits, policy).mean()
            total += optax.softmax_cross_entropy(prediction.value_logits, target).mean()
            if step < steps:
                scaled = scale_gradient(state, 0.5)
                state = networks.dynamics(params, scaled, batch.actions[:, step]).state
        return total / (steps + 1)

    @jax.jit
    def update(params: Any, state: Any, batch: Batch) -> Any:
        value, gradients = jax.value_and_grad(loss)(params, batch)
        changes, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, changes), state, value

    params = initial_params(config.network, 0)
    held = [params, optimizer.init(params)]

    def step(batch: Batch) -> Any:
        held[0], held[1], value = update(held[0], held[1], batch)
        return jax.block_until_ready(value)

    return step


def _seconds(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _measure(
    config: AgentConfig, trajectories: list[Trajectory], show_existing: int
) -> list[float]:
    """Seconds to compile plain and ours; median seconds of plain, ours, ours with replay."""
    replay = Replay(config.network, config.replay, config.loss, 0)
    for trajectory in trajectories:
        replay.add(trajectory)
    learner, plain, batch = Learner(config), _plain(config), replay.sample()
    calls: tuple[Callable[[], Any], ...] = (
        lambda: plain(batch),
        lambda: learner.update(batch),
        lambda: learner.update(replay.sample()),
    )
    first = [_seconds(call) for call in calls]
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(show_existing):
        for times, call in zip(taken, calls, strict=True):
            times.append(_seconds(call))
    return [*first[:2], *(statistics.median(times) for times in taken)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--unroll", type=int, nargs="+", default=[5])
    parser.add_argument("--repeats", type=int, default=20)
    given = parser.parse_args()

    preset = PRESETS["laptop"].agent
    trajectories = [_trajectory(seed, preset) for seed in range(16)]
    rows = []
    for size in given.batch:
        for unroll in given.unroll:
            config = dataclasses.replace(
                preset,
                loss=preset.loss.replace(unroll_steps=unroll),
                replay=preset.replay.replace(batch_size=size),
            )
            plain_s, ours_s, alone, ours, whole = _measure(
                config, trajectories, given.show_existing
            )
            rows.append(
                (
                    f"batch {size}, unroll {unroll}",
                    f"{plain_s:.1f}",
                    f"{ours_s:.1f}",
                    f"{1 / alone:.1f}",
                    f"{1 / ours:.1f}",
                    f"{alone / ours:.2f}",
                    f"{alone / whole:.2f}",
                )
            )
    print_table(
        f"laptop's network on {jax.devices()[0].platform}; seconds to compile, updates per second",
        ("update", "plain s", "ours s", "plain/s", "ours/s", "ours", "with replay"),
        rows,
    )


if __name__ == "__main__":
    main()
