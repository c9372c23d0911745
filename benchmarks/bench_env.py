"""What the environment costs: frames per second through it over plain libvpx's.

Every way codes the same clip in the mode `q`, in which libvpx never codes a frame twice,
and takes libvpx's own qindexes, so that all write the same bytes (checked):

    plain        libvpx called from C, no hook; N encodes in N threads
    environment  one `VP9RateControlEnv`
    vector       `VP9RateControlVectorEnv`: N sessions, in step
    sessions     N sessions, each goes on as soon as it can, as in training

Wall time says what a user gets and wants an idle machine; CPU time says what the
environment adds to libvpx's work even on a busy one.

    .venv/bin/python benchmarks/bench_env.py [CLIP] [--speed 5] [--frames 150]
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

from common import print_table, sample_clip

from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import FirstPass, first_pass
from muzero_rc.env.codec.session import EncoderSession, encode_plain, wait_any
from muzero_rc.env.control.baselines import ProposalPolicy
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.gym.env import VP9RateControlEnv
from muzero_rc.env.gym.vector_env import VP9RateControlVectorEnv
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.env.passes.stepper import Stepper
from muzero_rc.types import EpisodeScore


@dataclasses.dataclass
class TrialRunner:
    """The ways to run one encode.

    Attributes:
      clip: what is encoded.
      settings: how, in mode q.
      stats: its first pass.
    """

    clip: Clip
    settings: EncoderSettings
    stats: FirstPass

    def overrides(self) -> dict[str, Any]:
        """The settings as the environments' arguments."""
        values = self.settings.as_dict()
        target = values.pop("target_kbps")
        return {"clips": [self.clip], "targets_kbps": target, "reward": _no_reward} | values

    def plain(self, count: int) -> None:
        """libvpx from C, `count` encodes at a time."""

        def encode() -> None:
            encode_plain(self.clip, self.settings, self.stats)

        threads = [threading.Thread(target=encode) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def environment(self) -> None:
        """One episode of the environment."""
        env = VP9RateControlEnv(**self.overrides())
        _, info = env.reset()
        terminated = False
        while not terminated:
            _, _, terminated, _, info = env.step(info["proposal_qindex"])
        env.close()

    def vector(self, count: int) -> None:
        """One episode of the vector environment."""
        env = VP9RateControlVectorEnv(count, **self.overrides())
        _, infos = env.reset()
        while True:
            _, _, terminated, _, infos = env.step(infos["proposal_qindex"])
            if terminated.all():  # the same clip: all end in the same step
                break
        env.close()

    def sessions(self, count: int) -> None:
        """One episode of each of `count` sessions, whichever is ready first."""
        waiting = []
        for _ in range(count):
            session = EncoderSession(self.clip, self.settings, first_pass=self.stats)
            waiting.append((session, Stepper(self.clip, self.settings, self.stats, session)))
        qindexes = ProposalPolicy().qindexes
        for _, episode in waiting:
            episode.submit(int(qindexes([episode.observe()])[0]))
        while waiting:
            for index in reversed(wait_any([session for session, _ in waiting])):
                episode = waiting[index][1]
                episode.collect()
                if episode.info is None:
                    episode.close()
                    del waiting[index]
                else:
                    episode.submit(int(qindexes([episode.observe()])[0]))


def _no_reward(score: EpisodeScore, reference: Callable[[], EpisodeScore]) -> float:
    return 0.0


def _times(work: Callable[[], None]) -> tuple[float, float]:
    """Wall and CPU seconds, all threads together."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", default=sample_clip("bikes.mp4"))
    parser.add_argument("--speed", type=int, default=5)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--height", type=int, default=None)
    parser.add_argument("--cq-level", type=int, default=36)
    parser.add_argument("--sessions", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()

    clip = Clip.load(given.clip, height=given.height, max_frames=given.frames)
    settings = EncoderSettings(
        target_kbps=1000, speed=given.speed, rc_mode="q", cq_level=given.cq_level
    )
    runner = TrialRunner(clip, settings, first_pass(clip, settings))
    plain_bytes, _ = encode_plain(clip, settings, runner.stats)
    own = rollout(clip, settings, ProposalPolicy(), first_pass=runner.stats)
    same = own.stream.sha256 == hashlib.sha256(plain_bytes).hexdigest()
    n = given.sessions
    ways: dict[str, tuple[int, Callable[[], None]]] = {
        "plain": (1, lambda: runner.plain(1)),
        "environment": (1, runner.environment),
        f"plain x{n}": (n, lambda: runner.plain(n)),
        f"vector x{n}": (n, lambda: runner.vector(n)),
        f"sessions x{n}": (n, lambda: runner.sessions(n)),
    }
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.show_existing):  # interleaved: what else runs disturbs all alike
        for name, (count, work) in ways.items():
            seconds = _times(work)
            wall[name].append(count * clip.num_frames / seconds[0])
            cpu[name].append(count * clip.num_frames / seconds[1])

    def ratio(rates: dict[str, list[float]], name: str, over: str) -> str:
        pairs = zip(rates[name], rates[over], strict=True)
        return f"{statistics.median(a / b for a, b in pairs):.3f}"

    rows = []
    for name, (count, _) in ways.items():
        plain = "plain" if count == 1 else f"plain x{n}"
        rows.append(
            (
                name,
                f"{statistics.median(wall[name]):.1f}",
                f"{statistics.median(cpu[name]):.1f}",
                ratio(wall, name, plain),
                ratio(cpu, name, plain),
                "" if count == 1 else ratio(wall, name, "environment"),
            )
        )
    print_table(
        f"{clip}, speed {given.speed}; the same bytes {'' if same else 'NOT '}every way",
        ("way", "frames/s", "per CPU s", "of plain", "CPU", "of one environment"),
        rows,
    )


if __name__ == "__main__":
    main()
