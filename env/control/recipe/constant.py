"""A constant of the recipe: a field with its unit, its meaning, and where its number comes from."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

__all__ = ["BY_HAND", "GOP_NOTE", "OFFSET_NOTE", "RATE_NOTE", "SPEED_NOTE", "constant"]

T = TypeVar("T")

SPEED_NOTE = "docs/notes/2026-11-frame-speed-and-groups.md"
GOP_NOTE = "docs/notes/2026-11-29-partition-reuse-and-groups.md"
RATE_NOTE = "docs/notes/2026-11-rate-control.md"
OFFSET_NOTE = "docs/notes/2026-11-qp-offsets-and-learning.md"
BY_HAND = "set by hand, no measurement on record"


def constant(value: T, unit: str, about: str, source: str) -> T:
    """A field with its unit, what it is, and where its number comes from."""
    metadata = {"unit": unit, "about": about, "source": source}
    return dataclasses.field(default=value, metadata=metadata)
