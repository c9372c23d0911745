"""Results as tables: for the terminal, plain text where it is not one, and for documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from muzero_rc.evaluation.measure.summary import ANCHOR, CONTROL, LOW_OVERLAP
from muzero_rc.evaluation.report.sheet import Cell, Sheet, as_rich, render
from muzero_rc.evaluation.results import MEASURED_METRICS, METRICS, BdEntry, Results

__all__ = ["METRIC_NAMES", "make_console", "results_document", "results_report", "results_sheets"]

METRIC_NAMES = {
    "psnr_avg": "avg",
    "psnr_overall": "overall",
    "psnr_y": "Y",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "vmaf": "VMAF",
    "vmaf_neg": "VMAF-NEG",
}
"""Short names of metrics, for headers."""

_MAIN_METRIC = "psnr_avg"
_SIGNED_ACCURACY = ("mean_deviation", "worst_over", "worst_under")
_LISTED = 12
# Wide enough that no table is folded in a log or a pipe.
_PLAIN_WIDTH = 160
_NOTHING = Cell("n/a")
_ACCURACY_COLUMNS = (
    ("over", "> 0%"), ("over", "> 1%"), ("over", "> 5%"), ("mean", "|dev|"), ("mean", "dev"),
    ("worst", "over"), ("worst", "under"), ("", "encodes"),
)  # fmt: skip


def make_console(file: IO[str]) -> Console:
    """A console that folds to a terminal's width and writes plain text elsewhere."""
    if file.isatty():
        return Console(file=file, highlight=False)
    # Said outright, for rich lets the environment (FORCE_COLOR) make a terminal of a file.
    return Console(
        file=file, highlight=False, width=_PLAIN_WIDTH, no_color=True, force_terminal=False
    )


def results_report(results: Results) -> RenderableType:
    """BD-rates per clip and over clips, bitrate accuracy and time, and all that is missing."""
    parts: list[RenderableType] = []
    bd, rest = _bd_sheets(results), _other_sheets(results)
    for i, sheet in enumerate(bd):
        parts += [*([Text()] if i else []), Text(sheet.title), as_rich(sheet)]
    parts += [*map(Text, _bd_notes(results)), Text()]
    for i, sheet in enumerate(rest):
        parts += [*([Text()] if i else []), as_rich(sheet)]
    parts += map(Text, _end_notes(results))
    return Group(*parts)


def results_document(results: Results, form: str) -> str:
    """The same tables for a paper or a pull request.

    Args:
      results: of an evaluation.
      form: `md`, `csv` or `latex`, see `sheet.render`.
    """
    return render(results_sheets(results), [*_bd_notes(results), *_end_notes(results)], form)


def results_sheets(results: Results) -> list[Sheet]:
    """All tables as data; with what stands beside each BD-rate, for which a terminal has no room.

    The latter are the overlaps and the mean differences in quality, clip by clip.
    """
    metrics = tuple(m for m in METRIC_NAMES if any(b.metric == m for b in results.bd_rate))
    quality = "difference in quality at equal rate, dB (VMAF: points), positive is better"
    beside = [
        _entry_sheet(
            results, metrics, "overlap", "overlap of the curves", lambda b: _percent(b.overlap, 0)
        ),
        _entry_sheet(results, metrics, "bd_quality", quality, lambda b: _signed(b.db)),
    ]
    return [*_bd_sheets(results), *beside, *_other_sheets(results)]


# ------------------------------------------------------------------ BD-rate


def _bd_sheets(results: Results) -> list[Sheet]:
    measured = tuple(m for m in MEASURED_METRICS if any(b.metric == m for b in results.bd_rate))
    encoder = results.settings.get("encoder", {})
    title = (
        f"BD-rate against two-pass VBR, percent, negative is better"
        f" (speed {encoder.get('speed')}, auto-alt-ref {encoder.get('auto_alt_ref')},"
        f" TPL {'on' if encoder.get('tpl') else 'off'})"
    )
    sheets = [_bd_sheet(results, METRICS, "bd_rate_psnr", title)]
    if measured:
        sheets.append(_bd_sheet(results, measured, "bd_rate_measured", "the same on other metrics"))
    return sheets


