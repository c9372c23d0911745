"""Configuration of networks, search, losses, optimizer and replay: plain frozen data.

Every class checks its values when made, and has `from_dict`/`as_dict` for JSON. A wrong
key or value raises an `InputError` that names it.
"""

from muzero_rc.agents.config.agent import AgentConfig
from muzero_rc.agents.config.base import Config
from muzero_rc.agents.config.learning import (
    LossConfig,
    OptimizerConfig,
    ReplayConfig,
    SearchConfig,
)
from muzero_rc.agents.config.network import ACTION_FRAMES, REPRESENTATIONS, NetworkConfig

__all__ = [
    "ACTION_FRAMES",
    "REPRESENTATIONS",
    "AgentConfig",
    "Config",
    "LossConfig",
    "NetworkConfig",
    "OptimizerConfig",
    "ReplayConfig",
    "SearchConfig",
]
