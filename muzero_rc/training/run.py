"""A training run: a folder, its stages, and where it goes on after an interruption.

    collect    studies of the corpus: encodes with steps around a base policy's
    imitate    the networks learn what the teacher would do, and to predict encodes
    self-play  MuZero against its own past, the first opponent being the studies' base

The folder holds `config.json`, `studies/`, `learner.npz` (networks and optimizer of
imitation), `checkpoint/` of self-play, `policy.npz`, exported after imitation and again
after self-play, `progress.csv` with a row per episode of self-play, `costs.json`, and
`events/` for TensorBoard. Every file is complete whenever it is there: a run that was
killed at any moment goes on from the last one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from muzero_rc.agents.compilation import compiled_folder, keep_compiled
from muzero_rc.agents.muzero.learner import Learner
from muzero_rc.agents.muzero.replay import Replay
from muzero_rc.agents.policy import save_policy
from muzero_rc.corpus import Corpus, CorpusClip
from muzero_rc.env.codec._native import build_id
from muzero_rc.env.gym.registration import ENV_ID
from muzero_rc.env.observation.builder import OBSERVATION_VERSION
from muzero_rc.errors import CheckpointError, InputError, OutputError
from muzero_rc.training.checkpoints import write_json
from muzero_rc.training.config import TrainConfig
from muzero_rc.training.costs import CostLedger, StageMeter, gpus_in_use
from muzero_rc.training.log import RunLog
from muzero_rc.training.stages.collect import Study
from muzero_rc.training.stages.imitate import demonstrations_of
from muzero_rc.training.stages.self_play import SelfPlayStage, checked_update
from muzero_rc.training.studies import Studies, fit_teacher
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
        self, folder: Path, config: TrainConfig, clips: Sequence[CorpusClip], log: RunLog
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
        self._record: dict[str, Any] = {}

    @staticmethod
    def create(folder: Path, config: TrainConfig, corpus: Path, exclude: Sequence[str]) -> None:
        """Makes a new run's folder.

        Raises:
          InputError: there is a run already.
        """
        if (folder / "config.json").exists():
            raise InputError(f"{folder} holds a run already; give --resume or another --out")
        (folder / "studies").mkdir(parents=True, exist_ok=True)
        stored = {
            "format": "muzero_rc training run",
            "observation_version": OBSERVATION_VERSION,
            "env_id": ENV_ID,
            "config": config.as_dict(),
            "corpus": str(corpus.resolve()),
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
            corpus = Corpus.open(Path(stored["corpus"]))
            exclude = set(stored["exclude"])
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path} is damaged: {error}") from error
        clips = [clip for clip in corpus.training() if clip.source not in exclude]
        if not clips:
            raise InputError(f"{stored['corpus']}: no clip is left to train on")
        return TrainingRun(folder, config, clips, log)

    def collect(self) -> Path:
        """Does what is left of the stage collect alone; the folder of studies.

        Raises:
          MuzeroRcError: it cannot go on; what it has done is kept.
        """
        started = time.monotonic()
        folder = self.folder / "studies"
        with self.costs.stage("collect") as meter:
            Studies(folder, self.config, self._clips, self._log, meter).make()
        self._log.say(f"finished after {(time.monotonic() - started) / 60:.0f} min")
        return folder

    def run(self) -> Path:
        """Does what is left of all stages; the policy file.

        Raises:
          MuzeroRcError: a stage cannot go on; what it has done is kept.
        """
        started = time.monotonic()
        with contextlib.suppress(OutputError):  # compiled anew then: seconds, not an error
            keep_compiled(compiled_folder())
        with self.costs.stage("collect") as meter:
            folder = self.folder / "studies"
            studies = Studies(folder, self.config, self._clips, self._log, meter).get()
        gpus = gpus_in_use(self.config.agent.optimizer.devices)
        with self.costs.stage("imitate", gpus) as meter:
            learner, trajectories = self._imitate(studies, meter)
        if not (self.folder / "checkpoint").exists():
            self._export(learner, "imitation")
        if self.config.self_play.episodes:
            with self.costs.stage("self-play", gpus) as meter:
                learner = self._play(studies, learner, trajectories, meter)
            self._export(learner, "self-play")
        self._log.say(f"finished after {(time.monotonic() - started) / 60:.0f} min")
        return self.folder / "policy.npz"

    # ------------------------------------------------------------------ imitate

    def _imitate(self, studies: Sequence[Study], meter: StageMeter) -> tuple[Learner, Replay]:
        agent = self.config.agent
        trajectories = Replay(agent.network, agent.replay, agent.loss, self.config.seed)
        model = fit_teacher(studies)
        known = model.explained  # not a number with one source: there is none to hold out
        self._record |= {
            "studies": len(studies),
            "studied_encodes": sum(len(study.encodes) for study in studies),
            "studied_frames": sum(len(e.log.frames) for s in studies for e in s.encodes),
            "advantage_explained_held_out": round(known, 4) if math.isfinite(known) else None,
        }
        if math.isfinite(known):
            self._log.say(f"teacher explains {known:.0%} of held-out gains")
        paths = {clip.path.name: clip.path for clip in self._clips}
        clips = TaskClips()
        for number, study in enumerate(studies):
            blocks = None
            if agent.network.block_columns and study.clip in paths:
                blocks = clips.get(Task(number, study, paths[study.clip]))[1].blocks
            for trajectory in demonstrations_of(study, model, agent.network.action_frame):
                trajectories.add(dataclasses.replace(trajectory, blocks=blocks))
        path = self.folder / "learner.npz"
        total = self.config.imitation_updates
        learner = Learner(agent, self.config.seed)
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
        return learner, trajectories

    # ------------------------------------------------------------------ self-play

    def _play(
        self, studies: Sequence[Study], learner: Learner, trajectories: Replay, meter: StageMeter
    ) -> Learner:
        paths = {clip.path.name: clip.path for clip in self._clips}
        known = [study for study in studies if study.clip in paths]
        tasks = [Task(n, study, paths[study.clip]) for n, study in enumerate(known)]
        if not tasks:
            raise InputError("the corpus has none of the clips that the studies were made of")
        stage = SelfPlayStage(self.folder, self.config, tasks, trajectories, self._log, meter)
        learner, counters = stage.run(learner)
        self._record |= {
            "self_play_episodes": counters.episodes,
            "self_play_frames": counters.frames,
            "self_play_minutes": round(counters.seconds / 60, 1),
            "actor_crashes": counters.crashes,
            "updates": learner.steps,
        }
        return learner

    def _export(self, learner: Learner, stage: str) -> None:
        training = self._record | {
            "stage": stage,
            "sources": len({clip.source for clip in self._clips}),
            "clips": len(self._clips),
            "clips_digest": _digest(self._clips),
            "libvpx": build_id(),
            "costs": self.costs.as_dict(),
            "config": self.config.as_dict(),
        }
        save_policy(
            self.folder / "policy.npz",
            learner.params,
            self.config.agent.network,
            observation_version=OBSERVATION_VERSION,
            env_id=ENV_ID,
            training=training,
            speed_profile=self.config.collect.speed_profile,
        )


def _digest(clips: Sequence[CorpusClip]) -> str:
    names = "\n".join(sorted(f"{clip.source}/{clip.path.name}" for clip in clips))
    return hashlib.sha256(names.encode()).hexdigest()[:16]
