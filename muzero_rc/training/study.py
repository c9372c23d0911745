"""A study as a record: what its encodes are for, what was kept of them, and its file.

A *study* is a part of a clip, a target and a speed, with these encodes, all of whose frames
are kept:

    vbr_aim         libvpx's VBR on the way to the target, at the fastest speed
    vbr             VBR at the target: the opponent
    vbr_high        VBR at 1.25 times the target, for the slope of the rate-distortion curve
    probe           the probe encode that goes ahead, of sections of several if that is better
    probe_other     the others that its choice was made from
    probe_pattern   probe encodes as far from libvpx's proposals, with signed steps in blocks,
                    and one with the same step everywhere
    landed          the last pass of `landed`, where the base is another policy
    base            the last pass of a base policy
    perturbed       last passes with signed steps around the base, in pairs of opposite sign
    tiered          last passes of the base with other speeds of frames, in blocks and by role

`muzero_rc.training.stages.collect` makes them.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from muzero_rc.checkpoint import read_arrays, write_arrays
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import CheckpointError, InputError
from muzero_rc.log_columns import BytesPool, columns_of_frames, head_of_log, log_of_columns
from muzero_rc.types import EncodeLog, EpisodeScore, FrameInfo, FrameResult

__all__ = ["AT_TARGET", "Encode", "Pattern", "Study"]

AT_TARGET = ("vbr", "landed", "base", "perturbed")
"""Names of the encodes that aim at the study's target."""

_FORMAT, _VERSION = "muzero_rc study", 3


@dataclass(frozen=True)
class Pattern:
    """What steps an encode was made with.

    Attributes:
      kind: blocks of alternate groups, single ARFs, a row of a Hadamard matrix, or all frames;
        tiers of alternate groups' blocks, or of all frames of each role.
      size: qindexes, or tiers.
      pair: number of the pair; that of the row for a probe encode.
      sign: 1 or -1, opposite in a pair.
    """

    kind: Literal["blocks", "arfs", "hadamard", "all", "tiers", "mix"]
    size: int
    pair: int
    sign: int = 1


@dataclass(frozen=True)
class Encode:
    """One logged encode.

    Attributes:
      name: what it is for, see the module.
      target_kbps: asked for.
      psnr_avg: dB.
      psnr_overall: dB.
      psnr_y: dB.
      kbps: actual bitrate.
      log: everything of every frame.
      pattern: of its steps; None without.
    """

    name: str
    target_kbps: float
    psnr_avg: float
    psnr_overall: float
    psnr_y: float
    kbps: float
    log: EncodeLog
    pattern: Pattern | None = None

    @classmethod
    def of(
        cls, name: str, score: EpisodeScore, log: EncodeLog, pattern: Pattern | None = None
    ) -> Encode:
        """An encode with this score and this log."""
        return cls(
            name,
            score.target_kbps,
            score.psnr_avg,
            score.psnr_overall,
            score.psnr_y,
            score.actual_kbps,
            log,
            pattern,
        )

    @property
    def coded_frames(self) -> int:
        """Frames that were decided on."""
        return sum(frame.info is not None for frame in self.log.frames)

    def frames(self) -> list[tuple[FrameInfo | None, FrameResult]]:
        """Description and result of every frame, in coding order."""
        return self.log.pairs


@dataclass(frozen=True)
class Study:
    """A clip's encodes at one target and setting.

    Attributes:
      clip: file name.
      source: source that it belongs to.
      split: side of the corpus that it is on.
      part: height it was scaled to, first frame and number of frames.
      shape: width, height, fps numerator and denominator.
      settings: of the encodes.
      stats: [T, 25] first-pass statistics.
      slope: dB of PSNR avg per doubling of rate on VBR's own curve, clipped to 1..8.
      encodes: the encodes.
      number: of the study in its run.
      identity: of the encoder that made it, see `muzero_rc.identity`.
    """

    clip: str
    source: str
    split: str
    part: tuple[int, int, int]
    shape: tuple[int, int, int, int]
    settings: EncoderSettings
    stats: npt.NDArray[np.float64]
    slope: float
    encodes: list[Encode]
    number: int = 0
    identity: str = ""

    def encode(self, name: str) -> Encode:
        """The first encode of a name."""
        return next(encode for encode in self.encodes if encode.name == name)

    @functools.cached_property
    def probe(self) -> ProbeRecord | None:
        """The record of the probe that went ahead; None with two passes."""
        for encode in self.encodes:
            if encode.name == "probe":
                return ProbeRecord.of(encode.log)
        return None

    @property
    def cpu_seconds(self) -> float:
        """CPU time of libvpx in all encodes, their first pass not counted."""
        return sum(r.cpu_seconds for encode in self.encodes for r in encode.log.results)

    def gain_db(self, encode: Encode, reference: Encode) -> float:
        """PSNR avg in dB that an encode wins over another at equal rate."""
        rate = math.log2(encode.kbps / reference.kbps)
        return encode.psnr_avg - reference.psnr_avg - self.slope * rate

    def save(self, path: Path) -> None:
        """Writes the study to a file, atomically."""
        pool = BytesPool()
        tree: dict[str, Any] = {"stats": self.stats}
        heads = []
        for number, encode in enumerate(self.encodes):
            tree[f"encode{number}"] = columns_of_frames(encode.log.frames, pool)
            head = {
                name: getattr(encode, name)
                for name in ("name", "target_kbps", "psnr_avg", "psnr_overall", "psnr_y", "kbps")
            }
            pattern = None if encode.pattern is None else vars(encode.pattern)
            heads.append({**head, "pattern": pattern, "log": head_of_log(encode.log)})
        tree["pool"] = pool.arrays()
        meta = {
            "format": _FORMAT,
            "version": _VERSION,
            "clip": self.clip,
            "source": self.source,
            "split": self.split,
            "part": list(self.part),
            "shape": list(self.shape),
            "settings": self.settings.as_dict(),
            "slope": self.slope,
            "number": self.number,
            "identity": self.identity,
            "encodes": heads,
        }
        write_arrays(path, tree, meta, compressed=True)

    @classmethod
    def load(cls, path: Path) -> Study:
        """Reads a study.

        Raises:
          CheckpointError: the file is missing, damaged, of another version or something else.
        """
        tree, meta = read_arrays(path)
        if meta.get("format") != _FORMAT:
            raise CheckpointError(f"{path}: not a study")
        if meta.get("version") != _VERSION:
            raise CheckpointError(f"{path}: a study of another version; collect it again")
        try:
            pool = BytesPool.of_arrays(tree["pool"])
            encodes = []
            for number, head in enumerate(meta["encodes"]):
                log = log_of_columns(tree[f"encode{number}"], head.pop("log"), pool)
                pattern = head.pop("pattern")
                found = None if pattern is None else Pattern(**pattern)
                encodes.append(Encode(log=log, pattern=found, **head))
            return cls(
                clip=meta["clip"],
                source=meta["source"],
                split=meta["split"],
                part=(meta["part"][0], meta["part"][1], meta["part"][2]),
                shape=(meta["shape"][0], meta["shape"][1], meta["shape"][2], meta["shape"][3]),
                settings=EncoderSettings.from_dict(meta["settings"]),
                stats=tree["stats"],
                slope=meta["slope"],
                encodes=encodes,
                number=meta["number"],
                identity=meta["identity"],
            )
        except (InputError, KeyError, TypeError, IndexError) as error:
            raise CheckpointError(f"{path}: a damaged study: {error}") from error
