"""Building a corpus: look at every file, decide, cut the clips out, make variants of them.

    look     each file decoded once, small: scenes, movement, perceptual hashes
    cut      each file decoded once more, at its size; its clips written without loss
    augment  variants of the finished clips to train on

A corpus is `manifest.csv`, the clips in `training/` and `validation/`, and `.build/`: the
settings, what was seen of each file, and a record of each finished clip. Every file is
complete whenever it has its name, so a build that was killed goes on where it was, and
one that is done has nothing to do.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from muzero_rc import video
from muzero_rc.corpus.augment import draw_recipe
from muzero_rc.corpus.manifest import MANIFEST, SPLITS, Entry, Manifest, write_whole
from muzero_rc.corpus.plan import BuildSettings, Original, find_originals, plan_clips
from muzero_rc.corpus.scenes import Look, look_at
from muzero_rc.errors import InputError, OutputError
from muzero_rc.video import Recipe

__all__ = ["BuildResult", "Step", "build_corpus"]

_FORMAT = "muzero_rc corpus 1"
_WORK = ".build"
# What two records of a clip must have in common to be of the same clip.
_IDENTITY = (
    "file", "split", "source", "origin", "origin_sha256", "scene", "start_frame", "end_frame",
    "augmentation", "parents",
)  # fmt: skip
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Step:
    """Progress of a build.

    Attributes:
      phase: `look`, `cut` or `augment`.
      done: files looked at, or clips finished, those of earlier runs too.
      total: of all.
      made: of the done ones, those of this run.
      name: of the latest.
    """

    phase: str
    done: int
    total: int
    made: int
    name: str


@dataclass(frozen=True, slots=True)
class BuildResult:
    """A finished build.

    Attributes:
      manifest: of the corpus, as it was written.
      looked: files looked at in this run.
      made: clips made in this run.
    """

    manifest: Manifest
    looked: int
    made: int


class _Stopped(BaseException):
    """Ends a worker's task: the build is over."""


def build_corpus(
    inputs: Sequence[Path],
    out: Path,
    settings: BuildSettings | None = None,
    *,
    jobs: int = 1,
    on_step: Callable[[Step], None] = lambda step: None,
) -> BuildResult:
    """Builds a corpus, or goes on building it.

    With more inputs than before it grows; clips of files that are no longer given are
    removed from it.

    Args:
      inputs: videos, and folders of them.
      out: folder of the corpus.
      settings: what the clips are like; the defaults if not given.
      jobs: files at a time. Each is ffmpeg, on one core, and a thread.
      on_step: told of each file and clip.

    Raises:
      InputError: the inputs or settings cannot be used, the corpus was built with others,
        or somebody else is building it.
      OutputError: the corpus cannot be written.
      ToolMissingError: ffmpeg, or the package's extra `corpus`, is not installed.
    """
    settings = settings or BuildSettings()
    settings.check()
    if jobs < 1:
        raise InputError(f"--jobs must be at least 1, not {jobs}")
    originals = find_originals(inputs, out)
    with _own(out):
        _check_settings(out / _WORK / "settings.json", settings)
        return _Build(out, settings, jobs, on_step).run(originals)


