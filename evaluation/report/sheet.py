"""A table as data, and its forms: for the terminal, Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import tabulate
from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from muzero_rc.errors import InputError

__all__ = ["FORMATS", "Cell", "Sheet", "as_rich", "render"]

_UNBOUNDED = 100_000  # columns of a terminal

FORMATS = ("text", "md", "csv", "latex")
"""Forms that tables can be printed in."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell: as people read it, and the number behind it if there is one."""

    text: str
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table.

    Attributes:
      name: short, for the column `table` of CSV.
      title: a line above the table, possibly empty.
      columns: headers of two lines each, what a column belongs to and its name; the first is
        that of the row names. Either may be empty.
      rows: for each, its name and one cell for each further column.
      ruled: rows after which there is a rule.
      repeat: write what a column belongs to over each column, not over the first alone.
    """

    name: str
    title: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    ruled: frozenset[int] = field(default_factory=frozenset)
    repeat: bool = False

    def flat_columns(self) -> list[str]:
        """Headers in one line each."""
        return [f"{group} {name}".strip() for group, name in self.columns]

    def with_columns(self, columns: Sequence[int]) -> Sheet:
        """The names of rows and these columns, counted from 1."""
        return dataclasses.replace(
            self,
            columns=[self.columns[0], *(self.columns[c] for c in columns)],
            rows=[(name, [cells[c - 1] for c in columns]) for name, cells in self.rows],
        )


def as_rich(sheet: Sheet) -> RenderableType:
    """For the terminal, without the title: in parts below each other if it is too wide.

    A part has the names of rows and whole groups of columns, so that no number is cut.
    """
    return _InParts(sheet)


@dataclass(frozen=True, slots=True)
class _InParts:
    sheet: Sheet

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unbounded = options.update(max_width=_UNBOUNDED)

        def fits(part: Sheet) -> bool:
            needed = Measurement.get(console, unbounded, _table(part)).maximum
            return needed <= options.max_width

        for i, part in enumerate(_parts(self.sheet, fits)):
            if i:
                yield Text()
            yield _table(part)


def _parts(sheet: Sheet, fits: Callable[[Sheet], bool]) -> Iterator[Sheet]:
    taken: list[int] = []
    for _, group in itertools.groupby(
        range(1, len(sheet.columns)), lambda column: sheet.columns[column][0]
    ):
        more = [*taken, *group]
        if taken and not fits(sheet.with_columns(more)):
            yield sheet.with_columns(taken)
            more = more[len(taken) :]
        taken = more
    yield sheet.with_columns(taken)


def _table(sheet: Sheet) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    above = None
    for i, (group, name) in enumerate(sheet.columns):
        header = "" if group == above and not sheet.repeat else group
        above = group
        numbers = [len(cells[i - 1].text) for _, cells in sheet.rows] if i else []
        table.add_column(
            f"{header}\n{name}",
            justify="right" if i else "left",
            no_wrap=True,
            overflow="ellipsis" if i == 0 else "crop",
            min_width=max(len(name), *numbers) if i else None,
        )
    for i, (name, cells) in enumerate(sheet.rows):
        table.add_row(name, *(c.text for c in cells), end_section=i in sheet.ruled)
    return table


def render(sheets: Sequence[Sheet], notes: Sequence[str], form: str) -> str:
    """Tables as text for a document.

    Args:
      sheets: the tables.
      notes: lines that belong to them; CSV has no place for them.
      form: `md` (GitHub's tables), `latex` (booktabs, one `tabular` each) or `csv` (one line
        for each cell: `table,row,column,value`, numbers unrounded).

    Raises:
      InputError: there is no such form.
    """
    if form == "csv":
        return _csv(sheets)
    if form not in FORMATS or form == "text":
        raise InputError(f"no form {form!r} of a document; give md, csv or latex")
    kind, escape = ("pipe", _markdown) if form == "md" else ("latex_booktabs", str)
    parts = []
    for sheet in sheets:
        body = tabulate.tabulate(
            [[escape(name), *(escape(c.text) for c in cells)] for name, cells in sheet.rows],
            headers=[escape(c) for c in sheet.flat_columns()],
            tablefmt=kind,
            disable_numparse=True,
            colalign=["left"] + ["right"] * (len(sheet.columns) - 1) if sheet.rows else None,
        )
        title = _comment(sheet.title) if form == "latex" else escape(sheet.title)
        parts.append("\n\n".join(part for part in (title, body) if part))
    if notes:
        lines = [_comment(n) if form == "latex" else f"- {escape(n.strip())}" for n in notes]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _csv(sheets: Sequence[Sheet]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["table", "row", "column", "value"])
    for sheet in sheets:
        columns = sheet.flat_columns()[1:]
        for name, cells in sheet.rows:
            for column, cell in zip(columns, cells, strict=True):
                writer.writerow(
                    [sheet.name, name, column, cell.text if cell.value is None else cell.value]
                )
    return text.getvalue()


def _markdown(text: str) -> str:
    """Text that Markdown leaves alone."""
    for sign in "\\`*_|<>~":
        text = text.replace(sign, f"\\{sign}")
    return text


def _comment(text: str) -> str:
    return "\n".join(f"% {line}" for line in text.splitlines())
