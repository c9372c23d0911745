"""`muzero-rc fit`: the model that plans qindexes, from a data set."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from muzero_rc.errors import InputError

__all__ = ["FitArgs", "run"]

_MOST_MEMBERS = 16  # more only take time


@dataclass(frozen=True)
class FitArgs:
    """Fit the linear response model and its mean steps to a data set of muzero-rc dataset.

    The strength of the ridge is chosen by leaving sources out. The file is a policy: give it
    as --policy, or name it in an evaluation.
    """

    dataset: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """The data set, .npz."""

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE")]
    """The policy to write, .npz."""

    step_strength: float = 3.0
    """Octaves of rate that a mean square of one octave of the quantizer's step costs a plan. Of
    1, 3 and 10 the one that gained most in real encodes of 20 training sources held out."""

    limit: int = 16
    """Qindexes that a plan moves a frame by at most."""

    members: int = 0
    """Networks that correct the linear model's coefficients of each clip, by all of its frames;
    two minutes each. Four gained 0.2 points, with a standard error of 0.3, in real encodes."""
    tiers: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A data set of speed tiers on the same clips: fits the work model that encode --time goes by
    instead, and writes JSON."""

    exclude: tuple[str, ...] = ()
    """Sources of the data set that are not fitted to."""

    json: bool = False
    """Print one JSON object instead of lines."""

    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """Show no progress."""


def run(args: FitArgs) -> int:
    """Fits and writes; returns the exit status."""
    from muzero_rc.agents.world_model.planner import PlanSettings
    from muzero_rc.corpus import check_sources
    from muzero_rc.dataset import load_dataset
    from muzero_rc.output_files import check_output
    from muzero_rc.training.stages.plan import fit_dataset

    suffix = ".npz" if args.tiers is None else ".json"
    if args.out.suffix != suffix:
        raise InputError(f"{args.out} must end with {suffix}")
    if args.tiers is not None:
        plans = ("step_strength", "limit", "members")
        if any(getattr(args, name) != getattr(FitArgs, name) for name in plans):
            raise InputError(
                "--step-strength, --limit and --members are for plans, which --tiers makes none of"
            )
        return _fit_work(args, args.tiers)
    if not 0 <= args.members <= _MOST_MEMBERS:
        raise InputError(f"--members must be 0..{_MOST_MEMBERS}, not {args.members}")
    settings = PlanSettings(step_strength=args.step_strength, limit=args.limit)
    check_output(args.out)
    data = load_dataset(args.dataset)
    exclude = check_sources(args.exclude, data.sources)

    def say(text: str) -> None:
        if not args.quiet:
            print(text, file=sys.stderr, flush=True)

    fitted = fit_dataset(data, settings, exclude=exclude, members=args.members, on_step=say)
    fitted.model.save(args.out)
    accuracy, about = fitted.accuracy, fitted.model.meta
    if args.json:
        print(json.dumps({"type": "fit", "file": str(args.out), **about}))
        return 0
    print(
        f"{args.out}: {about['studies']} studies of {about['sources']} sources; of sources held "
        f"out R2 of gains {accuracy.gain_r2:.2f}, correlation within clips "
        f"{accuracy.within_clip:.2f}, R2 of frames' bits {accuracy.bits_r2:.2f} and errors "
        f"{accuracy.sse_r2:.2f}"
    )
    return 0


def _fit_work(args: FitArgs, tiers: Path) -> int:
    from muzero_rc.agents.world_model.plan_model import PlanModel
    from muzero_rc.corpus import check_sources
    from muzero_rc.dataset import load_dataset
    from muzero_rc.output_files import check_output, write_text
    from muzero_rc.policies.shipped import shipped_policy_path
    from muzero_rc.training.stages.work import fit_work_model, joined

    check_output(args.out)
    studies = joined(load_dataset(args.dataset).studies, load_dataset(tiers).studies)
    exclude = check_sources(args.exclude, [study.source for study in studies])
    response = PlanModel.load(shipped_policy_path("planned")).linear
    model = fit_work_model(studies, response, exclude)
    write_text(args.out, model.as_text())
    if args.json:
        print(json.dumps({"type": "fit", "file": str(args.out), **model.about}))
        return 0
    held_out = ", ".join(
        f"{found['median']:.0%} at speed {speed}"
        for speed, found in model.about["vbr_held_out"].items()
    )
    print(
        f"{args.out}: {model.about['studies']} studies of {model.about['sources']} sources; "
        f"on sources held out VBR's time is missed by a median of {held_out}, and R2 of what tiers "
        f"gain is {model.about['gain_r2_held_out']:.2f}"
    )
    return 0
