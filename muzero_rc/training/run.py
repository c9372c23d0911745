"""A training run: a folder, its stages, and where it goes on after an interruption.

    collect    studies of the corpus: encodes with steps around a base policy's
    fit        the plan model that teaches, fitted to these studies
    imitate    the policy head learns the plan's steps, the rest to predict encodes
    self-play  MuZero against its own past, the first opponent being the studies' base
    evaluate   if it is asked for: what all of that is worth on validation clips

A data set stands in for corpus and studies; such a run ends with imitation.

The folder holds `config.json`, `studies/`, `dataset.npz` made of them, `plan.npz` (the plan
model, a policy by itself), `learner.npz` (networks and optimizer of imitation), `checkpoint/`
of self-play, `policy.npz`, exported after imitation and again after self-play, `policies/`
of moments of self-play if they are asked for, `progress.csv` with a row per episode of it,
`costs.json`, `events/` for TensorBoard, and `evaluation/`.
Every file is complete whenever it is there: a run that was killed at any moment goes on from the
last one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.compilation import compiled_folder, keep_compiled
from muzero_rc.agents.muzero.learner import Learner
from muzero_rc.agents.muzero.replay import Replay
from muzero_rc.agents.policy import AgentPolicy, save_policy
from muzero_rc.agents.world_model.plan_model import PlanModel
from muzero_rc.checkpoint import read_meta
from muzero_rc.corpus import Corpus, CorpusClip, check_sources
from muzero_rc.dataset import Dataset, load_dataset, sources_of
from muzero_rc.env.codec._native import build_id
from muzero_rc.env.gym.registration import ENV_ID
from muzero_rc.env.observation.builder import OBSERVATION_VERSION
from muzero_rc.errors import CheckpointError, InputError, OutputError
from muzero_rc.folder_lock import FolderLock
from muzero_rc.policies.identity import program_identity
from muzero_rc.training.checkpoints import Counters, write_json
from muzero_rc.training.config import TrainConfig
from muzero_rc.training.costs import CostLedger, StageMeter, gpus_in_use
from muzero_rc.training.log import RunLog
from muzero_rc.training.stages.evaluate import evaluate_run, result_rows
from muzero_rc.training.stages.imitate import (
    Imitated,
    Seen,
    demonstrations_of,
    explained_by,
    studies_of_dataset,
)
from muzero_rc.training.stages.self_play import SelfPlayStage, checked_update
from muzero_rc.training.stages.start import start_params
from muzero_rc.training.stages.teacher import check_teacher, make_teacher
from muzero_rc.training.studies import Studies, load_studies
from muzero_rc.training.study import Study
from muzero_rc.training.tasks import Task, TaskClips

__all__ = ["TrainingRun"]

_UPDATES_A_STEP = 25  # imitation updates between looks at the clock


class TrainingRun:
    """One folder, one configuration.

    Attributes:
      folder: of the run.
      config: what it is made of.
      costs: of its stages so far.
    """

    def __init__(
        self,
        folder: Path,
        config: TrainConfig,
        clips: Sequence[CorpusClip],
        log: RunLog,
        *,
        corpus: Corpus | None = None,
        dataset: Path | None = None,
        exclude: Sequence[str] = (),
    ) -> None:
        """Opens a run; `create` and `resume` decide between a new one and an old one.

        Raises:
          CheckpointError: its costs are damaged.
        """
        self.folder = folder
        self.config = config
        self.costs = CostLedger(folder / "costs.json")
        self._clips = list(clips)
        self._log = log
        self._corpus = corpus
        self._dataset = dataset
        self._exclude = frozenset(exclude)
        self._record: dict[str, Any] = {}

    @staticmethod
    def create(
        folder: Path,
        config: TrainConfig,
        corpus: Path | None,
        exclude: Sequence[str],
        dataset: Path | None = None,
    ) -> None:
        """Makes a new run's folder.

        Args:
          folder: of the run.
          config: what it is made of.
          corpus: folder of videos; None with a data set.
          exclude: sources that are not trained on.
          dataset: in the place of corpus and studies.

        Raises:
          InputError: there is a run already, there is no source of a name in `exclude`, or a
            data set cannot give what the run needs; or a policy that it begins with or learns
            from cannot be taken.
          OutputError: the folder cannot be made.
        """
        if (folder / "config.json").exists():
            raise InputError(f"{folder} holds a run already; give --resume or another --out")
        if dataset is not None and config.self_play.episodes:
            raise InputError("self-play needs --corpus: a data set has no videos (--episodes 0)")
        if dataset is not None and config.agent.network.block_columns:
            raise InputError("network.representation hip needs --corpus: a data set has no blocks")
        if exclude and corpus is not None:
            check_sources(exclude, [clip.source for clip in Corpus.open(corpus).clips])
        if dataset is not None:
            check_sources(exclude, sources_of(dataset))
        check_teacher(config.imitate, frozenset(exclude))
        start_params(config.imitate.start, config.agent.network)
        try:
            (folder / "studies").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = error.strerror or error
            raise OutputError(
                f"cannot make the folder {folder}: {why}; give another --out"
            ) from error
        stored = {
            "format": "muzero_rc training run",
            "observation_version": OBSERVATION_VERSION,
            "env_id": ENV_ID,
            "config": config.as_dict(),
            "corpus": None if corpus is None else str(corpus.resolve()),
            "dataset": None if dataset is None else str(dataset.resolve()),
            "exclude": list(exclude),
        }
        write_json(folder / "config.json", stored)

    @staticmethod
    def resume(folder: Path, log: RunLog) -> TrainingRun:
        """Opens a run where it stopped.

        Raises:
          InputError: there is no run, or its corpus has gone.
          CheckpointError: its files are damaged.
        """
        path = folder / "config.json"
        if not path.exists():
            raise InputError(f"{folder} holds no run; leave --resume out to start one")
        try:
            stored = json.loads(path.read_text())
            made_with = (stored.get("env_id"), stored.get("observation_version"))
            if made_with != (ENV_ID, OBSERVATION_VERSION):
                raise CheckpointError(
                    f"{folder} was made with {made_with[0]} and observations of version "
                    f"{made_with[1]}, this program has {ENV_ID} and {OBSERVATION_VERSION}; start "
                    "a new run (its studies can be copied)"
                )
            config = TrainConfig.from_dict(stored["config"])
            exclude = set(stored["exclude"])
            if (dataset := stored.get("dataset")) is not None:
                return TrainingRun(
                    folder, config, (), log, dataset=Path(dataset), exclude=sorted(exclude)
                )
            corpus = Corpus.open(Path(stored["corpus"]))
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path} is damaged: {error}") from error
        clips = [clip for clip in corpus.training() if clip.source not in exclude]
        if not clips:
            raise InputError(f"{stored['corpus']}: no clip is left to train on")
        return TrainingRun(folder, config, clips, log, corpus=corpus, exclude=sorted(exclude))

    def collect(self) -> Path:
        """Does what is left of the stage collect alone; the folder of studies.

        Raises:
          InputError: the run is one of a data set, or another process works at it.
          MuzeroRcError: it cannot go on; what it has done is kept.
        """
        if self._dataset is not None:
            raise InputError(f"{self.folder} is a run of a data set: its studies are made")
        started = time.monotonic()
        folder = self.folder / "studies"
        with FolderLock.own(self.folder), self.costs.stage("collect") as meter:
            Studies(folder, self.config, self._clips, self._log, meter).make()
        self._log.say(f"finished after {(time.monotonic() - started) / 60:.0f} min")
        return folder

    def run(self) -> Path:
        """Does what is left of all stages; the policy file.

        Raises:
          InputError: another process works at the run.
          MuzeroRcError: a stage cannot go on; what it has done is kept.
        """
        with FolderLock.own(self.folder):
            return self._run()

    def _run(self) -> Path:
        started = time.monotonic()
        with contextlib.suppress(OutputError):  # compiled anew then: seconds, not an error
            keep_compiled(compiled_folder())
        if self._dataset is None:
            with self.costs.stage("collect") as meter:
                folder = self.folder / "studies"
                Studies(folder, self.config, self._clips, self._log, meter).make()
        if self._is_done():
            return self.folder / "policy.npz"
        with self.costs.stage("fit"):
            teacher = make_teacher(
                self.folder, self.config.imitate, self._data, self._exclude, self._log.say
            )
        gpus = gpus_in_use(self.config.agent.optimizer.devices)
        with self.costs.stage("imitate", gpus) as meter:
            learner, trajectories = self._imitate(teacher, meter)
        if not (self.folder / "checkpoint").exists():
            self._export(learner, "imitation")
        if self.config.self_play.episodes:
            with self.costs.stage("self-play", gpus) as meter:
                learner = self._play(learner, trajectories, meter)
            self._export(learner, "self-play")
        self._log.say(f"finished after {(time.monotonic() - started) / 60:.0f} min")
        return self.folder / "policy.npz"

    def evaluate(self) -> list[tuple[str, ...]]:
        """Measures the finished run on the corpus's validation clips, as far as is not done.

        Returns:
          Rows under `stages.evaluate.COLUMNS`.

        Raises:
          InputError: the run has no corpus, or no source of it is kept for validation.
          MuzeroRcError: an encode failed; the others are kept.
        """
        corpus = self.check_evaluation()
        with FolderLock.own(self.folder), self.costs.stage("evaluate"):
            found = evaluate_run(self.folder, self.config, corpus, self._log)
        return result_rows(found)

    def check_evaluation(self) -> Corpus:
        """The corpus, if `evaluate` finds clips in it: better told before the training than after.

        Raises:
          InputError: the run has no corpus, or no source of it is kept for validation.
        """
        if self._corpus is None:
            raise InputError(f"{self.folder} is a run of a data set: it has no clips to evaluate")
        self._corpus.spread_validation(1)
        return self._corpus

    def _is_done(self) -> bool:
        """Whether the last stage of training has left its policy."""
        path = self.folder / "policy.npz"
        last = "self-play" if self.config.self_play.episodes else "imitation"
        return path.exists() and read_meta(path)["training"].get("stage") == last

    def _studies(self) -> Iterator[Study]:
        """The studies, one after the other: all of them together would fill the memory."""
        if self._data is None:
            yield from load_studies(self.folder / "studies")
        else:
            yield from studies_of_dataset(self._data)

    @functools.cached_property
    def _data(self) -> Dataset | None:
        """The data set that the run is of, read once for all stages."""
        return None if self._dataset is None else load_dataset(self._dataset)

    # ------------------------------------------------------------------ imitate

    def _imitate(self, teacher: PlanModel | None, meter: StageMeter) -> tuple[Learner, Replay]:
        agent = self.config.agent
        trajectories = Replay(agent.network, agent.replay, agent.loss, self.config.seed)
        held_out: list[Imitated] = []
        clips = _Clips(self._clips, read_blocks=agent.network.block_columns > 0)
        seen = Seen()
        sources: set[str] = set()
        names: set[str] = set()
        counts = {"studies": 0, "studied_encodes": 0, "studied_frames": 0}
        for number, study in enumerate(self._studies()):
            found = demonstrations_of(study, teacher, agent.network.action_frame)
            if study.source in self._exclude:
                held_out += found
                continue
            blocks = clips.blocks_of(number, study)
            for imitated in found:
                trajectories.add(dataclasses.replace(imitated.trajectory, blocks=blocks))
            seen.add(study)
            sources.add(study.source)
            names.add(f"{study.source}/{study.clip}")
            counts["studies"] += 1
            counts["studied_encodes"] += len(study.encodes)
            counts["studied_frames"] += sum(len(e.log.frames) for e in study.encodes)
        if not sources:
            raise InputError("no study is left to learn from")
        self._record |= counts | {
            "sources": len(sources),
            "clips": len(names),
            "clips_digest": _digest(names),
            "seen": seen.as_dict(),
            "excluded": sorted(self._exclude),
            "dataset": None if self._dataset is None else self._dataset.name,
            "teacher": None
            if teacher is None
            else {"plans": dataclasses.asdict(teacher.settings), **dict(teacher.meta)},
        }
        path = self.folder / "learner.npz"
        total = self.config.imitation_updates
        params = start_params(self.config.imitate.start, agent.network)
        learner = Learner(agent, self.config.seed, params)
        if path.exists():
            learner, _ = Learner.load(path, agent)
        self._log.stage("imitate", total, learner.steps)
        metrics: dict[str, float] = {}
        while learner.steps < total:
            for _ in range(min(_UPDATES_A_STEP, total - learner.steps)):
                metrics = checked_update(learner, trajectories.sample(), self.folder)
                meter.updated()
            self._log.step(learner.steps, f"loss {metrics['loss']:.3f}", metrics)
            if learner.steps % 500 < _UPDATES_A_STEP:
                meter.save()
                learner.save(path)
        meter.save()
        learner.save(path)
        self._record["imitation_updates"] = learner.steps
        if held_out:
            policy = AgentPolicy(learner.params, agent.network, head=self.config.imitate.head)
            self._record["plans_explained"] = known = explained_by(policy, held_out)
            self._log.say(f"of sources held out the head explains {known['head']:.0%} of plans")
        return learner, trajectories

    # ------------------------------------------------------------------ self-play

    def _play(self, learner: Learner, trajectories: Replay, meter: StageMeter) -> Learner:
        paths = {clip.path.name: clip.path for clip in self._clips}
        known = (study for study in self._studies() if study.clip in paths)
        tasks = [Task(n, study, paths[study.clip]) for n, study in enumerate(known)]
        if not tasks:
            raise InputError("the corpus has none of the clips that the studies were made of")
        stage = SelfPlayStage(
            self.folder, self.config, tasks, trajectories, self._log, meter, self.keep
        )
        learner, counters = stage.run(learner)
        self._record_play(learner, counters)
        return learner

    def keep(self, learner: Learner, counters: Counters) -> None:
        """Keeps the policy of a moment of self-play, by its number of episodes."""
        self._record_play(learner, counters)
        folder = self.folder / "policies"
        folder.mkdir(exist_ok=True)
        self._export(learner, "self-play", folder / f"{counters.episodes:06d}.npz")

    def _record_play(self, learner: Learner, counters: Counters) -> None:
        self._record |= {
            "self_play_episodes": counters.episodes,
            "self_play_frames": counters.frames,
            "self_play_minutes": round(counters.seconds / 60, 1),
            "actor_crashes": counters.crashes,
            "updates": learner.steps,
        }

    def _export(self, learner: Learner, stage: str, path: Path | None = None) -> None:
        training = self._record | {
            "stage": stage,
            "libvpx": build_id(),
            "costs": self.costs.as_dict(),
            "config": self.config.as_dict(),
        }
        save_policy(
            path or self.folder / "policy.npz",
            learner.params,
            self.config.agent.network,
            observation_version=OBSERVATION_VERSION,
            env_id=ENV_ID,
            training=training,
            speed_profile=self.config.collect.speed_profile,
            head=self.config.imitate.head,
            identity=program_identity("network"),
        )


class _Clips:
    """Blocks of the clips that studies were made of, where networks read them."""

    def __init__(self, clips: Sequence[CorpusClip], *, read_blocks: bool) -> None:
        self._paths = {clip.path.name: clip.path for clip in clips} if read_blocks else {}
        self._held = TaskClips()

    def blocks_of(self, number: int, study: Study) -> npt.NDArray[np.float16] | None:
        """Those of a study's part; None where they are not read, or the clip has gone."""
        if study.clip not in self._paths:
            return None
        return self._held.get(Task(number, study, self._paths[study.clip]))[1].blocks


def _digest(names: set[str]) -> str:
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:16]
