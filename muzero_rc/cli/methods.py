"""From the words of a command line to the methods of an evaluation."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from muzero_rc.errors import InputError

if TYPE_CHECKING:
    from muzero_rc.evaluation.grid.encoder import Method

__all__ = ["Spec", "methods_of", "split_spec"]

_NOISE_JITTER = 0.01
_SHORT = {"lag": "lag_in_frames"}
_TRUTH = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}


class Spec(NamedTuple):
    """What `policy@setting=value,...` says.

    Attributes:
      policy: a policy's name or file.
      simulations: of a learned policy's search; 0 for none.
      changes: encoder settings by the names that results.json has for them.
    """

    policy: str
    simulations: int
    changes: dict[str, Any]


def methods_of(
    policies: Sequence[str],
    *,
    noise: bool = False,
    speeds: Sequence[int] = (),
    external: Sequence[str] = (),
) -> tuple[Method, ...]:
    """The anchor, the control, then the policies, each once and under its own name.

    Args:
      policies: names or files, with or without changes, see `split_spec`.
      noise: also the anchor against itself, an A/A run.
      speeds: all but A/A run and external encoders at these speeds, too.
      external: other encoders, `NAME:COMMAND`.

    Raises:
      InputError: there is no such policy, setting or command.
    """
    from muzero_rc.evaluation.grid.encoder import Method
    from muzero_rc.evaluation.grid.external import external_method
    from muzero_rc.evaluation.measure.summary import ANCHOR, CONTROL, NOISE

    specs = list(dict.fromkeys((ANCHOR, CONTROL, *policies)))
    split = [split_spec(spec) for spec in specs]
    stems = [_stem(found.policy, spec) for found, spec in zip(split, specs, strict=True)]
    methods = [
        Method(
            name=stem if stems.count(stem) == 1 else spec,
            spec=found.policy,
            fingerprint=fingerprint(found.policy, found.simulations),
            changes=found.changes,
            simulations=found.simulations,
        )
        for stem, spec, found in zip(stems, specs, split, strict=True)
    ]
    for speed in dict.fromkeys(speeds):
        methods += [
            dataclasses.replace(
                method,
                name=f"{method.name}{',' if '@' in method.name else '@'}speed={speed}",
                changes={**method.changes, "speed": speed},
            )
            for method in methods[: len(specs)]
            if "speed" not in method.changes
        ]
    if noise:
        methods.insert(2, Method(NOISE, ANCHOR, fingerprint(ANCHOR), jitter=_NOISE_JITTER))
    methods += [external_method(text) for text in external]
    return tuple(methods)


def split_spec(spec: str) -> Spec:
    """Takes `policy@setting=value,...` apart.

    Args:
      spec: a policy's name or file; after an @ encoder settings by the names that
        results.json has for them, and for a learned policy `simulations`.

    Raises:
      InputError: there is no such setting, or it cannot have that value.
    """
    from muzero_rc.env.control.settings import EncoderSettings

    base, at, tail = spec.rpartition("@")
    if not at or "=" not in tail or Path(spec).is_file():
        return Spec(spec, 0, {})
    simulations = 0
    usual = EncoderSettings(target_kbps=1).as_dict()
    changes: dict[str, Any] = {}
    for part in tail.split(","):
        name, _, text = (word.strip() for word in part.partition("="))
        written, name = name, _SHORT.get(name, name).replace("-", "_")
        if name == "simulations":
            simulations = _value(name, text, simulations, spec)
            if simulations < 0:
                raise InputError(f"simulations in {spec!r} must be 0 or more")
        elif name not in usual or name == "target_kbps":
            known = ", ".join(sorted({*usual} - {"target_kbps"}))
            raise InputError(
                f"unknown setting {name!r} in {spec!r}; known are simulations, {known}"
            )
        else:
            changes[name] = _value(name, text, usual[name], spec)
            _check(name, written, changes, spec)
    return Spec(base, simulations, changes)


def _check(name: str, written: str, changes: dict[str, Any], spec: str) -> None:
    from muzero_rc.env.control.settings import EncoderSettings

    try:
        EncoderSettings(target_kbps=1).replace(**changes)
    except InputError as error:
        told = str(error).removeprefix(name).strip()
        raise InputError(f"{written} in {spec!r} {told}") from None


def _value(name: str, text: str, usual: Any, spec: str) -> Any:
    if isinstance(usual, str):
        return text
    try:
        if usual is None:  # a budget
            return float(text)
        return _TRUTH[text.lower()] if isinstance(usual, bool) else int(text)
    except (KeyError, ValueError):
        kind = "on or off" if isinstance(usual, bool) else "a whole number"
        kind = "a number" if usual is None else kind
        raise InputError(f"{name} in {spec!r} takes {kind}, not {text!r}") from None


def _stem(base: str, spec: str) -> str:
    """A file goes by its stem, with its changes."""
    from muzero_rc.policies.registry import plan_file_of

    if _is_name(base):
        return spec
    file = plan_file_of(base) or Path(base)
    return f"{file.stem}{spec[len(str(file)) :]}"


def _is_name(spec: str) -> bool:
    from muzero_rc.policies.registry import POLICY_NAMES, policy_package

    return spec.partition(":")[0] in POLICY_NAMES or bool(policy_package(spec))


def fingerprint(spec: str, simulations: int = 0) -> str:
    """What decides a policy's answers beside our code: its name, or content of package or file."""
    from muzero_rc.policies.registry import (
        make_policy,
        package_digest,
        plan_file_of,
        policy_package,
    )
    from muzero_rc.policies.shipped import SHIPPED_FILES, shipped_policy_path

    searched = f" {simulations} simulations" if simulations else ""
    if package := policy_package(spec):
        return f"{spec} of {package} files {package_digest(spec)}{searched}"
    name = spec.partition(":")[0]
    if _is_name(spec) and name not in SHIPPED_FILES:
        return spec
    constant = plan_file_of(spec)
    path = shipped_policy_path(name) if name in SHIPPED_FILES else constant or Path(spec)
    try:
        content = path.read_bytes()
    except OSError:
        make_policy(spec)  # knows best what to say of a bad name or file
        raise InputError(f"policy file {path} cannot be read") from None
    # Several policies go by one file.
    as_what = f" as {spec}" if name in SHIPPED_FILES else " as const" if constant else ""
    return f"{hashlib.sha256(content).hexdigest()}{as_what}{searched}"
