"""Many encodes at a time in one process, a native encoder thread for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array

from muzero_rc.env.codec.backend import LibvpxBackend
from muzero_rc.env.gym.arguments import whole_number
from muzero_rc.env.gym.clip_pool import VbrReferences
from muzero_rc.env.gym.env import VP9RateControlEnv
from muzero_rc.env.gym.spaces import ObservationArrays
from muzero_rc.errors import InputError

__all__ = ["VP9RateControlVectorEnv"]

_VectorStep = tuple[
    ObservationArrays,
    npt.NDArray[np.float64],
    npt.NDArray[np.bool_],
    npt.NDArray[np.bool_],
    dict[str, Any],
]


class VP9RateControlVectorEnv(
    VectorEnv[ObservationArrays, npt.NDArray[np.int64], npt.NDArray[Any]]
):
    """`num_envs` of `VP9RateControlEnv`, stepped together.

    A step gives all encoders their decisions before it waits for any, so that they run
    at the same time, each in its native thread; it takes as long as the slowest frame.
    The environments share clips, the reward with its past, and VBR's scores.

    Autoreset is `NEXT_STEP`: the step after an episode's end, or after it was truncated, ignores
    the action, resets that environment and answers with reward 0.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": [],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self, num_envs: int = 1, *, max_episode_steps: int | None = None, **arguments: Any
    ) -> None:
        """Opens the environments.

        Args:
          num_envs: how many.
          max_episode_steps: decisions after which an episode is truncated, as
            `gymnasium.make_vec` passes it on; None lets it end with the clip.
          **arguments: of `VP9RateControlEnv`.

        Raises:
          InputError: an argument that cannot be used.
        """
        num_envs = whole_number("num_envs", num_envs, least=1)
        if max_episode_steps is not None:
            max_episode_steps = whole_number("max_episode_steps", max_episode_steps, least=1)
        self._most_steps = max_episode_steps
        backend = arguments.pop("backend", None) or LibvpxBackend()
        timeout_s = arguments.get("timeout_s", 120.0)
        shared: dict[str, Any] = {
            "references": arguments.pop("references", None) or VbrReferences(backend, timeout_s),
            "backend": backend,
        }
        first = VP9RateControlEnv(**arguments, **shared)
        # One pool of decoded clips and one past for all.
        arguments |= {"clips": first.clips, "reward": first.reward}
        self.envs = [first] + [
            VP9RateControlEnv(**arguments, **shared) for _ in range(num_envs - 1)
        ]
        self.num_envs = num_envs
        self.render_mode = None
        self.single_observation_space = first.observation_space
        self.single_action_space = first.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = cast(Any, batch_space(self.single_action_space, num_envs))
        self._latest: list[ObservationArrays] = [{} for _ in range(num_envs)]
        self._over = np.zeros(num_envs, np.bool_)
        self._steps = np.zeros(num_envs, np.int64)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[ObservationArrays, dict[str, Any]]:
        """Starts a new episode in every environment.

        Args:
          seed: one for each, or one number: environment i gets seed + i.
          options: as in `VP9RateControlEnv.reset`, the same for all; and Gymnasium's
            `reset_mask`, bool [num_envs], to reset only some.

        Raises:
          InputError: seeds, mask or options that cannot be used.
        """
        if seed is None or isinstance(seed, (int, np.integer)):
            seeds = [None if seed is None else int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise InputError(f"{len(seeds)} seeds for {self.num_envs} environments")
        options = dict(options or {})
        mask = np.asarray(options.pop("reset_mask", np.ones(self.num_envs, np.bool_)))
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            raise InputError(f"reset_mask must be bool [{self.num_envs}] with at least one True")
        infos: dict[str, Any] = {}
        for i in np.flatnonzero(mask):
            self._latest[i], info = self.envs[i].reset(seed=seeds[i], options=options)
            infos = self._add_info(infos, info, int(i))
            self._over[i], self._steps[i] = False, 0
        return self._batch(), infos

    def step(self, actions: npt.NDArray[np.int64]) -> _VectorStep:
        """One decision for every environment. [num_envs] int64.

        Raises:
          InputError: not one action for each, or one outside the action space; nothing is
            coded then.
          ResetNeeded: `reset` was never called, or not after an error.
          EncoderError: libvpx failed or did not answer in time; all episodes end.
        """
        if len(actions) != self.num_envs:
            raise InputError(f"{len(actions)} actions for {self.num_envs} environments")
        rewards = np.zeros(self.num_envs)
        terminated = np.zeros(self.num_envs, np.bool_)
        infos: dict[str, Any] = {}
        resetting = self._over.copy()
        # All actions are looked at before one is given: a bad one leaves all as they are.
        decisions = [(i, self.envs[i].decision(actions[i])) for i in np.flatnonzero(~resetting)]
        try:
            for i, decision in decisions:
                self.envs[i].submit(decision)
            # The others code their frames meanwhile.
            for i in np.flatnonzero(resetting):
                self._latest[i], info = self.envs[i].reset()
                infos = self._add_info(infos, info, int(i))
            for i, _ in decisions:
                self._latest[i], rewards[i], terminated[i], _, info = self.envs[i].collect()
                infos = self._add_info(infos, info, int(i))
        except BaseException:
            # Some are a frame ahead of what was answered: all begin anew.
            self.close_extras()
            self._over[:] = False
            raise
        self._steps = np.where(resetting, 0, self._steps + 1)
        truncated = np.zeros_like(terminated)
        if self._most_steps is not None:
            truncated = ~terminated & (self._steps >= self._most_steps)
        self._over = terminated | truncated
        return self._batch(), rewards, terminated, truncated, infos

    def _batch(self) -> ObservationArrays:
        out = create_empty_array(self.single_observation_space, self.num_envs, np.zeros)
        batched = concatenate(self.single_observation_space, self._latest, cast(Any, out))
        return cast(ObservationArrays, batched)

    def close_extras(self, **kwargs: Any) -> None:
        """Drops all encodes; called by `close`."""
        for env in self.envs:
            env.close()
