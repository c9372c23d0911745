"""The representation networks: tokens of a decision -> what the agent knows of it."""

from muzero_rc.agents.representation.registry import Representation, make_representation

__all__ = ["Representation", "make_representation"]
