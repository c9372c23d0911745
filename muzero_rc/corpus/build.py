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
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from muzero_rc.compute import Compute, TaskFailure, ThreadScheduler
from muzero_rc.corpus.augment import draw_recipe
from muzero_rc.corpus.clip_maker import WORK, Augmenting, ClipMaker, Cutting, record_path
from muzero_rc.corpus.manifest import MANIFEST, SPLITS, Entry, Manifest
from muzero_rc.corpus.plan import BuildSettings, Original, find_originals, plan_clips
from muzero_rc.corpus.scenes import Look
from muzero_rc.errors import InputError, OutputError
from muzero_rc.folder_lock import MOMENT_S, FolderLock
from muzero_rc.output_files import write_text
from muzero_rc.video import Recipe

__all__ = ["BuildResult", "Step", "build_corpus"]

_FORMAT = "muzero_rc corpus 1"
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


def build_corpus(
    inputs: Sequence[Path],
    out: Path,
    settings: BuildSettings | None = None,
    *,
    jobs: int = 1,
    on_step: Callable[[Step], None] = lambda step: None,
    compute: Compute = ThreadScheduler,
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
      compute: where the work is done, which is ffmpeg's, and OpenCV's outside of the GIL;
        its workers must reach the inputs and `out`.

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
        _check_settings(out / WORK / "settings.json", settings)
        return _Build(out, settings, jobs, on_step, compute).run(originals)


class _Build:
    """One run; knows where things lie."""

    def __init__(
        self,
        out: Path,
        settings: BuildSettings,
        jobs: int,
        on_step: Callable[[Step], None],
        compute: Compute,
    ) -> None:
        self._out = out
        self._work = out / WORK
        self._settings = settings
        self._jobs = jobs
        self._on_step = on_step
        self._compute = compute
        self._maker = ClipMaker(out, settings)

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

        self._parallel(self._maker.look, originals, take)
        return digests, looks, looked

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

        def tell(task: Cutting, entry: Entry) -> None:
            nonlocal made
            finished[entry.file] = entry
            made += 1
            self._on_step(Step("cut", len(finished), len(clips), made, entry.file))

        tasks = [Cutting(original, tuple(entries)) for original, entries in missing.items()]
        self._parallel(self._maker.cut, tasks, lambda task, none: None, tell)
        return [finished[entry.file] for _, entry in clips], made

    # ------------------------------------------------------------------ augment

    def _augment(self, entries: Sequence[Entry]) -> tuple[list[Entry], int]:
        """Variants of the finished clips to train on, and how many of them were made now."""
        settings = self._settings
        base = [entry for entry in entries if entry.split == "training"]
        plan: list[Augmenting] = []
        for clip in base:
            for number in range(1, settings.augment + 1):
                recipe, partner = draw_recipe(
                    clip, base, number, min_frames=settings.min_frames, seed=settings.seed
                )
                variant = _variant(clip, number, recipe, partner)
                plan.append(Augmenting(variant, clip, recipe, partner))
        finished: dict[str, Entry] = {}
        todo: list[Augmenting] = []
        for task in plan:
            record = self._record(task.entry)
            if record is None:
                todo.append(task)
            else:
                finished[record.file] = record

        def take(task: Augmenting, done: Entry) -> None:
            finished[done.file] = done
            made = len(finished) - len(plan) + len(todo)
            self._on_step(Step("augment", len(finished), len(plan), made, done.file))

        self._parallel(self._maker.augment, todo, take)
        return [finished[task.entry.file] for task in plan], len(todo)

    # ------------------------------------------------------------------ files

    def _record(self, entry: Entry) -> Entry | None:
        """What is known of a clip that an earlier run finished; None if it is to be made."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            record = Entry(
                **json.loads(record_path(self._out, entry.file).read_text(encoding="utf-8"))
            )
            same = all(getattr(record, name) == getattr(entry, name) for name in _IDENTITY)
            if same and (self._out / entry.file).stat().st_size == record.bytes:
                return record
        return None

    def _forget(self, files: set[str]) -> None:
        """Removes clips of earlier runs that are no longer part of the corpus."""
        for path in (self._work / "clips").glob("*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                file = Path(json.loads(path.read_text(encoding="utf-8"))["file"])
                if file.as_posix() not in files:
                    (self._out / file.parent.name / file.name).unlink(missing_ok=True)
                    path.unlink()

    # ------------------------------------------------------------------ workers

    def _parallel(
        self,
        work: Callable[[_T], _R],
        tasks: Sequence[_T],
        on_done: Callable[[_T, _R], None],
        on_progress: Callable[[_T, Entry], None] | None = None,
    ) -> None:
        """Does tasks; the first that fails ends the build."""
        with self._compute(self._jobs) as scheduler:
            for task, answer in scheduler.map(work, tasks, on_progress=on_progress):
                if isinstance(answer, TaskFailure):
                    raise answer.exception()
                on_done(task, answer)


def _variant(clip: Entry, number: int, recipe: Recipe, partner: Entry | None) -> Entry:
    path = Path(clip.file)
    return replace(
        clip,
        file=path.with_name(f"{path.stem}-aug{number}{path.suffix}").as_posix(),
        augmentation=recipe.text(),
        parents=" ".join(parent.file for parent in (clip, partner) if parent is not None),
        width=0, height=0, fps="", frames=0, bytes=0, sha256="", frames_sha256="",
    )  # fmt: skip


def _check_settings(path: Path, settings: BuildSettings) -> None:
    """Refuses to go on with a corpus that was built with other settings."""
    mine = {"format": _FORMAT, "settings": settings.as_dict()}
    if not path.exists():
        write_text(path, json.dumps(mine, indent=1))
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
    work = out / WORK
    try:
        if out.exists() and not work.exists() and any(out.iterdir()):
            raise InputError(f"{out} is there and no corpus; give an empty or a new folder")
        work.mkdir(parents=True, exist_ok=True)
        lock = FolderLock.take(work, MOMENT_S)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}; choose another --out") from None
    if lock is None:
        raise InputError(f"{out} is being built by another process")
    with lock:
        yield
