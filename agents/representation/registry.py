"""From a name in the configuration to the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax

from muzero_rc.agents.config import NetworkConfig
from muzero_rc.agents.representation.hip import HiPRepresentation
from muzero_rc.agents.representation.mlp import MLPRepresentation
from muzero_rc.agents.representation.perceiver_ar import PerceiverARRepresentation
from muzero_rc.agents.representation.perceiver_io import PerceiverIORepresentation

__all__ = ["Representation", "make_representation"]

_Single = Callable[[Mapping[str, jax.Array]], jax.Array]

_ONE_BY_ONE: dict[str, Callable[[NetworkConfig], _Single]] = {
    "perceiver_io": PerceiverIORepresentation,
    "hip": HiPRepresentation,
    "mlp": MLPRepresentation,
}


class Representation:
    """What the networks need of any representation.

    Parameters lie under the haiku module `representation`, whatever the kind.
    """

    def __init__(self, config: NetworkConfig) -> None:
        """Makes the network that the configuration names."""
        self._sequence = None
        if config.representation == "perceiver_ar":
            self._sequence = PerceiverARRepresentation(config)
        else:
            self._single = _ONE_BY_ONE[config.representation](config)

    def __call__(self, tokens: Mapping[str, jax.Array]) -> jax.Array:
        """Tokens of B decisions (`Tokenizer.batch`) -> [B, state_width]."""
        if self._sequence is not None:
            return self._sequence(tokens)
        return self._single(tokens)

    def steps(self, tokens: Mapping[str, jax.Array]) -> jax.Array:
        """Tokens of B runs of T decisions (`Tokenizer.steps`) -> [B, T, state_width].

        Perceiver AR passes once over the sequence that a run's decisions share; the others
        take the decisions one by one.
        """
        if self._sequence is not None:
            return self._sequence.steps(tokens)
        lead = next(iter(tokens.values())).shape[:2]
        flat = {name: x.reshape(lead[0] * lead[1], *x.shape[2:]) for name, x in tokens.items()}
        return self._single(flat).reshape(*lead, -1)


def make_representation(config: NetworkConfig) -> Representation:
    """The representation that `config.representation` names."""
    return Representation(config)
