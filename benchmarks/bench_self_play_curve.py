"""How a policy of self-play grows with its episodes, on clips of groups that it has not seen.

The policies are those that a run has kept (`--self_play.policy_every`), the clips the first of
each group of a set of the corpus, the setting the paper's: two passes, uniform speed, every frame
coded. Beside each policy stand libvpx's proposals, which it is to beat. An interrupted run goes on.

    muzero-rc train --preset paper --corpus CORPUS --out RUN --self_play.policy_every 400
    .venv/bin/python benchmarks/bench_self_play_curve.py CORPUS RUN --out OUT
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from bench_headlines import ALONE, first_clips
from common import print_table

from muzero_rc.cli.main import main as muzero_rc
from muzero_rc.evaluation.results import Results

_CONTROLS = ("proposal", f"landed@{ALONE}")


def training_rows(run: Path, window: int) -> list[list[str]]:
    """What self-play itself saw, by so many episodes."""
    with (run / "progress.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    rows = []
    for start in range(0, len(found) - window + 1, window):
        part = found[start : start + window]
        column = {name: np.array([float(row[name]) for row in part]) for name in part[0]}
        over = column["overshoot"]
        rows.append(
            [
                f"{start + 1} to {start + window}",
                f"{column['reward'].mean():+.2f}",
                f"{np.median(over):+.0%}",
                f"{np.percentile(over, 10):+.0%}",
                f"{(over > 0.01).mean():.0%}",
                f"{column['gain_db'].mean():+.2f}",
            ]
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", default="dev")
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--height", type=int, default=144)
    parser.add_argument("--speed", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--window", type=int, default=400, help="episodes of a row of training")
    parser.add_argument("--episodes", type=int, nargs="*", help="of the policies; all if not given")
    args = parser.parse_args()
    columns = ["episodes", "reward", "off target", "best tenth", "over by 1%", "dB over VBR"]
    print_table("in training", columns, training_rows(args.run, args.window))
    kept = {int(path.stem): path for path in sorted((args.run / "policies").glob("*.npz"))}
    chosen = {n: path for n, path in kept.items() if not args.episodes or n in args.episodes}
    named = {f"{path.stem}@{ALONE}": f"{n:,}" for n, path in chosen.items()}
    learned = [f"{path}@{ALONE}" for path in chosen.values()]
    policies = [word for method in (*_CONTROLS, *learned) for word in ("--policy", method)]
    clips = first_clips(args.corpus, args.set, args.clips)
    status = muzero_rc(
        ["evaluate", *map(str, clips), "--out", str(args.out), "--quiet", *policies,
         "--scale", str(args.height), "--frames", str(args.frames), "--speed", str(args.speed),
         "--jobs", str(args.jobs)]
    )  # fmt: skip
    if status > 1:
        raise SystemExit(status)
    rows = []
    for method, entry in Results.load(args.out).summary.items():
        landing, gain = entry["landing"], entry.get("psnr_avg", {})
        mean = gain.get("mean")
        rows.append(
            [
                named.get(method, method),
                f"{landing['percentiles']['50']:+.0%}",
                f"{landing['mean_abs_deviation']:.0%}",
                f"{landing['share_over_1']:.0%}",
                "-" if mean is None else f"{mean:+.1f}",
                str(gain.get("n", "")),
            ]
        )
    columns = [
        "episodes", "off target, median", "mean, either way", "over by 1%", "PSNR BD-rate, %",
        "clips that have one",
    ]  # fmt: skip
    print_table(f"{len(clips)} clips of {args.set}, speed {args.speed}", columns, rows)


if __name__ == "__main__":
    main()
