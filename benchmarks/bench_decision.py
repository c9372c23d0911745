"""What the policy costs: time to observe and decide as a share of the time to encode.

The issue's limit is 10% at 480 lines and speed 5 on two cores. The share is taken of the
encoder's own time in the second pass, the first pass left out, so it errs to the worse.
Without a shipped policy, one of the default size with fresh weights stands in.

    .venv/bin/python benchmarks/bench_decision.py [CLIP] [--policy NAME] [--speeds 1 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from common import print_table, sample_clip

from muzero_rc.env.clip import Clip
from muzero_rc.env.first_pass import first_pass
from muzero_rc.env.observation import (
    CLIP_FEATURES,
    FRAME_FEATURES,
    GLOBAL_FEATURES,
    HISTORY_FEATURES,
    OBSERVATION_VERSION,
)
from muzero_rc.env.rollout import rollout
from muzero_rc.env.settings import EncoderSettings
from muzero_rc.errors import CheckpointError
from muzero_rc.policies import make_policy, prepare, shipped_policy_path, warm_up
from muzero_rc.types import Policy

LIMIT = 0.10


def _fresh_policy() -> Policy:
    from muzero_rc.agents.config import NetworkConfig
    from muzero_rc.agents.muzero.networks import initial_params
    from muzero_rc.agents.policy import save_policy

    config = NetworkConfig(
        clip_features=CLIP_FEATURES,
        history_features=HISTORY_FEATURES,
        frame_features=FRAME_FEATURES,
        global_features=GLOBAL_FEATURES,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fresh.npz"
        save_policy(
            path,
            initial_params(config, 0),
            config,
            observation_version=OBSERVATION_VERSION,
            env_id="muzero_rc/VP9RateControl-v0",
            training={"encodes": 0},
            name="fresh",
        )
        return make_policy(str(path))


def _policy(name: str) -> Policy:
    if name == "muzero":
        try:
            shipped_policy_path()
        except CheckpointError:
            return _fresh_policy()
    return make_policy(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", default=sample_clip("bigbuckbunny.mp4"))
    parser.add_argument("--policy", default="muzero")
    parser.add_argument("--speeds", type=int, nargs="+", default=[5])
    parser.add_argument("--frames", type=int, default=90)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--kbps", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()

    clip = Clip.load(given.clip, height=given.height, max_frames=given.frames)
    policy = _policy(given.policy)
    warm_up(policy)
    rows = []
    for speed in given.speeds:
        settings = EncoderSettings(target_kbps=given.kbps, speed=speed)
        stats = first_pass(clip, settings)
        settings = prepare(policy, clip, settings, stats)
        runs = [rollout(clip, settings, policy, first_pass=stats) for _ in range(given.repeats)]
        decisions = len(runs[0].qindexes)
        shares = [run.decision_seconds / (run.seconds - run.decision_seconds) for run in runs]
        share = statistics.median(shares)
        rows.append(
            (
                str(speed),
                f"{statistics.median(run.seconds for run in runs):.2f}",
                str(decisions),
                f"{1e3 * statistics.median(r.decision_seconds for r in runs) / decisions:.2f}",
                f"{share:.1%}",
                "within" if share < LIMIT else "OVER",
            )
        )
    print_table(
        f"{clip}, policy {policy.name}",
        ("speed", "second pass, s", "decisions", "ms each", "share", f"limit {LIMIT:.0%}"),
        rows,
    )


if __name__ == "__main__":
    main()
