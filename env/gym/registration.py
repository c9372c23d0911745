"""The environment's name in Gymnasium."""

from __future__ import annotations

import gymnasium

__all__ = ["ENV_ID", "register"]

ENV_ID = "muzero_rc/VP9RateControl-v0"
"""For `gymnasium.make` and `gymnasium.make_vec`; the version is in the class's docstring."""


def register() -> None:
    """Makes `ENV_ID` known to Gymnasium; again is harmless."""
    if ENV_ID not in gymnasium.registry:
        gymnasium.register(
            id=ENV_ID,
            entry_point="muzero_rc.env.gym.env:VP9RateControlEnv",
            vector_entry_point="muzero_rc.env.gym.vector_env:VP9RateControlVectorEnv",
        )
