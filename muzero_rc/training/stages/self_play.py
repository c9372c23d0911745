"""The stage of self-play: players play, the scorer scores, the learner learns.

Players and learner are not in step. Each scored episode lets the learner do so many
updates; while it has updates left it takes in what has arrived without waiting, and only
then waits for the next episode. How old the parameters were that an episode was played
with is measured.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from muzero_rc.agents.muzero.learner import Learner, save_batch
from muzero_rc.agents.muzero.networks import Params
from muzero_rc.agents.muzero.reanalyse import Reanalyser
from muzero_rc.agents.muzero.replay import Replay
from muzero_rc.agents.muzero.targets import Batch
from muzero_rc.agents.policy import AgentPolicy
from muzero_rc.env.rewards import make_reward
from muzero_rc.errors import MuzeroRcError
from muzero_rc.training import checkpoints
from muzero_rc.training.actors import Actors, Inline
from muzero_rc.training.config import TrainConfig
from muzero_rc.training.costs import StageMeter
from muzero_rc.training.log import RunLog
from muzero_rc.training.progress import ProgressFile
from muzero_rc.training.scorer import ScoredEpisode, Scorer
from muzero_rc.training.tasks import Task

__all__ = ["SelfPlayStage", "checked_update", "is_one_sided"]

_WINDOW = 100  # episodes that rates shown are taken over
_ONE_SIDED = 0.95  # mean reward, either way, from which on it tells nothing apart
_WAIT_S = 1.0
_MOST_OWED = 8.0  # episodes whose updates may pile up before the learner lets some go


def checked_update(learner: Learner, batch: Batch, folder: Path) -> dict[str, float]:
    """An update; one that is not finite ends the run with its batch kept.

    Raises:
      MuzeroRcError: a term of the loss is not finite.
    """
    try:
        return learner.update(batch)
    except FloatingPointError as error:
        path = folder / "bad_batch.npz"
        save_batch(path, batch, str(error))
        raise MuzeroRcError(
            f"{error}; its batch is in {path}, the last checkpoint is as it was"
        ) from error


class SelfPlayStage:
    """Self-competition, from the last checkpoint to the end."""

    def __init__(
        self,
        folder: Path,
        config: TrainConfig,
        tasks: Sequence[Task],
        trajectories: Replay,
        log: RunLog,
        meter: StageMeter,
        keep: Callable[[Learner, checkpoints.Counters], None] = lambda learner, counters: None,
    ) -> None:
        """Takes what the earlier stages have made, and what counts this one's costs.

        Args:
          folder: of the run.
          config: of the run.
          tasks: clips and targets that are played.
          trajectories: of the plans, or of the base where nobody plans.
          log: where progress goes.
          meter: of this stage's costs.
          keep: called every `policy_every` episodes, to keep the policy of that moment.
        """
        self._folder = folder
        self._config = config
        self._tasks = list(tasks)
        self._trajectories = trajectories
        self._log = log
        self._meter = meter
        self._keep = keep

    def run(self, learner: Learner) -> tuple[Learner, checkpoints.Counters]:
        """Plays and learns; the learner and the counters at the end.

        Raises:
          MuzeroRcError: it cannot go on; the last checkpoint is there.
        """
        config, play, agent = self._config, self._config.self_play, self._config.agent
        replay = Replay(agent.network, agent.replay, agent.loss, config.seed + 1)
        scorer = Scorer(make_reward(config.reward), self._tasks, self._greedy, self._meter.encoded)
        learner, counters = checkpoints.restore(self._folder, agent, learner, replay, scorer)
        reanalyser = Reanalyser(agent, config.seed) if agent.replay.reanalyse else None
        recent: deque[ScoredEpisode] = deque(maxlen=_WINDOW)
        metrics: dict[str, float] = {}
        warned = False
        self._log.stage("self-play", play.episodes, counters.episodes)
        started = time.monotonic() - counters.seconds
        saved_at, saved_episodes = time.monotonic(), counters.episodes
        kept = counters.episodes - counters.episodes % max(play.policy_every, 1)
        crashes_before = counters.crashes

        def done() -> bool:
            enough = play.frames and counters.frames >= play.frames
            late = play.minutes and time.monotonic() - started >= 60 * play.minutes
            return bool(enough or late) or counters.episodes >= play.episodes

        with (
            ProgressFile(self._folder / "progress.csv", counters.episodes) as progress,
            self._players(learner.params, counters.episodes) as players,
        ):
            players.publish(learner.params, counters.updates)
            while not done():
                arrived = players.poll(0.0 if counters.owed >= 1 else _WAIT_S)
                for finished in arrived:
                    if done():
                        break
                    played = scorer(finished, learner.params, counters.updates)
                    replay.add(played.trajectory)
                    recent.append(played)
                    counters.episodes += 1
                    counters.frames += len(played.trajectory)
                    self._meter.encoded(len(played.trajectory))
                    counters.owed += play.updates_per_episode
                    counters.seconds = time.monotonic() - started
                    progress.add(played, counters)
                counters.owed = min(counters.owed, _MOST_OWED * max(play.updates_per_episode, 1))
                counters.crashes = crashes_before + players.crashes
                if counters.owed >= 1 and len(replay):
                    batch = self._batch(replay, learner, reanalyser)
                    metrics = checked_update(learner, batch, self._folder)
                    self._meter.updated()
                    counters.updates += 1
                    counters.owed -= 1
                if arrived and recent:
                    players.publish(learner.params, counters.updates)
                    note, numbers = _summary(recent, counters, config.reward.tolerance)
                    self._log.step(counters.episodes, note, numbers | metrics)
                    if not warned and (warned := is_one_sided(recent)):
                        self._log.say(
                            f"nearly all of {_WINDOW} episodes had the same reward: there is "
                            "next to nothing to learn from it (another --reward.kind?)"
                        )
                if play.policy_every and counters.episodes - kept >= play.policy_every:
                    kept = counters.episodes - counters.episodes % play.policy_every
                    self._keep(learner, counters)
                late = time.monotonic() - saved_at > 60 * play.checkpoint_minutes
                if counters.episodes - saved_episodes >= play.checkpoint_every or late:
                    self._meter.save()
                    checkpoints.save(self._folder, learner, replay, scorer, counters)
                    saved_at, saved_episodes = time.monotonic(), counters.episodes
            while counters.owed >= 1 and len(replay):
                batch = self._batch(replay, learner, reanalyser)
                checked_update(learner, batch, self._folder)
                self._meter.updated()
                counters.updates += 1
                counters.owed -= 1
        counters.seconds = time.monotonic() - started
        self._meter.save()
        checkpoints.save(self._folder, learner, replay, scorer, counters)
        return learner, counters

    def _players(self, params: Params, episodes: int) -> Inline | Actors:
        config = self._config
        seed = config.seed + episodes
        play = config.self_play
        arguments = (self._tasks, config.agent, params, play.sessions, seed, play.repeats)
        if play.actors == 0:
            return Inline(*arguments)
        return Actors(
            *arguments,
            actors=play.actors,
            platform=play.platform,
            folder=self._folder,
            say=self._log.say,
        )

    def _greedy(self, params: Params) -> AgentPolicy:
        return AgentPolicy(params, self._config.agent.network, name="opponent")

    def _batch(self, replay: Replay, learner: Learner, reanalyser: Reanalyser | None) -> Batch:
        """A batch of the configured size, part of it from the teacher's trajectories."""
        size = self._config.agent.replay.batch_size
        taught = (
            round(size * self._config.self_play.lessons_share) if len(self._trajectories) else 0
        )
        own, own_weights = replay.draw(size - taught) if taught < size else ([], np.zeros(0))
        old, old_weights = self._trajectories.draw(taught) if taught else ([], np.zeros(0))
        if reanalyser is not None:
            reanalyser.refresh(replay, own, learner.target_params)
        batch = replay.batch([*own, *old], np.concatenate([own_weights, old_weights]))
        weight = np.array(batch.policy_weight)
        weight[len(own) :] *= self._config.self_play.teacher_weight
        return batch._replace(policy_weight=weight)


