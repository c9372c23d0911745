"""All sections of an agent's configuration in one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from muzero_rc.agents.config.base import Config
from muzero_rc.agents.config.learning import (
    LossConfig,
    OptimizerConfig,
    ReplayConfig,
    SearchConfig,
)
from muzero_rc.agents.config.network import NetworkConfig
from muzero_rc.errors import InputError

__all__ = ["AgentConfig"]


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """All of an agent's configuration in one, for training.

    Attributes:
      network: see `NetworkConfig`.
      search: see `SearchConfig`.
      loss: see `LossConfig`.
      optimizer: see `OptimizerConfig`.
      replay: see `ReplayConfig`.
    """

    network: NetworkConfig
    search: SearchConfig = SearchConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    replay: ReplayConfig = ReplayConfig()

    def __post_init__(self) -> None:
        """Checks what sections ask of each other."""
        if self.network.reward != (self.loss.reward > 0):
            raise InputError(
                "network.reward and a loss.reward above 0 go together: set both or neither"
            )
        if self.loss.consistency > 0 and not self.network.projection_width:
            raise InputError("loss.consistency needs a network.projection_width, 128 say")
        devices = self.optimizer.devices
        if devices and self.replay.batch_size % devices:
            raise InputError(
                f"replay.batch_size must be a multiple of optimizer.devices, not "
                f"{self.replay.batch_size} for {devices}"
            )
        if self.replay.reanalyse > 0 and not self.search.simulations:
            raise InputError("replay.reanalyse needs search.simulations, 8 say")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AgentConfig:
        """Makes the configuration from nested plain values.

        Raises:
          InputError: an unknown section or key, or a bad value, named in the message.
        """
        sections: dict[str, type[Config]] = {
            "network": NetworkConfig,
            "search": SearchConfig,
            "loss": LossConfig,
            "optimizer": OptimizerConfig,
            "replay": ReplayConfig,
        }
        for key in values:
            if key not in sections:
                raise InputError(f"unknown section {key}; known are {', '.join(sections)}")
        if "network" not in values:
            raise InputError("section network is missing")
        made: dict[str, Any] = {
            key: sections[key].from_dict(value) for key, value in values.items()
        }
        return cls(**made)

    def as_dict(self) -> dict[str, Any]:
        """Nested plain values, for JSON."""
        return dataclasses.asdict(self)
