"""Pictures of encodes, frame by frame."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from muzero_rc.output_files import output
from muzero_rc.types import FrameResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Series", "plot_curves", "plot_frames", "plot_rate_time", "rolling_mean"]

# Okabe and Ito's colours: told apart by everyone. The first is the one to look at.
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_SIZE_INCHES = (11.0, 8.2)
_DPI = 130


@dataclass(frozen=True, slots=True)
class Series:
    """One method's encode.

    Attributes:
      label: for the legend.
      results: of every frame, in coding order.
    """

    label: str
    results: Sequence[FrameResult]


def rolling_mean(values: npt.NDArray[np.float64], window: int) -> npt.NDArray[np.float64]:
    """Mean over a centred window, cut at the ends. [T] -> [T]."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    position = np.arange(len(values))
    low = np.maximum(position - window // 2, 0)
    high = np.minimum(position + (window + 1) // 2, len(values))
    return (total[high] - total[low]) / (high - low)


def plot_frames(
    path: Path, series: Sequence[Series], *, title: str, fps: float, target_kbps: float
) -> None:
    """Draws qindex, bitrate and PSNR over time, a colour per method, into a PNG file.

    Single frames are faint, the mean over a second around each is the line. Hidden
    reference frames stand where the frame that they were coded for will be shown.

    Raises:
      OutputError: the file cannot be written.
    """
    # Agg needs no display; chosen by class so that a caller's pyplot stays as it is.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 1, sharex=True)
    window = max(1, round(fps))
    for number, one in enumerate(series):
        _draw(axes, one, _COLOURS[number % len(_COLOURS)], 10 - number, fps, window)
    axes[1].axhline(target_kbps, color="0.35", linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes[1].annotate(
        "target", (1.0, target_kbps), xycoords=("axes fraction", "data"),
        xytext=(4, 0), textcoords="offset points", va="center", color="0.35", fontsize=9,
    )  # fmt: skip
    labels = (
        ("qindex", "coarser is higher; dots: single frames, rings: hidden references"),
        ("bitrate, kbit/s", "mean over a second; dots: single frames times the frame rate"),
        ("PSNR, dB", "over Y, U and V; dots: single frames"),
    )
    for axis, (name, note) in zip(axes, labels, strict=True):
        axis.set_ylabel(name)
        axis.set_title(note, loc="right", fontsize=8.5, color="0.4", pad=3)
        axis.grid(color="0.92", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    _limit_bitrate(axes[1], series, fps, target_kbps)
    axes[0].legend(
        loc="lower left", bbox_to_anchor=(0, 1.08), ncols=1, frameon=False, fontsize=9.5,
        borderaxespad=0, prop={"family": "monospace", "size": 9},
    )  # fmt: skip
    axes[2].set_xlabel("time, s")
    last = max(r.show_index for one in series for r in one.results)
    axes[2].set_xlim(-0.01 * (last + 1) / fps, 1.01 * (last + 1) / fps)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12.5, fontweight="bold")
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with output(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": "muzero-rc"})


def _draw(
    axes: npt.NDArray[np.object_],
    series: Series,
    colour: str,
    order: int,
    fps: float,
    window: int,
) -> None:
    shown = sorted((r for r in series.results if r.shown), key=lambda r: r.show_index)
    coded = [r for r in shown if r.qindex >= 0]
    hidden = [r for r in series.results if not r.shown]
    time = np.array([r.show_index / fps for r in shown])
    dots = {"s": 7, "alpha": 0.33, "color": colour, "linewidths": 0, "zorder": order}
    line = {"color": colour, "linewidth": 2.0, "zorder": order + 20}

    coded_time = np.array([r.show_index / fps for r in coded])
    qindex = np.array([float(r.qindex) for r in coded])
    axes[0].scatter(coded_time, qindex, **dots)
    axes[0].plot(coded_time, rolling_mean(qindex, window), label=series.label, **line)
    axes[0].scatter(
        [r.show_index / fps for r in hidden], [r.qindex for r in hidden], s=13,
        facecolors="none", edgecolors=colour, linewidths=0.8, alpha=0.55, zorder=order,
    )  # fmt: skip

    # A hidden reference is paid for at the place where it will be shown.
    bits = np.zeros(len(shown))
    for result in series.results:
        bits[min(result.show_index, len(shown) - 1)] += result.bits
    rate = bits * fps / 1000.0
    axes[1].scatter(time, rate, **dots)
    axes[1].plot(time, rolling_mean(rate, window), **line)

    psnr = np.array([r.psnr for r in shown])
    axes[2].scatter(time, psnr, **dots)
    axes[2].plot(time, rolling_mean(psnr, window), **line)


def _limit_bitrate(axis: object, series: Sequence[Series], fps: float, target_kbps: float) -> None:
    """Key frames are many times the mean; the axis follows the means instead."""
    top = target_kbps
    for one in series:
        last = max(r.show_index for r in one.results)
        bits = np.zeros(last + 1)
        for result in one.results:
            bits[result.show_index] += result.bits
        top = max(top, float(rolling_mean(bits * fps / 1000.0, max(1, round(fps))).max()))
    axis.set_ylim(0, top * 1.25)  # type: ignore[attr-defined]


def plot_curves(
    path: Path,
    curves: Mapping[str, Sequence[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]],
    *,
    title: str,
    window: int = 100,
) -> None:
    """Draws win rates over encoder frames, a colour per variant, a faint line per seed.

    Args:
      path: of the PNG file.
      curves: by variant, for each seed the coded frames [N] and the wins [N] in 0..1.
      title: above the picture.
      window: episodes that a win rate is taken over, centred.

    Raises:
      OutputError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.6), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for (name, runs), colour in zip(curves.items(), itertools.cycle(_COLOURS), strict=False):
        usable = [(frames, rolling_mean(wins, window)) for frames, wins in runs if len(frames)]
        for frames, rate in usable:
            alone = len(usable) == 1
            axes.plot(
                frames, rate, color=colour, linewidth=1.8 if alone else 0.8,
                alpha=1.0 if alone else 0.35, label=name if alone else None,
            )  # fmt: skip
        if len(usable) > 1:
            shared = np.linspace(0, min(frames[-1] for frames, _ in usable), 200)
            mean = np.mean([np.interp(shared, frames, rate) for frames, rate in usable], axis=0)
            axes.plot(shared, mean, color=colour, linewidth=1.8, label=name)
    axes.axhline(0.5, color="0.6", linewidth=0.8)
    axes.set(
        title=title, xlabel="coded frames of self-play", ylabel="win rate against two-pass VBR",
        ylim=(0, 1),
    )  # fmt: skip
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    _save(figure, path)


def plot_rate_time(
    path: Path,
    curves: Mapping[str, Sequence[tuple[float, float, str]]],
    *,
    anchor: str,
    metric: str,
) -> None:
    """Draws BD-rate over encoding time, a curve per method, a point per speed.

    Args:
      path: of the PNG file.
      curves: by method, for each speed the time over the anchor's, the BD-rate in percent,
        and the speed's label.
      anchor: what times and rates are relative to.
      metric: of the BD-rates.

    Raises:
      OutputError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure = Figure(figsize=(8.0, 5.2), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for (name, points), colour in zip(curves.items(), itertools.cycle(_COLOURS), strict=False):
        ordered = sorted(points)
        axes.plot(
            [x for x, _, _ in ordered], [y for _, y, _ in ordered], color=colour, label=name,
            marker="o", markersize=5, linewidth=1.8,
        )  # fmt: skip
        for x, y, label in ordered:
            axes.annotate(
                label, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8.5,
                color=colour,
            )  # fmt: skip
    axes.axhline(0.0, color="0.6", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(
        title=f"Bits and time; lower left is better; numbers are speeds ({metric})",
        xlabel=f"encoding time over that of {anchor}", ylabel=f"BD-rate against {anchor}, %",
    )  # fmt: skip
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    _save(figure, path)
