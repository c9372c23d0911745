"""Fits by how much the QP offsets of constant quality are to be scaled, and what that changes.

Clips of a corpus's set are encoded with constant quality at three levels, with the recipe's QP
offsets (`Recipe.qp_offsets`) times each of `SCALES`. What is found of a clip is kept in `--out`,
so that a run that was stopped goes on. `-o` gets the coefficients, as
`muzero_rc/encode/offset_scale_model.py` has them. Errors are of sources that were left out of the
fit, five folds; a source is a group of the corpus.

    .venv/bin/python benchmarks/make_offset_scale_model.py CORPUS --out DIR [-o FILE]
"""

from __future__ import annotations

import csv
import itertools
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from common import model_parser, print_table
from films import kind_of
from levels import HEIGHT, SETTINGS, encode_at, look_at

from muzero_rc.encode.level import Level
from muzero_rc.encode.offset_scale import OffsetScaleModel, Parabola, terms
from muzero_rc.encode.realtime_probe import START_LEVEL, RealtimeProbe, realtime_probe
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.types import PEAK

SCALES = (1.0, 2.0, 0.0, -1.0, -3.0)
LEVELS = (20.0, 60.0, 120.0)
FRAMES = 80  # of a clip
MOST_OF_SOURCE, MOST_OF_KIND = 2, {"natural": 24, "animated": 24, "screen": 40}
MOST_GAIN = 3.0  # dB; by hand: of what stands nearly still, more of it tells no more
CHEAP = 2.0  # octaves from `START_LEVEL` to lossless; by hand: its base layer will be lossless
LEAST_OCTAVES = 0.02  # of bits between two levels; by hand, so that there is a curve
RIDGE = 1e-2  # of the terms' mean square; by hand, they are nearly collinear
LEAST = (0.0, 0.05, 0.1, 0.2, 0.3)  # dB of the sum: gains that are not believed, to choose from
FOLDS = 5

_Array = npt.NDArray[np.float64]


def clips_of(corpus: Path, which: str) -> list[tuple[Path, str, str]]:
    """Clips of a set, their sources and kinds, one of each kind after the other."""
    with (corpus / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == which]
    rows = [row for row in rows if float(row["frames"]) >= FRAMES]
    random.Random(0).shuffle(rows)
    where = {path.name: path for path in corpus.rglob("*.*")}
    found: dict[str, list[tuple[Path, str]]] = {kind: [] for kind in MOST_OF_KIND}
    for row in rows:
        mine = found[kind_of(row["content"])]
        if sum(source == row["group"] for _, source in mine) < MOST_OF_SOURCE:
            mine.append((where[row["file"]], row["group"]))
    most = max(MOST_OF_KIND.values())
    return [
        (*mine[place], kind)
        for place in range(most)
        for kind, mine in found.items()
        if place < min(len(mine), MOST_OF_KIND[kind])
    ]


def look(path: Path) -> dict[str, Any]:
    """All encodes of a clip."""
    clip = Clip.load(path, height=HEIGHT, max_frames=FRAMES)
    start, lossless = (realtime_probe(clip, SETTINGS, level) for level in (START_LEVEL, 0.0))
    statistics = first_pass(clip, SETTINGS, cache=False)
    encodes = [
        encode_at(clip, Level(level, offset_scale=scale), statistics) | {"scale": scale}
        for level in LEVELS
        for scale in SCALES
    ]
    return {"start": asdict(start), "lossless": asdict(lossless), "encodes": encodes}


class Gained(NamedTuple):
    """What a scale gains over 1 at equal bits, at a level of a clip.

    Attributes:
      source: of the clip.
      kind: of the clip.
      level: a qindex.
      scale: that was chosen.
      avg: dB of PSNR avg.
      overall: dB of PSNR overall.
    """

    source: str
    kind: str
    level: float
    scale: float
    avg: float
    overall: float