def _bd_sheet(results: Results, metrics: Sequence[str], name: str, title: str) -> Sheet:
    methods = [m for m in results.summary if m != ANCHOR]
    cells = [(method, metric) for method in methods for metric in metrics]
    entries = {(b.clip, b.method, b.metric): b for b in results.bd_rate}
    clips = list(dict.fromkeys(b.clip for b in results.bd_rate))
    headers = [(method, METRIC_NAMES[m]) for method in methods for m in metrics]
    rows: list[tuple[str, Sequence[Cell]]] = [
        (clip, [_bd_cell(entries.get((clip, *cell))) for cell in cells]) for clip in clips
    ]
    statistics = [results.summary[method].get(metric, {}) for method, metric in cells]

    rows.append(("mean", [_signed(s.get("mean")) for s in statistics]))
    # A gain is never told without its time.
    times = [(results.summary[method].get("time") or {}).get("of_anchor") for method, _ in cells]
    rows.append(("time, of VBR", [_number(time, 2) for time in times]))
    rows.append(("median", [_signed(s.get("median")) for s in statistics]))
    for label, key in (("95% interval", "interval"), ("within sources", "interval_within")):
        if any(s.get(key) for s in statistics):
            ends = [s.get(key) or (None, None) for s in statistics]
            rows.append((f"{label}, low", [_signed(low) for low, _ in ends]))
            rows.append((f"{label}, high", [_signed(high) for _, high in ends]))
    gains = [s.get("mean_db") for s in statistics]
    if any(g is not None for g in gains):
        unit = "dB" if set(metrics) <= set(METRICS) else "dB or points"
        rows.append((f"mean gain, {unit}", [_signed(g) for g in gains]))
    rows.append(("share better", [_percent(s.get("share_better"), 0) for s in statistics]))
    for other, label in ((ANCHOR, "VBR"), (CONTROL, "control")):
        found = [_p(s, other) for s in statistics]
        if any(p is not None for p in found):
            rows.append((f"p (Holm) vs {label}", [_probability(p) for p in found]))
    overlaps = [s.get("mean_overlap") for s in statistics]
    if any(o is not None for o in overlaps):
        rows.append(("mean overlap", [_percent(o, 0) for o in overlaps]))
    rows.append(("clips (undefined)", [_counts(s) for s in statistics]))
    return Sheet(name, title, (("clip", ""), *headers), rows, frozenset({len(clips) - 1}))


def _entry_sheet(
    results: Results,
    metrics: Sequence[str],
    name: str,
    title: str,
    show: Callable[[BdEntry], Cell],
) -> Sheet:
    """One number of every BD-rate's entry, by clip."""
    entries = {(b.clip, b.method, b.metric): b for b in results.bd_rate}
    keys = [(method, metric) for method in results.summary if method != ANCHOR
            for metric in metrics]  # fmt: skip
    rows: list[tuple[str, Sequence[Cell]]] = []
    for clip in dict.fromkeys(b.clip for b in results.bd_rate):
        found = [entries.get((clip, *key)) for key in keys]
        rows.append((clip, [show(b) if b else _NOTHING for b in found]))
    columns = [("clip", ""), *((method, METRIC_NAMES[metric]) for method, metric in keys)]
    return Sheet(name, title, columns, rows)


def _counts(statistics: dict[str, Any]) -> Cell:
    if not statistics:
        return _NOTHING
    return Cell(f"{statistics['n']} ({statistics['n_undefined']})", statistics["n"])


def _p(statistics: dict[str, Any], other: str) -> float | None:
    test = statistics.get("tests", {}).get(other, {})
    adjusted: float | None = test.get("p_holm")
    return adjusted


