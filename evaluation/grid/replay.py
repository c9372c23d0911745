"""Encoding again from what an evaluation recorded, to see the same bytes.

All decisions on every frame are in `results.json`, so an encode is made again without the
policy and the controller that made it, also after a constant of control has changed. Where
libvpx decides itself (`vbr`, `cq`) it decides again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from muzero_rc.compute import Compute, ProcessScheduler, TaskFailure
from muzero_rc.decision_columns import log_settings_of_columns
from muzero_rc.env.codec.backend import Backend, ClipLike, LibvpxBackend
from muzero_rc.env.control.baselines import VbrPolicy
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.env.passes.replay import replay_decisions
from muzero_rc.errors import InputError
from muzero_rc.evaluation.grid.encoder import EXTERNAL, ClipSource, find_sources
from muzero_rc.evaluation.results import EncodeRecord, Results
from muzero_rc.types import Observation, Policy, QindexPolicy

if TYPE_CHECKING:
    from muzero_rc.env.codec.session import EncodedStream

__all__ = ["Replay", "Replayed", "Replayer", "plan_replays", "run_replays"]

_LIBVPX_DECIDES = ("vbr", "cq")


@dataclass(frozen=True, slots=True)
class Replay:
    """Task: one encode again.

    Attributes:
      record: what it gave.
      source: the clip.
      left_to_libvpx: libvpx decides again; else the recorded qindexes are used.
    """

    record: EncodeRecord
    source: ClipSource
    left_to_libvpx: bool


@dataclass(frozen=True, slots=True)
class Replayed:
    """Answer.

    Attributes:
      record: what was recorded.
      sha256: of the stream now; empty if it could not be made.
      problem: what differs, empty if nothing does.
    """

    record: EncodeRecord
    sha256: str
    problem: str


class _RecordedQindexes(QindexPolicy):
    """Qindexes of a record that lacks decisions: the controller proposes all else again."""

    name = "replay"

    def __init__(self, qindexes: Iterable[int]) -> None:
        self._recorded = iter(qindexes)

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        try:
            return np.array([next(self._recorded) for _ in observations], np.int32)
        except (StopIteration, RuntimeError):
            raise InputError("there are more frames to code than were recorded") from None


class Replayer:
    """Encodes again; one per worker process. Keeps the clip it had last."""

    def __init__(self, backend: Backend | None = None) -> None:
        """Takes the encoder; None is libvpx. Picklable."""
        self._backend: Backend = backend or LibvpxBackend()
        self._loaded: tuple[ClipSource, ClipLike] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Workers start empty: clips are not sent."""
        return {"backend": self._backend}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __call__(self, task: Replay) -> Replayed:
        """Encodes and compares.

        Raises:
          InputError: the clip, or what was recorded, cannot be used.
          EncoderError: libvpx failed.
        """
        record = task.record
        if self._loaded is None or self._loaded[0] != task.source:
            self._loaded = None  # two clips may not fit into memory
            source = task.source
            loaded = self._backend.load(
                source.path, height=source.height, max_frames=source.max_frames
            )
            self._loaded = (source, loaded)
        clip = self._loaded[1]
        if clip.sha256 != record.clip_sha256:
            return Replayed(record, "", f"{task.source.path} does not have the recorded frames")
        try:
            settings = EncoderSettings.from_dict(record.settings)
        except TypeError as error:
            raise InputError(f"the recorded settings are of another version: {error}") from None
        stream = self._encode(task, clip, settings)
        sha256 = stream.sha256
        if sha256 == record.sha256:
            return Replayed(record, sha256, "")
        size = stream.size_bytes
        return Replayed(
            record, sha256,
            f"{size} bytes, SHA-256 {sha256[:12]}; recorded {record.bytes}, {record.sha256[:12]}",
        )  # fmt: skip

    def _encode(self, task: Replay, clip: ClipLike, settings: EncoderSettings) -> EncodedStream:
        record = task.record
        if record.decisions is not None:
            speed, gops, decisions = log_settings_of_columns(record.decisions)
            told = settings.replace(speed=speed)
            return replay_decisions(clip, told, decisions, gops=gops, backend=self._backend)
        # An older file has qindexes alone.
        policy: Policy = VbrPolicy() if task.left_to_libvpx else _RecordedQindexes(record.qindex)
        return rollout(clip, settings, policy, backend=self._backend).stream


