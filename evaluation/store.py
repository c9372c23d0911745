"""Finished encodes on disk, one file each, so that an interrupted run goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from muzero_rc.errors import InputError
from muzero_rc.evaluation.results import EncodeRecord, read_json, write_atomically

__all__ = ["EncodeStore"]


@dataclass(frozen=True, slots=True)
class EncodeStore:
    """Encodes by key in a folder; safe for several processes at a time.

    Attributes:
      folder: where the files `<key>.json` lie; made at the first `put`.
    """

    folder: Path

    def path(self, key: str) -> Path:
        """Where the encode of a key lies."""
        return self.folder / f"{key}.json"

    def get(self, key: str) -> EncodeRecord | None:
        """The encode of a key; None if there is none or its file is damaged."""
        path = self.path(key)
        if not path.is_file():
            return None
        try:
            record = EncodeRecord.from_dict(read_json(path), str(path))
        except InputError:
            # A machine that lost power may leave a damaged file: encoding again mends it.
            return None
        return record if record.key == key else None

    def put(self, record: EncodeRecord) -> None:
        """Keeps an encode under its key.

        Raises:
          OutputError: the folder cannot be written.
        """
        write_atomically(self.path(record.key), json.dumps(asdict(record), allow_nan=False))
