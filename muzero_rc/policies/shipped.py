"""The policy files of this package."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from muzero_rc.errors import CheckpointError

__all__ = ["DEFAULT_POLICY", "SHIPPED_FILES", "shipped_policy_path"]

DEFAULT_POLICY = "planned"
"""What encodes where nobody names a policy: better than `muzero` so far, and without JAX."""

SHIPPED_FILES = {
    "muzero": "muzero.npz",
    "planned": "planned.npz",
    "const": "planned.npz",
    "hindsight": "planned.npz",
}
"""The file of each policy that goes by one."""


def shipped_policy_path(name: str = "muzero") -> Path:
    """Where the file of a policy of this package is.

    Args:
      name: of the policy, in `SHIPPED_FILES`.

    Raises:
      CheckpointError: this installation has none.
    """
    file = SHIPPED_FILES[name]
    path = Path(str(importlib.resources.files("muzero_rc") / "policy_files" / file))
    if not path.is_file():
        raise CheckpointError(
            f"this installation has no policy {name}; train one (muzero-rc train, or muzero-rc "
            "fit) and give its file, or use the policy proposal or vbr"
        )
    return path
