"""Self-play: encodes by the searching agent, many side by side, judged against its past."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.muzero.episode import Episode as Lesson
from muzero_rc.agents.muzero.episode import EpisodeRecorder
from muzero_rc.agents.policy import AgentPolicy
from muzero_rc.env.clip import Clip
from muzero_rc.env.episode import Episode
from muzero_rc.env.first_pass import FirstPass, first_pass
from muzero_rc.env.rewards import SelfCompetitionReward, psnr_gain_at_equal_rate, score_outcome
from muzero_rc.env.session import EncoderSession, wait_any
from muzero_rc.errors import EncoderError
from muzero_rc.training.explore import Study, load_part
from muzero_rc.types import EpisodeScore, Observation

__all__ = ["Played", "SelfPlay", "Task"]

_HELD_BYTES = 2**30  # decoded parts kept between visits


class Task:
    """What an episode plays: a part of a clip at one target, with VBR's score on it."""

    def __init__(self, study: Study, path: Path) -> None:
        """Takes the study that chose the target, and the clip's file."""
        self.settings = study.settings
        vbr = study.encode("vbr")
        shown = len(study.stats)
        seconds = shown * study.shape[3] / study.shape[2]
        self._path = path
        self._part = study.part
        self._vbr = vbr
        self._shown = shown
        self._bits = round(vbr.kbps * 1000 * seconds)

    @property
    def nbytes(self) -> int:
        """About the memory that its frames take."""
        height, _, frames = self._part
        return height * height * 16 // 9 * frames * 3 // 2

    def load(self) -> Clip:
        """Decodes the frames."""
        return load_part(self._path, self._part)

    def vbr_score(self, clip: Clip) -> EpisodeScore:
        """libvpx's own score, measured when the study was made."""
        return EpisodeScore(
            clip=clip.sha256,
            target_kbps=float(self.settings.target_kbps),
            actual_kbps=self._vbr.kbps,
            bits=self._bits,
            psnr_avg=self._vbr.psnr_avg,
            psnr_overall=self._vbr.psnr_overall,
            psnr_y=self._vbr.psnr_y,
            shown_frames=self._shown,
            coded_frames=len(self._vbr.infos),
        )


@dataclass(frozen=True)
class Played:
    """A finished episode.

    Attributes:
      lesson: for the replay.
      reward: against the agent's own past, -1, 0 or 1.
      against_vbr: by the same rule against libvpx's VBR.
      overshoot: actual / target - 1.
      gain_db: PSNR over VBR's at equal rate.
    """

    lesson: Lesson
    reward: float
    against_vbr: int
    overshoot: float
    gain_db: float


@dataclass(frozen=True)
class _Decision:
    """A decision whose frame is being coded."""

    observation: Observation
    qindex: int
    policy: npt.NDArray[np.float32]
    value: float


@dataclass
class _Slot:
    """A running encode."""

    task: Task
    clip: Clip
    session: EncoderSession
    episode: Episode
    recorder: EpisodeRecorder
    decision: _Decision | None = None


class SelfPlay:
    """Plays episodes: one search for all encodes that wait, while the others code.

    The encoders run in native threads; Python only hands observations to the agent and
    qindexes to the encoders.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        policy: AgentPolicy,
        reward: SelfCompetitionReward,
        sessions: int,
        seed: int,
    ) -> None:
        """Takes what to play.

        Args:
          tasks: drawn from uniformly.
          policy: the searching agent; its parameters may be renewed between episodes.
          reward: the agent's past; updated by each finished episode.
          sessions: encodes side by side.
          seed: of the draws.
        """
        self._tasks = list(tasks)
        self._policy = policy
        self._reward = reward
        self._sessions = sessions
        self._rng = np.random.default_rng(seed)
        self._clips: dict[int, tuple[Clip, FirstPass]] = {}

    def episodes(self, stopped: Callable[[], bool]) -> Iterator[Played]:
        """Plays on and gives each episode as it ends, until `stopped()` or closed."""
        with contextlib.ExitStack() as stack:
            slots: list[_Slot] = []
            stack.callback(_close, slots)
            while not stopped():
                while len(slots) < self._sessions:
                    slots.append(self._start())
                self._decide(slots)
                for index in reversed(wait_any([slot.session for slot in slots])):
                    if self._collect(slots[index]):
                        yield self._finish(slots.pop(index))

    def _start(self) -> _Slot:
        number = int(self._rng.integers(len(self._tasks)))
        task = self._tasks[number]
        if number not in self._clips:
            held = sum(self._tasks[n].nbytes for n in self._clips)
            while self._clips and held + task.nbytes > _HELD_BYTES:
                oldest = next(iter(self._clips))
                held -= self._tasks[oldest].nbytes
                del self._clips[oldest]
            clip = task.load()
            self._clips[number] = (clip, first_pass(clip, task.settings))
        clip, stats = self._clips[number]
        session = EncoderSession(clip, task.settings, first_pass=stats)
        episode = Episode(clip, task.settings, stats, session)
        recorder = EpisodeRecorder(self._policy.config.action_frame)
        return _Slot(task, clip, session, episode, recorder)

    def _decide(self, slots: Sequence[_Slot]) -> None:
        waiting = [slot for slot in slots if slot.decision is None]
        if not waiting:
            return
        observations = [slot.episode.observe() for slot in waiting]
        self._policy.decide(observations)
        thought = self._policy.last
        assert thought is not None
        for row, (slot, observation) in enumerate(zip(waiting, observations, strict=True)):
            qindex = int(thought.qindexes[row])
            slot.decision = _Decision(
                observation, qindex, thought.policies[row], float(thought.values[row])
            )
            slot.episode.submit(qindex)

    def _collect(self, slot: _Slot) -> bool:
        """Takes the result of the frame in work; True at the end of the encode."""
        decision = slot.decision
        if decision is None:
            return False
        result = slot.episode.collect()
        slot.recorder.step(
            decision.observation,
            decision.qindex,
            bits_per_pixel=result.bits / result.samples[0],
            psnr_db=result.psnr,
            policy=decision.policy,
            value=decision.value,
        )
        slot.decision = None
        return slot.episode.info is None

    def _finish(self, slot: _Slot) -> Played:
        slot.episode.finish()
        score = slot.episode.score()
        vbr = slot.task.vbr_score(slot.clip)
        if vbr.shown_frames != score.shown_frames:
            raise EncoderError(
                f"{slot.clip.name} has {score.shown_frames} frames, its study had "
                f"{vbr.shown_frames}: the corpus has changed"
            )
        reward = self._reward(score, lambda: vbr)
        lesson = slot.recorder.finish(
            outcome=reward,
            overshoot=score.overshoot,
            psnr_gain_db=score.psnr_avg - vbr.psnr_avg,
        )
        return Played(
            lesson,
            reward,
            score_outcome(score, vbr),
            score.overshoot,
            psnr_gain_at_equal_rate(score, vbr),
        )


def _close(slots: Sequence[_Slot]) -> None:
    for slot in slots:
        slot.episode.close()
