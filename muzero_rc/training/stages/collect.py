"""Exploration: what moving a frame's qindex does, measured by encoding clips again.

`run_study` makes the encodes of one study; `muzero_rc.training.study` says which they are, and
keeps them. One probe serves all last passes, so that they have the same groups and end on the
same rate. `muzero_rc.training.perturbation` has the steps.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from muzero_rc.compute import check_cancelled
from muzero_rc.corpus import CorpusClip
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import FirstPass, first_pass
from muzero_rc.env.control.baselines import ShiftedPolicy, VbrPolicy
from muzero_rc.env.control.frame_speed import SpeedProfile, speeds_by_role
from muzero_rc.env.control.probe_record import SATURATED_DB, ProbeRecord
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.env.passes.probe import encode_probe, probe_score, run_probes
from muzero_rc.policies.registry import make_policy, prepare
from muzero_rc.training.perturbation import (
    TIER_REACH,
    PatternFrame,
    SteppedPolicy,
    Steps,
    TieredPolicy,
    Tiers,
    arf_steps,
    block_steps,
    block_tiers,
    hadamard_steps,
    mixed_tiers,
    opposite,
    pattern_frames,
)
from muzero_rc.training.study import Encode, Pattern, Study
from muzero_rc.types import (
    EncodeLog,
    EpisodeScore,
    FrameResult,
    Policy,
)

__all__ = [
    "CollectConfig",
    "Draw",
    "TierEncodes",
    "load_part",
    "run_study",
    "tier_encodes",
]

_LONGEST = 360  # frames of a clip that parts are taken from
_AIM_SPEED = 5
_AIM_TRIES = 4
_NEAR_DB = 2.0  # from the PSNR that was drawn, to stop


@dataclass(frozen=True)
class CollectConfig:
    """What studies are made of.

    Attributes:
      heights: lines that clips are scaled down to, each as often as it is named.
      min_frames: shortest part of a clip, frames.
      max_frames: longest part of a clip, frames.
      speeds: encoder speeds, each as often as it is named.
      psnr_range: PSNR avg in dB at which VBR's targets are aimed.
      base: policy that last passes are made around, a name or a file.
      probe_patterns: probe encodes with steps.
      probe_size: size of those steps, qindexes.
      probe_common: step of all frames of one more probe encode, qindexes; 0 for none. It says
        how steep the clip's own curve of quality over rate is.
      pairs: pairs of last passes with opposite steps.
      sizes: of those steps, qindexes, in turn; which one is first is drawn.
      tiers: last passes with other speeds of frames.
      speed_profile: of all encodes but VBR's, see `env.control.frame_speed`.
      passes: likewise, 2 or 3, see `env.passes.probe`.
    """

    heights: tuple[int, ...] = (144,) * 9 + (360,)
    min_frames: int = 70
    max_frames: int = 80
    speeds: tuple[int, ...] = (1, 2, 3, 5)
    psnr_range: tuple[float, float] = (32.0, 42.0)
    base: str = "landed"
    probe_patterns: int = 2
    probe_size: int = 12
    probe_common: int = 12
    pairs: int = 4
    sizes: tuple[int, ...] = (8, 16)
    tiers: int = 0
    speed_profile: SpeedProfile = "hierarchical"
    passes: Literal[2, 3] = 3


@dataclass(frozen=True)
class Draw:
    """What a study is to be made of; all else is drawn from `seed`.

    Attributes:
      clip: to take a part of.
      speed: of the encoder.
      height: lines to scale it down to.
      seed: of every random choice.
      number: of the study in its run.
    """

    clip: CorpusClip
    speed: int
    height: int
    seed: tuple[int, ...]
    number: int = 0


def run_study(
    draw: Draw,
    base: Policy,
    config: CollectConfig,
    on_encode: Callable[[int], None] = lambda frames: None,
) -> Study | None:
    """Makes one study; None if the clip has no use at this draw (VBR cannot aim).

    Args:
      draw: of what.
      base: policy that last passes are made around.
      config: how many encodes of which kind.
      on_encode: told the coded frames of each encode, also of those that are no part of
        the study.
    """
    rng = np.random.default_rng(draw.seed)
    video, part = _random_part(draw.clip.path, draw.height, config, rng)
    settings = EncoderSettings(target_kbps=1, speed=draw.speed)
    maker = _Maker(video, first_pass(video, settings, cache=False), on_encode)
    aimed = maker.aim(settings, rng.uniform(*config.psnr_range), config.psnr_range)
    if aimed is None:
        return None
    settings, slope = aimed
    settings = settings.replace(speed_profile=config.speed_profile, passes=config.passes)
    base = copy.deepcopy(base)  # it may have a state, of one encode
    settings = prepare(base, video, settings, maker.stats)
    probe, frames = None, None
    if settings.needs_probe:
        log = maker.probes(settings)
        probe, frames = ProbeRecord.of(log), pattern_frames(log)
        patterns = hadamard_steps(frames, rng, config.probe_size, config.probe_patterns)
        for number, steps in enumerate(patterns):
            maker.probe(settings, probe, steps, Pattern("hadamard", config.probe_size, number))
        if config.probe_common:
            everywhere = {frame.key: config.probe_common for frame in frames}
            maker.probe(settings, probe, everywhere, Pattern("all", config.probe_common, -1))
    if base.name != "landed":
        maker.encode("landed", settings, make_policy("landed"), probe)
    unmoved = maker.encode("base", settings, base, probe)
    if frames is None:
        frames = pattern_frames(unmoved)
    for number, (pattern, steps) in enumerate(_pairs(frames, config, rng)):
        for sign, signed in ((1, steps), (-1, opposite(steps))):
            found = Pattern(pattern.kind, pattern.size, number, sign)
            maker.encode("perturbed", settings, SteppedPolicy(base, signed), probe, found)
    for pattern, tiers in _tiers(frames, draw.speed, config, rng):
        maker.encode("tiered", settings, TieredPolicy(base, tiers), probe, pattern)
    return Study(
        clip=draw.clip.path.name,
        source=draw.clip.source,
        split="validation" if draw.clip.validation else "training",
        part=part,
        shape=(video.width, video.height, video.fps.numerator, video.fps.denominator),
        settings=settings,
        stats=maker.stats.stats,
        slope=slope,
        encodes=maker.encodes,
        number=draw.number,
    )


@dataclass(frozen=True)
class TierEncodes:
    """Encodes of a clip with other speeds of frames.

    Attributes:
      settings: as the policy wants them.
      stats: first pass.
      encodes: probe encodes and `tiered`.
    """

    settings: EncoderSettings
    stats: FirstPass
    encodes: list[Encode]


def tier_encodes(
    video: Clip,
    settings: EncoderSettings,
    stats: FirstPass,
    base: Policy,
    config: CollectConfig,
    rng: np.random.Generator,
) -> TierEncodes:
    """The encodes of a study of tiers alone, where the rest of the study is known.

    Args:
      video: the part of a clip.
      settings: with the target and the speed.
      stats: its first pass.
      base: policy that last passes are made around.
      config: how many encodes.
      rng: draws the tiers.
    """
    maker = _Maker(video, stats, lambda frames: None)
    settings = settings.replace(speed_profile="hierarchical", passes=3)
    settings = prepare(base, video, settings, stats)
    log = maker.probes(settings)
    probe = ProbeRecord.of(log)
    for pattern, tiers in _tiers(pattern_frames(log), settings.speed, config, rng):
        maker.encode("tiered", settings, TieredPolicy(base, tiers), probe, pattern)
    return TierEncodes(settings, stats, maker.encodes)


class _Maker:
    """Makes the encodes of one study, and keeps them."""

    def __init__(self, video: Clip, stats: FirstPass, on_encode: Callable[[int], None]) -> None:
        """Takes the part of the clip and its first pass."""
        self.encodes: list[Encode] = []
        self.stats = stats
        self._video = video
        self._on_encode = on_encode

    def encode(
        self,
        name: str,
        settings: EncoderSettings,
        policy: Policy,
        probe: ProbeRecord | None = None,
        pattern: Pattern | None = None,
    ) -> EncodeLog:
        """A last pass."""
        done = rollout(
            self._video, settings, policy, first_pass=self.stats, probe=probe, on_frame=_poll
        )
        return self._keep(name, done.score, done.log, pattern)

    def aim(
        self, settings: EncoderSettings, psnr: float, psnr_range: tuple[float, float]
    ) -> tuple[EncoderSettings, float] | None:
        """Settings with a target at which VBR has about this PSNR, and its slope there."""
        pixels_per_second = self._video.width * self._video.height * float(self._video.fps)
        kbps = 0.05 * pixels_per_second / 1000
        fast = settings.replace(speed=max(settings.speed, _AIM_SPEED))
        for _ in range(_AIM_TRIES):
            fast = fast.replace(target_kbps=max(2, round(kbps)))
            self.encode("vbr_aim", fast, VbrPolicy())
            tried = self.encodes[-1]
            if _reached(tried) and abs(tried.psnr_avg - psnr) < _NEAR_DB:
                break
            step = (psnr - tried.psnr_avg) / 4.5  # dB per octave, about
            kbps = min(kbps, tried.kbps * 1.2) * 2.0 ** float(np.clip(step, -4, 3))
            if tried.kbps > 1.25 * tried.target_kbps:
                kbps = max(kbps, tried.kbps)  # it cannot take less: the target comes to it
        settings = settings.replace(target_kbps=fast.target_kbps)
        self.encode("vbr", settings, VbrPolicy())
        vbr = self.encodes[-1]
        low, high = psnr_range
        top = min(high + _NEAR_DB, SATURATED_DB)
        if not (_reached(vbr) and low - _NEAR_DB <= vbr.psnr_avg <= top):
            return None
        higher = math.ceil(settings.target_kbps * 1.25) + 1
        self.encode("vbr_high", settings.replace(target_kbps=higher), VbrPolicy())
        octaves = math.log2(self.encodes[-1].kbps / vbr.kbps)
        if octaves < 0.05:
            return None
        slope = (self.encodes[-1].psnr_avg - vbr.psnr_avg) / octaves
        return settings, float(np.clip(slope, 1.0, 8.0))

    def probes(self, settings: EncoderSettings) -> EncodeLog:
        """The probe encodes that the pipeline makes; the best one."""
        logs: list[EncodeLog] = []
        best = run_probes(self._video, settings, self.stats, on_frame=_poll, on_encode=logs.append)
        for log in (best, *(log for log in logs if log is not best)):
            name = "probe" if log is best else "probe_other"
            self._keep(name, probe_score(self._video, settings, log), log)
        return best

    def probe(
        self, settings: EncoderSettings, probe: ProbeRecord, steps: Steps, pattern: Pattern
    ) -> None:
        """A probe encode with steps, where the one that went ahead was."""
        policy = SteppedPolicy(ShiftedPolicy(probe.shift), steps)
        log = encode_probe(self._video, settings, policy, self.stats, gops=probe.gops)
        self._keep("probe_pattern", probe_score(self._video, settings, log), log, pattern)

    def _keep(
        self, name: str, score: EpisodeScore, log: EncodeLog, pattern: Pattern | None = None
    ) -> EncodeLog:
        check_cancelled()
        self._on_encode(score.coded_frames)
        self.encodes.append(Encode.of(name, score, log, pattern))
        return log


def _pairs(
    frames: list[PatternFrame], config: CollectConfig, rng: np.random.Generator
) -> list[tuple[Pattern, Steps]]:
    """The steps of one encode of each pair: three of blocks, then one of single ARFs."""
    parity, first = int(rng.integers(2)), int(rng.integers(len(config.sizes)))
    found: list[tuple[Pattern, Steps]] = []
    for number in range(config.pairs):
        single = number % 4 == 3
        # Both sizes for the groups of one parity, before the other one's turn comes again.
        size = config.sizes[(first + number + number // 2) % len(config.sizes)]
        make = arf_steps if single else block_steps
        steps = make(frames, rng, size, (parity + number) % 2)
        found.append((Pattern("arfs" if single else "blocks", size, number), steps))
    return found


def _tiers(
    frames: Sequence[PatternFrame], speed: int, config: CollectConfig, rng: np.random.Generator
) -> list[tuple[Pattern, Tiers]]:
    """The tiers of each encode: two of blocks, one of each parity, then one by role."""
    if not config.tiers:
        return []
    own, parity = speeds_by_role(speed), int(rng.integers(2))
    found: list[tuple[Pattern, Tiers]] = []
    for number in range(config.tiers):
        if number % 3 == 2:
            tiers = mixed_tiers(frames, own, rng)
        else:
            tiers = block_tiers(frames, own, rng, (parity + number) % 2)
        kind: Literal["tiers", "mix"] = "mix" if number % 3 == 2 else "tiers"
        found.append((Pattern(kind, TIER_REACH, number), tiers))
    return found


def _reached(encode: Encode) -> bool:
    """Whether VBR is near what it was asked for."""
    return abs(encode.kbps / encode.target_kbps - 1.0) < 0.25


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
    path: Path, height: int, config: CollectConfig, rng: np.random.Generator
) -> tuple[Clip, tuple[int, int, int]]:
    whole = Clip.load(path, height=height, max_frames=_LONGEST)
    length = min(int(rng.integers(config.min_frames, config.max_frames + 1)), whole.num_frames)
    start = int(rng.integers(0, whole.num_frames - length + 1))
    return _cut(whole, start, length), (height, start, length)
