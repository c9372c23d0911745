"""What a result came from: the command, and the versions of what took part."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
import subprocess
import typing
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import tyro

from muzero_rc.output_files import as_word

__all__ = ["command_line", "environment"]

_PACKAGES = ("numpy", "jax", "jaxlib", "dm-haiku")
_CPU_INFO = Path("/proc/cpuinfo")


def command_line(command: str, arguments: Any) -> str:
    """The shortest command with which one gets these arguments, quoted for a shell.

    Args:
      command: name of the command.
      arguments: the dataclass it was parsed into.
    """
    words = ["muzero-rc", command]
    hints = typing.get_type_hints(type(arguments), include_extras=True)
    for entry in fields(arguments):
        value = getattr(arguments, entry.name)
        default = entry.default_factory() if entry.default_factory is not MISSING else entry.default
        if value == default or entry.name == "quiet":
            continue
        option = f"--{entry.name.replace('_', '-')}"
        if entry.default is MISSING and isinstance(value, tuple):
            words += map(_word, value)  # positional
        elif value is True:
            words.append(option)
        elif not isinstance(value, tuple):
            words += [option, _word(value)]
        elif tyro.conf.UseAppendAction in getattr(hints[entry.name], "__metadata__", ()):
            words += [word for one in value for word in (option, _word(one))]
        else:
            # Given again, such an option would forget what it had.
            words += [option, *map(_word, value)]
    return shlex.join(words)


def _word(value: object) -> str:
    return as_word(value) if isinstance(value, Path) else str(value)


def environment() -> dict[str, str]:
    """Versions of what takes part in an encode, and the machine's processor."""
    versions = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "ffmpeg": _ffmpeg(),
    }
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _processor() -> str:
    """The model's name; the architecture where the system does not tell."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.machine()


def _ffmpeg() -> str:
    from muzero_rc.video import find_tool

    try:
        text = subprocess.run(
            [find_tool("ffmpeg"), "-version"], capture_output=True, text=True, timeout=20
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    # "ffmpeg version 5.1.9-0+deb12u1 Copyright (c) ..."
    words = text.partition("\n")[0].split()
    return words[2] if len(words) > 2 else "unknown"
