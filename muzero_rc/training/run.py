"""A training run: a folder, its stages, and where it goes on after an interruption.

    explore    studies of the corpus, half of them around the teacher of the first half
    imitate    the networks learn what the teacher would do, and to predict encodes
    self-play  MuZero against its own past, the first opponent being libvpx's VBR

The folder holds `config.json`, `studies/`, `learner.npz` (networks and optimizer of
imitation), `checkpoint/` of self-play, `policy.npz`, exported after imitation and again
after self-play, and `events/` for TensorBoard. Every file is complete whenever it is
there: a run that was killed at any moment goes on from the last one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from muzero_rc.agents.advantage import AdvantageModel, AdvantagePolicy
from muzero_rc.agents.compilation import keep_compiled
from muzero_rc.agents.muzero.learner import Learner
from muzero_rc.agents.muzero.replay import Replay
from muzero_rc.agents.policy import AgentPolicy, save_policy
from muzero_rc.corpus import Corpus, CorpusClip
from muzero_rc.env._native import build_id
from muzero_rc.env.baselines import ProposalPolicy
from muzero_rc.env.first_pass import cache_folder
from muzero_rc.env.observation import OBSERVATION_VERSION
from muzero_rc.env.registration import ENV_ID
from muzero_rc.env.rewards import SelfCompetitionReward
from muzero_rc.errors import CheckpointError, InputError, MuzeroRcError, OutputError
from muzero_rc.training.explore import Study, run_study
from muzero_rc.training.imitation import MODEL_COLUMNS, examples_of, lessons_of
from muzero_rc.training.log import RunLog
from muzero_rc.training.presets import TrainConfig
from muzero_rc.training.self_play import Played, SelfPlay, Task
from muzero_rc.types import Policy

__all__ = ["TrainingRun"]

_WINDOW = 100  # episodes that rates shown are taken over
_UPDATES_A_STEP = 25  # imitation updates between looks at the clock


@dataclass
class _Counters:
    """Of self-play; part of its checkpoint."""

    episodes: int = 0
    steps: int = 0
    updates: int = 0
    seconds: float = 0.0


class TrainingRun:
    """One folder, one configuration.

    Attributes:
      folder: of the run.
      config: what it is made of.
    """

    def __init__(
        self, folder: Path, config: TrainConfig, clips: Sequence[CorpusClip], log: RunLog
    ) -> None:
        """Opens a run; `create` and `resume` decide between a new one and an old one."""
        self.folder = folder
        self.config = config
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
            "config": config.as_dict(),
            "corpus": str(corpus.resolve()),
            "exclude": list(exclude),
        }
        _write_json(folder / "config.json", stored)

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
            config = TrainConfig.from_dict(stored["config"])
            corpus = Corpus.open(Path(stored["corpus"]))
            exclude = set(stored["exclude"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} is damaged: {error}") from error
        clips = [clip for clip in corpus.training() if clip.source not in exclude]
        if not clips:
            raise InputError(f"{stored['corpus']}: no clip is left to train on")
        return TrainingRun(folder, config, clips, log)

    def run(self) -> Path:
        """Does what is left of all stages; the policy file.

        Raises:
          MuzeroRcError: a stage cannot go on; what it has done is kept.
        """
        started = time.monotonic()
        with contextlib.suppress(OutputError):  # compiled anew then: seconds, not an error
            keep_compiled(cache_folder().parent / "xla")
        studies = self._explore()
        learner, lessons = self._imitate(studies)
        if self.config.self_play.episodes:
            self._play(studies, learner, lessons)
        self._log.say(f"finished after {(time.monotonic() - started) / 60:.0f} min")
        return self.folder / "policy.npz"

    # ------------------------------------------------------------------ explore

    def _explore(self) -> list[Study]:
        config = self.config
        self._log.stage("explore", config.studies, len(self._study_files()))
        half = config.studies // 2
        self._make_studies(ProposalPolicy(), half)
        studies = self._load_studies()
        teacher = AdvantagePolicy(_fit(studies)) if studies else ProposalPolicy()
        self._make_studies(teacher, config.studies)
        studies = self._load_studies()
        if not studies:
            raise InputError("no study could be made of the corpus: its clips are too short")
        return studies

    def _study_files(self) -> list[Path]:
        return sorted((self.folder / "studies").glob("*.npz"))

    def _load_studies(self) -> list[Study]:
        return [Study.load(path) for path in self._study_files()]

    def _make_studies(self, base: Policy, goal: int) -> None:
        """Adds studies until there are `goal`, several at a time."""
        made = len(self._study_files())
        failures = 0
        draws = self._draws()
        with ThreadPoolExecutor(self.config.jobs) as pool:
            running: dict[Future[Study | None], int] = {}
            try:
                while made < goal:
                    while len(running) < min(self.config.jobs, goal - made):
                        seed, clip = next(draws)
                        done = pool.submit(run_study, clip, base, self.config.explore, seed)
                        running[done] = seed
                    finished, _ = wait(running, return_when=FIRST_COMPLETED)
                    for done in finished:
                        seed = running.pop(done)
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
                        study.save(self.folder / "studies" / f"{seed:010d}.npz")
                        made += 1
                        self._log.step(made, f"{study.clip} {study.settings.target_kbps} kbit/s")
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _draws(self) -> Iterator[tuple[int, CorpusClip]]:
        """Seeds with no study yet, and the clip of each: a source, then one of its clips."""
        by_source: dict[str, list[CorpusClip]] = {}
        for clip in self._clips:
            by_source.setdefault(clip.source, []).append(clip)
        sources = sorted(by_source)
        known = {path.stem for path in self._study_files()}
        rng = np.random.default_rng(self.config.seed)
        while True:
            seed = int(rng.integers(2**31))
            pick = np.random.default_rng([self.config.seed, seed])
            clips = by_source[sources[int(pick.integers(len(sources)))]]
            clip = clips[int(pick.integers(len(clips)))]
            if f"{seed:010d}" not in known:
                yield seed, clip

    # ------------------------------------------------------------------ imitate

    def _imitate(self, studies: Sequence[Study]) -> tuple[Learner, Replay]:
        agent = self.config.agent
        lessons = Replay(agent.network, agent.replay, agent.loss, self.config.seed)
        model = _fit(studies)
        self._record |= {
            "studies": len(studies),
            "studied_encodes": sum(len(study.encodes) for study in studies),
            "studied_frames": sum(len(e.results) for s in studies for e in s.encodes),
            "advantage_explained_held_out": round(model.explained, 4),
        }
        self._log.say(f"teacher explains {model.explained:.0%} of held-out gains")
        for study in studies:
            for lesson in lessons_of(study, model, agent.network.action_frame):
                lessons.add(lesson)
        path = self.folder / "learner.npz"
        total = self.config.imitation_updates
        learner = Learner(agent, self.config.seed)
        if path.exists():
            learner, _ = Learner.load(path, agent)
        self._log.stage("imitate", total, learner.steps)
        metrics: dict[str, float] = {}
        while learner.steps < total:
            for _ in range(min(_UPDATES_A_STEP, total - learner.steps)):
                metrics = learner.update(lessons.sample())
            self._log.step(learner.steps, f"loss {metrics['loss']:.3f}", metrics)
            if learner.steps % 500 < _UPDATES_A_STEP:
                learner.save(path)
        learner.save(path)
        self._record["imitation_updates"] = learner.steps
        if not (self.folder / "checkpoint").exists():
            self._export(learner, "imitation")
        return learner, lessons

    # ------------------------------------------------------------------ self-play

    def _play(self, studies: Sequence[Study], learner: Learner, lessons: Replay) -> None:
        config, agent = self.config.self_play, self.config.agent
        replay = Replay(agent.network, agent.replay, agent.loss, self.config.seed + 1)
        reward = SelfCompetitionReward()
        counters = _Counters()
        learner = self._restore(learner, replay, reward, counters)
        paths = {clip.path.name: clip.path for clip in self._clips}
        tasks = [Task(study, paths[study.clip]) for study in studies if study.clip in paths]
        policy = AgentPolicy(
            learner.params,
            agent.network,
            simulations=agent.search.simulations,
            search=agent.search,
            batch_size=config.sessions,
            seed=self.config.seed + counters.episodes,
        )
        play = SelfPlay(
            tasks, policy, reward, config.sessions, self.config.seed + counters.episodes
        )
        recent: deque[Played] = deque(maxlen=_WINDOW)
        self._log.stage("self-play", config.episodes, counters.episodes)
        started = time.monotonic() - counters.seconds
        for played in play.episodes(lambda: counters.episodes >= config.episodes):
            replay.add(played.lesson)
            recent.append(played)
            counters.episodes += 1
            counters.steps += len(played.lesson)
            metrics: dict[str, float] = {}
            for _ in range(config.updates_per_episode):
                metrics = learner.update(_mixed(replay, lessons, config.lessons_share, agent))
                counters.updates += 1
            policy.set_params(learner.params)
            counters.seconds = time.monotonic() - started
            note, numbers = _summary(recent, counters, reward)
            self._log.step(counters.episodes, note, numbers | metrics)
            last = counters.episodes >= config.episodes
            if counters.episodes % config.checkpoint_every == 0 or last:
                self._checkpoint(learner, replay, reward, counters)
        self._record |= {
            "self_play_episodes": counters.episodes,
            "self_play_frames": counters.steps,
            "self_play_minutes": round(counters.seconds / 60, 1),
            "updates": learner.steps,
        }
        self._export(learner, "self-play")

    def _checkpoint(
        self,
        learner: Learner,
        replay: Replay,
        reward: SelfCompetitionReward,
        counters: _Counters,
    ) -> None:
        """Writes a whole checkpoint beside the last one, then takes its place."""
        final, fresh, old = (
            self.folder / n for n in ("checkpoint", "checkpoint.new", "checkpoint.old")
        )
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh.mkdir()
        learner.save(fresh / "learner.npz")
        replay.save(fresh / "replay.npz")
        state = {"counters": vars(counters), "reward": reward.state_dict()}
        _write_json(fresh / "state.json", state)
        if final.exists():
            os.rename(final, old)
        os.rename(fresh, final)
        shutil.rmtree(old, ignore_errors=True)

    def _restore(
        self,
        learner: Learner,
        replay: Replay,
        reward: SelfCompetitionReward,
        counters: _Counters,
    ) -> Learner:
        folder = self.folder / "checkpoint"
        if not folder.exists() and (self.folder / "checkpoint.old").exists():
            os.rename(self.folder / "checkpoint.old", folder)  # killed between two renames
        if not folder.exists():
            return learner
        try:
            state = json.loads((folder / "state.json").read_text())
            stored = state["counters"]
        except (OSError, json.JSONDecodeError, KeyError) as error:
            raise CheckpointError(f"{folder} is damaged: {error}; remove it to go on") from error
        reward.load_state_dict(state["reward"])
        replay.load(folder / "replay.npz")
        restored, _ = Learner.load(folder / "learner.npz", self.config.agent)
        for name, value in stored.items():
            setattr(counters, name, value)
        return restored

    def _export(self, learner: Learner, stage: str) -> None:
        training = self._record | {
            "stage": stage,
            "sources": len({clip.source for clip in self._clips}),
            "clips": len(self._clips),
            "clips_digest": _digest(self._clips),
            "libvpx": build_id(),
            "config": self.config.as_dict(),
        }
        save_policy(
            self.folder / "policy.npz",
            learner.params,
            self.config.agent.network,
            observation_version=OBSERVATION_VERSION,
            env_id=ENV_ID,
            training=training,
        )


def _fit(studies: Sequence[Study]) -> AdvantageModel:
    examples = [example for study in studies for example in examples_of(study)]
    if not examples:
        raise InputError("the studies hold no usable encode; make more (--studies)")
    model = AdvantageModel(MODEL_COLUMNS)
    model.fit(examples)
    return model


def _mixed(replay: Replay, lessons: Replay, share: float, agent: Any) -> Any:
    """A batch of the configured size, part of it from the teacher's lessons."""
    size = agent.replay.batch_size
    taught = round(size * share)
    own, own_weights = replay.draw(size - taught) if taught < size else ([], np.zeros(0))
    old, old_weights = lessons.draw(taught) if taught else ([], np.zeros(0))
    return replay.batch([*own, *old], np.concatenate([own_weights, old_weights]))


