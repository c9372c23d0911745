"""What coding frames takes: learned numbers, in counted work (`muzero_rc.types.Work`).

From the probe encode of a clip the model tells

- what VBR would take for it at the stream's speed,
- what each frame of the last pass takes at each tier (`cpu-used` 0..4),
- which frames gain most by a slower tier: as far as their role and their bits say it.

Work is a sum of counts, weighted to seconds of the machine that the weights were fitted on. So
are its ratios: what one thing takes in times of another. `muzero-rc fit --work` makes the file;
docs/notes has how well it foretells.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from muzero_rc.env.control.work_plan import TierOptions
from muzero_rc.errors import CheckpointError
from muzero_rc.types import SHOW_BITS, TIERS, EncodeLog, FrameResult, FrameRole, UpdateType, Work

__all__ = [
    "CLIP_FEATURES",
    "COUNTS",
    "FRAME_FEATURES",
    "NUM_KINDS",
    "WORK_FILE",
    "FrameWork",
    "WorkModel",
    "shipped_work_model",
    "work_model_digest",
]

REPEATED = len(FrameRole)
"""The kind of frames that a reference took the place of in the probe."""

NUM_KINDS = len(FrameRole) + 1
"""Roles, and repeated frames."""

COUNTS = (*Work._fields, "samples")
"""Counts of a frame, and its samples in all planes: copying and comparing them takes time."""

FRAME_FEATURES = ("log_work_per_sample", "skip_share", "intra_share", "log2_bits_per_sample")
_SHARES = ("modes", "inter", "transformed", "coefficients", "optimized", "deblocked")
CLIP_FEATURES = (
    *FRAME_FEATURES,
    "coded_per_shown",
    *(f"log_share_of_{name}" for name in _SHARES),
    "repeated_share",
    "log2_target_bits_per_sample",
    "mean_qindex",
    "deviation_of_qindexes",
)

_FORMAT, _VERSION = "muzero_rc work model", 1
WORK_FILE = "work.json"
_LEAST_SHARE = 1e-3  # of the work, that a share counts as more than: its logarithm is a feature
_TINY = 1e-9  # seconds: of a frame that nothing was counted for

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class FrameWork:
    """The N coded frames of an encode, as far as their work goes.

    Attributes:
      coding_index: [N] in coding order.
      kind: [N] role, or `REPEATED`.
      shown: [N] whether the frame is shown when it is coded.
      seconds: [N] of work.
      features: [N, FRAME_FEATURES].
      bits: [N].
      samples: [N] of all planes.
      qindex: [N].
      counted: [COUNTS] seconds of each count, of all frames.
    """

    coding_index: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int64]
    shown: npt.NDArray[np.bool_]
    seconds: _Floats
    features: _Floats
    bits: _Floats
    samples: _Floats
    qindex: _Floats
    counted: _Floats

    def clip_features(self, frame_budget: float) -> _Floats:
        """[CLIP_FEATURES] of the whole encode; shares of blocks are weighted by work.

        Args:
          frame_budget: target bits per shown frame.
        """
        share = self.seconds / self.seconds.sum()
        coded = len(self.seconds) / max(float(self.shown.sum()), 1.0)
        samples = float(self.samples.sum())
        counted = dict(zip(COUNTS, self.counted / self.counted.sum(), strict=True))
        return np.array(
            [
                np.log(self.seconds.sum() / samples),
                float(share @ self.features[:, 1]),
                float(share @ self.features[:, 2]),
                np.log2(self.bits.sum() / samples),
                coded,
                *(np.log(counted[name] + _LEAST_SHARE) for name in _SHARES),
                float((self.kind == REPEATED).mean()),
                np.log2(frame_budget / self.samples[0]),
                float(self.qindex.mean()),
                float(self.qindex.std()),
            ]
        )

    @classmethod
    def of_columns(cls, columns: Mapping[str, npt.ArrayLike], seconds: _Floats) -> FrameWork:
        """The frames of an encode from columns with a row for each result.

        Args:
          columns: as a data set has them; `update_type` is -1 where a row only shows a buffer.
          seconds: [COUNTS] of one count.
        """
        table = {name: np.asarray(columns[name], np.float64) for name in _COLUMNS}
        coded = table["update_type"] >= 0.0
        rows = {name: values[coded] for name, values in table.items()}
        samples = rows["samples"].sum(axis=1)
        counts = np.concatenate([rows["work"], samples[:, None]], axis=1)
        work = np.maximum(counts @ seconds, _TINY)
        bits = np.maximum(rows["bits"], SHOW_BITS)
        repeated = (rows["qindex"] >= 0.0) & (rows["bits"] <= SHOW_BITS)
        roles = [
            FrameRole.of(UpdateType(int(kind)), int(depth))
            for kind, depth in zip(rows["update_type"], rows["layer_depth"], strict=True)
        ]
        blocks = np.maximum(rows["intra_blocks"] + rows["inter_blocks"], 1.0)
        features = np.stack(
            [
                np.log(work / samples),
                rows["skip_blocks"] / blocks,
                rows["intra_blocks"] / blocks,
                np.log2(bits / samples),
            ],
            axis=1,
        )
        return cls(
            coding_index=rows["coding_index"].astype(np.int64),
            kind=np.where(repeated, REPEATED, np.array(roles, np.int64)),
            shown=rows["shown"] > 0.0,
            seconds=work,
            features=features,
            bits=bits,
            samples=samples,
            qindex=np.maximum(rows["qindex"], 0.0),
            counted=counts.sum(axis=0) * seconds + _TINY,
        )

    @classmethod
    def of_log(cls, log: EncodeLog, seconds: _Floats) -> FrameWork:
        """The frames of an encode's log."""
        infos = [info for info, _ in log.pairs]
        columns: dict[str, Any] = {
            name: [getattr(result, name) for result in log.results] for name in _OF_RESULT
        }
        columns["update_type"] = [-1 if info is None else int(info.update_type) for info in infos]
        columns["layer_depth"] = [0 if info is None else info.layer_depth for info in infos]
        return cls.of_columns(columns, seconds)


