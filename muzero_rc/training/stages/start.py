"""The networks that a run begins with: fresh ones, or those of a policy that it improves."""

from __future__ import annotations

from pathlib import Path

from muzero_rc.agents.config import NetworkConfig
from muzero_rc.agents.muzero.networks import Params
from muzero_rc.agents.policy import load_policy
from muzero_rc.env.observation.builder import OBSERVATION_VERSION
from muzero_rc.errors import InputError
from muzero_rc.policies.shipped import SHIPPED_FILES, shipped_policy_path

__all__ = ["start_params"]


def start_params(start: str, network: NetworkConfig) -> Params | None:
    """The parameters of the policy that a run begins with; None for fresh ones.

    Args:
      start: name or file of a policy of networks; empty for none.
      network: what the run's networks are made of.

    Raises:
      InputError: there is no such policy, or its networks are others.
      CheckpointError: its file is damaged.
    """
    if not start:
        return None
    path = shipped_policy_path(start) if start in SHIPPED_FILES else Path(start)
    if not path.is_file():
        raise InputError(f"imitate.start: {start} does not exist; give muzero or a policy file")
    policy = load_policy(path, observation_version=OBSERVATION_VERSION)
    ours, theirs = network.as_dict(), policy.config.as_dict()
    other = [name for name, value in ours.items() if theirs.get(name) != value]
    if other:
        raise InputError(
            f"imitate.start: the networks of {start} have another {', '.join(other)} than the run's"
        )
    return policy.params
