"""The studies of a run: made once, several at a time, and read again by every stage.

The number of a study decides what it is made of. Sources come in rounds, each of them once
in a round; from round to round a source has another clip, if it has several, and another
speed; speeds and heights are spread evenly over every round. So a collection that ends
early is balanced, too, and one that is started again goes on with the numbers that are missing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from muzero_rc.compute import Compute, ThreadScheduler, check_cancelled, report
from muzero_rc.corpus import CorpusClip
from muzero_rc.errors import EncoderError, InputError
from muzero_rc.identity import build_identity
from muzero_rc.policies.registry import make_policy
from muzero_rc.training.config import TrainConfig
from muzero_rc.training.costs import StageMeter
from muzero_rc.training.log import RunLog
from muzero_rc.training.stages.collect import CollectConfig, Draw, run_study
from muzero_rc.training.study import Study
from muzero_rc.types import Policy

__all__ = ["Draws", "Studies", "load_studies", "study_files"]

_ATTEMPTS = 3  # at a number, before it is left out


def load_studies(folder: Path) -> Iterator[Study]:
    """All studies of a folder, by number.

    Raises:
      CheckpointError: a file is damaged.
    """
    for path in study_files(folder):
        yield Study.load(path)


def study_files(folder: Path) -> list[Path]:
    """The files of a folder's studies, by number."""
    return sorted(folder.glob("*.npz"))


class Draws:
    """What the studies of a run are made of, by number."""

    def __init__(self, clips: Sequence[CorpusClip], config: CollectConfig, seed: int) -> None:
        """Takes the clips, what studies are made of, and the seed of every choice."""
        by_source: dict[str, list[CorpusClip]] = {}
        for clip in sorted(clips, key=lambda clip: str(clip.path)):
            by_source.setdefault(clip.source, []).append(clip)
        self._clips = [by_source[source] for source in sorted(by_source)]
        self._config = config
        self._seed = seed

    def __call__(self, number: int, attempt: int = 0) -> Draw:
        """The draw of a study.

        Args:
          number: of the study, from 0.
          attempt: at it; another one has another part and target, and another clip of the
            source if there is one.
        """
        speeds, heights = self._config.speeds, self._config.heights
        turn, place = divmod(number, len(self._clips))
        source = self._order(turn)[place]
        clips = self._clips[source]
        shuffled = self._rng(2, source).permutation(len(clips))
        block, within = divmod(number, len(heights))
        return Draw(
            clip=clips[int(shuffled[(turn + attempt) % len(clips)])],
            speed=speeds[(source + turn) % len(speeds)],
            height=heights[int(self._rng(1, block).permutation(len(heights))[within])],
            seed=(self._seed, number, attempt),
            number=number,
        )

    def _order(self, turn: int) -> list[int]:
        """The sources of a round, such that their speeds take turns."""
        rng = self._rng(0, turn)
        kinds = len(self._config.speeds)
        mixed = rng.permutation(len(self._clips)).tolist()
        classes = [[s for s in mixed if s % kinds == kind] for kind in rng.permutation(kinds)]
        longest = max(map(len, classes))
        return [c[row] for row in range(longest) for c in classes if row < len(c)]

    def _rng(self, *names: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, *names])


@dataclass(frozen=True)
class _Maker:
    """Makes studies around a policy; reports the coded frames of each encode."""

    base: Policy
    config: CollectConfig

    def __call__(self, draw: Draw) -> Study | None:
        """A study of a draw."""
        return run_study(draw, self.base, self.config, self._on_encode)

    @staticmethod
    def _on_encode(frames: int) -> None:
        report(frames)
        check_cancelled()


class Studies:
    """A folder of studies; those that are missing are made.

    A number of which nothing could be made has an empty file `NUMBER.none`, and another
    number is taken in its place.
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
        self._draws = Draws(clips, config.collect, config.seed)
        self._log = log
        self._meter = meter
        self._compute = compute

    def get(self) -> list[Study]:
        """All studies of the run.

        Raises:
          InputError: the corpus gives none.
          CheckpointError: a file is damaged.
        """
        self.make()
        return list(load_studies(self._folder))

    def make(self) -> None:
        """Makes those that are missing, and reads none.

        Raises:
          InputError: the corpus gives none.
        """
        config, known = self._config, len(study_files(self._folder))
        self._log.stage("collect", config.studies, known)
        if known < config.studies:
            maker = _Maker(make_policy(config.collect.base), config.collect)
            self._make(maker, config.studies, build_identity())
        if not study_files(self._folder):
            raise InputError("no study could be made of the corpus: its clips are too short")

    def _make(self, maker: _Maker, goal: int, identity: str) -> None:
        """Adds studies until there are `goal`, several at a time."""
        made = len(study_files(self._folder))
        failures = 0
        waiting: list[Draw] = []  # attempts after the first
        numbers = self._numbers()

        def count(draw: Draw, frames: int) -> None:
            self._meter.encoded(frames)

        with self._compute(self._config.jobs) as scheduler:
            while made < goal:
                while scheduler.running < min(self._config.jobs, goal - made):
                    draw = waiting.pop() if waiting else self._draws(next(numbers))
                    scheduler.submit(maker, draw, on_progress=count)
                for done in scheduler.wait():
                    draw = done.task
                    try:
                        study = done.result()
                    except (InputError, EncoderError) as error:
                        # One bad clip must not end a night's run.
                        self._log.say(f"skipped: {error}")
                        study = None
                    if study is None:
                        failures += 1
                        if failures > 20 + 5 * goal:
                            raise InputError("too few clips of the corpus can be studied")
                        attempt = draw.seed[-1] + 1
                        if attempt < _ATTEMPTS:
                            waiting.append(self._draws(draw.number, attempt))
                        else:
                            (self._folder / f"{draw.number:06d}.none").touch()
                        continue
                    self._meter.save()
                    study = dataclasses.replace(study, identity=identity)
                    study.save(self._folder / f"{draw.number:06d}.npz")
                    made += 1
                    settings = study.settings
                    self._log.step(
                        made, f"{study.clip} {settings.target_kbps} kbit/s, speed {settings.speed}"
                    )

    def _numbers(self) -> Iterator[int]:
        """Numbers that nothing is known of."""
        known = {path.stem for path in self._folder.iterdir() if path.suffix in (".npz", ".none")}
        number = 0
        while True:
            if f"{number:06d}" not in known:
                yield number
            number += 1
