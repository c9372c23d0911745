"""The environment and the passes step the same encode: equal to the byte."""

from __future__ import annotations

import pytest

from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.control.baselines import BasePolicy
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.gym.env import VP9RateControlEnv
from muzero_rc.env.passes.pipeline import rollout


@pytest.mark.parametrize("passes", [2, 3])
def test_the_environment_is_a_rollout(carphone: Clip, passes: int) -> None:
    settings = EncoderSettings(
        target_kbps=60, speed=5, speed_profile="hierarchical", passes=3 if passes == 3 else 2
    )
    done = rollout(carphone, settings, BasePolicy())
    env = VP9RateControlEnv(
        [carphone], 60, speed=5, speed_profile="hierarchical", passes=passes, action="full"
    )
    env.reset(seed=0)
    over = False
    while not over:
        *_, over, _, _ = env.step([128, 0, 0, 0, 0])  # the controller's own proposal
    assert env._episode is not None
    assert env._episode.finish().sha256 == done.stream.sha256
    env.close()
