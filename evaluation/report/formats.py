"""The table of methods as text: for papers and pull requests."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

from muzero_rc.errors import InputError
from muzero_rc.evaluation.summary import ANCHOR, CONTROL

__all__ = ["FORMATS", "format_results"]

_COLUMNS = (
    "method", "BD-rate", "low", "high", "median", "clips", "against control", "low", "high",
    "over 5%", "mean off target", "time of VBR",
)  # fmt: skip
_MISSING = "n/a"


def format_results(data: dict[str, Any], kind: str) -> str:
    """One line for each method: BD-rates with intervals, landing, time.

    Args:
      data: `Contents.data`.
      kind: one of `FORMATS`.

    Raises:
      InputError: there is no such format.
    """
    if kind not in FORMATS:
        raise InputError(f"unknown format {kind!r}; give one of {', '.join(FORMATS)}")
    return FORMATS[kind](data)


def _values(data: dict[str, Any]) -> list[list[Any]]:
    """A row for each method, None where there is no number."""
    metric = data["metrics"][0]["name"]
    found = {(c["method"], c["opponent"]): c for c in data["comparisons"] if c["metric"] == metric}
    rows = []
    for method in (m["name"] for m in data["methods"]):
        vbr, control = found.get((method, ANCHOR), {}), found.get((method, CONTROL), {})
        landing, time = data["landing"].get(method) or {}, data["time"].get(method) or {}
        rows.append(
            [
                method,
                *(vbr.get(key) for key in ("mean", "low", "high", "median", "n")),
                *(control.get(key) for key in ("mean", "low", "high")),
                landing.get("share_over_5"),
                landing.get("mean_abs_deviation"),
                time.get("of_anchor"),
            ]
        )
    return rows


def _rows(data: dict[str, Any]) -> list[list[str]]:
    """The same as texts of a fixed number of digits."""
    percent = "{:+z.2f}"
    forms = ["{}", *[percent] * 4, "{}", *[percent] * 3, "{:.0%}", "{:.1%}", "{:.2f}"]
    return [
        [_MISSING if value is None else form.format(value)
         for value, form in zip(row, forms, strict=True)]
        for row in _values(data)
    ]  # fmt: skip


def _caption(data: dict[str, Any]) -> str:
    encoder = data["settings"].get("encoder", {})
    return (
        f"BD-rate ({data['metrics'][0]['label']}), percent, negative is better, with the 95%"
        f" bootstrap interval of the mean over clips; speed {encoder.get('speed', '?')}"
    )


def _markdown(data: dict[str, Any]) -> str:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    def interval(low: str, high: str) -> str:
        return "" if _MISSING in (low, high) else f" [{low}, {high}]"

    header = [
        "method", "BD-rate", "median", "clips", "against control", "over 5%", "mean off target",
        "time of VBR",
    ]  # fmt: skip
    lines = [line(header), line(["---", *["---:"] * (len(header) - 1)])]
    for row in _rows(data):
        mean, low, high, median, clips, control, control_low, control_high = row[1:9]
        lines.append(
            line(
                [row[0], mean + interval(low, high), median, clips,
                 control + interval(control_low, control_high), *row[9:]]
            )
        )  # fmt: skip
    return "\n".join([*lines, "", _caption(data) + ".", ""])


def _csv(data: dict[str, Any]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["method", "bd_rate", "bd_rate_low", "bd_rate_high", "bd_rate_median", "clips",
         "against_control", "against_control_low", "against_control_high", "share_over_5",
         "mean_abs_deviation", "time_of_vbr"]
    )  # fmt: skip
    writer.writerows(_values(data))
    return text.getvalue()


_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
})  # fmt: skip


def _latex(data: dict[str, Any]) -> str:
    """A tabular of the package booktabs."""

    def cells(row: list[str]) -> str:
        texts = [cell.translate(_LATEX) for cell in row]
        return " & ".join([texts[0], *(_dashes(text) for text in texts[1:])]) + r" \\"

    def _dashes(text: str) -> str:
        return f"${text}$" if text[:1] in "+-" else text.replace(_MISSING, "--")

    return "\n".join(
        [
            f"% {_caption(data)}",
            r"\begin{tabular}{l" + "r" * (len(_COLUMNS) - 1) + "}",
            r"\toprule",
            cells(list(_COLUMNS)),
            r"\midrule",
            *(cells(row) for row in _rows(data)),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


FORMATS: dict[str, Callable[[dict[str, Any]], str]] = {
    "md": _markdown,
    "csv": _csv,
    "latex": _latex,
}
"""Names of the formats."""
