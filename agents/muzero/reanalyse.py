"""Reanalyse: old steps are searched again with newer parameters before they are learned from.

MuZero (arXiv 1911.08265), appendix H. The encode itself, its actions and its outcome stay
what they were; only what the search would say today is new: policies and root values.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from muzero_rc.agents.actions import valid_actions
from muzero_rc.agents.config import AgentConfig
from muzero_rc.agents.muzero.networks import Params
from muzero_rc.agents.muzero.replay import Replay
from muzero_rc.agents.muzero.search import make_search
from muzero_rc.agents.muzero.trajectory import Trajectory
from muzero_rc.agents.tokens import Tokenizer

__all__ = ["Reanalyser"]


class Reanalyser:
    """Searches drawn steps, and those that their unrolls reach, anew.

    Attributes:
      searched: steps searched so far.
    """

    def __init__(self, config: AgentConfig, seed: int = 0) -> None:
        """Prepares the search; it compiles once, at the first call.

        Args:
          config: the agent's; `replay.reanalyse` is the share of a batch.
          seed: of the search.
        """
        self.searched = 0
        self._frame = config.network.action_frame
        self._steps = config.loss.unroll_steps + 1
        # A bootstrap n steps on is read from the stored values, so it is searched too.
        self._ahead = config.loss.n_step
        self._count = round(config.replay.reanalyse * config.replay.batch_size)
        self._tokenizer = Tokenizer(config.network)
        self._search = make_search(config.network, config.search)
        self._rng = jax.random.key(seed)

    def refresh(
        self, replay: Replay, samples: Sequence[tuple[Trajectory, int]], params: Params
    ) -> None:
        """Renews the policies and root values of the first of the samples.

        Args:
          replay: that they were drawn from; it keeps what is found.
          samples: pairs of episode and step, at least the configured share of a batch.
          params: recent ones, the target network's if there is one.
        """
        steps = [pair for pair in samples[: self._count] for pair in self._reached(*pair)]
        if not steps:
            return
        observations = [episode.observation(step) for episode, step in steps]
        anchors = np.array([o.base_qindex for o in observations])
        valid = valid_actions(anchors, self._frame, np.array([o.reach for o in observations]))
        self._rng, rng = jax.random.split(self._rng)
        tokens = self._tokenizer.batch(observations)
        # No exploration: what is wanted is the best policy known, not another try.
        found = self._search(params, rng, tokens, jnp.asarray(valid), jnp.float32(0.0))
        plan = jax.device_get(found)
        replay.refresh(steps, plan.policy, plan.value)
        self.searched += len(steps)

    def _reached(self, episode: Trajectory, step: int) -> list[tuple[Trajectory, int]]:
        """The steps whose targets a sample needs; always as many, for one compiled shape."""
        last = len(episode) - 1
        reached = [step + n for n in range(self._steps)]
        if self._ahead:
            reached += [n + self._ahead for n in reached]
        return [(episode, min(n, last)) for n in reached]
