"""Films that are put together from the clips of a corpus, for benchmarks."""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from muzero_rc.video import find_tool

KINDS = ("natural", "animated", "screen", "mixed")
ANIMATED = {"animation", "anime", "cartoon", "graphics", "render"}
SCREEN = {"screen", "slides", "game"}


def kind_of(content: str) -> str:
    """natural, animated or screen, by what an index says of a clip."""
    words = set(content.lower().split())
    if words & SCREEN:
        return "screen"
    return "animated" if words & ANIMATED else "natural"


def draw(
    corpus: Path, which: str, kind: str, count: int, *, frames: int, height: int, seed: int
) -> list[Path]:
    """Draws clips of a set that are of a kind, at least so long and so high.

    Args:
      corpus: has an index.csv with columns file, set and content.
      which: set of the corpus.
      kind: of `KINDS`; mixed takes all.
      count: of clips; fewer where there are not so many, which is said.
      frames: that each must have.
      height: that each must have.
      seed: of the draw.
    """
    with (corpus / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == which]
    rows = [r for r in rows if float(r["frames"]) >= frames and float(r["height"]) >= height]
    fitting = [r["file"] for r in rows if kind in ("mixed", kind_of(r["content"]))]
    random.Random(f"{seed} {kind}").shuffle(fitting)
    if len(fitting) < count:
        print(f"{kind}: {len(fitting)} clips for {count}", file=sys.stderr)
    where = {path.name: path for path in corpus.rglob("*.*")}
    return [where[name] for name in fitting[:count]]


def make_film(
    clips: Sequence[Path],
    frames: int,
    width: int,
    height: int,
    path: Path,
    *,
    total: int | None = None,
) -> None:
    """Writes a film of at most so many frames of each clip, 25 a second, without loss.

    Args:
      clips: in their order.
      frames: of each clip, or fewer where it has fewer.
      width: of the film.
      height: of the film.
      path: of the film.
      total: frames at which the film ends.
    """
    inputs: list[str] = []
    graph = ""
    for number, clip in enumerate(clips):
        inputs += ["-i", str(clip)]
        graph += (
            f"[{number}:v]scale={width}:{height}:force_original_aspect_ratio=increase,"
            f"crop={width}:{height},setsar=1,fps=25,trim=end_frame={frames},"
            f"setpts=N/25/TB[v{number}];"
        )
    graph += "".join(f"[v{number}]" for number in range(len(clips)))
    graph += f"concat=n={len(clips)}:v=1:a=0"
    graph += f",trim=end_frame={total}[o]" if total else "[o]"
    lossless = ["-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "veryfast", "-qp", "0"]
    quiet = ["-hide_banner", "-nostdin", "-loglevel", "error", "-y"]
    new = path.with_suffix(".new.mkv")
    words = [*quiet, *inputs, "-filter_complex", graph, "-map", "[o]", *lossless, str(new)]
    subprocess.run([find_tool("ffmpeg"), *words], check=True)
    os.replace(new, path)
