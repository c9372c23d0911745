"""Keeps what XLA compiled on disk, so that the next start need not compile it again."""

from __future__ import annotations

import os
from pathlib import Path

import jax

from muzero_rc.errors import OutputError

__all__ = ["keep_compiled"]


def keep_compiled(folder: str | os.PathLike[str], min_seconds: float = 0.3) -> None:
    """Turns on JAX's persistent compilation cache for this process.

    The first decision of a policy takes seconds to compile and tenths to read back.
    Entries are keyed by program, compiler and machine, so the folder may be shared.

    Args:
      folder: made if absent.
      min_seconds: programs that compile faster than this are not kept.

    Raises:
      OutputError: the folder cannot be made.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot make the folder {folder}: {reason}") from error
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", min_seconds)
