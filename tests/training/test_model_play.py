"""Training on the encoder model starts where its tests of learning say that it starts."""

from __future__ import annotations

import pytest

from muzero_rc.agents.config import AgentConfig, NetworkConfig, SearchConfig
from muzero_rc.env.observation.builder import (
    CLIP_FEATURES,
    FRAME_FEATURES,
    GLOBAL_FEATURES,
    HISTORY_FEATURES,
)
from muzero_rc.env.rewards import RewardConfig, make_reward
from muzero_rc.env.testing.encoder_model import ModelBackend, ModelClip, best_constant
from muzero_rc.training.model_play import ModelTask, ModelTraining


@pytest.mark.parametrize(("frames", "group"), [(4, 3), (9, 4), (25, 8)])
def test_a_fresh_agent_plays_the_best_constant_qindex(frames: int, group: int) -> None:
    network = NetworkConfig(
        clip_features=CLIP_FEATURES, history_features=HISTORY_FEATURES,
        frame_features=FRAME_FEATURES, global_features=GLOBAL_FEATURES, window_back=1,
        window_ahead=1, segments=1, history_rows=1, width=8, latents=1, self_attends=1, heads=1,
        widening=1, state_width=8, dynamics_width=8, head_width=8, value_bins=3,
    )  # fmt: skip
    backend = ModelBackend()
    clips = [ModelClip(seed=seed, num_frames=frames, group=group) for seed in (0, 1)]
    tasks = [ModelTask.make(backend, clip, 120, 0.005) for clip in clips]
    config = AgentConfig(network=network, search=SearchConfig(simulations=1))
    training = ModelTraining(config, make_reward(RewardConfig(kind="rd_gain")), tasks)
    for task, score in training.greedy():
        tables = backend.tables(task.clip)
        qindex = best_constant(tables, backend.budget(task.clip, task.target_kbps)).qindexes[0]
        bits, psnr_avg = tables.score([qindex] * len(tables.bits))
        assert score.psnr_avg == pytest.approx(psnr_avg, abs=1e-3)
        assert score.bits == pytest.approx(bits, rel=1e-3)
