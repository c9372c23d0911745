"""Fits what a chunk takes with constant quality to what it takes in real time.

Clips of a corpus's set are encoded with constant quality, with both speed profiles and at two
levels, and in real time at three (`muzero_rc.encode.realtime_probe`). What is found of a clip is
kept in `--out`, so that a run that was stopped goes on. `-o` gets the coefficients, as
`muzero_rc/encode/realtime_model.py` has them. Errors are of sources that were left out of the
fit, five folds; a source is a group of the corpus.

    .venv/bin/python benchmarks/make_realtime_model.py CORPUS --out DIR [-o FILE]
"""

from __future__ import annotations

import csv
import json
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from common import model_parser

from muzero_rc.encode.level import Level, at_level
from muzero_rc.encode.realtime_model import REALTIME_MODEL
from muzero_rc.encode.realtime_probe import RealtimeProbe, features, realtime_probe
from muzero_rc.encode.share import curve_of
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.control.probe_record import SATURATED_DB
from muzero_rc.env.control.rate.probe import qindex_octaves
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.errors import MuzeroRcError

LEVELS = (96.0, 160.0)  # qindexes: about the range of what films are asked for
PROBE_LEVELS = (96.0, 124.0, 160.0)
NEAR = 1.0  # octaves of the quantizer's step: beyond, a film has a chunk encoded anew
PROFILES = (("uniform", 4), ("hierarchical", 8))  # speed profile and speed
FRAMES = 90  # of a clip, as long as a usual chunk
RIDGE = 1e-3  # of the features' variance: numerical, they are nearly collinear
FOLDS = 5

_Array = npt.NDArray[np.float64]
Looked = tuple[str, str, dict[str, Any]]  # source, name, and what was found of a clip


def clips_of(corpus: Path, which: str, height: int, count: int) -> list[tuple[Path, str]]:
    """Clips of a set that are long and high enough, and their sources, at most two of each."""
    with (corpus / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == which]
    rows = [r for r in rows if float(r["frames"]) >= FRAMES and float(r["height"]) >= height]
    random.Random(0).shuffle(rows)
    where = {path.name: path for path in corpus.rglob("*.*")}
    found: list[tuple[Path, str]] = []
    for row in rows:
        if sum(source == row["group"] for _, source in found) < 2:
            found.append((where[row["file"]], row["group"]))
    return found[:count]


def look(path: Path, height: int) -> dict[str, Any]:
    """All encodes of a clip."""
    clip = Clip.load(path, height=height, max_frames=FRAMES)
    base = EncoderSettings(target_kbps=100, speed=4, passes=2, frame_parallel=False)
    statistics = first_pass(clip, base, cache=False)
    found: dict[str, Any] = {"probes": [], "encodes": [], "stats": statistics.stats.tolist()}
    for level in PROBE_LEVELS:
        found["probes"].append(asdict(realtime_probe(clip, base, level)))
    for profile, speed in PROFILES:
        for level in LEVELS:
            named = base.replace(speed_profile=profile, speed=speed)
            settings, policy = at_level(named, Level(level))
            done = rollout(clip, settings, policy, first_pass=statistics)
            curve = curve_of(done.log, clip, settings.frame_budget(clip.fps), last=True)
            each = curve.frames * clip.width * clip.height
            found["encodes"].append({
                "level": level, "profile": profile, "psnr": done.score.psnr_overall,
                "bits": float(np.log2(curve.bits / each)),
                "error": float(np.log2(curve.error / curve.frames)),
            })  # fmt: skip
    return found


class Pair(NamedTuple):
    """An encode, and an encode in real time that it is foretold by.

    Attributes:
      source: of the clip.
      clip: its name.
      known: features.
      steps: octaves of the quantizer's step from the one in real time.
      bits: octaves more than that took.
      error: likewise.
    """

    source: str
    clip: str
    known: _Array
    steps: float
    bits: float
    error: float


def pairs(looked: Sequence[Looked], *, saturated: bool) -> Iterator[Pair]:
    """Of all clips: encodes above `SATURATED_DB`, or all others."""
    for source, clip, found in looked:
        for told in found["probes"]:
            probe = RealtimeProbe(**told)
            known = features(probe, found["stats"])
            for encode in found["encodes"]:
                steps = float(qindex_octaves(encode["level"]) - qindex_octaves(probe.level))
                if abs(steps) <= NEAR and (encode["psnr"] > SATURATED_DB) == saturated:
                    bits, error = encode["bits"] - probe.bits, encode["error"] - probe.error
                    yield Pair(source, clip, known, steps, bits, error)


class Rows:
    """What is to be fitted: a row for each pair of a probe encode and an encode."""

    def __init__(self, looked: Sequence[Looked], *, level: bool = False) -> None:
        """Takes what was found of clips; `level` leaves all features out but the level."""
        terms, off, sources, clips = [], [], [], []
        for pair in pairs(looked, saturated=False):
            terms.append([pair.steps, *(() if level else pair.known)])
            off.append((pair.bits, pair.error))
            sources.append(pair.source)
            clips.append(pair.clip)
        self.terms, self.off = np.array(terms), np.array(off)
        self.sources, self.clips = np.array(sources), np.array(clips)