class Rows:
    """What is to be fitted: a row for each encode with another scale than 1."""

    def __init__(self, looked: Sequence[tuple[str, str, str, dict[str, Any]]]) -> None:
        """Takes what was found of clips: source, name, kind, encodes."""
        rows = []
        for source, name, kind, found in looked:
            if found["lossless"]["bits"] - found["start"]["bits"] <= CHEAP:
                continue
            curve = {e["level"]: e for e in found["encodes"] if e["scale"] == 1.0}
            order = sorted(curve.values(), key=lambda e: e["bits"])
            if min(b["bits"] - a["bits"] for a, b in itertools.pairwise(order)) < LEAST_OCTAVES:
                continue  # so little moves that its curve tells nothing
            for encode in found["encodes"]:
                if encode["scale"] == 1.0:
                    continue
                same = curve[encode["level"]]
                z = terms(RealtimeProbe(**found["start"]), encode["level"])
                gains = [quality(encode) - at_bits(order, encode["bits"], quality)
                         for quality in (psnr_avg, psnr_overall)]  # fmt: skip
                changes = [encode[key] - same[key] for key in ("bits", "error", "psnr_avg")]
                where = (source, name, kind, encode["level"])
                rows.append((where, encode["scale"], z, gains, changes))
        self.where, scales, z, gains, changes = zip(*rows, strict=True)
        self.scales, self.gains, self.changes = map(np.array, (scales, gains, changes))
        self.z = np.array(z)
        self.sources = np.array([source for source, *_ in self.where])

    def targets(self) -> dict[str, _Array]:
        """What each parabola is fitted to."""
        gain = np.clip(self.gains, -MOST_GAIN, MOST_GAIN).sum(axis=1)
        bits, error, psnr = self.changes.T
        return {"gain": gain, "bits": bits, "error": error, "psnr": psnr}

    def fit(self, wanted: _Array, mine: npt.NDArray[np.bool_] | None = None) -> Parabola:
        """The parabola that is least off, of some rows."""
        some = slice(None) if mine is None else mine
        step = (self.scales - 1.0)[some, None]
        columns = np.concatenate([step * self.z[some], step**2 * self.z[some]], axis=1)
        linear, square = np.split(ridge(columns, wanted[some]), 2)
        return Parabola(tuple(linear.tolist()), tuple(square.tolist()))

    def model(self, least: float, mine: npt.NDArray[np.bool_] | None = None) -> OffsetScaleModel:
        """All fits, to some rows."""
        fits = {name: self.fit(wanted, mine) for name, wanted in self.targets().items()}
        return OffsetScaleModel(
            **fits, scales=(min(SCALES), max(SCALES)), levels=(min(LEVELS), max(LEVELS)),
            least=least,
        )  # fmt: skip

    def left_out(self, least: float) -> list[Gained]:
        """What the scales chosen by fits to other sources gain.

        Between the scales that were encoded it is interpolated.
        """
        names, found = np.unique(self.sources), []
        for fold in range(FOLDS):
            mine = np.isin(self.sources, names[fold::FOLDS])
            model = self.model(least, ~mine)
            for where in sorted({w for w, m in zip(self.where, mine, strict=True) if m}):
                rows = [i for i, w in enumerate(self.where) if w == where]
                rows.sort(key=lambda i: self.scales[i])
                scale = model.scale(self.z[rows[0]])
                place = int(np.searchsorted(self.scales[rows], 1.0))
                known = np.insert(self.scales[rows], place, 1.0)
                gains = np.insert(self.gains[rows], place, 0.0, axis=0)
                avg, overall = (float(np.interp(scale, known, column)) for column in gains.T)
                found.append(Gained(where[0], where[2], where[3], scale, avg, overall))
        return found


def ridge(columns: _Array, wanted: _Array) -> _Array:
    """The least squares fit with a little of its size added, to five digits. [columns, ...]."""
    spread = np.sqrt(np.mean(columns**2, axis=0)) + 1e-9
    scaled = columns / spread
    inner = scaled.T @ scaled + RIDGE * len(scaled) * np.eye(scaled.shape[1])
    return np.asarray((np.linalg.solve(inner, scaled.T @ wanted).T / spread).T.round(5))


def psnr_avg(encode: Mapping[str, float]) -> float:
    return encode["psnr_avg"]


def psnr_overall(encode: Mapping[str, float]) -> float:
    return float(10.0 * np.log10(PEAK**2) - 10.0 * np.log10(2.0) * encode["error"])


def at_bits(
    order: Sequence[Mapping[str, float]],
    bits: float,
    quality: Callable[[Mapping[str, float]], float],
) -> float:
    """The quality at so many bits between encodes, or beyond the nearest two of them."""
    place = sum(encode["bits"] < bits for encode in order)
    low, high = order[min(max(place - 1, 0), len(order) - 2) :][:2]
    slope = (quality(high) - quality(low)) / (high["bits"] - low["bits"])
    return quality(low) + slope * (bits - low["bits"])


