"""The rate-distortion curves as a picture for print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from muzero_rc.evaluation.report.contents import metric_label
from muzero_rc.output_files import output

__all__ = ["plot_rate_distortion"]

# Okabe and Ito's colours: told apart by everyone; the lead's stands out. As in the page.
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "D", "^", "v", "P")
_MOST_CLIPS = 12
_COLUMNS = 4
_LONGEST_NAME = 28  # characters of a clip
_DPI = 150


def plot_rate_distortion(data: dict[str, Any], path: Path) -> None:
    """Draws the curves of each clip, at most twelve, into a PNG file.

    With more clips, those are taken that lie at even steps between the best and the worst
    BD-rate of the lead, and the picture says so.

    Args:
      data: `Contents.data`.
      path: of the file.

    Raises:
      OutputError: it cannot be written.
    """
    # Agg needs no display; chosen by class so that a caller's pyplot stays as it is.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metric = data["metrics"][0]
    clips = _picked(data)
    columns = min(_COLUMNS, len(clips))
    rows = math.ceil(len(clips) / columns)
    size = (max(6.5, 3.1 * columns), 2.55 * rows + 1.1)
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, clip in zip(grid, clips, strict=False):
        _draw(axes, clip, data, metric["name"])
    for axes in grid[len(clips) :]:
        axes.set_axis_off()
    for axes in grid[: len(clips)][-columns:]:
        axes.set_xlabel("bitrate, kbit/s", fontsize=9)
    unit = f", {metric['unit']}" if metric["unit"] else ""
    figure.supylabel(metric_label(metric["name"]) + unit, fontsize=9)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6),
                  frameon=False, fontsize=9)  # fmt: skip
    note = f" ({len(clips)} of {len(data['clips'])} clips, best to worst)"
    verdict = data["verdict"]
    interval = verdict["interval"] + (note if len(clips) < len(data["clips"]) else "")
    figure.suptitle(f"{verdict['headline']}\n{interval}", fontsize=9.5, x=0.01, ha="left")
    with output(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": "muzero-rc"})


def _picked(data: dict[str, Any]) -> Sequence[dict[str, Any]]:
    every = [clip for clip in data["clips"] if clip["encodes"]]
    if len(every) <= _MOST_CLIPS:
        return every
    ordered = sorted(every, key=lambda clip: _percent(clip, data) or 0.0)
    step = (len(ordered) - 1) / (_MOST_CLIPS - 1)
    return [ordered[round(i * step)] for i in range(_MOST_CLIPS)]


def _percent(clip: dict[str, Any], data: dict[str, Any]) -> float | None:
    metric = data["metrics"][0]["name"]
    return next(
        (b["percent"] for b in clip["bd"] if (b["method"], b["metric"]) == (data["lead"], metric)),
        None,
    )


def _draw(axes: Any, clip: dict[str, Any], data: dict[str, Any], metric: str) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    for number, method in enumerate(data["methods"]):
        points = sorted(
            (e["kbps"], e["quality"][metric])
            for e in clip["encodes"]
            if e["method"] == method["name"] and e["quality"][metric] is not None
        )
        lead = method["role"] == "lead"
        axes.plot(
            [rate for rate, _ in points], [quality for _, quality in points],
            color=_COLOURS[number % len(_COLOURS)], marker=_MARKERS[number % len(_MARKERS)],
            markersize=4 if lead else 3.2, linewidth=1.8 if lead else 1.2,
            zorder=3 if lead else 2, label=method["label"],
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(color="0.92", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    percent = _percent(clip, data)
    number_text = "n/a" if percent is None else f"{percent:+.1f}%".replace("-", "\N{MINUS SIGN}")
    name = clip["name"]
    if len(name) > _LONGEST_NAME:  # it would run into the next panel
        half = _LONGEST_NAME // 2
        name = f"{name[:half]}…{name[-half:]}"
    axes.set_title(f"{name}  {number_text}", fontsize=9, loc="left")