def _bd_cell(entry: BdEntry | None) -> Cell:
    if entry is None or entry.percent is None:
        return _NOTHING
    mark = "~" if entry.overlap < LOW_OVERLAP else ""
    text = _signed(entry.percent).text + mark + ("!" if entry.dropped else "")
    return Cell(text, entry.percent)


def _bd_notes(results: Results) -> Iterator[str]:
    defined = [b for b in results.bd_rate if b.percent is not None]
    low = sum(b.overlap < LOW_OVERLAP for b in defined)
    if low:
        yield f"~ the curves share less than {LOW_OVERLAP:.0%} of their quality range ({low})"
    dropped = sum(b.dropped > 0 for b in defined)
    if dropped:
        yield f"! points dropped, dominated by others of their curve or repeated ({dropped})"
    undefined: dict[tuple[str, str, str], list[str]] = {}
    for b in results.bd_rate:
        if b.percent is None:
            key = (b.clip, b.method, b.reason)
            undefined.setdefault(key, []).append(METRIC_NAMES[b.metric])
    yield from _listed(
        "undefined BD-rates",
        [f"{clip}, {method} ({', '.join(metrics)}): {reason}"
         for (clip, method, reason), metrics in undefined.items()],
    )  # fmt: skip


# ------------------------------------------------------------------ rate accuracy and the rest


def _other_sheets(results: Results) -> list[Sheet]:
    sheets = [_accuracy_sheet(results)]
    if any(not target.reachable for target in results.targets):
        sheets.append(_reachable_sheet(results))
    if any(entry.get("at_target") for entry in results.summary.values()):
        sheets.append(_at_target_sheet(results))
    if any(_percentiles(entry) for entry in results.summary.values()):
        sheets.append(_distribution_sheet(results))
    return sheets


def _accuracy_sheet(results: Results) -> Sheet:
    columns = [
        ("bitrate accuracy", ""), *_ACCURACY_COLUMNS,
        ("frames", "repeated"), ("time", "s"), ("time", "of VBR"), ("decisions", "of time"),
    ]  # fmt: skip
    rows: list[tuple[str, Sequence[Cell]]] = []
    for method, entry in results.summary.items():
        accuracy, time = entry["landing"], entry["time"]
        cells = _accuracy_cells(accuracy)
        if accuracy is None:
            rows.append((method, [*cells, *[_NOTHING] * 4]))
            continue
        rows.append(
            (
                method,
                [
                    *cells,
                    _percent(entry.get("repeated_share"), 0),
                    _number(time["seconds"], 1),
                    _number(time["of_anchor"], 2),
                    _percent(time["decision_share"], 1),
                ],
            )
        )
    return Sheet("bitrate accuracy", "", columns, rows, repeat=True)


def _reachable_sheet(results: Results) -> Sheet:
    """Bitrate accuracy on the targets that VBR comes near to: there a miss is the method's."""
    columns = [("VBR within 10%", ""), *_ACCURACY_COLUMNS]
    rows = [
        (method, _accuracy_cells(entry["landing_reachable"]))
        for method, entry in results.summary.items()
    ]
    return Sheet("landing_reachable", "", columns, rows)


def _accuracy_cells(accuracy: dict[str, Any] | None) -> list[Cell]:
    """Cells of `_ACCURACY_COLUMNS`."""
    if accuracy is None:
        return [*[_NOTHING] * (len(_ACCURACY_COLUMNS) - 1), Cell("0", 0)]
    return [
        *(_percent(accuracy[f"share_over_{k}"], 0) for k in (0, 1, 5)),
        _percent(accuracy["mean_abs_deviation"], 1),
        *(_percent(accuracy[k], 1, "+") for k in _SIGNED_ACCURACY),
        Cell(str(accuracy["n"]), accuracy["n"]),
    ]


