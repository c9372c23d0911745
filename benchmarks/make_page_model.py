"""Fits what a page takes with constant quality.

Clips of a corpus's set whose contents may stand still are encoded in real time at
`START_LEVEL` and without loss. Where the latter takes few times the bits of the former, they are
encoded with constant quality at several levels (`muzero_rc.encode.pages`). What is found of a clip
is kept in `--out`, so that a run that was stopped goes on. `-o` gets the coefficients, as
`muzero_rc/encode/page_model.py` has them. Errors are of sources that were left out of the fit, five
folds; a source is a group of the corpus.

    .venv/bin/python benchmarks/make_page_model.py CORPUS --out DIR [-o FILE]
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from common import model_parser
from levels import HEIGHT, SETTINGS, clips_that_may_stand_still, encode_at, look_at
from make_realtime_model import left_out, solve

from muzero_rc.encode.level import Level
from muzero_rc.encode.realtime_probe import START_LEVEL, realtime_probe
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.control.rate.probe import qindex_octaves

LEVELS = (16.0, 64.0)  # qindexes of what pages are asked for
MOST = 4.0  # octaves from 31 to lossless; by hand: beyond, a film cannot pay for it
FRAMES = 100  # of a clip, as long as a usual chunk

_Array = npt.NDArray[np.float64]


def look(path: Path) -> dict[str, Any]:
    """All encodes of a clip."""
    clip = Clip.load(path, height=HEIGHT, max_frames=FRAMES)
    start, lossless = (realtime_probe(clip, SETTINGS, level) for level in (START_LEVEL, 0.0))
    found: dict[str, Any] = {"start": asdict(start), "lossless": asdict(lossless)}
    if lossless.bits - start.bits > MOST:
        return found
    statistics = first_pass(clip, SETTINGS, cache=False)
    found["constant"] = [encode_at(clip, Level(level), statistics) for level in LEVELS]
    return found


class Rows:
    """What is to be fitted: a row for each encode."""

    def __init__(self, looked: Sequence[tuple[str, str, dict[str, Any]]]) -> None:
        """Takes what was found of clips: source, name, encodes."""
        terms, wanted, sources, clips = [], [], [], []
        for source, name, found in looked:
            whole = found["lossless"]["bits"]
            if whole - found["start"]["bits"] > MOST:
                continue
            for encode in found["constant"]:
                if encode["psnr_avg"] >= 100.0:  # it stands still, and has no error to fit
                    continue
                octaves = float(qindex_octaves(encode["level"]))
                terms.append([whole, octaves, octaves * whole])
                wanted.append([encode["bits"] - whole, encode["error"], encode["psnr_avg"]])
                sources.append(source)
                clips.append(name)
        self.terms, self.wanted = np.array(terms), np.array(wanted)
        self.sources, self.clips = np.array(sources), np.array(clips)

    def fit(self, column: int) -> _Array:
        """Coefficients of bits (0), of the error (1), or of PSNR avg (2). [4]."""
        return solve(self.terms, self.wanted[:, column])

    def off(self, column: int) -> float:
        """What fits to other sources are off, root mean square, octaves or dB."""
        off = left_out(self.terms, self.wanted[:, column], self.sources)
        return float(np.sqrt(np.mean(off**2)))


def as_module(fits: Mapping[str, Sequence[float]], record: Mapping[str, Any]) -> str:
    """The module that has the coefficients."""
    fitted = "".join(f"    {name}={tuple(line)!r},\n" for name, line in fits.items())
    told = "".join(f'        "{name}": {value!r},\n' for name, value in record.items())
    return f'''"""Coefficients of pages, by `benchmarks/make_page_model.py`."""

from muzero_rc.encode.pages import PageModel

__all__ = ["PAGE_MODEL"]

PAGE_MODEL = PageModel(
{fitted}    most={MOST},
    record={{
{told}    }},
)
'''


def main() -> None:
    args = model_parser(__doc__.splitlines()[0]).parse_args()
    clips = clips_that_may_stand_still(args.corpus, args.set)
    looked = [
        (clips[path], path.name, told)
        for path, told in look_at(clips, args.out, look, found=args.found)
    ]
    names = {"bits": "octaves_of_bits", "error": "octaves_of_error", "psnr": "db_of_psnr"}
    table = Rows(looked)
    fits = {name: table.fit(column).round(4).tolist() for column, name in enumerate(names)}
    record: dict[str, Any] = {"looked_at": len(looked)}
    record |= {told: round(table.off(column), 3) for column, told in enumerate(names.values())}
    record |= {"sources": len(set(table.sources)), "clips": len(set(table.clips))}
    print(json.dumps(fits | {"record": record}, indent=1))
    if args.model is not None:
        args.model.write_text(as_module(fits, record))


if __name__ == "__main__":
    main()
