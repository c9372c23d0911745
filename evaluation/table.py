"""Results as tables for the terminal; plain text where it is not one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from muzero_rc.evaluation.results import METRICS, BdEntry, Results
from muzero_rc.evaluation.summary import ANCHOR

__all__ = ["LOW_OVERLAP", "make_console", "results_report"]

LOW_OVERLAP = 0.75
"""Numbers from less overlap than this are marked."""

_SHORT = {"psnr_avg": "avg", "psnr_overall": "overall", "psnr_y": "Y"}
_SIGNED_LANDING = ("mean_deviation", "worst_over", "worst_under")
_LISTED = 12
# Wide enough that no table is folded in a log or a pipe.
_PLAIN_WIDTH = 160


def make_console(file: IO[str]) -> Console:
    """A console that folds to a terminal's width and writes plain text elsewhere."""
    if file.isatty():
        return Console(file=file, highlight=False)
    # Said outright, for rich lets the environment (FORCE_COLOR) make a terminal of a file.
    return Console(
        file=file, highlight=False, width=_PLAIN_WIDTH, no_color=True, force_terminal=False
    )


def results_report(results: Results) -> RenderableType:
    """BD-rates per clip and over clips, landing and time, and all that is missing."""
    return Group(*_parts(results))


def _parts(results: Results) -> Iterator[RenderableType]:
    yield Text(_heading(results))
    yield _bd_table(results)
    yield from _notes(results)
    yield _landing_table(results)
    yield from _unreachable(results)
    yield from _failures(results)


def _heading(results: Results) -> str:
    encoder = results.settings.get("encoder", {})
    return (
        f"BD-rate against two-pass VBR, percent, negative is better"
        f" (speed {encoder.get('speed')}, auto-alt-ref {encoder.get('auto_alt_ref')},"
        f" TPL {'on' if encoder.get('tpl') else 'off'})"
    )


def _new_table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, column in enumerate(columns):
        table.add_column(
            column,
            justify="right" if i else "left",
            no_wrap=True,
            overflow="ellipsis" if i == 0 else "crop",
            min_width=None if i == 0 else len(column.rsplit("\n", 1)[-1]),
        )
    return table


def _bd_table(results: Results) -> RenderableType:
    methods = [m for m in results.summary if m != ANCHOR]
    cells = [(method, metric) for method in methods for metric in METRICS]
    entries = {(b.clip, b.method, b.metric): b for b in results.bd_rate}
    clips = list(dict.fromkeys(b.clip for b in results.bd_rate))
    headers = [f"{method if not i else ''}\n{_SHORT[m]}" for method in methods
               for i, m in enumerate(METRICS)]  # fmt: skip
    table = _new_table("clip\n", *headers)
    for clip in clips:
        row = [_bd_cell(entries.get((clip, *cell))) for cell in cells]
        table.add_row(clip, *row, end_section=clip == clips[-1])

    def over_clips(label: str, show: Callable[[dict[str, Any]], str]) -> None:
        table.add_row(label, *(show(results.summary[m][metric]) for m, metric in cells))

    over_clips("mean", lambda s: _signed(s["mean"]))
    over_clips("median", lambda s: _signed(s["median"]))
    if any(results.summary[m][metric]["interval"] for m, metric in cells):
        over_clips("95% interval, low", lambda s: _signed((s["interval"] or [None, None])[0]))
        over_clips("95% interval, high", lambda s: _signed((s["interval"] or [None, None])[1]))
    over_clips("share better", lambda s: _percent(s["share_better"], 0))
    over_clips("clips (undefined)", lambda s: f"{s['n']} ({s['n_undefined']})")
    return table


def _bd_cell(entry: BdEntry | None) -> str:
    if entry is None or entry.percent is None:
        return "n/a"
    mark = "~" if entry.overlap < LOW_OVERLAP else ""
    return _signed(entry.percent) + mark + ("!" if entry.dropped else "")


def _notes(results: Results) -> Iterator[RenderableType]:
    defined = [b for b in results.bd_rate if b.percent is not None]
    low = sum(b.overlap < LOW_OVERLAP for b in defined)
    if low:
        yield Text(f"~ the curves share less than {LOW_OVERLAP:.0%} of their quality range ({low})")
    dropped = sum(b.dropped > 0 for b in defined)
    if dropped:
        yield Text(f"! points dropped, dominated by others of their curve or repeated ({dropped})")
    undefined: dict[tuple[str, str, str], list[str]] = {}
    for b in results.bd_rate:
        if b.percent is None:
            undefined.setdefault((b.clip, b.method, b.reason), []).append(_SHORT[b.metric])
    yield from _listed(
        "undefined BD-rates",
        [f"{clip}, {method} ({', '.join(metrics)}): {reason}"
         for (clip, method, reason), metrics in undefined.items()],
    )  # fmt: skip
    yield Text()


def _landing_table(results: Results) -> RenderableType:
    table = _new_table(
        "landing\n", "over\n> 0%", "over\n> 1%", "over\n> 5%", "mean\n|dev|", "mean\ndev",
        "worst\nover", "worst\nunder", "\nencodes", "time\ns", "time\nof VBR", "decisions\nof time",
    )  # fmt: skip
    for method, entry in results.summary.items():
        landing, time = entry["landing"], entry["time"]
        if landing is None:
            table.add_row(method, *["n/a"] * 7, "0", *["n/a"] * 3)
            continue
        table.add_row(
            method,
            *(_percent(landing[f"share_over_{k}"], 0) for k in (0, 1, 5)),
            _percent(landing["mean_abs_deviation"], 1),
            *(_percent(landing[k], 1, "+") for k in _SIGNED_LANDING),
            str(landing["n"]),
            f"{time['seconds']:.1f}",
            "n/a" if time["of_anchor"] is None else f"{time['of_anchor']:.2f}",
            _percent(time["decision_share"], 1),
        )
    return table


def _unreachable(results: Results) -> Iterator[RenderableType]:
    missed = [t for t in results.targets if not t.reachable]
    yield from _listed(
        f"targets that VBR cannot reach within 10% (they count in all numbers above),"
        f" of {len(results.targets)}",
        [f"{t.clip}: {t.target_kbps} kbit/s, VBR gives {t.vbr_kbps:.0f}"
         for t in missed if t.vbr_kbps is not None],
    )  # fmt: skip


def _failures(results: Results) -> Iterator[RenderableType]:
    yield from _listed(
        "failed",
        [f"{f.clip}, {f.method}, {f.target_kbps} kbit/s: {f.error}" if f.method
         else f"{f.clip}: {f.error}" for f in results.failures],
    )  # fmt: skip


def _listed(title: str, lines: Iterable[str]) -> Iterator[RenderableType]:
    lines = list(lines)
    if lines:
        yield Text(f"{title}: {len(lines)}")
        yield from (Text(f"  {line}") for line in lines[:_LISTED])
        if len(lines) > _LISTED:
            yield Text(f"  and {len(lines) - _LISTED} more, all in results.json")


def _signed(value: float | None) -> str:
    return "n/a" if value is None else f"{value:+z.2f}"


def _percent(share: float | None, digits: int, sign: str = "") -> str:
    return "n/a" if share is None else f"{share:{sign}.{digits}%}"