def _at_target_sheet(results: Results) -> Sheet:
    """PSNR avg at the target: the other half of the table of bitrate accuracy."""
    entries = {m: e.get("at_target", {}).get(_MAIN_METRIC, {}) for m, e in results.summary.items()}
    tolerances = list(dict.fromkeys(t for entry in entries.values() for t in entry))
    parts = ("failed", "win", "tie", "loss", "gain dB", "score dB")
    columns = [("at target", "")]
    columns += [(f"at most {float(t):.0%} over", part) for t in tolerances for part in parts]
    rows: list[tuple[str, Sequence[Cell]]] = []
    for method, entry in entries.items():
        cells: list[Cell] = []
        for tolerance in tolerances:
            found = entry.get(tolerance)
            if found is None:
                cells += [_NOTHING] * len(parts)
                continue
            cells += [_percent(found[k] / found["n"], 0) for k in
                      ("failed", "wins", "ties", "losses")]  # fmt: skip
            cells += [_signed(found["mean_gain"]), _number(found["score"], 2)]
        rows.append((method, cells))
    return Sheet("at_target", "", columns, rows)


def _distribution_sheet(results: Results) -> Sheet:
    percentiles = list(next(filter(None, map(_percentiles, results.summary.values()))))
    buffers = [e.get("buffer") for e in results.summary.values()]
    sizes = list(next((b["sizes"] for b in buffers if b), {}))
    columns = [("deviation", "")]
    columns += [("percentile", p) for p in percentiles]
    if sizes:
        columns += [("needs s", name) for name in ("median", "95th", "worst")]
        columns += [("violates", f"{s} s") for s in sizes]
    rows: list[tuple[str, Sequence[Cell]]] = []
    for (method, entry), buffer in zip(results.summary.items(), buffers, strict=True):
        found = _percentiles(entry)
        cells = [_percent(found.get(p), 1, "+") for p in percentiles]
        if sizes and buffer:
            cells += [_number(buffer[f"needed_s_{k}"], 2) for k in ("median", "p95", "worst")]
            cells += [_percent(buffer["sizes"][s]["share_violating"], 0) for s in sizes]
        elif sizes:
            cells += [_NOTHING] * (3 + len(sizes))
        rows.append((method, cells))
    return Sheet("deviation_and_buffer", "", columns, rows)


def _percentiles(entry: dict[str, Any]) -> dict[str, float]:
    return (entry.get("landing") or {}).get("percentiles", {})


def _end_notes(results: Results) -> Iterator[str]:
    missed = [t for t in results.targets if not t.reachable]
    yield from _listed(
        f"targets that VBR cannot reach within 10% (they count everywhere else),"
        f" of {len(results.targets)}",
        [f"{t.clip}: {t.target_kbps} kbit/s, VBR gives {t.vbr_kbps:.0f}"
         for t in missed if t.vbr_kbps is not None],
    )  # fmt: skip
    yield from _listed(
        "failed",
        [f"{f.clip}, {f.method}, {f.target_kbps} kbit/s: {f.error}" if f.method
         else f"{f.clip}: {f.error}" for f in results.failures],
    )  # fmt: skip


def _listed(title: str, lines: Iterable[str]) -> Iterator[str]:
    lines = list(lines)
    if lines:
        yield f"{title}: {len(lines)}"
        yield from (f"  {line}" for line in lines[:_LISTED])
        if len(lines) > _LISTED:
            yield f"  and {len(lines) - _LISTED} more, all in results.json"


def _signed(value: float | None) -> Cell:
    return _NOTHING if value is None else Cell(f"{value:+z.2f}", value)


def _number(value: float | None, digits: int) -> Cell:
    return _NOTHING if value is None else Cell(f"{value:.{digits}f}", value)


def _percent(share: float | None, digits: int, sign: str = "") -> Cell:
    return _NOTHING if share is None else Cell(f"{share:{sign}.{digits}%}", share)


def _probability(p: float | None) -> Cell:
    if p is None:
        return _NOTHING
    return Cell("<0.001" if p < 0.001 else f"{p:.3f}", p)
