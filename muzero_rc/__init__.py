"""Rate control for libvpx VP9 by a MuZero agent that is trained by self-competition.

`muzero_rc.env` is the steppable encoder, `muzero_rc.agents` what learns to steer it,
`muzero_rc.evaluation` what measures it; the command line is `muzero-rc`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util

__all__ = ["__version__"]

if importlib.util.find_spec("muzero_rc.env") is None:
    # In a checkout env/ lies beside this folder, not in it: only the build puts them
    # together, so this folder was found on sys.path before an installed package was.
    raise ImportError(
        "muzero_rc was imported from its source folder, which is not a whole package: "
        "run make setup, then use .venv/bin/python (or leave the checkout's root folder)"
    )

try:
    __version__ = importlib.metadata.version("muzero-rc")
except importlib.metadata.PackageNotFoundError:
    __version__ = "0+uninstalled"