def print_means(rows: Rows) -> None:
    """What each scale gains over 1 at equal bits: PSNR avg and overall, dB, means over clips."""
    table = []
    for kind in MOST_OF_KIND:
        for level in LEVELS:
            line = [kind, f"{level:g}"]
            for scale in SCALES[1:]:
                mine = [i for i, (_, _, k, lv) in enumerate(rows.where) if (k, lv) == (kind, level)]
                mine = [i for i in mine if rows.scales[i] == scale]
                avg, overall = rows.gains[mine].mean(axis=0)
                line.append(f"{avg:+.2f}, {overall:+.2f}")
            table.append(line)
    print_table("gains at equal bits", ["kind", "level", *map(str, SCALES[1:])], table)


def gain_and_error(rows: Sequence[Gained]) -> tuple[float, float]:
    """Mean over sources of PSNR avg and overall together, and its standard error, dB."""
    return over_sources((row.source, row.avg + row.overall) for row in rows)


def over_sources(found: Iterable[tuple[str, float]]) -> tuple[float, float]:
    """Mean over sources of what was found of each, and its standard error."""
    by_source: dict[str, list[float]] = {}
    for source, gain in found:
        by_source.setdefault(source, []).append(gain)
    means = np.array([np.mean(gains) for gains in by_source.values()])
    return float(means.mean()), float(means.std(ddof=1) / np.sqrt(len(means)))


def least_of(ways: Mapping[float, Sequence[Gained]]) -> float:
    """The greatest least gain that costs no more than one standard error of the best."""
    found = {least: gain_and_error(rows) for least, rows in ways.items()}
    gain, error = max(found.values())
    return max(least for least, (mine, _) in found.items() if mine >= gain - error)


def as_module(model: OffsetScaleModel, record: Mapping[str, Any]) -> str:
    """The module that has the coefficients."""
    fitted = ""
    for name in ("gain", "bits", "error", "psnr"):
        parabola = getattr(model, name)
        inner = "".join(
            f"        {part}={getattr(parabola, part)!r},\n" for part in parabola._fields
        )
        fitted += f"    {name}=Parabola(\n{inner}    ),\n"
    told = "".join(f'        "{name}": {value!r},\n' for name, value in record.items())
    return f'''"""Coefficients of QP offsets' scale, by `benchmarks/make_offset_scale_model.py`."""

from muzero_rc.encode.offset_scale import OffsetScaleModel, Parabola

__all__ = ["OFFSET_SCALE_MODEL"]

OFFSET_SCALE_MODEL = OffsetScaleModel(
{fitted}    scales={model.scales!r},
    levels={model.levels!r},
    least={model.least!r},
    record={{
{told}    }},
)
'''


def main() -> None:
    parser = model_parser(__doc__.splitlines()[0])
    parser.add_argument("--reverse", action="store_true", help="from the last clip, beside another")
    args = parser.parse_args()
    clips = {path: told for path, *told in clips_of(args.corpus, args.set)}
    paths = reversed(clips) if args.reverse else clips
    looked = []
    for path, found in look_at(paths, args.out, look, found=args.found):
        source, kind = clips[path]
        looked.append((source, path.name, kind, found))
    rows = Rows(looked)
    record: dict[str, Any] = {
        "sources": len(set(rows.sources)), "clips": len({name for _, name, _, _ in rows.where}),
    }  # fmt: skip
    print_means(rows)
    ways = {least: rows.left_out(least) for least in LEAST}
    least = least_of(ways)
    record["least: dB of both, standard error"] = {
        each: tuple(round(number, 3) for number in gain_and_error(way))
        for each, way in ways.items()
    }
    for kind in MOST_OF_KIND:
        mine = np.array([row[2:] for row in ways[least] if row.kind == kind])
        for level in LEVELS:
            each = mine[mine[:, 0] == level, 1:].mean(axis=0).round(3).tolist()
            record[f"{kind}, {level:g}: scale, dB avg, overall"] = tuple(each)
    print(json.dumps(record, indent=1))
    if args.model is not None:
        args.model.write_text(as_module(rows.model(least), record))


if __name__ == "__main__":
    main()
