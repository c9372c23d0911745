"""The studies of a run: made once, several at a time, and read again by every stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from muzero_rc.agents.advantage import AdvantageModel, AdvantagePolicy
from muzero_rc.compute import Compute, ThreadScheduler, check_cancelled, report
from muzero_rc.corpus import CorpusClip
from muzero_rc.env.control.recipe import DEFAULT_RECIPE
from muzero_rc.errors import InputError
from muzero_rc.training.config import TrainConfig
from muzero_rc.training.costs import StageMeter
from muzero_rc.training.log import RunLog
from muzero_rc.training.perturbation import MODEL_COLUMNS
from muzero_rc.training.stages.collect import CollectConfig, Study, run_study
from muzero_rc.training.stages.imitate import examples_of
from muzero_rc.types import Policy

__all__ = ["Studies", "fit_teacher"]


def fit_teacher(studies: Sequence[Study]) -> AdvantageModel:
    """The additive model of what corrections are worth, fitted to studies.

    Raises:
      InputError: they hold no usable encode.
    """
    examples = [example for study in studies for example in examples_of(study)]
    if not examples:
        raise InputError("the studies hold no usable encode; make more (--studies)")
    model = AdvantageModel(DEFAULT_RECIPE.qp_offsets.by_kind(), MODEL_COLUMNS)
    model.fit(examples)
    return model


@dataclass(frozen=True)
class _Maker:
    """Makes studies around a policy; reports the coded frames of each encode."""

    base: Policy
    config: CollectConfig

    def __call__(self, task: tuple[int, CorpusClip]) -> Study | None:
        """A study of a seed and a clip."""
        seed, clip = task
        return run_study(clip, self.base, self.config, seed, self._on_encode)

    @staticmethod
    def _on_encode(frames: int) -> None:
        report(frames)
        check_cancelled()


class Studies:
    """A folder of studies; those that are missing are made.

    Half of them are made around the steps of kinds alone, half around the teacher of the
    first half.
    """

    def __init__(
        self,
        folder: Path,
        config: TrainConfig,
        clips: Sequence[CorpusClip],
        log: RunLog,
        meter: StageMeter,
        compute: Compute = ThreadScheduler,
    ) -> None:
        """Takes where they lie, what they are made of, and what counts their encodes.

        They are made on `compute`, whose workers must reach the clips.
        """
        self._folder = folder
        self._config = config
        self._clips = list(clips)
        self._log = log
        self._meter = meter
        self._compute = compute

    def get(self) -> list[Study]:
        """All studies of the run.

        Raises:
          InputError: the corpus gives none.
          CheckpointError: a file is damaged.
        """
        config = self._config
        self._log.stage("collect", config.studies, len(self._files()))
        plain = AdvantagePolicy(AdvantageModel(DEFAULT_RECIPE.qp_offsets.by_kind(), MODEL_COLUMNS))
        self._make(plain, config.studies // 2)
        if len(self._files()) < config.studies:
            known = self._load()
            teacher = AdvantagePolicy(fit_teacher(known)) if known else plain
            self._make(teacher, config.studies)
        studies = self._load()
        if not studies:
            raise InputError("no study could be made of the corpus: its clips are too short")
        return studies

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*.npz"))

    def _load(self) -> list[Study]:
        return [Study.load(path) for path in self._files()]

    def _make(self, base: Policy, goal: int) -> None:
        """Adds studies until there are `goal`, several at a time."""
        made = len(self._files())
        failures = 0
        draws = self._draws()
        maker = _Maker(base, self._config.collect)

        def count(task: tuple[int, CorpusClip], frames: int) -> None:
            self._meter.encoded(frames)

        with self._compute(self._config.jobs) as scheduler:
            while made < goal:
                while scheduler.running < min(self._config.jobs, goal - made):
                    scheduler.submit(maker, next(draws), on_progress=count)
                for done in scheduler.wait():
                    seed, _ = done.task
                    try:
                        study = done.result()
                    except InputError as error:  # one bad clip must not end a night's run
                        self._log.say(f"skipped: {error}")
                        study = None
                    if study is None:
                        failures += 1
                        if failures > 20 + 5 * goal:
                            raise InputError("too few clips of the corpus can be studied")
                        continue
                    self._meter.save()
                    study.save(self._folder / f"{seed:010d}.npz")
                    made += 1
                    self._log.step(made, f"{study.clip} {study.settings.target_kbps} kbit/s")

    def _draws(self) -> Iterator[tuple[int, CorpusClip]]:
        """Seeds with no study yet, and the clip of each: a source, then one of its clips."""
        by_source: dict[str, list[CorpusClip]] = {}
        for clip in self._clips:
            by_source.setdefault(clip.source, []).append(clip)
        sources = sorted(by_source)
        known = {path.stem for path in self._files()}
        rng = np.random.default_rng(self._config.seed)
        while True:
            seed = int(rng.integers(2**31))
            pick = np.random.default_rng([self._config.seed, seed])
            clips = by_source[sources[int(pick.integers(len(sources)))]]
            clip = clips[int(pick.integers(len(clips)))]
            if f"{seed:010d}" not in known:
                yield seed, clip
