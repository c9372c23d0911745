"""Chunks of a film that are finished, kept beside the output until the file is done.

A hidden folder `.OUT.IDENTITY.muzero-rc` has for each chunk its probe encode, and its stream
with a record of it, once for each time that it was made. Everything is written under another
name, flushed and renamed, the record last, so that what is there is whole. Whoever starts the
same encode again finds the folder by its name and goes on. Logs and what is told of encodes end
with a hash of themselves: what the disk has damaged counts as not there. Beside the chunks lie
hashes of the film's frames, as far as they were read. They alone have none and are not flushed:
wrong ones cost time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import shutil
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from muzero_rc.encode.level import Level
from muzero_rc.env.codec.parts import HASH_BYTES
from muzero_rc.errors import OutputError
from muzero_rc.folder_lock import FolderLock
from muzero_rc.log_columns import BytesPool, columns_of_frames, head_of_log, log_of_columns
from muzero_rc.output_files import WORKING_ENDING, working_start
from muzero_rc.types import EncodeLog, FrameRecord

__all__ = ["IDENTITY_DIGITS", "ChunkFiles", "ChunkRecord", "ChunkStore", "remove_left"]

IDENTITY_DIGITS = 16
"""Hexadecimal, of the hash in a folder's name."""

_NEW = ".new"
_TRIES = "tries.json"
_FRAMES = "frames.xxh64"
_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """A finished chunk, beside its stream.

    Attributes:
      log: results of all frames, without decisions and partitions.
      asked: bits that it was to take.
      decision_seconds: wall time of observing and deciding.
      controlled: the policy left no quantizer to libvpx.
      work: seconds of counted work, that of the first probe encode left out; 0 without a budget
        of time.
      level: of the constant quality that it was encoded with; None with another control.
    """

    log: EncodeLog
    asked: float
    decision_seconds: float
    controlled: bool = True
    work: float = 0.0
    level: Level | None = None

    @property
    def bits(self) -> int:
        """Of its packets."""
        return 8 * self.log.size_bytes


