"""Files that others read: whole or not there, with the permissions that they had."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from muzero_rc.errors import OutputError

__all__ = [
    "WORKING_ENDING",
    "as_word",
    "as_line",
    "check_output",
    "create_like",
    "output",
    "replacing",
    "shown",
    "take_place",
    "working_start",
    "write_text",
]

WORKING_ENDING = ".muzero-rc"
"""Ends the names of folders that are there only as long as something is made."""

_MOST_OF_NAME = 200  # bytes; file systems end at 255
# Of a long name in the name of a folder, which has a hash and an identity after it; by hand.
_MOST_OF_WORKING_NAME = 180  # bytes


def as_word(path: Path | str) -> str:
    """A path as a word of a command, which no program takes for an option or a URL.

    A lone `-`, stdin or stdout, stays.
    """
    text = os.fspath(path)
    odd = text.startswith("-") or ":" in text.partition("/")[0]
    return f"./{text}" if odd and text != "-" else text


def as_line(path: Path | str) -> str:
    """A name in a message of one line: what would end the line, or move the cursor, is escaped."""
    return "".join(
        char.encode("unicode_escape").decode("ascii")
        if ord(char) < 32 or ord(char) == 127
        else char
        for char in os.fspath(path)
    )


def shown(folder: Path) -> Path:
    """The folder that a user knows: one that is there only for a while is named by its parent."""
    return folder.parent if folder.name.endswith(WORKING_ENDING) else folder


def working_start(out: Path) -> str:
    """How the names of all hidden folders of an output begin, and those of no other output.

    Long names are cut, and may begin alike: a hash of the name tells them apart.
    """
    name = os.fsencode(out.name)
    if len(name) <= _MOST_OF_WORKING_NAME:
        return f".{out.name}."
    digest = hashlib.sha256(name).hexdigest()[:8]
    return f".{os.fsdecode(name[:_MOST_OF_WORKING_NAME])}.{digest}."


@contextlib.contextmanager
def replacing(path: Path, suffix: str = "") -> Iterator[Path]:
    """An empty file beside `path`, which takes its place if the body succeeds, else goes.

    It has the permissions that `path` has, so that what is private stays so, also while it is
    written; a new file has those that the umask says.

    Args:
      path: the file to write; its folder must exist.
      suffix: put at the end of the temporary name, which ends like `path` without one.

    Raises:
      OSError: the folder cannot be written.
    """
    end = os.fsdecode(os.fsencode(path.name)[-_MOST_OF_NAME:])
    temporary = path.with_name(f".{secrets.token_hex(6)}.{end}{suffix}")
    try:
        create_like(temporary, path)
        yield temporary
        take_place(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def output(path: Path, suffix: str = "") -> Iterator[Path]:
    """`replacing` for what a user asked for: makes its folder, and says in a line what failed.

    Raises:
      OutputError: the folder cannot be made or written, or is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, suffix) as temporary:
            yield temporary
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; choose another --out or make room"
        ) from error


def check_output(path: Path) -> None:
    """Says now what `output` would say after the work: asks for room and makes the folder.

    Raises:
      OutputError: it is a folder, or the file cannot be written.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file")
    with contextlib.suppress(_Checked), output(path):
        raise _Checked  # so that nothing takes its place


class _Checked(Exception):
    """A file could be written."""


def write_text(path: Path, text: str) -> None:
    """Writes a text file so that a reader sees the old or the new, also after a power cut.

    Raises:
      OutputError: as `output`.
    """
    with output(path, ".partial") as new, new.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def create_like(new: Path, path: Path) -> None:
    """Creates an empty file with the permissions of `path`, or the umask's if it is not there.

    Its owner may write it, also where `path` is read-only, until `take_place` is called.

    Raises:
      OSError: it cannot be created, or is there.
    """
    mode = _mode(path)
    # Never more than it will be, not even between these two calls.
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 if mode is None else 0o600))
    if mode is not None:
        new.chmod(mode | stat.S_IRUSR | stat.S_IWUSR)


def take_place(new: Path, path: Path) -> None:
    """Renames a file or folder to `path`; one that is there passes on its permissions.

    Raises:
      OSError: it cannot be renamed.
    """
    mode = _mode(path)
    if mode is not None:
        new.chmod(mode)
    os.replace(new, path)


def _mode(path: Path) -> int | None:
    """Permission bits of what is there."""
    try:
        return stat.S_IMODE(path.stat().st_mode) & 0o777
    except FileNotFoundError:
        return None
