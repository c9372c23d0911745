"""The recipe as a table: `python -m muzero_rc.env.control.recipe.table [PAGE]`.

Prints every constant with its value, unit, meaning and source, or writes them into
docs/reference/recipe.md.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muzero_rc.env.control.recipe.recipe import DEFAULT_RECIPE, Recipe

__all__ = ["markdown"]


def markdown(recipe: Recipe = DEFAULT_RECIPE) -> str:
    """A table of every field with its value, unit, meaning and source."""
    lines = [
        "| setting | value | unit | what it is | where it comes from |",
        "|---|---|---|---|---|",
    ]
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        if not dataclasses.is_dataclass(value):
            lines.append(_row(field.name, value, field.metadata))
            continue
        for part in dataclasses.fields(value):
            name = f"{field.name}.{part.name}"
            lines.append(_row(name, getattr(value, part.name), part.metadata))
    return "\n".join(lines) + "\n"


def _row(name: str, value: Any, metadata: Mapping[str, str]) -> str:
    cells = (f"`{name}`", _text(value), metadata["unit"], metadata["about"], metadata["source"])
    return f"| {' | '.join(cells)} |"


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        parts = [f"({_text(part)})" if isinstance(part, tuple) else _text(part) for part in value]
        return ", ".join(parts)
    return f"{float(value):g}" if isinstance(value, float) else str(int(value))


def main() -> None:
    """Prints the table, or writes it into the page that is named, between its marks."""
    if len(sys.argv) == 1:
        print(markdown(), end="")
        return
    page = Path(sys.argv[1])
    before, begin, rest = page.read_text().partition("<!-- table:recipe -->\n")
    _, end, after = rest.partition("<!-- /table -->")
    if not end:
        sys.exit(f"{page} has no table:recipe")
    page.write_text(f"{before}{begin}{markdown()}{end}{after}")


if __name__ == "__main__":
    main()
