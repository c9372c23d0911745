"""Small networks and made-up episodes for the agent's tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from muzero_rc.agents.actions import imitation_target
from muzero_rc.agents.config import NetworkConfig
from muzero_rc.agents.muzero.trajectory import Trajectory, TrajectoryRecorder
from muzero_rc.types import Observation


@pytest.fixture(scope="session")
def tiny() -> NetworkConfig:
    """Networks that compile and run fast; sizes mutually prime where they may be."""
    return NetworkConfig(
        clip_features=7,
        history_features=6,
        frame_features=5,
        global_features=3,
        window_back=2,
        window_ahead=8,
        segments=3,
        history_rows=4,
        width=16,
        latents=5,
        self_attends=1,
        heads=2,
        widening=1,
        state_width=24,
        dynamics_width=32,
        head_width=20,
        value_bins=11,
    )


MakeObservations = Callable[..., list[Observation]]
MakeEpisode = Callable[..., Trajectory]


@pytest.fixture(scope="session")
def make_observations(tiny: NetworkConfig) -> MakeObservations:
    """(seed, frames, clip) -> the observations of one encode, history only growing."""

    def make(seed: int = 0, frames: int = 12, clip: np.ndarray | None = None) -> list[Observation]:
        rng = np.random.default_rng(seed)
        if clip is None:
            clip = rng.normal(size=(frames, tiny.clip_features)).astype(np.float32)
        history = rng.normal(size=(frames, tiny.history_features)).astype(np.float32)
        history[:, -2] = np.arange(frames) / tiny.history_position_scale
        history[:, -1] = np.arange(frames) / tiny.history_position_scale
        return [
            Observation(
                clip=clip,
                history=history[:step],
                frame=rng.normal(size=tiny.frame_features).astype(np.float32),
                globals=rng.normal(size=tiny.global_features).astype(np.float32),
                show_index=step,
                proposal_qindex=int(rng.integers(40, 220)),
            )
            for step in range(frames)
        ]

    return make


@pytest.fixture(scope="session")
def make_episode(make_observations: MakeObservations) -> MakeEpisode:
    """(seed, frames, clip, offset, outcome) -> an episode; `offset` is the teacher's rule."""

    def make(
        seed: int = 0,
        frames: int = 12,
        clip: np.ndarray | None = None,
        offset: Callable[[Observation], int] = lambda observation: 0,
        outcome: float = 1.0,
        sigma: float = 0.0,
    ) -> Trajectory:
        rng = np.random.default_rng(seed + 1000)
        recorder = TrajectoryRecorder("proposal")
        for observation in make_observations(seed, frames, clip):
            qindex = int(np.clip(observation.proposal_qindex + offset(observation), 0, 255))
            recorder.step(
                observation,
                qindex,
                bits_per_pixel=float(2.0 ** rng.normal(-4)),
                psnr_db=float(rng.normal(40, 3)),
                policy=imitation_target(qindex, observation.proposal_qindex, "proposal", sigma),
                value=float(rng.uniform(-1, 1)),
            )
        return recorder.finish(outcome=outcome, overshoot=0.03, psnr_gain_db=-0.2)

    return make