def solve(terms: _Array, wanted: _Array) -> _Array:
    """Coefficients of 1 and the terms, by least squares with a little ridge."""
    mean, spread = terms.mean(axis=0), terms.std(axis=0) + 1e-9
    scaled = (terms - mean) / spread
    inner = scaled.T @ scaled + RIDGE * len(scaled) * np.eye(scaled.shape[1])
    found = np.linalg.solve(inner, scaled.T @ (wanted - wanted.mean())) / spread
    return np.array([wanted.mean() - mean @ found, *found])


def left_out(terms: _Array, wanted: _Array, sources: npt.NDArray[np.str_]) -> _Array:
    """What the fit to other sources is off. [rows], octaves.

    Args:
      terms: [rows, n].
      wanted: [rows], octaves.
      sources: [rows].
    """
    off = np.zeros(len(sources))
    names = np.unique(sources)
    for fold in range(FOLDS):
        mine = np.isin(sources, names[fold::FOLDS])
        c = solve(terms[~mine], wanted[~mine])
        off[mine] = wanted[mine] - c[0] - terms[mine] @ c[1:]
    return off


def variances(
    sources: npt.NDArray[np.str_], clips: npt.NDArray[np.str_], off: _Array
) -> tuple[float, float]:
    """What clips are off by themselves, and with all of their source: two variances.

    As a film's chunks are, where a source has two clips.
    """
    means = {clip: float(off[clips == clip].mean()) for clip in np.unique(clips)}
    of_source = {source: np.unique(clips[sources == source]) for source in np.unique(sources)}
    pairs = [[means[c] for c in names] for names in of_source.values() if len(names) == 2]
    own = float(np.mean([(one - other) ** 2 / 2.0 for one, other in pairs]))
    return own, max(float(np.var(list(means.values()))) - own, 1e-3)


def of_saturated(looked: Sequence[Looked]) -> dict[str, float]:
    """Of encodes that the fit leaves out: what they are off, octaves, by the model and without."""
    c = REALTIME_MODEL.bits
    found = list(pairs(looked, saturated=True))
    alone = np.array([pair.bits - c[1] * pair.steps for pair in found])
    model = alone - [c[0] + float(np.array(c[2:]) @ pair.known) for pair in found]
    by_the_model, by_the_encode = (float(np.sqrt(np.mean(off**2))) for off in (model, alone))
    return {
        "clips": len({pair.clip for pair in found}),
        "by_the_model": round(by_the_model, 3), "by_the_encode_alone": round(by_the_encode, 3),
    }  # fmt: skip


def as_module(found: Mapping[str, Any]) -> str:
    """The module that has the coefficients."""
    bits, error = (
        "".join(f"        {value!r},\n" for value in found[name]) for name in ("bits", "error")
    )
    record = "".join(f'        "{name}": {value!r},\n' for name, value in found["record"].items())
    return f'''"""Coefficients of encodes in real time, by `benchmarks/make_realtime_model.py`."""

from muzero_rc.encode.realtime_probe import RealtimeModel

__all__ = ["REALTIME_MODEL"]

REALTIME_MODEL = RealtimeModel(
    bits=(
{bits}    ),
    error=(
{error}    ),
    own_to_common={found["own_to_common"]},
    record={{
{record}    }},
)
'''


def main() -> None:
    parser = model_parser(__doc__.splitlines()[0])
    parser.add_argument("--heights", type=int, nargs="+", default=[288])
    parser.add_argument("--clips", type=int, nargs="+", default=[80], help="of each height")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    looked = []
    for height, count in zip(args.heights, args.clips, strict=True):
        for path, source in clips_of(args.corpus, args.set, height, count):
            kept = args.out / f"{path.stem}.{height}.json"
            if not kept.exists():
                try:
                    kept.write_text(json.dumps(look(path, height)))
                except MuzeroRcError as error:
                    print(f"{path.name}: {error}", file=sys.stderr)
                    continue
                print(kept.name, flush=True)
            looked.append((source, path.stem, json.loads(kept.read_text())))
    rows = Rows(looked)
    bits, error = (left_out(rows.terms, off, rows.sources) for off in rows.off.T)
    alone = Rows(looked, level=True)
    by_level = left_out(alone.terms, alone.off[:, 0], alone.sources)
    own, common = variances(rows.sources, rows.clips, bits)
    found = {
        "bits": solve(rows.terms, rows.off[:, 0]).round(5).tolist(),
        "error": solve(rows.terms, rows.off[:, 1]).round(5).tolist(),
        "own_to_common": round(own / common, 3),
        "record": {
            "sources": len(np.unique(rows.sources)), "clips": len(np.unique(rows.clips)),
            "octaves_of_bits_off": round(float(bits.std()), 3),
            "by_level_alone": round(float(by_level.std()), 3),
            "octaves_of_error_off": round(float(error.std()), 3),
        },
    }  # fmt: skip
    print(json.dumps(found, indent=1))
    print("saturated, root mean square of octaves off:", json.dumps(of_saturated(looked)))
    if args.model is not None:
        args.model.write_text(as_module(found))


if __name__ == "__main__":
    main()