_OF_RESULT = (
    "coding_index", "shown", "qindex", "bits", "samples", "intra_blocks", "inter_blocks",
    "skip_blocks", "work",
)  # fmt: skip
_COLUMNS = (*_OF_RESULT, "update_type", "layer_depth")


@dataclass(frozen=True, slots=True, eq=False)
class WorkModel:
    """Learned numbers.

    Attributes:
      seconds: [COUNTS] of one count.
      vbr: by speed, [1 + CLIP_FEATURES] of log(VBR's time / the probe's work), the first one
        a constant. In it is what seconds of work leave out of VBR's time at that speed.
      clips: [2, CLIP_FEATURES] lowest and highest that were seen; what is beyond counts as these.
      tiers: [NUM_KINDS, TIERS, 1 + FRAME_FEATURES] of log(work of a frame / in the probe).
      gain: [NUM_KINDS, TIERS] octaves of rate that a frame gains over its cheapest tier, for
        all bits of the clip in it.
      noise: as of `TierOptions`.
      about: what it was fitted on, and how well it does on sources held out.
    """

    seconds: _Floats
    vbr: Mapping[int, _Floats]
    clips: _Floats
    tiers: _Floats
    gain: _Floats
    noise: float
    about: Mapping[str, Any] = field(default_factory=dict)

    def frames(self, log: EncodeLog) -> FrameWork:
        """The frames of an encode, in this model's seconds."""
        return FrameWork.of_log(log, self.seconds)

    def work_of(self, results: Sequence[FrameResult]) -> float:
        """Seconds of work of frames, coded or only shown."""
        counts = np.zeros(len(COUNTS))
        for result in results:
            if result.qindex >= 0:
                counts += (*result.work, sum(result.samples))
        return float(counts @ self.seconds)

    def vbr_work(self, probe: FrameWork, speed: int, frame_budget: float) -> float:
        """Seconds that VBR is expected to take for the clip of a probe encode.

        Args:
          probe: its frames.
          speed: of the stream, one of `vbr`.
          frame_budget: target bits per shown frame.
        """
        row, known = self.vbr[speed], np.clip(probe.clip_features(frame_budget), *self.clips)
        return float(probe.seconds.sum() * np.exp(row[0] + row[1:] @ known))

    def options(self, probe: FrameWork) -> TierOptions:
        """What the frames of the last pass take and gain at each tier."""
        rows = self.tiers[probe.kind]  # [N, TIERS, 1 + F]
        log_ratio = rows[:, :, 0] + np.einsum("ntf,nf->nt", rows[:, :, 1:], probe.features)
        known = np.isfinite(self.tiers[:, :, 0]) & np.isfinite(self.gain)
        # A tier that nothing is known of is never moved to.
        work = np.full(log_ratio.shape, np.inf)
        gain = np.full(log_ratio.shape, -np.inf)
        priced = np.full(log_ratio.shape, np.inf)
        share = probe.bits / probe.bits.sum()
        for kind in np.unique(probe.kind):
            cells = np.ix_(probe.kind == kind, known[kind])
            work[cells] = probe.seconds[probe.kind == kind, None] * np.exp(log_ratio[cells])
            # All frames of a kind have one price: they move in one order.
            priced[cells] = work[cells].mean(axis=0)
            gain[cells] = self.gain[kind, known[kind]] * share[probe.kind == kind].mean()
        return TierOptions(probe.coding_index, work, priced, gain, self.noise)

    def as_text(self) -> str:
        """JSON."""
        values = {
            "format": _FORMAT,
            "version": _VERSION,
            "seconds": dict(zip(COUNTS, self.seconds.tolist(), strict=True)),
            "clip_features": list(CLIP_FEATURES),
            "frame_features": list(FRAME_FEATURES),
            "vbr": {str(speed): row.tolist() for speed, row in self.vbr.items()},
            "clips": self.clips.tolist(),
            "tiers": _listed(self.tiers),
            "gain": _listed(self.gain),
            "noise": self.noise,
            "about": dict(self.about),
        }
        return json.dumps(values, indent=1) + "\n"

    @classmethod
    def of_text(cls, text: str) -> WorkModel:
        """What `as_text` gave.

        Raises:
          CheckpointError: it is no such text, or of another version.
        """
        try:
            values = json.loads(text)
            if (values["format"], values["version"]) != (_FORMAT, _VERSION):
                raise ValueError("another version")
            found = cls(
                seconds=np.array([values["seconds"][name] for name in COUNTS], np.float64),
                vbr={int(speed): np.array(row) for speed, row in values["vbr"].items()},
                clips=np.array(values["clips"], np.float64),
                tiers=np.array(values["tiers"], np.float64),
                gain=np.array(values["gain"], np.float64),
                noise=float(values["noise"]),
                about=values["about"],
            )
            shapes = found.tiers.shape, found.gain.shape
            rows = {row.shape for row in found.vbr.values()}
            if shapes != ((NUM_KINDS, TIERS, 1 + len(FRAME_FEATURES)), (NUM_KINDS, TIERS)):
                raise ValueError("another shape")
            if rows != {(1 + len(CLIP_FEATURES),)} or found.clips.shape != (2, len(CLIP_FEATURES)):
                raise ValueError("another shape")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"this is no work model: {error}; fit it again") from error
        return found


def _listed(values: _Floats) -> Any:
    """Nested lists, None for what is not known."""
    return (
        [_listed(row) for row in values]
        if values.ndim
        else (None if np.isnan(values) else round(float(values), 6))
    )


def _shipped_text() -> str:
    path = Path(str(importlib.resources.files("muzero_rc") / "policy_files" / WORK_FILE))
    try:
        return path.read_text()
    except OSError:
        raise CheckpointError(f"this installation has no {WORK_FILE}; install it anew") from None


@functools.cache
def shipped_work_model() -> WorkModel:
    """The model of this package.

    Raises:
      CheckpointError: this installation has none.
    """
    return WorkModel.of_text(_shipped_text())


@functools.cache
def work_model_digest() -> str:
    """Hash of the shipped model: encodes under a budget of time depend on it.

    Raises:
      CheckpointError: this installation has none.
    """
    return hashlib.sha256(_shipped_text().encode()).hexdigest()[:12]
