"""What the policy costs: time to decide as a share of the time to encode, size, time to load.

Asked is less than 5% at 480 lines and speed 5 on one core, a file below 8 MB, and less than a
second to load it once what it imports is there. The share is taken of the encoder's own time
in the second pass, the first pass left out, so it errs to the worse; encoder and policy are
kept on as many cores as --cores says. Loading is timed in processes of its own, with the first
decision beside it: it waits for the compiler the first time on a machine, and for what that
has kept from then on. The exit status is 1 if a limit is passed.

    .venv/bin/python benchmarks/bench_decision.py [CLIP] [--policy NAME] [--speeds 1 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import print_table, sample_clip

from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.policies.registry import make_policy, prepare, warm_up
from muzero_rc.policies.shipped import shipped_policy_path

SHARE_LIMIT = 0.05
SIZE_LIMIT_MB = 8.0
LOAD_LIMIT_S = 1.0

_LOAD = """
import sys, time
import muzero_rc.agents.policy
from muzero_rc.policies.registry import make_policy, warm_up
begun = time.perf_counter()
policy = make_policy(sys.argv[1])
loaded = time.perf_counter()
warm_up(policy)
print(loaded - begun, time.perf_counter() - loaded)
"""


def _load(policy: str, cache: str) -> tuple[float, float]:
    """Seconds to load a policy and to its first decision, in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, policy],
        env={**os.environ, "MUZERO_RC_CACHE": cache},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    load, decision = map(float, done.stdout.split())
    return load, decision


def _verdict(value: float, limit: float) -> str:
    return "met" if value < limit else "OVER"


def main() -> int:
    """Measures and prints; 1 if a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", default=sample_clip("bigbuckbunny.mp4"))
    parser.add_argument("--policy", default="muzero", help="muzero or a policy file")
    parser.add_argument("--speeds", type=int, nargs="+", default=[5])
    parser.add_argument("--frames", type=int, default=90)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--kbps", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cores", type=int, default=1)
    given = parser.parse_args()
    # Before the first array: XLA makes a thread for every core that it may use.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.cores])

    clip = Clip.load(given.clip, height=given.height, max_frames=given.frames)
    policy = make_policy(given.policy)
    warm_up(policy)
    rows, verdicts = [], []
    for speed in given.speeds:
        settings = EncoderSettings(target_kbps=given.kbps, speed=speed)
        stats = first_pass(clip, settings)
        settings = prepare(policy, clip, settings, stats)
        runs = [
            rollout(clip, settings, policy, first_pass=stats) for _ in range(given.show_existing)
        ]
        decisions = len(runs[0].qindexes)
        shares = [run.decision_seconds / (run.seconds - run.decision_seconds) for run in runs]
        share = statistics.median(shares)
        verdicts.append(_verdict(share, SHARE_LIMIT))
        rows.append(
            (
                str(speed),
                f"{statistics.median(run.seconds for run in runs):.2f}",
                str(decisions),
                f"{1e3 * statistics.median(r.decision_seconds for r in runs) / decisions:.2f}",
                f"{share:.1%}",
                verdicts[-1],
            )
        )
    print_table(
        f"{clip}, policy {policy.name}, {given.cores} core(s)",
        ("speed", "second pass, s", "decisions", "ms each", "share", f"< {SHARE_LIMIT:.0%}"),
        rows,
    )

    path = shipped_policy_path() if given.policy == "muzero" else Path(given.policy)
    size = path.stat().st_size / 1e6
    verdicts.append(_verdict(size, SIZE_LIMIT_MB))
    rows = [(f"file, < {SIZE_LIMIT_MB:g} MB", f"{size:.2f} MB", verdicts[-1])]
    with tempfile.TemporaryDirectory() as cache:
        for start in ("first", "later"):
            load, decision = _load(given.policy, cache)
            verdicts.append(_verdict(load, LOAD_LIMIT_S))
            rows.append(
                (f"{start} start: load, < {LOAD_LIMIT_S:g} s", f"{load:.2f} s", verdicts[-1])
            )
            rows.append((f"{start} start: first decision", f"{decision:.2f} s", ""))
    print_table(f"{path.name}, once imports are there", ("what", "measured", ""), rows)
    return 1 if "OVER" in verdicts else 0


if __name__ == "__main__":
    raise SystemExit(main())
