"""Keeps what XLA compiled on disk, so that the next start need not compile it again.

JAX has a limit of its own (`jax_compilation_cache_max_size`). It needs the package filelock,
and writes nothing more into a folder with entries from before there was a limit, because
these lack the file with the time of their last use. So the folder is trimmed here.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from muzero_rc import disk_cache
from muzero_rc.errors import OutputError

__all__ = ["COMPILED_LIMIT_BYTES", "compiled_folder", "keep_compiled"]

COMPILED_LIMIT_BYTES = 256 * 2**20
"""Size of the folder above which programs used longest ago go: 400 of the largest."""


def compiled_folder() -> Path:
    """Where compiled programs are kept, in the user's cache."""
    return disk_cache.cache_root() / "xla"


def keep_compiled(
    folder: str | os.PathLike[str],
    min_seconds: float = 0.3,
    limit_bytes: int = COMPILED_LIMIT_BYTES,
) -> None:
    """Turns on JAX's persistent compilation cache for this process.

    The first decision of a policy takes seconds to compile and tenths to read back.
    Entries are keyed by program, compiler and machine, so the folder may be shared.
    The limit is applied here, before anything is compiled: a process may exceed it by what
    it adds itself. A folder that the user gave to JAX itself (`JAX_COMPILATION_CACHE_DIR`)
    goes before ours, and is nobody's to trim.

    Args:
      folder: made if absent.
      min_seconds: programs that compile faster than this are not kept.
      limit_bytes: of all entries; above it those used longest ago go.

    Raises:
      OutputError: the folder cannot be made.
    """
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    import jax  # heavy, and the limit is asked for without it

    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot make the folder {folder}: {reason}") from error
    with contextlib.suppress(OSError):  # of another user: a larger folder, not an error
        disk_cache.trim(Path(folder), limit_bytes)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", min_seconds)