def _summary(
    recent: Sequence[Played], counters: _Counters, reward: SelfCompetitionReward
) -> tuple[str, dict[str, float]]:
    wins = float(np.mean([p.reward > 0 for p in recent]))
    vbr = float(np.mean([p.against_vbr > 0 for p in recent]))
    over = float(np.mean([p.overshoot > reward.tolerance for p in recent]))
    gain = float(np.mean([p.gain_db for p in recent]))
    rate = counters.steps / max(counters.seconds, 1e-9)
    note = (
        f"won {wins:.0%} against its past, {vbr:.0%} against VBR; over target {over:.0%}; "
        f"{gain:+.2f} dB; {rate:.0f} frames/s"
    )
    numbers = {
        "win_rate_past": wins,
        "win_rate_vbr": vbr,
        "share_over_target": over,
        "gain_db": gain,
        "frames_per_second": rate,
        "frames": float(counters.steps),
    }
    return note, numbers


def _digest(clips: Sequence[CorpusClip]) -> str:
    names = "\n".join(sorted(f"{clip.source}/{clip.path.name}" for clip in clips))
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def _write_json(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_text(json.dumps(value, indent=1))
        os.replace(temporary, path)
    except OSError as error:
        raise MuzeroRcError(f"cannot write {path}: {error.strerror}") from error
