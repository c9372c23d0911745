"""The environment's name in Gymnasium."""

from __future__ import annotations

import gymnasium

__all__ = ["ENV_ID", "register"]

ENV_ID = "muzero_rc/VP9RateControl-v1"
"""For `gymnasium.make` and `gymnasium.make_vec`; the version is in the class's docstring."""

_BEFORE = "muzero_rc/VP9RateControl-v0"
"""Kept for one release; it makes a v1."""


def register() -> None:
    """Makes the environment known to Gymnasium; again is harmless."""
    for name in (ENV_ID, _BEFORE):
        if name not in gymnasium.registry:
            gymnasium.register(
                id=name,
                entry_point="muzero_rc.env.gym.env:VP9RateControlEnv",
                vector_entry_point="muzero_rc.env.gym.vector_env:VP9RateControlVectorEnv",
            )
