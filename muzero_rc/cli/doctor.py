"""`muzero-rc doctor`: what is installed, and what is missing."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from muzero_rc.errors import MuzeroRcError

__all__ = ["DoctorArgs", "Finding", "examine", "policy_record", "run"]

_PACKAGES = (
    "numpy", "scipy", "jax", "jaxlib", "dm-haiku", "optax", "mctx", "gymnasium",
    "ffmpeg-python", "jinja2", "matplotlib", "plotly", "tyro", "rich", "tensorboardX",
)  # fmt: skip
_LONGEST_FACT = 40  # characters of a value in the training record
_ENCODERS = ("libopus",)


@dataclass(frozen=True)
class DoctorArgs:
    """Show versions of everything found, and what is missing (exit status 1)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked for.

    Attributes:
      name: what.
      text: version found, or what to do about it.
      ok: it is there and works.
      required: without it something does not work.
    """

    name: str
    text: str
    ok: bool = True
    required: bool = True


def run(args: DoctorArgs) -> int:
    """Prints all findings; 1 if something required is missing."""
    findings = examine()
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        mark = "ok" if finding.ok else "MISSING" if finding.required else "-"
        print(f"{finding.name:{width}}  {mark:7}  {finding.text}")
    missing = [finding.name for finding in findings if finding.required and not finding.ok]
    if missing:
        print(f"muzero-rc: error: missing: {', '.join(missing)}", file=sys.stderr)
    return 1 if missing else 0


def examine() -> list[Finding]:
    """Everything the package needs, each looked for on its own."""
    from muzero_rc import __version__

    return [
        Finding("muzero-rc", __version__),
        Finding("Python", f"{platform.python_version()} on {platform.platform()}"),
        _encoder(),
        *(_tool(name) for name in ("ffmpeg", "ffprobe")),
        *(_ffmpeg_encoder(name) for name in _ENCODERS),
        _measuring(),
        *(_package(name) for name in _PACKAGES),
        _package("scikit-video", required=False, hint="only for muzero-rc demo: pip install it"),
        *(
            _package(name, required=False, hint="only for muzero-rc corpus build: pip install it")
            for name in ("scenedetect-headless", "imagehash")
        ),
        _ffmpeg_encoder("libx264", required=False),
        _devices(),
        _shipped_policy(),
    ]


def _encoder() -> Finding:
    try:
        from muzero_rc.env.codec import _native
    except ImportError as error:
        return Finding("libvpx", f"encoder extension not built ({error}): run make setup", False)
    return Finding("libvpx", str(_native.build_id()))


def _tool(name: str) -> Finding:
    from muzero_rc.video import find_tool

    try:
        path = find_tool(name)
    except MuzeroRcError as error:
        return Finding(name, str(error), False)
    words = _output(path, "-version").partition("\n")[0].split()
    # "ffmpeg version 5.1.9-0+deb12u1 Copyright (c) ..."
    if len(words) < 3 or words[1] != "version":
        return Finding(name, f"{path} does not tell its version; install it anew", False)
    return Finding(name, f"{words[2]} ({path})")


def _measuring() -> Finding:
    """What measures VMAF; not needed by anything else."""
    from muzero_rc.video import measuring_program, program_version

    try:
        program = measuring_program(["vmaf"])
    except MuzeroRcError as error:
        return Finding("libvmaf", str(error), False, required=False)
    return Finding("libvmaf", f"in ffmpeg {program_version(program)} ({program})")


def _ffmpeg_encoder(name: str, *, required: bool = True) -> Finding:
    from muzero_rc.video import find_tool

    try:
        listing = _output(find_tool("ffmpeg"), "-hide_banner", "-encoders")
    except MuzeroRcError:
        listing = ""
    found = any(name in line.split()[1:2] for line in listing.splitlines())
    text = "in ffmpeg" if found else "not in ffmpeg: install an ffmpeg that has it"
    return Finding(name, text, found, required)


def _output(*command: str) -> str:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _package(name: str, *, required: bool = True, hint: str = "run make setup") -> Finding:
    try:
        return Finding(name, importlib.metadata.version(name), True, required)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, f"not installed; {hint}", False, required)


def _devices() -> Finding:
    try:
        import jax

        devices = [
            f"{device.platform}:{device.id} {device.device_kind}" for device in jax.devices()
        ]
    except (ImportError, RuntimeError) as error:
        return Finding("jax devices", f"none: {' '.join(str(error).split())}", False)
    return Finding("jax devices", ", ".join(devices))


def _shipped_policy() -> Finding:
    from muzero_rc.policies.registry import make_policy

    try:
        policy = make_policy("muzero")
    except (MuzeroRcError, ImportError) as error:
        return Finding("policy muzero", str(error), False)
    return Finding("policy muzero", policy_record(getattr(policy, "meta", {})))


def policy_record(meta: Mapping[str, Any]) -> str:
    """A policy file's metadata in one line: environment, and how it was trained."""
    training = meta.get("training", {})
    facts = [f"{key} {value}" for key, value in training.items() if _is_short(value)]
    return ", ".join([f"for {meta.get('env_id', 'an unknown environment')}", *facts])


def _is_short(value: object) -> bool:
    return isinstance(value, int | float | str) and len(str(value)) <= _LONGEST_FACT