class _Build:
    """One run; knows where things lie."""

    def __init__(
        self, out: Path, settings: BuildSettings, jobs: int, on_step: Callable[[Step], None]
    ) -> None:
        self._out = out
        self._work = out / _WORK
        self._settings = settings
        self._jobs = jobs
        self._on_step = on_step
        self._stop = threading.Event()

    def run(self, originals: Sequence[Original]) -> BuildResult:
        self._clean()
        digests, looks, looked = self._look(originals)
        clips, rejected = plan_clips(originals, digests, looks, self._settings)
        entries, made = self._cut(clips)
        variants, more = self._augment(entries)
        entries += variants
        self._forget({entry.file for entry in entries})
        entries += rejected
        entries.sort(key=lambda e: (e.origin, e.start_frame, e.end_frame, e.file))
        manifest = Manifest(entries)
        path = self._out / MANIFEST
        if not path.exists() or path.read_bytes() != manifest.text().encode():
            manifest.write(path)
        return BuildResult(manifest, looked, made + more)

    def _clean(self) -> None:
        """Removes what a killed run left half written."""
        for side in SPLITS:
            (self._out / side).mkdir(exist_ok=True)
        sides = [self._out / side for side in SPLITS]
        for folder in (self._out, *sides, self._work, *self._work.iterdir()):
            for leftover in folder.glob(".*.partial"):
                leftover.unlink()

    # ------------------------------------------------------------------ look

    def _look(
        self, originals: Sequence[Original]
    ) -> tuple[dict[Original, str], dict[str, Look | str], int]:
        """SHA-256 of each file, what is seen of each, and how many were looked at now."""
        digests: dict[Original, str] = {}
        looks: dict[str, Look | str] = {}
        looked = 0

        def take(original: Original, answer: tuple[str, Look | str, bool]) -> None:
            nonlocal looked
            digests[original], seen, new = answer
            looks[digests[original] or original.name] = seen
            looked += new
            self._on_step(Step("look", len(digests), len(originals), looked, original.name))

        self._parallel(self._look_at, originals, take)
        return digests, looks, looked

    def _look_at(self, original: Original) -> tuple[str, Look | str, bool]:
        try:
            with original.path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return "", f"cannot be read: {error.strerror}", False
        path = self._work / "looks" / f"{digest}.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(path.read_text(encoding="utf-8"))
            return digest, known.get("broken") or Look.from_dict(known["look"]), False
        seen: Look | str
        try:
            seen = look_at(original.path, max_fps=self._settings.max_fps, on_frame=self._check_stop)
            record: dict[str, Any] = {"look": seen.as_dict()}
        except InputError as error:
            seen = _without_folder(str(error), original)
            record = {"broken": seen}
        write_whole(path, json.dumps(record))
        return digest, seen, True

    # ------------------------------------------------------------------ cut

    def _cut(self, clips: Sequence[tuple[Original, Entry]]) -> tuple[list[Entry], int]:
        """The finished clips, and how many of them were made now."""
        finished: dict[str, Entry] = {}
        missing: dict[Original, list[Entry]] = {}
        for original, entry in clips:
            record = self._record(entry)
            if record is not None:
                finished[entry.file] = record
            else:
                missing.setdefault(original, []).append(entry)
        made = 0
        lock = threading.Lock()

        def tell(entry: Entry) -> None:
            nonlocal made
            with lock:
                finished[entry.file] = entry
                made += 1
                step = Step("cut", len(finished), len(clips), made, entry.file)
                self._on_step(step)

        def cut(original: Original) -> None:
            self._cut_file(original, missing[original], tell)

        self._parallel(cut, list(missing), lambda original, none: None)
        return [finished[entry.file] for _, entry in clips], made

    def _cut_file(
        self, original: Original, entries: Sequence[Entry], tell: Callable[[Entry], None]
    ) -> None:
        """Decodes a file once and writes its missing clips, which do not overlap."""
        decoder = video.open_decoder(
            original.path, height=self._settings.height, max_fps=self._settings.max_fps
        )
        with decoder:
            frames = enumerate(decoder.frames())
            for entry in sorted(entries, key=lambda e: e.start_frame):
                done = self._write(entry, decoder, frames)
                tell(done)

    def _write(
        self, entry: Entry, decoder: video.Decoder, frames: Iterator[tuple[int, bytes]]
    ) -> Entry:
        width, height, fps = decoder.width, decoder.height, decoder.fps
        digest = video.start_hash(width, height, fps)
        temporary = self._temporary(entry)
        number = -1
        with video.LosslessWriter(temporary, width, height, fps, decoder.info) as writer:
            for number, frame in frames:
                self._check_stop()
                if number < entry.start_frame:
                    continue
                digest.update(frame)
                writer.write(frame)
                if number == entry.end_frame - 1:
                    break
            writer.close()
        if number != entry.end_frame - 1:
            temporary.unlink()
            raise InputError(f"{entry.origin} ends sooner than it did; it was changed meanwhile")
        return self._finish(entry, temporary, digest.hexdigest())

    # ------------------------------------------------------------------ augment

    def _augment(self, entries: Sequence[Entry]) -> tuple[list[Entry], int]:
        """Variants of the finished clips to train on, and how many of them were made now."""
        settings = self._settings
        base = [entry for entry in entries if entry.split == "training"]
        plan: list[tuple[Entry, Entry, Recipe, Entry | None]] = []
        for clip in base:
            for number in range(1, settings.augment + 1):
                recipe, partner = draw_recipe(
                    clip, base, number, min_frames=settings.min_frames, seed=settings.seed
                )
                plan.append((_variant(clip, number, recipe, partner), clip, recipe, partner))
        finished: dict[str, Entry] = {}
        todo: list[tuple[Entry, Entry, Recipe, Entry | None]] = []
        for task in plan:
            record = self._record(task[0])
            if record is None:
                todo.append(task)
            else:
                finished[record.file] = record

        def make(task: tuple[Entry, Entry, Recipe, Entry | None]) -> Entry:
            entry, clip, recipe, partner = task
            temporary = self._temporary(entry)
            video.render(
                self._out / clip.file,
                recipe,
                temporary,
                join=None if partner is None else self._out / partner.file,
                on_progress=self._check_stop,
            )
            return self._finish(entry, temporary)

        def take(task: tuple[Entry, Entry, Recipe, Entry | None], done: Entry) -> None:
            finished[done.file] = done
            made = len(finished) - len(plan) + len(todo)
            self._on_step(Step("augment", len(finished), len(plan), made, done.file))

        self._parallel(make, todo, take)
        return [finished[task[0].file] for task in plan], len(todo)

    # ------------------------------------------------------------------ files

    def _temporary(self, entry: Entry) -> Path:
        path = self._out / entry.file
        return path.with_name(f".{path.name}.partial")

    def _record_path(self, file: str) -> Path:
        return self._work / "clips" / f"{Path(file).name}.json"

    def _record(self, entry: Entry) -> Entry | None:
        """What is known of a clip that an earlier run finished; None if it is to be made."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            record = Entry(**json.loads(self._record_path(entry.file).read_text(encoding="utf-8")))
            same = all(getattr(record, name) == getattr(entry, name) for name in _IDENTITY)
            if same and (self._out / entry.file).stat().st_size == record.bytes:
                return record
        return None

    def _finish(self, entry: Entry, temporary: Path, frames_sha256: str | None = None) -> Entry:
        """Checks a written clip by decoding it, gives it its name and records it."""
        try:
            width, height, fps, frames, decoded = video.hash_frames(
                temporary, on_frame=self._check_stop
            )
            if frames_sha256 not in (None, decoded):
                raise OutputError(
                    f"{entry.file} does not decode to what was written ({width}x{height}, "
                    f"{fps} fps, {frames} frames); is the disk in order?"
                )
            with temporary.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                size = os.fstat(file.fileno()).st_size
            os.replace(temporary, self._out / entry.file)
        finally:
            temporary.unlink(missing_ok=True)
        done = replace(
            entry, width=width, height=height, fps=str(fps), frames=frames, bytes=size,
            sha256=digest, frames_sha256=decoded,
        )  # fmt: skip
        write_whole(self._record_path(entry.file), json.dumps(done.as_dict()))
        return done

    def _forget(self, files: set[str]) -> None:
        """Removes clips of earlier runs that are no longer part of the corpus."""
        for path in (self._work / "clips").glob("*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                file = Path(json.loads(path.read_text(encoding="utf-8"))["file"])
                if file.as_posix() not in files:
                    (self._out / file.parent.name / file.name).unlink(missing_ok=True)
                    path.unlink()

    # ------------------------------------------------------------------ threads

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise _Stopped

    def _parallel(
        self, work: Callable[[_T], _R], tasks: Sequence[_T], on_done: Callable[[_T, _R], None]
    ) -> None:
        """Does tasks in threads: the work is ffmpeg's, and OpenCV's outside of the GIL."""
        with ThreadPoolExecutor(self._jobs, thread_name_prefix="corpus") as pool:
            try:
                running = {pool.submit(work, task): task for task in tasks}
                waiting = set(running)
                while waiting:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        on_done(running[future], future.result())
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _variant(clip: Entry, number: int, recipe: Recipe, partner: Entry | None) -> Entry:
    path = Path(clip.file)
    return replace(
        clip,
        file=path.with_name(f"{path.stem}-aug{number}{path.suffix}").as_posix(),
        augmentation=recipe.text(),
        parents=" ".join(parent.file for parent in (clip, partner) if parent is not None),
        width=0, height=0, fps="", frames=0, bytes=0, sha256="", frames_sha256="",
    )  # fmt: skip


def _without_folder(message: str, original: Original) -> str:
    """An error message that names the file as the manifest does: no folder of this machine."""
    for path in (original.path.absolute(), original.path):
        message = message.replace(str(path), original.name)
    return message


def _check_settings(path: Path, settings: BuildSettings) -> None:
    """Refuses to go on with a corpus that was built with other settings."""
    mine = {"format": _FORMAT, "settings": settings.as_dict()}
    if not path.exists():
        write_whole(path, json.dumps(mine, indent=1))
        return
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        version, theirs = stored["format"], dict(stored["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); build the corpus anew") from None
    if version != _FORMAT:
        raise InputError(f"{path.parent.parent} was built by another version; build it anew")
    other = [
        f"{name} {theirs.get(name)}"
        for name, value in settings.as_dict().items()
        if theirs.get(name) != value
    ]
    if other:
        raise InputError(
            f"{path.parent.parent} was built with {', '.join(other)}; give the same settings "
            "or another --out"
        )


@contextlib.contextmanager
def _own(out: Path) -> Iterator[None]:
    """Makes the corpus's folder and keeps others from building in it."""
    work = out / _WORK
    try:
        if out.exists() and not work.exists() and any(out.iterdir()):
            raise InputError(f"{out} is there and no corpus; give an empty or a new folder")
        work.mkdir(parents=True, exist_ok=True)
        lock = (work / "lock").open("w")
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}; choose another --out") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{out} is being built by another process") from None
        yield