@dataclass(frozen=True, slots=True)
class ChunkFiles:
    """The files of chunks in a folder; picklable, for workers.

    Attributes:
      folder: where they are.
    """

    folder: Path

    def probe(self, index: int, plan: int = 0) -> EncodeLog | None:
        """The probe encode of a chunk, if there is one; how often it was planned before."""
        found = self._read(_probe_name(index, plan))
        return None if found is None else found[0]

    def add_probe(self, index: int, log: EncodeLog, plan: int = 0) -> None:
        """Keeps the probe encode of a chunk."""
        self._write(_probe_name(index, plan), log, {})

    def best_probe(self, index: int, plan: int = 0) -> EncodeLog | None:
        """The probe encode that a last pass of the chunk went by, where it was another one."""
        found = self._read(_probe_name(index, plan, "best"))
        return None if found is None else found[0]

    def add_best_probe(self, index: int, log: EncodeLog, plan: int = 0) -> None:
        """Keeps the probe encode that a last pass goes by; the latest one stays."""
        self._write(_probe_name(index, plan, "best"), log, {})

    def realtime_probe(self, index: int, plan: int = 0) -> dict[str, Any] | None:
        """What an encode in real time told of a chunk, if there was one."""
        found = self._read_bytes(_realtime_name(index, plan))
        return None if found is None else dict(json.loads(found))

    def add_realtime_probe(self, index: int, told: Mapping[str, Any], plan: int = 0) -> None:
        """Keeps what such an encode told of a chunk."""
        self._write_bytes(_realtime_name(index, plan), json.dumps(dict(told)).encode())

    def stream(self, index: int, turn: int) -> Path:
        """The file of a chunk's stream.

        Args:
          index: of the chunk.
          turn: how often it was made before.
        """
        return self.folder / f"{index:05}.{turn}.ivf"

    def record(self, index: int, turn: int) -> ChunkRecord | None:
        """A finished chunk; None if it is not there, not whole, or not what was written."""
        found = self._read(f"{index:05}.{turn}.npz")
        if found is None:
            return None
        log, head = found
        with contextlib.suppress(OSError, KeyError):
            if _sha256(self.stream(index, turn)) == head["sha256"]:
                level = head["level"]
                return ChunkRecord(
                    log, head["asked"], head["decision_seconds"], head["controlled"],
                    head["work"], None if level is None else Level.of(level),
                )  # fmt: skip
        return None

    def tries(self) -> list[dict[str, Any]]:
        """What is written down of encodes of the whole film at other bitrates."""
        found = self._read_bytes(_TRIES)
        return [] if found is None else list(json.loads(found))

    def add_try(self, turn: int, tries: Sequence[Mapping[str, Any]]) -> None:
        """Writes tries down and removes the streams of chunks made before a turn."""
        self._write_bytes(_TRIES, json.dumps(list(tries)).encode())
        for path in self.folder.glob("*.ivf"):
            if int(path.name.split(".")[1]) < turn:
                path.with_suffix(".npz").unlink(missing_ok=True)
                path.unlink(missing_ok=True)

    def frame_hashes(self) -> bytes:
        """Hashes of the film's frames from the first on, `env.codec.parts.HASH_BYTES` of each."""
        with contextlib.suppress(OSError):
            found = (self.folder / _FRAMES).read_bytes()
            return found[: len(found) // HASH_BYTES * HASH_BYTES]  # a kill may cut one
        return b""

    def set_frame_hashes(self, hashes: bytes, same: int) -> None:
        """Keeps hashes of frames.

        Args:
          hashes: of all frames that are known.
          same: bytes of them that are there.
        """
        path = self.folder / _FRAMES
        with path.open("r+b" if path.exists() else "wb") as file:
            file.seek(same)
            file.write(hashes[same:])
            file.truncate()

    def remove_lone_hashes(self) -> None:
        """Removes what is of no use where nothing else was kept."""
        if [path.name for path in self.folder.iterdir()] == [_FRAMES]:
            (self.folder / _FRAMES).unlink()

    def finished(self) -> int:
        """Chunks that are there."""
        return len({path.name[:5] for path in self.folder.glob("*.ivf")})

    @contextlib.contextmanager
    def new_stream(self, index: int, turn: int) -> Iterator[Path]:
        """A file to write a chunk's stream to; it becomes `stream` if the body succeeds."""
        path = self.stream(index, turn)
        new = path.with_name(path.name + _NEW)
        yield new
        _flush(new)
        os.replace(new, path)

    def add(self, index: int, turn: int, record: ChunkRecord) -> None:
        """Keeps a finished chunk, whose stream is there."""
        bare = [
            FrameRecord(info, None, dataclasses.replace(result, partition=b""))
            for info, _, result in record.log.frames
        ]
        head = {
            "asked": record.asked,
            "decision_seconds": record.decision_seconds,
            "controlled": record.controlled,
            "work": record.work,
            "level": record.level,
            "sha256": _sha256(self.stream(index, turn)),
        }
        log = dataclasses.replace(record.log, frames=bare)
        self._write(f"{index:05}.{turn}.npz", log, head)

    def _write(self, name: str, log: EncodeLog, head: Mapping[str, Any]) -> None:
        pool = BytesPool()
        columns = columns_of_frames(log.frames, pool)
        columns |= {f"pool_{key}": array for key, array in pool.arrays().items()}
        text = json.dumps(dict(head) | {"log": head_of_log(log)})
        arrays: dict[str, Any] = {"head": np.array(text), **columns}
        data = io.BytesIO()
        np.savez_compressed(data, **arrays)
        self._write_bytes(name, data.getvalue())

    def _read(self, name: str) -> tuple[EncodeLog, dict[str, Any]] | None:
        """A log and what was kept with it; None if it is not there or damaged."""
        found = self._read_bytes(name)
        if found is None:
            return None
        with np.load(io.BytesIO(found)) as file:
            arrays = dict(file)
        head = json.loads(str(arrays.pop("head")))
        pool = {k.removeprefix("pool_"): arrays.pop(k) for k in ("pool_bytes", "pool_sizes")}
        return log_of_columns(arrays, head["log"], BytesPool.of_arrays(pool)), head

    def _write_bytes(self, name: str, data: bytes) -> None:
        """Writes a file that ends with its own hash."""
        new = self.folder / (name + _NEW)
        new.write_bytes(data + hashlib.sha256(data).digest())
        _flush(new)
        os.replace(new, self.folder / name)

    def _read_bytes(self, name: str) -> bytes | None:
        """What `_write_bytes` was given; None if it is not there or damaged.

        A format's own reader does not tell all damage: JSON with another digit is JSON.
        """
        try:
            found = (self.folder / name).read_bytes()
        except OSError:
            return None
        data, digest = found[:-_DIGEST_BYTES], found[-_DIGEST_BYTES:]
        return data if hashlib.sha256(data).digest() == digest else None


class ChunkStore:
    """The folder of one film's chunks. A context manager that holds its lock.

    Attributes:
      folder: where it is.
      files: what is in it.
      kept: whether a later start may go on from it.
    """

    def __init__(self, out: Path, identity: str, *, keep: bool = True) -> None:
        """Names the folder; `with` makes it.

        Args:
          out: the output file.
          identity: hash of all that decides the chunks' bytes, `IDENTITY_DIGITS` of it.
          keep: leave the folder if the encode does not come to its end.
        """
        self.folder = out.with_name(f"{working_start(out)}{identity}{WORKING_ENDING}")
        self.files = ChunkFiles(self.folder)
        self.kept = keep
        self._lock: FolderLock | None = None

    def __enter__(self) -> ChunkStore:
        """Makes the folder, or takes up the one that is there.

        Raises:
          OutputError: another process encodes the same, or the folder cannot be made or read.
        """
        try:
            self._lock = FolderLock.make(self.folder)
            if self._lock is not None:
                for path in self.folder.glob(f"*{_NEW}"):
                    path.unlink(missing_ok=True)
        except (PermissionError, NotADirectoryError) as error:  # of a full disk others tell
            raise OutputError(
                f"cannot work in {self.folder}: {error.strerror}; remove it or write elsewhere"
            ) from None
        if self._lock is None:
            raise OutputError(f"the same encode is running: {self.folder} is in use; wait for it")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        """Gives the folder back; it goes if nobody is to find it, or nothing is in it.

        Whatever ended the encode, during the mux too, gets a note of what is kept.
        """
        if error is not None and self.kept and (finished := self.files.finished()):
            error.add_note(f"{finished} finished chunks are kept; the same command goes on")
        if not self.kept:
            shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # something is in it, or it is gone
            self.files.remove_lone_hashes()
            self.folder.rmdir()
        if self._lock is not None:
            self._lock.release()

    def clear(self) -> None:
        """Throws away what an earlier start has finished."""
        for path in self.folder.iterdir():
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Nobody goes on from it: the folder is removed when the encode ends."""
        self.kept = False


def remove_left(out: Path) -> None:
    """The file is done: removes what encodes with other settings had left for it.

    A clip that is not cut has no folder of its own, and removes them likewise. A folder that
    an encode is at work in stays; that is said of its own too, whose lock is held.

    Args:
      out: the output file.
    """
    prefix = working_start(out)
    entries: list[Path] = []
    with contextlib.suppress(OSError):
        entries += out.parent.iterdir()
    for folder in entries:
        identity = folder.name.removeprefix(prefix).removesuffix(WORKING_ENDING)
        # Nothing of another output, whose name begins alike, nor of another purpose.
        ours = folder.name == f"{prefix}{identity}{WORKING_ENDING}" and _is_identity(identity)
        # The file is there: what cannot be removed is no reason to fail.
        with contextlib.suppress(OSError):
            lock = FolderLock.take(folder) if ours and not folder.is_symlink() else None
            if lock is not None:
                with lock:
                    if lock.exclusive:
                        shutil.rmtree(folder, ignore_errors=True)


def _probe_name(index: int, plan: int, which: str = "") -> str:
    return f"{index:05}.{which}probe{plan or ''}.npz"


def _realtime_name(index: int, plan: int) -> str:
    return f"{index:05}.rt{plan or ''}.json"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Brings a file to the disk: after a power cut a name must not stand for nothing."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _is_identity(text: str) -> bool:
    return len(text) == IDENTITY_DIGITS and set(text) <= set(string.hexdigits.lower())
