"""Ablations: variants of one setting, trained on equal encoder frames and compared.

Studies are made once and shared; every variant and seed has a run of its own, which goes
on where it stopped. Then all of them encode the corpus's validation clips.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from muzero_rc.corpus import Corpus
from muzero_rc.errors import CheckpointError, InputError
from muzero_rc.evaluation.grid.encoder import Method
from muzero_rc.evaluation.measure.statistics import Interval, bootstrap_runs
from muzero_rc.evaluation.results import Results
from muzero_rc.output_files import replacing
from muzero_rc.training.checkpoints import write_json
from muzero_rc.training.config import TrainConfig
from muzero_rc.training.log import RunLog
from muzero_rc.training.presets import configure
from muzero_rc.training.run import TrainingRun

__all__ = ["AXES", "Ablation", "Curve", "VariantSummary", "summarise"]

AXES: dict[str, dict[str, tuple[str, ...]]] = {
    "reward": {
        kind: (f"reward.kind={kind}",)
        for kind in (
            "self_competition",
            "lagrangian",
            "rd_gain",
            "ranked",
            "equal_rate",
            "greedy_opponent",
        )
    },
    "representation": {
        kind: (f"network.representation={kind}",)
        for kind in ("perceiver_io", "perceiver_ar", "hip", "mlp")
    },
    "search": {
        "gumbel": ("search.algorithm=gumbel",),
        "puct": ("search.algorithm=puct",),
        "none": ("search.simulations=0",),
    },
}
"""Variants of each axis, and the settings that make them."""

_LEAST_FRAMES = 20  # of an episode
_END_SHARE = 0.2  # of the episodes, which "at the end" means


@dataclass(frozen=True)
class Curve:
    """What a run's self-play did over time.

    Attributes:
      frames: [N] coded frames after each episode.
      wins: [N] 1, 0.5 or 0 against VBR.
      overshoot: [N] actual / target - 1.
    """

    frames: npt.NDArray[np.float64]
    wins: npt.NDArray[np.float64]
    overshoot: npt.NDArray[np.float64]

    @classmethod
    def read(cls, path: Path) -> Curve:
        """Reads a run's `progress.csv`.

        Raises:
          CheckpointError: it is missing or damaged.
        """
        try:
            with path.open(newline="") as file:
                rows = [
                    (float(row["frames"]), float(row["win_vbr"]), float(row["overshoot"]))
                    for row in csv.DictReader(file)
                ]
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error
        table = np.array(rows, np.float64).reshape(-1, 3)
        return cls(table[:, 0], 0.5 + 0.5 * table[:, 1], table[:, 2])

    @property
    def end(self) -> float:
        """Mean win rate over the last fifth of the episodes; NaN without any."""
        if not len(self.wins):
            return float("nan")
        return float(self.wins[-max(1, round(_END_SHARE * len(self.wins))) :].mean())


@dataclass(frozen=True)
class VariantSummary:
    """A variant over its seeds; intervals are None where they cannot be known.

    Attributes:
      name: of the variant.
      seeds: runs.
      win_rate: against VBR, over the last fifth of the episodes.
      win_interval: over seeds.
      bd_rate: PSNR avg BD-rate against two-pass VBR in percent, mean over clips and seeds.
      bd_interval: over clips, and over seeds if there are several.
      deviation: mean |actual / target - 1| of the validation encodes.
      deviation_interval: as `bd_interval`.
      over_1: share of them more than 1% over.
      over_1_interval: as `bd_interval`.
      over_5: share more than 5% over.
      clips: that all variants have a BD-rate on.
    """

    name: str
    seeds: int
    win_rate: float
    win_interval: Interval | None
    bd_rate: float
    bd_interval: Interval | None
    deviation: float
    deviation_interval: Interval | None
    over_1: float
    over_1_interval: Interval | None
    over_5: float
    clips: int


class Ablation:
    """A folder with the runs of an axis.

    Attributes:
      folder: of all of it.
      variants: names, in the axis's order.
      seeds: of each.
    """

    def __init__(
        self,
        folder: Path,
        *,
        axis: str,
        corpus: Path,
        preset: str,
        frames: int,
        seeds: int,
        settings: Sequence[str] = (),
        exclude: Sequence[str] = (),
        studies: int | None = None,
        imitation_updates: int | None = None,
        only: Sequence[str] = (),
    ) -> None:
        """Takes what to compare.

        Args:
          folder: for everything.
          axis: of `AXES`.
          corpus: folder of videos.
          preset: of training.
          frames: coded frames of self-play for each run.
          seeds: runs of each variant.
          settings: for all of them, as "section.name=value".
          exclude: sources that are not trained on.
          studies: instead of the preset's.
          imitation_updates: instead of the preset's.
          only: these variants alone; all if none is named.

        Raises:
          InputError: no such axis or variant, or a number out of range.
        """
        if axis not in AXES:
            raise InputError(f"unknown axis {axis!r}; give one of {', '.join(AXES)}")
        unknown = sorted(set(only) - set(AXES[axis]))
        if unknown:
            raise InputError(
                f"only must name variants of {axis}, {', '.join(AXES[axis])}, not {unknown[0]}"
            )
        if frames < 1:
            raise InputError(f"frames must be at least 1, not {frames}")
        if seeds < 1:
            raise InputError(f"seeds must be at least 1, not {seeds}")
        self.folder = folder
        self.variants = [name for name in AXES[axis] if not only or name in only]
        self.seeds = list(range(seeds))
        self._corpus = corpus
        self._exclude = list(exclude)
        self._configs: dict[tuple[str, int], TrainConfig] = {}
        for name in self.variants:
            for seed in self.seeds:
                config = configure(
                    preset,
                    studies=studies,
                    imitation_updates=imitation_updates,
                    episodes=max(1, frames // _LEAST_FRAMES),  # the frames end it before
                    frames=frames,
                    settings=[*settings, *AXES[axis][name]],
                    seed=seed,
                )
                self._configs[name, seed] = config

    def run_folder(self, name: str, seed: int) -> Path:
        """Where a variant's run lies."""
        return self.folder / "runs" / name / f"seed-{seed}"

    def policy(self, name: str, seed: int) -> Path:
        """A finished run's policy."""
        return self.run_folder(name, seed) / "policy.npz"

    def train(self, log: Callable[[Path, str], RunLog]) -> None:
        """Trains what is not trained yet, one run after the other.

        Raises:
          InputError: a folder holds a run with other settings.
          MuzeroRcError: a run cannot go on.
        """
        for number, ((name, seed), config) in enumerate(self._configs.items(), 1):
            folder = self.run_folder(name, seed)
            if (folder / "done.json").exists():
                self._check_same(folder, config)
                continue
            if not (folder / "config.json").exists():
                self._share_studies(folder)
                TrainingRun.create(folder, config, self._corpus, self._exclude)
            self._check_same(folder, config)
            title = f"{name}, seed {seed} ({number} of {len(self._configs)})"
            with log(folder / "events", title) as running:
                running.say(title)
                run = TrainingRun.resume(folder, running)
                policy = run.run()
            digest = hashlib.sha256(policy.read_bytes()).hexdigest()
            self._keep_studies(folder)
            write_json(folder / "done.json", {"policy_sha256": digest})

    def _check_same(self, folder: Path, config: TrainConfig) -> None:
        stored = json.loads((folder / "config.json").read_text())["config"]
        if stored != json.loads(json.dumps(config.as_dict())):
            raise InputError(f"{folder} holds a run with other settings; give another --out")

    def _share_studies(self, folder: Path) -> None:
        """Studies that a run of this ablation has made need not be made again."""
        (folder / "studies").mkdir(parents=True, exist_ok=True)
        for study in sorted((self.folder / "studies").glob("*.npz")):
            target = folder / "studies" / study.name
            if target.exists():
                continue
            try:
                os.link(study, target)
            except OSError:
                with replacing(target) as copy:
                    shutil.copyfile(study, copy)

    def _keep_studies(self, folder: Path) -> None:
        kept, fresh = self.folder / "studies", self.folder / "studies.new"
        if not kept.exists():
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.copytree(folder / "studies", fresh)
            os.rename(fresh, kept)

    def methods(self) -> list[Method]:
        """All policies, for an evaluation."""
        return [
            Method(
                name=f"{name}/{seed}",
                spec=str(self.policy(name, seed)),
                fingerprint=hashlib.sha256(self.policy(name, seed).read_bytes()).hexdigest(),
            )
            for name in self.variants
            for seed in self.seeds
        ]

    def curves(self) -> dict[str, list[Curve]]:
        """Learning curves of each variant's seeds."""
        return {
            name: [Curve.read(self.run_folder(name, seed) / "progress.csv") for seed in self.seeds]
            for name in self.variants
        }

    def validation_clips(self, most: int) -> list[Path]:
        """Clips of the corpus's validation sources: one of each in turn, at most so many.

        Raises:
          InputError: there are none.
        """
        return [clip.path for clip in Corpus.open(self._corpus).spread_validation(most)]


