"""Makes studies of speed tiers on parts and targets that a data set has studies of already.

What those studies know is not measured again, the last pass of `landed` included: a study here is
a probe encode, and last passes of `landed` with other speeds of frames in blocks and by role
(`muzero_rc.training.perturbation`). Who learns from it joins both (`stages.work.joined`). One
study of each source and speed, in turns; a file that is there is not made again, so a stopped run
goes on. The files make a data set:

    .venv/bin/python benchmarks/make_tier_studies.py benchmarks/data/studies.npz CORPUS RUN
    .venv/bin/muzero-rc dataset RUN -o tiers.npz
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from muzero_rc.dataset import StudyView, load_dataset
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.identity import build_identity
from muzero_rc.policies.registry import make_policy
from muzero_rc.training.stages.collect import CollectConfig, load_part, tier_encodes
from muzero_rc.training.study import Study


def chosen(path: Path, speeds: list[int], psnr: tuple[float, float]) -> list[StudyView]:
    """The first study of each source at each speed, speeds in turns."""
    first: dict[tuple[str, int], StudyView] = {}
    for view in load_dataset(path).studies:
        if view.speed in speeds and psnr[0] <= view.encode("landed").psnr_avg <= psnr[1]:
            first.setdefault((view.source, view.speed), view)
    mixed = np.random.default_rng(0).permutation(sorted({source for source, _ in first}))
    # No source twice before each has been once.
    order = [
        (source, speeds[(place + turn) % len(speeds)])
        for turn in range(len(speeds))
        for place, source in enumerate(mixed.tolist())
    ]
    return [first[key] for key in order if key in first]


def make(view: StudyView, path: Path, config: CollectConfig, number: int) -> Study:
    """The study of tiers beside a study of the data set."""
    clip = load_part(path, view.part)
    settings = EncoderSettings(target_kbps=round(view.target_kbps), speed=view.speed)
    found = tier_encodes(
        clip, settings, first_pass(clip, settings, cache=False), make_policy("landed"), config,
        np.random.default_rng([21, number]),
    )  # fmt: skip
    return Study(
        clip=view.clip, source=view.source, split="training", part=view.part,
        shape=(clip.width, clip.height, clip.fps.numerator, clip.fps.denominator),
        settings=found.settings, stats=found.stats.stats, slope=view.slope,
        encodes=found.encodes, number=number,
    )  # fmt: skip


def main() -> None:
    """Makes what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--studies", type=int, default=120)
    parser.add_argument("--tiers", type=int, default=3, help="encodes of each with other speeds")
    parser.add_argument("--speeds", type=int, nargs="+", default=[2, 5])
    parser.add_argument("--psnr", type=float, nargs=2, default=(33.0, 40.0))
    args = parser.parse_args()
    folder = args.run / "studies"
    folder.mkdir(parents=True, exist_ok=True)
    config, identity = CollectConfig(tiers=args.tiers), build_identity()
    views = chosen(args.dataset, args.speeds, tuple(args.psnr))[: args.studies]
    for number, view in enumerate(views):
        file = folder / f"{number:06d}.npz"
        if file.exists():
            continue
        study = make(view, next(args.corpus.rglob(view.clip)), config, number)
        dataclasses.replace(study, identity=identity).save(file)
        print(f"{number + 1}/{len(views)} {view.source} speed {view.speed}", flush=True)


if __name__ == "__main__":
    main()
