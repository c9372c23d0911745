"""Exploration: what moving a frame's qindex does, measured by encoding clips again.

A *study* takes one clip, one target and one setting, encodes it with libvpx's VBR (the
opponent), with VBR at a somewhat higher target (for the slope of the rate-distortion
curve), with a base policy, and then several times with random corrections to what the
base policy chose. Corrections come in pairs of opposite sign, so that the linear part
of their effect stands out of the noise. With three passes one probe serves all of a
study's encodes, so that they end on the same rate. Every encode is logged frame by frame.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from muzero_rc.checkpoint import read_arrays, write_arrays
from muzero_rc.compute import check_cancelled
from muzero_rc.corpus import CorpusClip
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.control.baselines import VbrPolicy
from muzero_rc.env.control.frame_speed import SpeedProfile
from muzero_rc.env.control.gop import gops_of_rows
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import Rollout, rollout
from muzero_rc.env.passes.probe import probe_score, run_probes
from muzero_rc.errors import CheckpointError
from muzero_rc.frame_rows import info_of_row, info_row, result_of_row, result_row
from muzero_rc.training.perturbation import PerturbedPolicy
from muzero_rc.types import EncodeLog, EpisodeScore, FrameInfo, FrameResult, GopLimits, Policy

__all__ = ["Encode", "CollectConfig", "Study", "load_part", "run_study"]

_LONGEST = 360  # frames of a clip that parts are taken from


@dataclass(frozen=True)
class CollectConfig:
    """What studies are made of.

    Attributes:
      heights: lines that clips are scaled down to.
      min_frames: shortest part of a clip, frames.
      max_frames: longest part of a clip, frames.
      speeds: encoder speeds, drawn alike.
      single_layer_share: share of studies with auto-alt-ref 1 instead of 6.
      psnr_range: PSNR avg in dB at which VBR's targets are aimed.
      pairs: pairs of opposite corrections in a study.
      scales: sizes of corrections, standard deviation in qindex.
      speed_profile: of all encodes but VBR's, see `env.control.frame_speed`.
      passes: likewise, 2 or 3, see `env.passes.probe`.
    """

    heights: tuple[int, ...] = (144, 180)
    min_frames: int = 60
    max_frames: int = 120
    speeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    single_layer_share: float = 0.2
    psnr_range: tuple[float, float] = (30.0, 44.0)
    pairs: int = 4
    scales: tuple[float, ...] = (4.0, 8.0, 14.0)
    speed_profile: SpeedProfile = "hierarchical"
    passes: Literal[2, 3] = 3


@dataclass(frozen=True)
class Encode:
    """One logged encode.

    Attributes:
      name: "vbr", "vbr_high", "probe", "base" or "perturbed".
      psnr_avg: dB.
      psnr_overall: dB.
      psnr_y: dB.
      kbps: actual bitrate.
      infos: [N, fields] float64, `FrameInfo` of each decided frame, flattened.
      results: [M, fields] float64, `FrameResult` of each frame, flattened.
      partitions: [M] packed, of the frames of a probe; empty for others.
    """

    name: str
    psnr_avg: float
    psnr_overall: float
    psnr_y: float
    kbps: float
    infos: npt.NDArray[np.float64]
    results: npt.NDArray[np.float64]
    partitions: tuple[bytes, ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        score: EpisodeScore,
        frames: Sequence[tuple[FrameInfo | None, FrameResult]],
    ) -> Encode:
        """The log of an encode with this score and these frames."""
        partitions = tuple(result.partition for _, result in frames)
        return cls(
            name,
            score.psnr_avg,
            score.psnr_overall,
            score.psnr_y,
            score.actual_kbps,
            np.array([info_row(info) for info, _ in frames if info is not None]),
            np.array([result_row(result) for _, result in frames]),
            partitions if any(partitions) else (),
        )

    def frames(self) -> list[tuple[FrameInfo | None, FrameResult]]:
        """The frames as they were, in coding order."""
        infos = {int(row[0]): info_of_row(row) for row in self.infos}
        results = [result_of_row(row) for row in self.results]
        if self.partitions:
            results = [
                dataclasses.replace(result, partition=partition)
                for result, partition in zip(results, self.partitions, strict=True)
            ]
        return [(infos.get(result.coding_index), result) for result in results]


@dataclass(frozen=True)
class Study:
    """A clip's encodes at one target and setting.

    Attributes:
      clip: file name.
      source: source that it belongs to.
      part: height it was scaled to, first frame and number of frames.
      shape: width, height, fps numerator and denominator.
      settings: of the encodes.
      stats: [T, 25] first-pass statistics.
      slope: dB of PSNR avg per doubling of rate on VBR's own curve.
      encodes: the encodes.
      gops: limits of the probe's groups of pictures.
    """

    clip: str
    source: str
    part: tuple[int, int, int]
    shape: tuple[int, int, int, int]
    settings: EncoderSettings
    stats: npt.NDArray[np.float64]
    slope: float
    encodes: list[Encode]
    gops: tuple[GopLimits, ...] = ()

    def encode(self, name: str) -> Encode:
        """The first encode of a name."""
        return next(encode for encode in self.encodes if encode.name == name)

    @functools.cached_property
    def probe(self) -> ProbeRecord | None:
        """The record of the probe that went ahead; None with two passes."""
        for encode in self.encodes:
            if encode.name == "probe":
                seconds = len(self.stats) * self.shape[3] / self.shape[2]
                size_bytes = round(encode.kbps * 125.0 * seconds)
                return ProbeRecord.of(EncodeLog.of_pairs(encode.frames(), size_bytes, self.gops))
        return None

    def gain_db(self, encode: Encode, reference: Encode) -> float:
        """PSNR avg in dB that an encode wins over another at equal rate."""
        rate = math.log2(encode.kbps / reference.kbps)
        return encode.psnr_avg - reference.psnr_avg - self.slope * rate

    def save(self, path: Path) -> None:
        """Writes the study to a file."""
        tree: dict[str, Any] = {"stats": self.stats}
        heads = []
        for number, encode in enumerate(self.encodes):
            tree[f"encode{number}"] = {"infos": encode.infos, "results": encode.results}
            if encode.partitions:
                tree[f"encode{number}"]["partition"] = np.frombuffer(
                    b"".join(encode.partitions), np.uint8
                )
                tree[f"encode{number}"]["partition_bytes"] = np.array(
                    [len(partition) for partition in encode.partitions], np.int64
                )
            heads.append(
                [encode.name, encode.psnr_avg, encode.psnr_overall, encode.psnr_y, encode.kbps]
            )
        meta = {
            "format": "muzero_rc study",
            "clip": self.clip,
            "source": self.source,
            "part": list(self.part),
            "shape": list(self.shape),
            "settings": self.settings.as_dict(),
            "slope": self.slope,
            "encodes": heads,
            "gops": [list(gop) for gop in self.gops],
        }
        write_arrays(path, tree, meta)

    @classmethod
    def load(cls, path: Path) -> Study:
        """Reads a study.

        Raises:
          CheckpointError: the file is missing, damaged or something else.
        """
        tree, meta = read_arrays(path)
        if meta.get("format") != "muzero_rc study":
            raise CheckpointError(f"{path}: not a study")
        encodes = [
            Encode(
                name,
                avg,
                overall,
                luma,
                kbps,
                found["infos"],
                found["results"],
                _partitions(found),
            )
            for number, (name, avg, overall, luma, kbps) in enumerate(meta["encodes"])
            for found in (tree[f"encode{number}"],)
        ]
        return cls(
            meta["clip"],
            meta["source"],
            (meta["part"][0], meta["part"][1], meta["part"][2]),
            (meta["shape"][0], meta["shape"][1], meta["shape"][2], meta["shape"][3]),
            EncoderSettings.from_dict(meta["settings"]),
            tree["stats"],
            meta["slope"],
            encodes,
            # Studies of before have none.
            gops_of_rows(meta.get("gops", ())),
        )


def run_study(
    clip: CorpusClip,
    base: Policy,
    config: CollectConfig,
    seed: int,
    on_encode: Callable[[int], None] = lambda frames: None,
) -> Study | None:
    """Makes one study; None if the clip has no use at this draw (VBR cannot aim).

    Args:
      clip: what to encode.
      base: policy whose choices are corrected.
      config: ranges to draw from.
      seed: of every random choice.
      on_encode: told the coded frames of each encode, also of those that are no part of
        the study.
    """
    rng = np.random.default_rng(seed)
    video, part = _random_part(clip.path, config, rng)
    settings = EncoderSettings(
        target_kbps=1,
        speed=int(rng.choice(config.speeds)),
        auto_alt_ref=1 if rng.random() < config.single_layer_share else 6,
    )
    stats = first_pass(video, settings, cache=False)

    def encode(
        settings: EncoderSettings, policy: Policy, probe: ProbeRecord | None = None
    ) -> Rollout:
        done = rollout(video, settings, policy, first_pass=stats, probe=probe, on_frame=_poll)
        on_encode(done.score.coded_frames)
        return done

    aimed = _aim(video, settings, encode, rng.uniform(*config.psnr_range))
    if aimed is None:
        return None
    settings, vbr = aimed
    higher = math.ceil(settings.target_kbps * 1.25) + 1
    high = encode(settings.replace(target_kbps=higher), VbrPolicy())
    octaves = math.log2(high.score.actual_kbps / vbr.score.actual_kbps)
    if octaves < 0.05:
        return None
    slope = (high.score.psnr_avg - vbr.score.psnr_avg) / octaves
    encodes = [_encode_of("vbr", vbr), _encode_of("vbr_high", high)]
    settings = settings.replace(speed_profile=config.speed_profile, passes=config.passes)
    probe = None
    if settings.needs_probe:
        coded = 0

        def on_frame(result: FrameResult) -> None:
            nonlocal coded
            coded += result.qindex >= 0
            check_cancelled()

        probe_encode = run_probes(video, settings, stats, on_frame=on_frame)
        on_encode(coded)
        probe = ProbeRecord.of(probe_encode)
        score = probe_score(video, settings, probe_encode)
        encodes.append(Encode.of("probe", score, probe_encode.pairs))
    encodes.append(_encode_of("base", encode(settings, base, probe)))
    for _ in range(config.pairs):
        scale = float(rng.choice(config.scales))
        pair_seed = int(rng.integers(2**31))
        for sign in (1, -1):
            policy = PerturbedPolicy(base, scale, sign, pair_seed)
            encodes.append(_encode_of("perturbed", encode(settings, policy, probe)))
    shape = (video.width, video.height, video.fps.numerator, video.fps.denominator)
    return Study(
        clip.path.name,
        clip.source,
        part,
        shape,
        settings,
        stats.stats,
        float(np.clip(slope, 1.0, 8.0)),
        encodes,
        gops=() if probe is None else probe.gops,
    )


def _poll(result: FrameResult) -> None:
    """Ends a study that is cancelled within a frame."""
    check_cancelled()


def load_part(path: Path, part: tuple[int, int, int]) -> Clip:
    """The part of a clip that a study was made on: height, first frame, frames."""
    height, start, length = part
    whole = Clip.load(path, height=height, max_frames=start + length)
    return _cut(whole, start, length)


def _cut(whole: Clip, start: int, length: int) -> Clip:
    frames = np.stack([whole.frame(start + index) for index in range(length)])
    return Clip.from_frames(frames, whole.width, whole.height, whole.fps, whole.name)


def _random_part(
    path: Path, config: CollectConfig, rng: np.random.Generator
) -> tuple[Clip, tuple[int, int, int]]:
    height = int(rng.choice(config.heights))
    whole = Clip.load(path, height=height, max_frames=_LONGEST)
    length = min(int(rng.integers(config.min_frames, config.max_frames + 1)), whole.num_frames)
    start = int(rng.integers(0, whole.num_frames - length + 1))
    return _cut(whole, start, length), (height, start, length)


def _aim(
    video: Clip,
    settings: EncoderSettings,
    encode: Callable[[EncoderSettings, Policy], Rollout],
    psnr: float,
) -> tuple[EncoderSettings, Rollout] | None:
    """The target at which VBR reaches about this PSNR, and VBR's encode there."""
    pixels_per_second = video.width * video.height * float(video.fps)
    kbps = 0.05 * pixels_per_second / 1000
    for _ in range(3):
        aimed = settings.replace(target_kbps=max(2, round(kbps)))
        tried = encode(aimed, VbrPolicy())
        reached = abs(tried.score.overshoot) < 0.25
        if reached and abs(tried.score.psnr_avg - psnr) < 2.0:
            return aimed, tried
        step = (psnr - tried.score.psnr_avg) / 4.5  # dB per octave, about
        kbps = min(kbps, tried.score.actual_kbps * 1.2) * 2.0 ** float(np.clip(step, -4, 3))
    return (aimed, tried) if reached else None


def _encode_of(name: str, done: Rollout) -> Encode:
    return Encode.of(name, done.score, done.frames)


def _partitions(found: Mapping[str, npt.NDArray[Any]]) -> tuple[bytes, ...]:
    if "partition" not in found:
        return ()
    ends = np.cumsum(found["partition_bytes"])
    packed = found["partition"].tobytes()
    return tuple(
        packed[end - size : end]
        for end, size in zip(ends.tolist(), found["partition_bytes"].tolist(), strict=True)
    )