def summarise(
    results: Results, curves: dict[str, list[Curve]], variants: Sequence[str], seeds: Sequence[int]
) -> list[VariantSummary]:
    """Win rate, BD-rate and bitrate accuracy of each variant over its seeds."""
    summaries = []
    every = {
        name: np.array([_bd_rates(results, f"{name}/{seed}") for seed in seeds])  # [S, C]
        for name in variants
    }
    # All variants on the same clips: those on which each of their curves is usable.
    usable = np.all([np.isfinite(rates).all(axis=0) for rates in every.values()], axis=0)
    for name in variants:
        ends = [curve.end for curve in curves[name]]
        known = every[name][:, usable]
        landing = np.array([_landing(results, f"{name}/{seed}") for seed in seeds])  # [S, C, 3]
        deviation, over_1, over_5 = np.moveaxis(landing, -1, 0)
        summaries.append(
            VariantSummary(
                name=name,
                seeds=len(seeds),
                win_rate=float(np.mean(ends)),
                win_interval=bootstrap_runs(np.array(ends)[:, None]),
                bd_rate=_mean(known),
                bd_interval=bootstrap_runs(known),
                deviation=_mean(deviation),
                deviation_interval=bootstrap_runs(deviation),
                over_1=_mean(over_1),
                over_1_interval=bootstrap_runs(over_1),
                over_5=_mean(over_5),
                clips=int(usable.sum()),
            )
        )
    return summaries


def _bd_rates(results: Results, method: str) -> list[float]:
    found = [b for b in results.bd_rate if b.method == method and b.metric == "psnr_avg"]
    return [float("nan") if b.percent is None else b.percent for b in found]


def _landing(results: Results, method: str) -> npt.NDArray[np.float64]:
    """[C, 3] of each clip's encodes: mean |deviation|, share over 1%, share over 5%."""
    by_clip: dict[str, list[float]] = {}
    for encode in results.encodes:
        if encode.method == method:
            by_clip.setdefault(encode.clip, []).append(encode.actual_kbps / encode.target_kbps - 1)
    rows = []
    for clip in sorted(by_clip):
        off = np.array(by_clip[clip])
        rows.append((np.abs(off).mean(), (off > 0.01).mean(), (off > 0.05).mean()))
    return np.array(rows, np.float64).reshape(-1, 3)


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")


def as_json(summaries: Sequence[VariantSummary]) -> list[dict[str, Any]]:
    """Plain values."""
    return [dataclasses.asdict(summary) for summary in summaries]
