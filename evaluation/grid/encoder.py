"""What the runner asks of an encoder, and how an encode is identified."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from muzero_rc.corpus import Corpus, find_videos
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import InputError
from muzero_rc.evaluation.results import EncodeRecord
from muzero_rc.video import check_frames, check_height

__all__ = [
    "EXTERNAL",
    "ClipEncoder",
    "ClipInfo",
    "ClipSource",
    "Method",
    "encode_key",
    "find_sources",
    "jittered",
]

EXTERNAL = "external:"
"""Start of the spec of a method that is another encoder's command line."""

_INDEX_LEVELS = 2
"""An index is looked for in the folder of a clip and in the one above."""


@dataclass(frozen=True, slots=True)
class ClipSource:
    """A clip to evaluate on.

    Attributes:
      path: the video file.
      name: unique name in the evaluation.
      height: scaled down to this height, None for its own.
      max_frames: first frames that are used, None for all.
      source: what it was cut from: clips of one source look alike and are not independent.
    """

    path: Path
    name: str
    height: int | None = None
    max_frames: int | None = None
    source: str = ""


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
      jitter: most that each target is moved up or down before it is asked for, 0.01 is 1 %;
        only A/A runs do that (see `jittered`).
      changes: encoder settings in which it differs from the evaluation's.
      simulations: of a learned policy's search before each decision; 0 for none.
    """

    name: str
    spec: str
    fingerprint: str
    jitter: float = 0.0
    changes: dict[str, Any] = field(default_factory=dict)
    simulations: int = 0

    @property
    def is_external(self) -> bool:
        """Whether another encoder's command line does it."""
        return self.spec.startswith(EXTERNAL)

    def settings(self, common: EncoderSettings) -> EncoderSettings:
        """The evaluation's settings with this method's changes.

        Another encoder's command line does not depend on them: it has the defaults.
        """
        if self.is_external:
            return EncoderSettings(target_kbps=common.target_kbps)
        return common.replace(**self.changes)

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
        metrics: Sequence[str] = (),
        *,
        stream: Path | None = None,
    ) -> EncodeRecord:
        """Encodes a clip at `settings.target_kbps`; the record carries `key`.

        `metrics` are measured beside PSNR, see `results.MEASURED_METRICS`. Leaves the encoded
        video at `stream` as a WebM file, if that is given.
        """
        ...


def encode_key(
    info: ClipInfo,
    method: Method,
    settings: EncoderSettings,
    build: str,
    *,
    metrics: Sequence[str] = (),
    measured_by: str = "",
) -> str:
    """Hash of everything that determines an encode: its name in the store.

    The clip's content, the method's fingerprint, all settings and the library's build
    count, and the metrics beside PSNR with the version of what measures them; names and
    paths do not.
    """
    parts = {
        "clip": info.sha256,
        "method": method.fingerprint,
        "settings": settings.as_dict(),
        "build": build,
    }
    if metrics:
        parts["metrics"] = [*sorted(metrics), measured_by]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]


def jittered(target_kbps: int, jitter: float, clip_sha256: str) -> int:
    """The target of an A/A run: moved by up to `jitter` either way, by 1 kbit/s at least.

    A fixed function of the clip's content and the target, so that a second run finds its
    encodes again.
    """
    if not jitter:
        return target_kbps
    digest = hashlib.sha256(f"{clip_sha256} {target_kbps}".encode()).digest()
    unit = int.from_bytes(digest[:8], "big") / 2**63 - 1.0  # -1..1
    moved = round(target_kbps * (1.0 + jitter * unit))
    if moved == target_kbps:
        moved += 1 if unit > 0 or target_kbps == 1 else -1
    return moved


def find_sources(
    paths: Sequence[Path], *, height: int | None = None, max_frames: int | None = None
) -> list[ClipSource]:
    """Clips named outright and the videos in folders, sub-folders included; each once.

    Names are file stems, preceded by as many folders as it takes to tell them apart. The
    source of a clip is its group in the folder's `index.csv` (see `muzero_rc.corpus`);
    without that the sub-folder it lies in; else the clip is its own source.

    Raises:
      InputError: a path does not exist, an index is bad, no video was found, or no clip can
        have that height or number of frames.
    """
    if height is not None:
        check_height(height)
    check_frames(max_frames)
    files = {path.resolve(): path for path in find_videos(paths)}
    names = _unique_names(list(files))
    folders = [p.resolve() for p in paths if p.is_dir()]
    told = _indexed_sources(list(files), folders)
    return [
        ClipSource(
            path, name, height, max_frames, told.get(real) or _subfolder(real, folders) or name
        )
        for (real, path), name in zip(files.items(), names, strict=True)
    ]


def _indexed_sources(files: Sequence[Path], named: Sequence[Path]) -> dict[Path, str]:
    """Groups of those files that an `index.csv` beside or above them knows."""
    near = {folder for path in files for folder in path.parents[:_INDEX_LEVELS]}
    told: dict[Path, str] = {}
    for folder in sorted(near | set(named)):
        if not (folder / "index.csv").is_file():
            continue
        try:
            clips = Corpus.open(folder).clips
        except InputError:
            if folder in named:
                raise
            continue  # some other table of this name
        # A clip that the index does not know is its own source, under its file's name.
        told |= {c.path.resolve(): c.source for c in clips if c.source != c.path.stem}
    return told


def _subfolder(path: Path, folders: Sequence[Path]) -> str:
    """Name of the sub-folder of a named folder that a file lies in, empty if in none."""
    above = [f for f in folders if f in path.parents]
    if not above or path.parent in above:
        return ""
    return path.parent.relative_to(max(above, key=lambda f: len(f.parts))).as_posix()


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
