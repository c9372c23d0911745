"""A made-up encoder whose frames follow the linear response law exactly, or with noise.

Its recursion is written here once more, frame by frame, so that the model is not tested
against itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from muzero_rc.agents.world_model.features import FEATURES, NUM_FEATURES, NUM_KINDS, features_of
from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.agents.world_model.quantizer import log2_step
from muzero_rc.agents.world_model.study import Study
from muzero_rc.types import UpdateType

WIDTH, HEIGHT = 176, 144
SAMPLES = (WIDTH * HEIGHT, WIDTH * HEIGHT // 4, WIDTH * HEIGHT // 4)
Columns = dict[str, npt.NDArray[Any]]
MakeColumns = Callable[..., Columns]


def make_columns(rows: list[Mapping[str, Any]]) -> Columns:
    """Columns of rows that give what differs from a plain leaf frame."""
    plain: dict[str, Any] = {
        "coding_index": 0, "show_index": 0, "update_type": int(UpdateType.LEAF), "shown": True,
        "gop_index": 1, "gop_size": 8, "layer_depth": 2, "max_layer_depth": 2,
        "frames_to_key": 9, "ref_coding_indexes": (-1, -1, -1), "proposal_qindex": 100,
        "proposal_bits": 1000, "boost": 100, "tpl_intra_cost": 0, "tpl_mc_dep_cost": 0,
        "qindex": 100, "bits": 2000.0, "sse": (90000.0, 0.0, 0.0), "samples": SAMPLES,
        "intra_blocks": 0, "inter_blocks": 396, "skip_blocks": 100, "cpu_seconds": 0.01,
    }  # fmt: skip
    assert not {name for row in rows for name in row} - set(plain)
    return {name: np.array([{**plain, **row}[name] for row in rows]) for name in plain}


@dataclass(frozen=True)
class Law:
    """True coefficients, [2, 5, NUM_FEATURES] as those of a `LinearModel`."""

    coefficients: npt.NDArray[np.float64]


def make_law() -> Law:
    """Bits fall and errors rise with the step; how much depends on kind and content."""
    theta = np.zeros((2, 5, NUM_FEATURES))
    column = {name: place for place, name in enumerate(FEATURES)}
    own = np.array([-0.8, -1.1, -1.0, -0.9, -0.5, -0.7, 0.0])  # by kind
    theta[0, 0, :NUM_KINDS] = own
    theta[0, 0, column["skip_share"]] = 0.4
    theta[0, 1, :NUM_KINDS] = 0.1
    theta[0, 2:, :NUM_KINDS] = 0.1
    theta[1, 0, :NUM_KINDS] = np.array([1.2, 1.1, 0.9, 0.8, 0.3, 0.5, 0.0])
    theta[1, 0, column["skip_share"]] = -0.5
    theta[1, 2, :NUM_KINDS] = 0.25
    theta[1, 3, :NUM_KINDS] = 0.1
    theta[1, 4, :NUM_KINDS] = 0.2
    theta[1, 2:, column["skip_share"]] = 0.1
    return Law(theta)


class SyntheticClip:
    """Groups of eight with a pyramid of three layers: half of the frames hidden, shown later."""

    def __init__(self, seed: int, groups: int = 3) -> None:
        rng = np.random.default_rng(seed)
        rows: list[dict[str, Any]] = []
        coding = 0

        def code(kind: UpdateType, at: int, depth: int, *refs: int) -> int:
            nonlocal coding
            scale = (6.0, 4.0, 2.0, 1.0, 0.0)[depth]
            rows.append(
                {
                    "coding_index": coding, "show_index": at, "update_type": int(kind),
                    "shown": kind is not UpdateType.ARF, "layer_depth": depth,
                    "ref_coding_indexes": (*dict.fromkeys(refs), -1, -1, -1)[:3],
                    "qindex": int(130 - 10 * scale + rng.integers(-8, 9)),
                    "bits": float(600.0 * 2 ** (scale * 0.8 + rng.normal(0, 0.5))),
                    "sse": (float(2.0 ** (17.5 - 0.2 * scale + rng.normal(0, 0.4))), 0.0, 0.0),
                    "skip_blocks": int(rng.integers(0, 397)),
                    "intra_blocks": int(rng.integers(0, 60)), "inter_blocks": 340,
                    "tpl_intra_cost": 1000, "tpl_mc_dep_cost": int(rng.integers(1000, 9000)),
                }
            )  # fmt: skip
            coding += 1
            return coding - 1

        def show(at: int, frame: int, extra: float = 0.0) -> int:
            nonlocal coding
            (coded,) = (row for row in rows if row["show_index"] == at)
            rows.append(
                {
                    "coding_index": -1, "show_index": at, "update_type": -1, "qindex": -1,
                    "bits": 8.0, "sse": (coded["sse"][0] + extra, 0.0, 0.0),
                    "intra_blocks": 0, "inter_blocks": 0, "skip_blocks": 0,
                }
            )  # fmt: skip
            coding += 1
            return frame

        arf, leaf = UpdateType.ARF, UpdateType.LEAF
        last = key = code(UpdateType.KEY, 0, 0)
        for start in range(0, 8 * groups, 8):
            top = code(arf, start + 8, 1, last, key)
            middle = code(arf, start + 4, 2, last, key, top)
            for half, before, after in ((0, last, middle), (4, middle, top)):
                deep = code(arf, start + half + 2, 3, before, key, after)
                code(leaf, start + half + 1, 4, before, key, deep)
                show(start + half + 2, deep)
                code(leaf, start + half + 3, 4, deep, key, after)
                # The temporal filter took a little from the source of base ARFs.
                show(start + half + 4, after, float(rng.uniform(0, 20000)) * (half > 0))
            last = top
        self.rows = rows
        self.base = EncodeFrames.of_columns(make_columns(rows), WIDTH, HEIGHT)
        self.coded = [place for place, row in enumerate(rows) if row["update_type"] >= 0]

    def encode(
        self,
        law: Law,
        steps: npt.NDArray[np.int64],
        rng: np.random.Generator | None = None,
        noise: float = 0.0,
    ) -> EncodeFrames:
        """What comes of steps [N] in qindexes; noise in octaves."""
        features = features_of(self.base)
        rows = [dict(row) for row in self.rows]
        errors: dict[int, float] = {}  # coding index -> E
        shown: dict[int, float] = {}  # show index -> what its error grew by
        for n, place in enumerate(self.coded):
            row = rows[place]
            a, c = law.coefficients @ features[n]
            old = row["qindex"]
            row["qindex"] = int(np.clip(old + steps[n], 0, 255))
            g = float(log2_step(row["qindex"]) - log2_step(old))
            told = [errors.get(r, 0.0) for r in row["ref_coding_indexes"]]
            jitter = rng.normal(0, noise, 2) if rng is not None else np.zeros(2)
            bits = a[0] * g + a[1] * g * g + sum(np.multiply(a[2:], told)) + jitter[0]
            error = c[0] * g + c[1] * g * g + sum(np.multiply(c[2:], told)) + jitter[1]
            errors[row["coding_index"]] = float(error)
            row["bits"] = row["bits"] * 2.0**bits
            before = row["sse"][0]
            row["sse"] = (before * 2.0**error, 0.0, 0.0)
            shown[row["show_index"]] = row["sse"][0] - before
        for row in rows:
            if row["update_type"] < 0:
                row["sse"] = (row["sse"][0] + shown[row["show_index"]], 0.0, 0.0)
        return EncodeFrames.of_columns(make_columns(rows), WIDTH, HEIGHT)

    def study(
        self, law: Law, encodes: int, seed: int, *, noise: float = 0.005, source: str = ""
    ) -> Study:
        """Encodes with random steps, each around a shift of all frames.

        Bits and quality of a shift nearly cancel in the gain, as they do in real studies.
        """
        rng = np.random.default_rng(seed)
        count = len(self.base)
        made = [
            self.encode(law, rng.integers(-10, 11) + rng.integers(-8, 9, count), rng, noise)
            for _ in range(encodes)
        ]
        return Study(source or f"source {seed}", self.slope(law), self.base, made)

    def slope(self, law: Law) -> float:
        """dB per octave between encodes four qindexes finer and coarser."""
        fine, coarse = (self.encode(law, np.full(len(self.base), step)) for step in (-4, 4))
        psnr = [(e.weight @ e.shown_psnr) / e.weight.sum() for e in (fine, coarse)]
        return float((psnr[0] - psnr[1]) / np.log2(fine.total_bits / coarse.total_bits))


@pytest.fixture(scope="session")
def columns_of_rows() -> MakeColumns:
    return make_columns


@pytest.fixture(scope="session")
def law() -> Law:
    return make_law()


@pytest.fixture(scope="session")
def synthetic() -> type[SyntheticClip]:
    return SyntheticClip


@pytest.fixture(scope="session")
def studies(law: Law) -> list[Study]:
    """Twelve clips of as many sources, six encodes each."""
    return [SyntheticClip(seed).study(law, 6, seed) for seed in range(12)]