def is_one_sided(recent: Sequence[ScoredEpisode]) -> bool:
    """Whether the last episodes, if they are enough, were all but all won or all lost."""
    if len(recent) < _WINDOW:
        return False
    return abs(float(np.mean([played.reward for played in recent]))) >= _ONE_SIDED


def _summary(
    recent: Sequence[ScoredEpisode], counters: checkpoints.Counters, tolerance: float
) -> tuple[str, dict[str, float]]:
    wins = float(np.mean([p.reward > 0 for p in recent]))
    vbr = float(np.mean([p.against_vbr > 0 for p in recent]))
    over = float(np.mean([p.overshoot > tolerance for p in recent]))
    gain = float(np.mean([p.gain_db for p in recent]))
    base_gain = float(np.mean([p.base_gain_db for p in recent]))
    stale = np.array([p.staleness for p in recent])
    rate = counters.frames / max(counters.seconds, 1e-9)
    note = (
        f"won {wins:.0%} against its past, {vbr:.0%} against VBR; over target {over:.0%}; "
        f"{gain:+.2f} dB over VBR, {base_gain:+.3f} over the base; {rate:.0f} frames/s; "
        f"{stale.mean():.0f} updates old"
    )
    numbers = {
        "win_rate_past": wins,
        "win_rate_vbr": vbr,
        "share_over_target": over,
        "gain_db": gain,
        "base_gain_db": base_gain,
        "frames_per_second": rate,
        "frames": float(counters.frames),
        "staleness_mean": float(stale.mean()),
        "staleness_max": float(stale.max()),
        "actor_crashes": float(counters.crashes),
    }
    if counters.crashes:
        note += f"; {counters.crashes} actors restarted"
    return note, numbers
