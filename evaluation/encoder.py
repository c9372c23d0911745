"""What the runner asks of an encoder, and how an encode is identified."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from muzero_rc.corpus import find_videos
from muzero_rc.env.settings import EncoderSettings
from muzero_rc.evaluation.results import EncodeRecord

__all__ = [
    "ClipEncoder",
    "ClipInfo",
    "ClipSource",
    "Method",
    "encode_key",
    "find_sources",
]


@dataclass(frozen=True, slots=True)
class ClipSource:
    """A clip to evaluate on.

    Attributes:
      path: the video file.
      name: unique name in the evaluation.
      height: scaled down to this height, None for its own.
      max_frames: first frames that are used, None for all.
    """

    path: Path
    name: str
    height: int | None = None
    max_frames: int | None = None


@dataclass(frozen=True, slots=True)
class ClipInfo:
    """A clip as it was decoded.

    Attributes:
      name: as in its `ClipSource`.
      path: of the file.
      sha256: of frames, size and frame rate.
      width: in pixels.
      height: in pixels.
      fps: frames per second as a fraction, such as `30000/1001`.
      frames: number of frames.
      duration_s: seconds.
    """

    name: str
    path: str
    sha256: str
    width: int
    height: int
    fps: str
    frames: int
    duration_s: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Method:
    """A way to encode that stands in the table.

    Attributes:
      name: in the table.
      spec: what the policy factory is asked for: a policy's name or file.
      fingerprint: hash or version of all that decides its answers; encodes are reused
        only under the same fingerprint.
    """

    name: str
    spec: str
    fingerprint: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


class ClipEncoder(Protocol):
    """Encodes clips; lives in a worker process, so it must be picklable.

    An implementation keeps the last clip it opened: calls come in the order of clips.
    """

    def open(self, source: ClipSource) -> ClipInfo:
        """Decodes a clip."""
        ...

    def encode(
        self,
        source: ClipSource,
        method: Method,
        settings: EncoderSettings,
        key: str,
        *,
        stream: Path | None = None,
    ) -> EncodeRecord:
        """Encodes a clip at `settings.target_kbps`; the record carries `key`.

        Leaves the encoded video at `stream` as a WebM file, if that is given.
        """
        ...


def encode_key(info: ClipInfo, method: Method, settings: EncoderSettings, build: str) -> str:
    """Hash of everything that determines an encode: its name in the store.

    The clip's content, the method's fingerprint, all settings and the library's build
    count; names and paths do not.
    """
    parts = {
        "clip": info.sha256,
        "method": method.fingerprint,
        "settings": settings.as_dict(),
        "build": build,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]


def find_sources(
    paths: Sequence[Path], *, height: int | None = None, max_frames: int | None = None
) -> list[ClipSource]:
    """Clips named outright and the videos in folders, sub-folders included; each once.

    Names are file stems, preceded by as many folders as it takes to tell them apart.

    Raises:
      InputError: a path does not exist, or no video was found.
    """
    files = list({path.resolve(): path for path in find_videos(paths)}.values())
    return [
        ClipSource(path, name, height, max_frames)
        for path, name in zip(files, _unique_names([p.resolve() for p in files]), strict=True)
    ]


def _unique_names(files: list[Path]) -> list[str]:
    """Shortest unique endings of paths, without suffix where that suffices."""
    depth = [1] * len(files)
    while True:
        names = [_name(p, d) for p, d in zip(files, depth, strict=True)]
        clashes = {n for n in names if names.count(n) > 1}
        if not clashes:
            return names
        depth = [d + (n in clashes) for d, n in zip(depth, names, strict=True)]


def _name(path: Path, depth: int) -> str:
    """Depth 1: `clip`; 2: `clip.mp4`; 3: `folder/clip.mp4`; and so on."""
    if depth == 1:
        return path.stem
    return "/".join(path.parts[-(depth - 1) :])
