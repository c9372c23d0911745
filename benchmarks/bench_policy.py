"""The table of the shipped policy: its validation clips, class by class.

A class is a speed and an auto-alt-ref. The clips are those of the corpus whose sources are
kept for validation (never trained on), at most six of a source, by name, so that no source
rules the mean. Everything else is `muzero-rc evaluate`; each class has a folder of its own
in OUT with results.json, and an interrupted run goes on.

    make benchmark-policy CORPUS=clips/
    .venv/bin/python benchmarks/bench_policy.py CORPUS --out OUT [--classes 5/6 1/6] [--height 240]
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from muzero_rc.cli.main import main as muzero_rc
from muzero_rc.corpus import Corpus

_MOST_OF_A_SOURCE = 6
_POLICIES = ("muzero", "landed", "hierarchical")


def validation_clips(folder: Path) -> list[Path]:
    """The clips that are evaluated, in the order of their names."""
    by_source: dict[str, list[Path]] = defaultdict(list)
    for clip in Corpus.open(folder).validation():
        by_source[clip.source].append(clip.path)
    chosen = [path for paths in by_source.values() for path in sorted(paths)[:_MOST_OF_A_SOURCE]]
    return sorted(chosen)


def main() -> int:
    """Evaluates class after class; 1 if an encode failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--classes", nargs="+", default=["5/6", "5/1", "1/6"])
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--policies", nargs="+", default=list(_POLICIES))
    parser.add_argument("--metrics", default="psnr")
    args = parser.parse_args()
    clips = [str(path) for path in validation_clips(args.corpus)]
    if not clips:
        parser.error(f"{args.corpus} has no clip whose source is kept for validation")
    failed = 0
    for name in args.classes:
        speed, _, layers = name.partition("/")
        print(f"== speed {speed}, auto-alt-ref {layers}", flush=True)
        policies = [word for policy in args.policies for word in ("--policy", policy)]
        status = muzero_rc(
            [
                "evaluate", *clips, "--out", str(args.out / f"speed{speed}-aa{layers}"), *policies,
                "--speed", speed, "--auto-alt-ref", layers, "--scale", str(args.height),
                "--frames", str(args.frames), "--metrics", args.metrics, "--quiet",
            ]
        )  # fmt: skip
        if status > 1:  # stopped, or nothing to begin with: the next class is no better
            return status
        failed |= status
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