def plan_replays(
    results: Results,
    *,
    clip: str | None = None,
    method: str | None = None,
    folders: Sequence[Path] = (),
) -> tuple[list[Replay], list[str]]:
    """What of an evaluation is to be encoded again.

    Args:
      results: the evaluation.
      clip: only this one, by name.
      method: only this one, by name.
      folders: where the clips are, files or folders; found by name. Without any, where
        they were.

    Returns:
      The tasks, ordered by clip; and the methods that cannot be replayed, which are other
      encoders.

    Raises:
      InputError: there is no such clip or method, or a clip is not found.
    """
    records = results.encodes
    for what, name, known in (
        ("clip", clip, dict.fromkeys(e.clip for e in records)),
        ("method", method, dict.fromkeys(e.method for e in records)),
    ):
        if name is not None and name not in known:
            raise InputError(f"no {what} {name!r} in these results; there are {', '.join(known)}")
    records = [e for e in records if clip in (None, e.clip) and method in (None, e.method)]
    specs = {str(m["name"]): str(m["spec"]) for m in _objects(results, "methods", "name", "spec")}
    sources = _sources(results, [e.clip for e in records], folders)
    tasks = []
    left_out: dict[str, None] = {}
    for record in records:
        spec = specs.get(record.method, record.method)
        if spec.startswith(EXTERNAL):
            left_out[record.method] = None
            continue
        by_libvpx = spec.partition(":")[0] in _LIBVPX_DECIDES
        tasks.append(Replay(record, sources[record.clip], by_libvpx))
    return tasks, list(left_out)


def run_replays(
    tasks: Sequence[Replay], replayer: Replayer, *, jobs: int = 1,
    on_done: Callable[[Replayed], None] | None = None, compute: Compute = ProcessScheduler,
) -> list[Replayed]:  # fmt: skip
    """Does all tasks; one that fails is a problem of its own, the rest goes on.

    Args:
      tasks: from `plan_replays`.
      replayer: used by every worker, each with a copy of its own.
      jobs: encodes at a time.
      on_done: called after each, in this process.
      compute: where the encodes run; its workers must reach the clips.
    """
    place = {id(task): number for number, task in enumerate(tasks)}
    done: dict[int, Replayed] = {}
    with compute(jobs) as scheduler:
        for task, answer in scheduler.map(replayer, tasks):
            if isinstance(answer, TaskFailure):
                answer = Replayed(task.record, "", answer.message)
            done[place[id(task)]] = answer
            if on_done is not None:
                on_done(answer)
    return [done[number] for number in range(len(tasks))]


def _objects(results: Results, name: str, *fields: str) -> list[dict[str, Any]]:
    entries = results.settings.get(name, [])
    whole = isinstance(entries, list) and all(
        isinstance(e, dict) and all(f in e for f in fields) for e in entries
    )
    if not whole:
        raise InputError(f"the results' {name} are damaged; run evaluate again")
    return list(entries)


def _sources(
    results: Results, names: Iterable[str], folders: Sequence[Path]
) -> dict[str, ClipSource]:
    height, frames = results.settings.get("scale"), results.settings.get("max_frames")
    recorded = {str(c["name"]): Path(str(c["path"])) for c in _objects(results, "clips", "path")}
    found: dict[str, list[Path]] = {}
    for source in find_sources(folders) if folders else []:
        found.setdefault(source.path.stem, []).append(source.path)
    sources = {}
    for name in dict.fromkeys(names):
        path = recorded.get(name)
        if folders:
            stem = path.stem if path is not None else Path(name).stem
            same = found.get(stem, [])
            # Of several of a name, the one that lies in a folder of the recorded name.
            same = [p for p in same if path and p.parent.name == path.parent.name] or same
            path = same[0] if same else None
        if path is None or not path.is_file():
            where = " or ".join(map(str, folders)) if folders else str(path or "any folder")
            raise InputError(f"the clip {name} is not in {where}; tell its folder with --clips DIR")
        sources[name] = ClipSource(path, name, height, frames)
    return sources
