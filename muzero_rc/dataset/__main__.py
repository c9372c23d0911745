"""Writes the tables of the data sheet: `python -m muzero_rc.dataset docs/reference/dataset.md`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from muzero_rc.dataset.schema import markdown

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Writes the tables into a page between its marks; returns the exit status."""
    (name,) = arguments
    path = Path(name)
    begin, end = "<!-- table:dataset -->\n", "<!-- /table -->"
    before, _, rest = path.read_text().partition(begin)
    path.write_text(before + begin + markdown() + end + rest.partition(end)[2])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
