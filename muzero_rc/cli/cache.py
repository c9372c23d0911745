"""`muzero-rc cache`: what is kept on disk to save time, and away with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from muzero_rc.errors import OutputError

__all__ = ["CacheArgs", "run"]


@dataclass(frozen=True)
class CacheArgs:
    """Show the caches, with their entries, sizes and limits, or clear them.

    What is cleared is made again when it is needed. The folder is $MUZERO_RC_CACHE or the
    user's cache folder; finished encodes of an evaluation also lie with its results, where
    this does not reach.
    """

    clear: Annotated[
        Literal["first-passes", "encodes", "networks", "searches", "code", "all"] | None,
        tyro.conf.arg(metavar="first-passes|encodes|networks|searches|code|all"),
    ] = None
    """Remove these."""

    json: bool = False
    """Print one JSON object instead."""


def run(args: CacheArgs) -> int:
    """Shows or clears."""
    from muzero_rc import disk_cache
    from muzero_rc.agents.compilation import COMPILED_LIMIT_BYTES, compiled_folder
    from muzero_rc.code_digest import CODE_LIMIT_BYTES, code_folder
    from muzero_rc.env.codec.first_pass import CACHE_LIMIT_BYTES, cache_folder
    from muzero_rc.evaluation.grid.store import SHARED_LIMIT_BYTES, shared_folder
    from muzero_rc.policies.hindsight.log import SEARCHES_LIMIT_BYTES, searches_folder

    root = disk_cache.cache_root()
    caches: dict[str, tuple[Path, int]] = {
        "first-passes": (cache_folder(), CACHE_LIMIT_BYTES),
        "encodes": (shared_folder(), SHARED_LIMIT_BYTES),
        "networks": (compiled_folder(), COMPILED_LIMIT_BYTES),
        "searches": (searches_folder(), SEARCHES_LIMIT_BYTES),
        "code": (code_folder(), CODE_LIMIT_BYTES),
    }
    shown = []
    for kind, (folder, limit) in caches.items():
        try:
            cleared = disk_cache.clear(folder) if args.clear in (kind, "all") else None
            held = disk_cache.usage(folder)
        except OSError as error:
            raise OutputError(
                f"cannot clear {folder}: {error.strerror or error}; check its permissions"
            ) from error
        shown.append(
            {
                "cache": kind, "folder": str(folder), "entries": held.entries,
                "bytes": held.size, "limit_bytes": limit,
                "cleared": 0 if cleared is None else cleared.entries,
                "cleared_bytes": 0 if cleared is None else cleared.size,
            }
        )  # fmt: skip
    if args.json:
        print(json.dumps({"type": "cache", "folder": str(root), "caches": shown}))
        return 0
    _print(root, shown)
    return 0


def _print(root: Path, shown: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    table = Table(title=str(root), title_justify="left")
    for name in ("cache", "entries", "size", "limit", "cleared"):
        table.add_column(name, justify="left" if name == "cache" else "right")
    for row in shown:
        gone = f"{row['cleared']}, {decimal(row['cleared_bytes'])}" if row["cleared"] else ""
        table.add_row(
            row["cache"], str(row["entries"]), decimal(row["bytes"]),
            decimal(row["limit_bytes"]), gone,
        )  # fmt: skip
    Console().print(table)
