"""Fits what a lossless base layer in stretches of a chunk changes, and when it is looked for.

Clips of a corpus's set whose contents may stand still are encoded in real time with and without
loss. Stretches are found at several prices (`muzero_rc.encode.stretches`), and each clip is
encoded with constant quality, and with a lossless base layer in the stretches of each price and in
the whole clip, at several levels. What is found of a clip is kept in `--out`, so that a run that
was stopped goes on. `-o` gets the coefficients, as `muzero_rc/encode/stretch_model.py` has them.
Errors and gains are of sources that were left out of the fit, five folds; a source is a group of
the corpus.

    .venv/bin/python benchmarks/make_stretch_model.py CORPUS --out DIR [-o FILE]
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from common import model_parser, print_table
from levels import HEIGHT, SETTINGS, clips_that_may_stand_still, encode_at, look_at
from make_offset_scale_model import at_bits, over_sources, psnr_avg, psnr_overall, ridge

from muzero_rc.encode.level import Level
from muzero_rc.encode.offset_scale import terms as offset_terms
from muzero_rc.encode.offset_scale_model import OFFSET_SCALE_MODEL
from muzero_rc.encode.realtime_probe import START_LEVEL, realtime_probe
from muzero_rc.encode.stretches import Stretches, stretches, whole_chunk
from muzero_rc.encode.ways import stretched, terms
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.control.rate.probe import qindex_octaves

PRICES = (0.02, 0.05, 0.1, 0.2, 0.5)  # bits a pixel; by hand, an octave and more apart
CONSTANT, STRETCHED = (10.0, 20.0, 60.0, 120.0), (20.0, 60.0, 120.0)  # qindexes
FRAMES = 200  # of a clip, as long as a long chunk
MOST = 4.5  # octaves from 31 to lossless; by hand: beyond, nothing stands still
FOUND = 0.9  # of what clips gain at levels but the finest, which is asked for anyway; by hand
FOLDS = 5
HALVINGS = 40  # numerical: of the range of prices

_Array = npt.NDArray[np.float64]


def look(path: Path) -> dict[str, Any]:
    """All encodes of a clip."""
    clip = Clip.load(path, height=HEIGHT, max_frames=FRAMES)
    start, lossless = (realtime_probe(clip, SETTINGS, level) for level in (START_LEVEL, 0.0))
    pixels = clip.width * clip.height
    found: dict[str, Any] = {"start": asdict(start), "lossless": asdict(lossless)}
    found |= {"pixels": pixels, "encodes": []}
    if lossless.bits - start.bits > MOST:
        return found
    statistics = first_pass(clip, SETTINGS, cache=False)
    costs = np.array(lossless.frame_bits) / pixels
    some: list[Stretches] = [stretches(costs, price) for price in PRICES]
    some = [*dict.fromkeys([each for each in some if each] + [whole_chunk(len(costs))])]
    for mine, levels in [((), CONSTANT), *((each, STRETCHED) for each in some)]:
        for level in levels:
            near = float(np.clip(level, *OFFSET_SCALE_MODEL.levels))
            scale = OFFSET_SCALE_MODEL.scale(offset_terms(start, near))
            encode = encode_at(clip, Level(level, mine, scale), statistics)
            found["encodes"].append(encode | {"stretches": mine})
    return found


class Row(NamedTuple):
    """An encode with a lossless base layer in stretches, beside one with constant quality.

    Attributes:
      source: of the clip.
      clip: its name.
      level: of both.
      whole: the whole clip is one stretch.
      x: the terms.
      changes: [3] octaves of bits and of error, dB of PSNR avg, at the same level.
      gains: [2] dB of PSNR avg and overall, at equal bits.
      curve: the encodes with constant quality, fewest bits first.
    """

    source: str
    clip: str
    level: float
    whole: bool
    x: _Array
    changes: _Array
    gains: _Array
    curve: Sequence[Mapping[str, Any]]


def rows_of(source: str, name: str, found: Mapping[str, Any]) -> list[Row]:
    """The rows of a clip."""
    costs = np.array(found["lossless"]["frame_bits"]) / found["pixels"]
    constant = {e["level"]: e for e in found["encodes"] if not e["stretches"]}
    curve = sorted(constant.values(), key=lambda e: e["bits"])
    rows = []
    for encode in found["encodes"]:
        if not encode["stretches"]:
            continue
        same = constant[encode["level"]]
        mine = stretched(tuple((a, b) for a, b in encode["stretches"]), costs)
        octaves = float(qindex_octaves(encode["level"]))
        gains = [quality(encode) - at_bits(curve, encode["bits"], quality)
                 for quality in (psnr_avg, psnr_overall)]  # fmt: skip
        rows.append(Row(
            source, name, encode["level"], mine.stretches == whole_chunk(len(costs)),
            terms(mine, octaves, same["bits"], same["psnr_avg"]),
            np.array([encode[key] - same[key] for key in ("bits", "error", "psnr_avg")]),
            np.array(gains), curve,
        ))  # fmt: skip
    return rows


def fit(rows: Sequence[Row]) -> _Array:
    """Coefficients of octaves of bits and of error, and of dB. [3, terms]."""
    x, wanted = (np.array([getattr(row, name) for row in rows]) for name in ("x", "changes"))
    return ridge(x, wanted).T


def expected_gain(row: Row, coefficients: _Array) -> float:
    """What a row is expected to gain at equal bits, PSNR avg and overall together, dB."""
    same = next(e for e in row.curve if e["level"] == row.level)
    bits, error, psnr = coefficients @ row.x
    encode = {"error": same["error"] + error, "psnr_avg": same["psnr_avg"] + psnr}
    return sum(
        quality(encode) - at_bits(row.curve, same["bits"] + bits, quality)
        for quality in (psnr_avg, psnr_overall)
    )


def left_out(rows: Sequence[Row]) -> tuple[_Array, list[tuple[str, float, dict[str, float]]]]:
    """What fits to other sources are off by, and what the ways that they choose gain.

    Returns:
      Root mean square of octaves of bits and of error, and of dB; and of each clip and level the
      source, the level, and dB of both by the choice.
    """
    names = sorted({row.source for row in rows})
    off, chosen = [], []
    for fold in range(FOLDS):
        mine = set(names[fold::FOLDS])
        coefficients = fit([row for row in rows if row.source not in mine])
        off += [row.changes - coefficients @ row.x for row in rows if row.source in mine]
        for where in sorted({(r.source, r.clip, r.level) for r in rows if r.source in mine}):
            each = [r for r in rows if (r.source, r.clip, r.level) == where]
            gains = {}
            for name, some in (("all", each), ("whole chunks", [r for r in each if r.whole])):
                best = max(some, key=lambda row: expected_gain(row, coefficients))
                pays = expected_gain(best, coefficients) > 0.0
                gains[name] = float(best.gains.sum()) if pays else 0.0
            gains["whole chunks, always"] = float(next(r for r in each if r.whole).gains.sum())
            gains["best of all"] = max(0.0, *(float(row.gains.sum()) for row in each))
            chosen.append((where[0], where[2], gains))
    return np.sqrt(np.mean(np.square(off), axis=0)), chosen


def least_price(costs: _Array) -> float:
    """The lowest price at which a clip has stretches."""
    low, high = 1e-6, 10.0
    for _ in range(HALVINGS):
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if stretches(costs, middle) else (middle, high)
    return high


def start_price_of(rows: Sequence[Row], least: Mapping[str, float]) -> float:
    """The lowest price at which encodes in real time with loss tell of most gains.

    Args:
      rows: of all clips.
      least: the lowest price at which each of them has stretches.
    """
    gains: dict[str, float] = {}
    for row in rows:
        if row.level > min(STRETCHED):
            gains[row.clip] = max(gains.get(row.clip, 0.0), float(row.gains.sum()))
    found, whole = 0.0, sum(gains.values())
    for name in sorted(gains, key=least.__getitem__):
        found += gains[name]
        if found >= FOUND * whole:
            return round(least[name] * 1.0001, 4)
    raise ValueError("no clip gains")


def means_over_sources(
    chosen: Sequence[tuple[str, float, Mapping[str, float]]], level: float | None = None
) -> dict[str, tuple[float, float]]:
    """By choice, the mean over sources of what it gains and its standard error, dB of both."""
    found = {}
    for name in chosen[0][2]:
        mean, error = over_sources(
            (source, gains[name]) for source, mine, gains in chosen if level in (None, mine)
        )
        found[name] = (round(mean, 2), round(error, 2))
    return found


def as_module(coefficients: _Array, start_price: float, record: Mapping[str, Any]) -> str:
    """The module that has the coefficients."""
    fitted = "".join(
        f"    {name}={tuple(row.tolist())!r},\n"
        for name, row in zip(("bits", "error", "psnr"), coefficients, strict=True)
    )
    told = "".join(f'        "{name}": {value!r},\n' for name, value in record.items())
    return f'''"""Coefficients of stretches, by `benchmarks/make_stretch_model.py`."""

from muzero_rc.encode.ways import StretchModel

__all__ = ["STRETCH_MODEL"]

STRETCH_MODEL = StretchModel(
{fitted}    prices={PRICES!r},
    levels={(min(STRETCHED), max(STRETCHED))!r},
    start_price={start_price!r},
    record={{
{told}    }},
)
'''


def main() -> None:
    args = model_parser(__doc__.splitlines()[0]).parse_args()
    clips = clips_that_may_stand_still(args.corpus, args.set)
    rows: list[Row] = []
    least: dict[str, float] = {}
    for path, found in look_at(clips, args.out, look, found=args.found):
        least[path.name] = least_price(np.array(found["start"]["frame_bits"]) / found["pixels"])
        rows += rows_of(clips[path], path.name, found)
    off, chosen = left_out(rows)
    record: dict[str, Any] = {
        "sources": len({row.source for row in rows}), "clips": len({row.clip for row in rows}),
        "octaves_of_bits": round(float(off[0]), 3), "octaves_of_error": round(float(off[1]), 3),
        "db_of_psnr": round(float(off[2]), 3),
    }  # fmt: skip
    for level in (None, *STRETCHED):
        name = "all levels" if level is None else f"level {level:g}"
        record[f"dB of both, {name}"] = means_over_sources(chosen, level)
    start_price = start_price_of(rows, least)
    record["asked at the start price"] = f"{sum(p <= start_price for p in least.values())} clips"
    print(json.dumps(record, indent=1))
    print_table(
        "gains at equal bits, dB", ["clip", "level", "best", "whole"],
        [[r.clip, f"{r.level:g}",
          f"{max(o.gains.sum() for o in rows if (o.clip, o.level) == (r.clip, r.level)):+.2f}",
          f"{r.gains.sum():+.2f}"] for r in rows if r.whole],
    )  # fmt: skip
    if args.model is not None:
        args.model.write_text(as_module(fit(rows), start_price, record))


if __name__ == "__main__":
    main()
