"""Makes the first pass's block maps of all studies of a data set, for bench_residual.py --blocks.

A data set has libvpx's statistics of whole frames and no maps. Each study's part is cut out of
its clip again, as it was when the study was made, and goes through the first pass. Its statistics
must be those of the data set: then the frames are the same. Parts whose clip is not in the corpus,
or is decoded otherwise today, are named and left out. Takes a minute or two of CPU time and 20 MB:

    .venv/bin/python benchmarks/make_block_maps.py benchmarks/data/studies.npz CORPUS MAPS.npz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from muzero_rc.checkpoint import read_arrays, write_arrays
from muzero_rc.dataset import StudyView, load_dataset
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.training.stages.collect import load_part

Part = tuple[str, tuple[int, int, int]]
"""Name of a clip; height, first frame, frames."""

Maps = dict[Part, npt.NDArray[np.float16]]
"""[T, rows, columns, BLOCK_FEATURES] as `FirstPass.blocks`."""

_CLOSE = 1e-5  # relative; the data set has 32 bits of each number


def part_of(view: StudyView) -> Part:
    """What the study was made on; several studies may share it."""
    return view.clip, view.part


def blocks_of(view: StudyView, path: Path) -> npt.NDArray[np.float16] | None:
    """The maps of a study; None if the data set says otherwise of the frames."""
    clip = load_part(path, view.part)
    settings = EncoderSettings(target_kbps=1, speed=view.speed)
    found = first_pass(clip, settings, blocks=True, cache=False)
    if found.stats.shape != view.stats.shape or not np.allclose(found.stats, view.stats, _CLOSE):
        return None
    return None if found.blocks is None else np.array(found.blocks)


def save_maps(path: Path, maps: Maps) -> None:
    """Writes the maps, with the parts that they are of."""
    tree = {str(number): values for number, values in enumerate(maps.values())}
    parts = [[clip, *part] for clip, part in maps]
    write_arrays(path, {"maps": tree}, {"format": "block maps", "parts": parts})


def load_maps(path: Path) -> Maps:
    """What `save_maps` wrote.

    Raises:
      CheckpointError: the file is missing, damaged or something else.
    """
    tree, meta = read_arrays(path)
    return {
        (clip, (height, first, frames)): tree["maps"][str(number)]
        for number, (clip, height, first, frames) in enumerate(meta["parts"])
    }


def main() -> int:
    """Makes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("maps", type=Path, help="the file to write")
    args = parser.parse_args()
    views = {part_of(view): view for view in load_dataset(args.dataset).studies}
    maps: Maps = {}
    for part, view in views.items():
        path = next(args.corpus.rglob(view.clip), None)
        blocks = None if path is None else blocks_of(view, path)
        if blocks is None:
            print(f"left out: {view.clip}, {view.part}", flush=True)
        else:
            maps[part] = blocks
    save_maps(args.maps, maps)
    print(f"maps of {len(maps)} of {len(views)} parts, statistics as in the data set")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
