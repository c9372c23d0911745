"""What self-play costs: its frames per second over plain encoding's, search included.

Plain encoding is libvpx's own two-pass VBR in C, as many encodes side by side as self-play
has; the self-play is the `laptop` preset's, one actor process, without and with a learner
beside it. Both encode the same part of the same clip at the same target, turn by turn.
The first episode of every session is not counted: sessions start together and end together,
and what was played before the clock ran would count as played after it. Asked for is
0.7 without the learner, at 320x180 and speed 5 on two cores.

    .venv/bin/python benchmarks/bench_self_play.py [CLIP] [--sessions 4 8] [--repeats 3]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import print_table, sample_clip

from muzero_rc.agents.muzero.learner import Learner
from muzero_rc.agents.muzero.replay import Replay
from muzero_rc.corpus import CorpusClip
from muzero_rc.env.codec.session import encode_plain
from muzero_rc.env.control.baselines import ProposalPolicy
from muzero_rc.env.rewards import RewardConfig, make_reward
from muzero_rc.training.actors import Actors
from muzero_rc.training.presets import PRESETS
from muzero_rc.training.scorer import Scorer
from muzero_rc.training.stages.collect import CollectConfig, Draw, run_study
from muzero_rc.training.study import Study
from muzero_rc.training.tasks import Task, TaskClips

WANTED = 0.7


def _plain(task: Task, clips: TaskClips, sessions: int, rounds: int) -> float:
    """Shown frames per second of so many plain encodes side by side."""
    clip, stats = clips.get(task)
    begun = time.perf_counter()
    with ThreadPoolExecutor(sessions) as pool:
        for done in [
            pool.submit(encode_plain, clip, task.settings, stats) for _ in range(sessions * rounds)
        ]:
            done.result()
    return sessions * rounds * clip.num_frames / (time.perf_counter() - begun)


def _self_play(task: Task, sessions: int, rounds: int, learn: bool) -> float:
    """Shown frames per second of self-play after each session's first episode."""
    agent = PRESETS["laptop"].agent
    learner = Learner(agent)
    replay = Replay(agent.network, agent.replay, agent.loss)
    scorer = Scorer(make_reward(RewardConfig()), [task], lambda params: None)
    episodes, frames, updates = 0, 0, 0
    begun = last = time.perf_counter()
    skipped = sessions * (2 if learn else 1)  # the learner compiles while the first are played
    with (
        tempfile.TemporaryDirectory() as folder,
        Actors([task], agent, learner.params, sessions, 0, actors=1, folder=Path(folder)) as actors,
    ):
        while episodes < skipped + sessions * rounds:
            owed = learn and updates > learner.steps
            for finished in actors.poll(0.0 if owed else 1.0):
                replay.add(scorer(finished, learner.params, 0).trajectory)
                episodes += 1
                if episodes <= skipped:
                    begun = time.perf_counter()
                else:
                    frames += finished.score.shown_frames
                    last = time.perf_counter()
                updates += round(PRESETS["laptop"].self_play.updates_per_episode)
                actors.publish(learner.params, updates)
            if owed:
                learner.update(replay.sample())
    return frames / (last - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", type=Path, default=sample_clip("bigbuckbunny.mp4"))
    parser.add_argument("--sessions", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--rounds", type=int, default=3, help="episodes of each session")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()

    collect = CollectConfig(heights=(180,), min_frames=120, max_frames=120, speeds=(5,), pairs=1)
    draw = Draw(CorpusClip(given.clip, "bench"), 5, 180, (1,))
    study: Study | None = run_study(draw, ProposalPolicy(), collect)
    if study is None:
        raise SystemExit(f"{given.clip} cannot be used: two-pass VBR does not meet its targets")
    task, clips = Task(0, study, given.clip), TaskClips()
    rows = []
    for sessions in given.sessions:
        for learn in (False, True):
            plain, played = [], []
            for _ in range(given.repeats):
                plain.append(_plain(task, clips, sessions, given.rounds))
                played.append(_self_play(task, sessions, given.rounds, learn))
            ratio = statistics.median(b / a for a, b in zip(plain, played, strict=True))
            rows.append(
                (
                    f"{sessions} encodes{', learning' if learn else ''}",
                    f"{statistics.median(plain):.0f}",
                    f"{statistics.median(played):.0f}",
                    f"{ratio:.2f}",
                    "" if learn else ("met" if ratio >= WANTED else "MISSED"),
                )
            )
    width, height = study.shape[:2]
    print_table(
        f"{given.clip.name}, {width}x{height}, speed 5, {os.cpu_count()} cores",
        ("self-play", "plain, frames/s", "self-play, frames/s", "ratio", f"wanted {WANTED}"),
        rows,
    )


if __name__ == "__main__":
    main()
