"""What the environment is given, checked before an encode is spent on it."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from numbers import Real
from typing import Any, cast

import numpy as np

from muzero_rc.env.control.recipe import Recipe
from muzero_rc.env.rewards import Reward, RewardConfig, make_reward
from muzero_rc.errors import InputError

__all__ = [
    "is_number",
    "recipe_of",
    "reset_options",
    "reward_of",
    "reward_value",
    "score_key_of",
    "timeout_of",
    "whole_number",
]

_OPTIONS = ("clip", "target_kbps")

_TAKEN = {
    "action_mask", "bits", "clip", "clip_name", "coding_index", "controller_qindex", "ends_gop",
    "max_qindex", "min_qindex", "proposal_qindex", "psnr", "qindex", "show_index", "shown",
    "target_kbps", "update_type",
}  # fmt: skip


def is_number(value: Any) -> bool:
    """A finite number, numpy's too; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return math.isfinite(value)


def recipe_of(recipe: Any) -> Recipe:
    """The constants of control.

    Raises:
      InputError: it is something else.
    """
    if not isinstance(recipe, Recipe):
        raise InputError(f"recipe must be a muzero_rc.env.control.recipe.Recipe, not {recipe!r}")
    return recipe


def whole_number(name: str, value: Any, least: int | None = None) -> int:
    """A whole number, numpy's too; neither 3.0 nor True is one.

    Raises:
      InputError: it is none, or below `least`.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name} must be a whole number, not {value!r}") from None
    if least is not None and number < least:
        raise InputError(f"{name} must be {least} or more, not {number}")
    return number


def timeout_of(seconds: Any) -> float:
    """A wait in seconds.

    Raises:
      InputError: not a number above 0.
    """
    if not is_number(seconds) or seconds <= 0:
        raise InputError(f"timeout_s must be seconds above 0, not {seconds!r}")
    return float(seconds)


def score_key_of(key: Any) -> str:
    """The key of the raw score in the last `info`.

    Raises:
      InputError: not text, or `info` has another value there.
    """
    if not isinstance(key, str) or key in _TAKEN:
        raise InputError(f"score_key must be text that info does not use, not {key!r}")
    return key


def reward_of(reward: Any) -> Reward:
    """The reward of that name, or the callable itself.

    Raises:
      InputError: an unknown name, one that needs a trainer, or nothing that can be called.
    """
    if reward == "greedy_opponent":
        raise InputError("greedy_opponent needs someone who plays the opponent: a trainer")
    if isinstance(reward, str):
        return make_reward(RewardConfig(kind=reward))
    if not callable(reward):
        raise InputError(f"reward must be a name or a callable, not {reward!r}")
    return cast(Reward, reward)


def reward_value(value: Any) -> float:
    """What a reward gave for an episode.

    Raises:
      InputError: no finite number: NaN would go through a whole training unseen.
    """
    if isinstance(value, np.ndarray | np.generic) and value.size == 1:
        value = value.item()
    if not is_number(value):
        raise InputError(f"the reward must give a finite number, not {value!r}")
    return float(value)


def reset_options(
    options: Mapping[str, Any] | None, clips: int, drawn: tuple[int, int]
) -> tuple[int, int]:
    """The clip's number and the target in kbit/s: what was drawn, where options do not fix it.

    Args:
      options: of `reset`.
      clips: how many there are.
      drawn: the clip's number and the target that were drawn.

    Raises:
      InputError: an option that cannot be used.
    """
    options = {} if options is None else options
    if not isinstance(options, Mapping):
        raise InputError(f"options must be a dict with clip or target_kbps, not {options!r}")
    unknown = sorted(str(name) for name in options if name not in _OPTIONS)
    if unknown:
        raise InputError(
            f"unknown reset option {', '.join(unknown)}; there are: {', '.join(_OPTIONS)}"
        )
    clip, target = drawn
    if "clip" in options:
        clip = whole_number("option clip", options["clip"])
        if not 0 <= clip < clips:
            raise InputError(f"option clip must be 0 to {clips - 1}, not {clip}")
    if "target_kbps" in options:
        if not is_number(options["target_kbps"]):
            raise InputError(f"option target_kbps must be kbit/s, not {options['target_kbps']!r}")
        target = round(options["target_kbps"])
    return clip, target
