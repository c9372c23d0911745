"""`muzero-rc policy`: a policy file's card."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from muzero_rc.errors import InputError

__all__ = ["PolicyArgs", "run"]

# Seen from the folder of the committed card.
_SHIPPED_RESULTS = (
    "[docs/results.md](../../docs/results.md) has what the shipped policy achieves against "
    "two-pass VBR and the control, with the commands that measured it; "
    "[docs/notes](../../docs/notes/README.md) has out-of-distribution clips, and what is not "
    "reached."
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
    from muzero_rc.model_card import read_card
    from muzero_rc.policies.registry import POLICY_NAMES, shipped_policy_path

    if args.policy == "muzero":
        card = read_card(shipped_policy_path(), _SHIPPED_RESULTS)
    elif args.policy in POLICY_NAMES:
        raise InputError(f"the policy {args.policy} has no file; give muzero or a policy file")
    elif not Path(args.policy).is_file():
        raise InputError(f"policy file {args.policy} does not exist; give muzero or a policy file")
    else:
        card = read_card(args.policy)
    if args.format == "json":
        print(json.dumps({"type": "policy", **card.as_dict()}))
    else:
        print(card.markdown(), end="")
    return 0
