"""All encodes of a search on disk: what it resumes from, and data for training.

A file of JSON lines. The first says what was encoded, each other one is an encode: the
plan, the score, and the columns of `muzero_rc.log_columns` for its frames. The probe, if one
went ahead, has no plan. A line that was cut off by a kill or
a full disk is left out when the file is read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muzero_rc import disk_cache
from muzero_rc.agents.hindsight import Outcome, Plan, PlanBase
from muzero_rc.env.codec.backend import ClipLike
from muzero_rc.env.control.gop import gops_of_rows
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import InputError, OutputError
from muzero_rc.log_columns import BytesPool, columns_of_frames, head_of_log, log_of_columns
from muzero_rc.types import EncodeLog, EpisodeScore, GopLimits

__all__ = [
    "SEARCHES_LIMIT_BYTES",
    "LoggedEncode",
    "LoggedSearch",
    "SearchHeader",
    "SearchLog",
    "read_log",
    "searches_folder",
]

SEARCHES_LIMIT_BYTES = 512 * 2**20
"""Of all logs in the cache folder."""

_VERSION = 5


def searches_folder() -> Path:
    """Where searches are logged, if nobody says."""
    return disk_cache.cache_root() / "searches"


@dataclass(frozen=True)
class SearchHeader:
    """What a search encodes; outcomes are only reused under an equal one.

    Attributes:
      clip: content hash.
      name: of the clip, for people.
      shape: width, height, fps numerator and denominator.
      frames: of the clip.
      settings: of the encoder.
      build: identity of the encoder library.
      start: digest of the policy whose trajectory is one of the plans; empty without one.
    """

    clip: str
    name: str
    shape: tuple[int, int, int, int]
    frames: int
    settings: EncoderSettings
    build: str
    start: str = ""

    @classmethod
    def of(
        cls, clip: ClipLike, settings: EncoderSettings, build: str, start: str = ""
    ) -> SearchHeader:
        """The header of a clip's search."""
        shape = (clip.width, clip.height, clip.fps.numerator, clip.fps.denominator)
        return cls(clip.sha256, clip.name, shape, clip.num_frames, settings, build, start)

    @property
    def key(self) -> str:
        """Hash of all that decides the outcome of a plan; the name does not."""
        parts = [_VERSION, self.clip, self.settings.as_dict(), self.build, self.start]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "type": "search",
            "version": _VERSION,
            "clip": self.clip,
            "name": self.name,
            "shape": list(self.shape),
            "frames": self.frames,
            "settings": self.settings.as_dict(),
            "build": self.build,
            "start": self.start,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SearchHeader:
        """Reads what `as_dict` gave.

        Raises:
          InputError: it is something else.
        """
        try:
            if values["type"] != "search" or values["version"] != _VERSION:
                raise InputError("not a search of this version")
            width, height, fps_num, fps_den = (int(v) for v in values["shape"])
            return cls(
                str(values["clip"]),
                str(values["name"]),
                (width, height, fps_num, fps_den),
                int(values["frames"]),
                EncoderSettings.from_dict(values["settings"]),
                str(values["build"]),
                str(values["start"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"no header of a search: {error}") from error


@dataclass(frozen=True)
class LoggedEncode:
    """An encode of a search."""

    plan: Plan
    outcome: Outcome


@dataclass(frozen=True)
class LoggedSearch:
    """A search's file.

    Attributes:
      header: what was encoded.
      encodes: in the order in which they were finished.
      slope: price of rate in dB of PSNR avg per octave; None if no search was finished.
      probe: the encode that went ahead of all others; None if there was none.
      gops: limits of its groups of pictures.
    """

    header: SearchHeader
    encodes: list[LoggedEncode]
    slope: float | None
    probe: Outcome | None = None
    gops: tuple[GopLimits, ...] = ()


class SearchLog:
    """Appends a search's encodes to its file.

    Attributes:
      path: the file.
      probe: that the file had when it was opened.
      gops: likewise, limits of the probe's groups of pictures.
    """

    def __init__(self, path: Path, header: SearchHeader) -> None:
        """Opens the file, or starts it.

        Raises:
          InputError: it is there and of another search.
          OutputError: it cannot be read or written.
        """
        self.path = path
        self._known: list[LoggedEncode] = []
        self.probe: Outcome | None = None
        self.gops: tuple[GopLimits, ...] = ()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.stat().st_size:
                found = read_log(path)
                self._known = found.encodes
                self.probe, self.gops = found.probe, found.gops
                if found.header.key != header.key:
                    raise InputError(f"{path} is the log of another search; give another name")
                # What was cut off must not swallow the next line.
                if not path.read_bytes().endswith(b"\n"):
                    self._write("")
            else:
                self._write(json.dumps(header.as_dict()))
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error

    @property
    def known(self) -> dict[str, Outcome]:
        """Outcomes by the identity of their plan, as they were when the file was opened."""
        return {encode.plan.identity: encode.outcome for encode in self._known}

    def add(self, plan: Plan, outcome: Outcome) -> None:
        """Appends an encode.

        Raises:
          OutputError: it cannot be written.
        """
        if plan.base is PlanBase.POLICY:
            # Another policy would have the same plan; its qindexes are what it was.
            plan = Plan.frozen(outcome.frames)
        self._append({"type": "encode", "plan": plan.as_dict(), **_line_of(outcome)})

    def add_probe(self, outcome: Outcome, gops: Sequence[GopLimits]) -> None:
        """Appends the encode that goes ahead of the others, and its groups' limits.

        Raises:
          OutputError: it cannot be written.
        """
        self._append({"type": "probe", **_line_of(outcome), "gops": list(gops)})

    def finish(self, slope: float) -> None:
        """Notes what a search found out of the clip.

        Raises:
          OutputError: it cannot be written.
        """
        self._append({"type": "end", "slope": slope})

    def _append(self, line: dict[str, Any]) -> None:
        try:
            self._write(json.dumps(line, separators=(",", ":")))
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from error

    def _write(self, line: str) -> None:
        # One write: two processes on one file do not mix their lines.
        with self.path.open("ab", buffering=0) as file:
            file.write(line.encode() + b"\n")


def read_log(path: Path) -> LoggedSearch:
    """Reads a search's file, leaving out lines that were cut off.

    Raises:
      InputError: it is missing or something else.
    """
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    try:
        header = SearchHeader.from_dict(json.loads(lines[0]))
    except (IndexError, ValueError) as error:
        raise InputError(f"{path} is no log of a search") from error
    encodes: list[LoggedEncode] = []
    slope = probe = None
    gops: tuple[GopLimits, ...] = ()
    for line in lines[1:]:
        try:
            values = json.loads(line)
            if values["type"] == "end":
                slope = float(values["slope"])
            elif values["type"] == "probe":
                probe = _outcome_of(values)
                gops = gops_of_rows(values["gops"])
            else:
                encodes.append(LoggedEncode(Plan.from_dict(values["plan"]), _outcome_of(values)))
        except (KeyError, TypeError, ValueError, IndexError):
            continue
    return LoggedSearch(header, encodes, slope, probe, gops)


def _line_of(outcome: Outcome) -> dict[str, Any]:
    log, pool = EncodeLog.of_pairs(outcome.frames, 0), BytesPool()
    columns = columns_of_frames(log.frames, pool)
    return {
        "score": dataclasses.asdict(outcome.score),
        "frames": {name: values.tolist() for name, values in columns.items()},
        "head": head_of_log(log),
        "partitions": [packed.hex() for packed in pool.values],
    }


def _outcome_of(values: dict[str, Any]) -> Outcome:
    pool = BytesPool(map(bytes.fromhex, values["partitions"]))
    log = log_of_columns(values["frames"], values["head"], pool)
    return Outcome(EpisodeScore(**values["score"]), tuple(log.pairs))
