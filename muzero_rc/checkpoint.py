"""Arrays and metadata in one file: numpy's npz without pickle, plus JSON.

A file holds a nested dict of arrays and a JSON object. Reading one executes no code,
whoever wrote it. Writing is atomic: a reader sees the old file or the new one, never
half of one, also after kill -9.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, TypeAlias, Union

import numpy as np
import numpy.typing as npt

from muzero_rc.errors import CheckpointError, OutputError
from muzero_rc.output_files import replacing

__all__ = ["FILE_FORMAT", "FILE_VERSION", "ArrayTree", "read_arrays", "read_meta", "write_arrays"]

ArrayTree: TypeAlias = Mapping[str, Union[npt.ArrayLike, "ArrayTree"]]
"""Nested dict, keys str, leaves arrays of numbers or bools."""

FILE_FORMAT = "muzero_rc-arrays"
"""What a file says that it is."""

FILE_VERSION = 1
"""Version of the container; what is inside carries its own version in `meta`."""

_HEADER = "__header__"
_KINDS = "biufc"  # numpy's letters of what is stored: bools, integers, floats, complex numbers
# Of a foreign file, before memory is taken. The data set of studies, the most compressible file
# that is kept, is 3.7 times as large in memory; deflate could make it 1,032 times.
_MOST_EXPANSION = 100
_ALWAYS_TAKEN_BYTES = 1 << 26
_SEPARATOR = "|"  # haiku's names contain "/", so that cannot separate levels


def write_arrays(
    path: str | os.PathLike[str],
    tree: ArrayTree,
    meta: Mapping[str, Any] | None = None,
    *,
    compressed: bool = False,
) -> None:
    """Writes a nested dict of arrays and a JSON object, atomically.

    The data goes to a temporary name beside `path`, is flushed to the disk and then
    takes the place of `path`.

    Args:
      path: the file; its folder must exist.
      tree: nested dict of arrays (numbers or bools, no objects).
      meta: anything that JSON can hold.
      compressed: whether the arrays are, by zlib.

    Raises:
      OutputError: no permission, no space, no such folder.
      ValueError: a leaf is not an array of numbers, or a key cannot be stored.
    """
    path = Path(path)
    flat = _flatten(tree)
    header = {"format": FILE_FORMAT, "version": FILE_VERSION, "meta": dict(meta or {})}
    text = json.dumps(header, allow_nan=False).encode()
    flat[_HEADER] = np.frombuffer(text, dtype=np.uint8)
    try:
        with replacing(path, ".tmp") as temporary, temporary.open("wb") as file:
            save = np.savez_compressed if compressed else np.savez
            save(file, **flat)  # type: ignore[arg-type]  # keyword arrays
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {path}: {reason}; choose another place") from error


def read_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads what `write_arrays` wrote, checking every array's checksum.

    Args:
      path: the file.

    Returns:
      The nested dict of arrays and the JSON object.

    Raises:
      CheckpointError: the file is missing, unreadable, cut off, damaged or of another
        format or version.
    """
    flat, meta = _read(Path(path), lambda names: names)
    try:
        return _unflatten(flat), meta
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}; restore or rewrite it") from error


def read_meta(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON object alone; of the arrays nothing is read.

    Raises:
      CheckpointError: as `read_arrays`, but damaged arrays are not seen.
    """
    _, meta = _read(Path(path), lambda names: [])
    return meta


def _read(
    path: Path, wanted: Callable[[list[str]], list[str]]
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """The arrays that are wanted of those that are there, by name, and the JSON object."""
    try:
        with path.open("rb") as file:
            members = _members(file)
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile) or _HEADER not in archive.files:
                raise CheckpointError(f"{path} is not a file of this program; give another one")
            names = wanted([name for name in archive.files if name != _HEADER])
            _check_sizes(file, members, [_HEADER, *names])
            header = json.loads(bytes(archive[_HEADER].astype(np.uint8)))
            flat = {name: archive[name] for name in names}
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist; check the name") from error
    except _UnlikelySizeError as error:
        raise CheckpointError(f"{path} {error}; give another file") from error
    except OSError as error:
        reason = error.strerror or "not in numpy's format"
        raise CheckpointError(f"cannot read {path}: {reason}; give another file") from error
    except Exception as error:  # whatever three parsers raise of bytes that others wrote
        raise CheckpointError(
            f"{path} is cut off, damaged or not a file of this program; restore or rewrite it"
        ) from error
    try:
        kind, version, meta = header["format"], header["version"], header["meta"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} has no readable header; give another file") from error
    if kind != FILE_FORMAT or version != FILE_VERSION or not isinstance(meta, dict):
        raise CheckpointError(
            f"{path} is of format {kind!r} version {version!r}, this program reads "
            f"{FILE_FORMAT!r} version {FILE_VERSION}; use the program that wrote it"
        )
    return flat, meta


class _UnlikelySizeError(ValueError):
    """The arrays of a file are too large to be meant."""


def _members(file: IO[bytes]) -> dict[str, zipfile.ZipInfo]:
    """The arrays of a file by name; none if it is no archive. Leaves the file at its start."""
    members = {}
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            members = {entry.filename: entry for entry in archive.infolist()}
    file.seek(0)
    return members


def _check_sizes(file: IO[bytes], members: Mapping[str, zipfile.ZipInfo], names: list[str]) -> None:
    """Reads the headers of some arrays before anything is allocated by what they say.

    Raises:
      ValueError: one is no array of numbers, or is not as long as it says.
      _UnlikelySizeError: together they are far larger than the file.
    """
    total = 0
    with zipfile.ZipFile(file) as archive:
        for name in names:
            entry = members[f"{name}.npy"]
            with archive.open(entry) as member:
                version = np.lib.format.read_magic(member)
                read = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read(member)
                header_bytes = member.tell()
            size = math.prod(shape) * dtype.itemsize
            if dtype.kind not in _KINDS or size != entry.file_size - header_bytes:
                raise ValueError(f"{name} is no array of numbers")
            total += size
    compressed = os.fstat(file.fileno()).st_size
    if total > max(_ALWAYS_TAKEN_BYTES, _MOST_EXPANSION * compressed):
        raise _UnlikelySizeError(
            f"would take {total / 1e6:.0f} MB of memory for {compressed / 1e6:.1f} MB"
        )


def _flatten(tree: ArrayTree, prefix: str = "") -> dict[str, npt.NDArray[Any]]:
    flat: dict[str, npt.NDArray[Any]] = {}
    for key, value in tree.items():
        if not isinstance(key, str) or not key or _SEPARATOR in key or key.startswith("__"):
            raise ValueError(f"key {key!r} cannot be stored: a non-empty string without '|' can")
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(_flatten(value, name + _SEPARATOR))
            continue
        array = np.asarray(value)
        if array.dtype.kind not in _KINDS:
            raise ValueError(f"{name} has dtype {array.dtype}, only numbers and bools are stored")
        flat[name] = array
    return flat


def _unflatten(flat: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, array in flat.items():
        *parents, leaf = name.split(_SEPARATOR)
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ValueError(f"{name} is inside of an array")
        if leaf in node:
            raise ValueError(f"{name} is an array and a table")
        node[leaf] = array
    return tree


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself durable; not every file system offers that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
