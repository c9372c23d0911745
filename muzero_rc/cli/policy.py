"""`muzero-rc policy`: a policy file's card."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from muzero_rc.errors import InputError

if TYPE_CHECKING:
    from muzero_rc.agents.world_model.plan_model import PlanModel

__all__ = ["PolicyArgs", "run"]

# Seen from the folder of the committed card.
_SHIPPED_RESULTS = (
    "On the 16 sources left out, at speed 2, it saves 0.7% (standard error 0.5) of the rate of "
    "`landed` in PSNR avg and 1.1% (0.5) overall. The planner that it imitates saves 1.2% (0.6) "
    "and 1.5% (0.7), the mean steps alone 0.4% (0.4) and 0.6% (0.6). The file shipped before saved "
    "0.4% (0.2) and 0.5% (0.2): that this one is better is not shown, the difference is 0.3 (0.6). "
    "The worst clip loses 3.9%. "
    "[The note](../../docs/notes/2026-11-29-linear-response-model.md) has the commands. "
    "On the set `dev`, which nothing was chosen by, it saves nothing that can be measured: "
    "[docs/results.md](../../docs/results.md). So it is no longer what `encode` takes by default: "
    "that is `planned`, the planner itself."
)


@dataclass(frozen=True)
class PolicyArgs:
    """Print a policy's card: what it is, what it saw, what it cost, where it ends."""

    policy: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = "muzero"
    """A policy file; without it the shipped policy, muzero."""

    format: Annotated[str, tyro.conf.arg(metavar="md|json")] = "md"
    """md: a page in Markdown; json: one object, with the whole configuration."""


def run(args: PolicyArgs) -> int:
    """Prints the card."""
    if args.format not in ("md", "json"):
        raise InputError(f"--format must be md or json, not {args.format!r}")
    from muzero_rc.agents.world_model.plan_model import is_plan_model
    from muzero_rc.model_card import read_card
    from muzero_rc.policies.registry import POLICY_NAMES
    from muzero_rc.policies.shipped import shipped_policy_path

    if args.policy in ("planned", "const"):
        return _print_plan(shipped_policy_path(args.policy), args.format)
    if args.policy == "muzero":
        card = read_card(shipped_policy_path(), _SHIPPED_RESULTS)
    elif args.policy in POLICY_NAMES:
        raise InputError(f"the policy {args.policy} has no file; give muzero or a policy file")
    elif not Path(args.policy).is_file():
        raise InputError(f"policy file {args.policy} does not exist; give muzero or a policy file")
    elif is_plan_model(args.policy):
        return _print_plan(Path(args.policy), args.format)
    else:
        card = read_card(args.policy)
    if args.format == "json":
        print(json.dumps({"type": "policy", **card.as_dict()}))
    else:
        print(card.markdown(), end="")
    return 0


def _doubted(model: PlanModel) -> str:
    if model.least is None:
        return "plans are never doubted"
    least = ", ".join(
        f"{octaves:+.2f} at speed {speed}"
        for speed, octaves in zip(model.least.speeds, model.least.octaves, strict=True)
    )
    return (
        "an encode that gains less over its probe encode is made again without its plan; in "
        f"octaves of rate: {least}"
    )


def _print_plan(path: Path, form: str) -> int:
    from muzero_rc.agents.world_model.plan_model import PlanModel
    from muzero_rc.types import FrameRole

    model = PlanModel.load(path)
    about, settings = dict(model.meta), asdict(model.settings)
    if form == "json":
        print(json.dumps({"type": "plan model", "about": about, "settings": settings}))
        return 0
    held_out = about.get("held_out", {})
    lines = [
        "# A model that plans",
        "",
        "The linear response model: `planned` plans all steps of the last pass with it, `const` "
        "takes its mean steps alone. No network and no search.",
        "",
        f"- fitted on {about.get('encodes')} encodes, {about.get('studies')} studies of "
        f"{about.get('sources')} sources",
        f"- of sources held out: R2 of gains {held_out.get('gain_r2', math.nan):.2f}, correlation "
        f"within clips {held_out.get('within_clip', math.nan):.2f}",
        f"- plans: step strength {model.settings.step_strength:g}, at most "
        f"{model.settings.limit} qindexes, slope {model.slope:.2f} dB per octave",
        f"- {_doubted(model)}",
        "- mean steps in qindexes, coded frames:",
        "",
        "| speed | " + " | ".join(role.name.lower().replace("_", " ") for role in FrameRole) + " |",
        "|---" * (len(FrameRole) + 1) + "|",
    ]
    for speed, steps in zip(model.means.speeds, model.means.steps, strict=True):
        shown = " | ".join(f"{step:+.1f}" for step in steps[: len(FrameRole)])
        lines.append(f"| {speed} | {shown} |")
    lines += ["", "made by the encoder " + "; ".join(about.get("identities", ["not known"]))]
    print("\n".join(lines))
    return 0
