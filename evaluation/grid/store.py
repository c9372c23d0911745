"""Finished encodes on disk, one file each, so that an interrupted run goes on."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

from muzero_rc import disk_cache
from muzero_rc.errors import InputError, OutputError
from muzero_rc.evaluation.results import EncodeRecord, read_json
from muzero_rc.output_files import write_text

__all__ = ["SHARED_LIMIT_BYTES", "EncodeStore", "shared_folder"]

SHARED_LIMIT_BYTES = 256 * 2**20
"""Size of the shared encodes above which those used longest ago go: some 50,000 of them."""

_TRIM_EVERY = 16  # puts, on average


def shared_folder() -> Path:
    """Where encodes of all evaluations are kept, in the user's cache."""
    return disk_cache.cache_root() / "encodes"


@dataclass(frozen=True, slots=True)
class EncodeStore:
    """Encodes by key in a folder; safe for several processes at a time.

    Attributes:
      folder: where the files `<key>.json` lie; made at the first `put`. It has no limit.
      shared: a second folder that evaluations share, which is looked into if the first has
        no encode, and kept within a limit; None for none.
      limit_bytes: of the shared folder.
    """

    folder: Path
    shared: Path | None = None
    limit_bytes: int = SHARED_LIMIT_BYTES

    def path(self, key: str) -> Path:
        """Where the encode of a key lies."""
        return self.folder / f"{key}.json"

    def get(self, key: str) -> EncodeRecord | None:
        """The encode of a key; None if there is none or its file is damaged.

        One found in the shared folder is copied to the first.

        Raises:
          OutputError: the folder cannot be written.
        """
        found = _read(self.path(key), key)
        if found is None and self.shared is not None:
            path = self.shared / f"{key}.json"
            found = _read(path, key)
            if found is not None:
                with contextlib.suppress(OSError):
                    os.utime(path)  # used now: goes last
                write_text(self.path(key), _text(found))
        return found

    def put(self, record: EncodeRecord) -> None:
        """Keeps an encode under its key.

        Raises:
          OutputError: the folder cannot be written.
        """
        write_text(self.path(record.key), _text(record))
        if self.shared is None:
            return
        # A cache that cannot be written costs time, not the encode.
        with contextlib.suppress(OutputError, OSError):
            write_text(self.shared / f"{record.key}.json", _text(record))
            if zlib.crc32(record.key.encode()) % _TRIM_EVERY == 0:
                disk_cache.trim(self.shared, self.limit_bytes, [record.key])


def _text(record: EncodeRecord) -> str:
    return json.dumps(asdict(record), allow_nan=False)


def _read(path: Path, key: str) -> EncodeRecord | None:
    if not path.is_file():
        return None
    try:
        record = EncodeRecord.from_dict(read_json(path), str(path))
    except InputError:
        # A machine that lost power may leave a damaged file: encoding again mends it.
        return None
    return record if record.key == key else None
