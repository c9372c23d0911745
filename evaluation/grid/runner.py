"""The grid clips x targets x methods, in worker processes, resumable."""

from __future__ import annotations

import dataclasses
import heapq
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from muzero_rc.compute import Compute, ProcessScheduler, TaskFailure
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import InputError, OutputError
from muzero_rc.evaluation.grid.encoder import ClipEncoder, ClipSource, Method, encode_key, jittered
from muzero_rc.evaluation.grid.store import EncodeStore
from muzero_rc.evaluation.grid.work import Encoding, Handler, Opened, Opening
from muzero_rc.evaluation.measure.summary import ANCHOR, CONTROL, compare, mark_targets, summarize
from muzero_rc.evaluation.measure.targets import AUTO_COUNT
from muzero_rc.evaluation.media import MediaFolder
from muzero_rc.evaluation.results import EncodeRecord, Failure, Results
from muzero_rc.folder_lock import FolderLock
from muzero_rc.output_files import write_text

__all__ = ["EvaluationPlan", "Progress", "run_evaluation"]


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What to evaluate.

    Attributes:
      sources: the clips, with unique names.
      methods: must hold the anchor `vbr` and the control `proposal`; unique names.
      settings: of every encode but for the target.
      targets_kbps: for every clip, or None to choose per clip (`auto`).
      build: identity of the encoder library.
      metrics: measured beside PSNR, some of `results.MEASURED_METRICS`.
      measured_by: version of the program that measures them.
      notes: more to keep in the results' `settings`.
      keep_streams: keep encoded streams and thumbnails beside the results, as
        `MediaFolder` lays them out; an encode whose stream is missing is made again.
    """

    sources: tuple[ClipSource, ...]
    methods: tuple[Method, ...]
    settings: EncoderSettings
    targets_kbps: tuple[int, ...] | None
    build: str
    metrics: tuple[str, ...] = ()
    measured_by: str = ""
    notes: dict[str, Any] = field(default_factory=dict)
    keep_streams: bool = False

    def __post_init__(self) -> None:
        for kind, names in (
            ("clip", [s.name for s in self.sources]),
            ("method", [m.name for m in self.methods]),
        ):
            if not names:
                raise InputError(f"an evaluation needs at least one {kind}")
            if len(set(names)) < len(names):
                raise InputError(f"two {kind}s of an evaluation have the same name")
        missing = {ANCHOR, CONTROL} - {m.name for m in self.methods}
        if missing:
            raise InputError(f"every evaluation needs the method {sorted(missing)[0]}")
        if self.targets_kbps is not None and not self.targets_kbps:
            raise InputError("an evaluation needs at least one target")
        for method in self.methods:
            method.settings(self.settings)  # checks its changes before anything is encoded

    @property
    def anchor(self) -> Method:
        """Two-pass VBR."""
        return next(m for m in self.methods if m.name == ANCHOR)


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of an evaluation.

    Attributes:
      done: finished steps: a clip opened (its targets chosen), an encode made.
      total: all steps, as far as known.
      clip: name of the clip.
      method: name of the method, empty for the opening.
      target_kbps: the target, 0 for the opening.
      reused: the encode was on disk already.
      error: why the step failed, empty if it did not.
    """

    done: int
    total: int
    clip: str
    method: str
    target_kbps: int
    reused: bool
    error: str


def run_evaluation(
    plan: EvaluationPlan,
    encoder: ClipEncoder,
    out: Path,
    *,
    jobs: int = 1,
    on_progress: Callable[[Progress], None] | None = None,
    shared: Path | None = None,
    compute: Compute = ProcessScheduler,
) -> Results:
    """Encodes what is not on disk yet, compares, writes `results.json` and `.csv`.

    An encode that fails is recorded and the rest is finished. Ctrl-C ends the workers;
    what was finished by then is found again by the next run.

    Args:
      plan: what to evaluate.
      encoder: used by every worker, each with a copy of its own.
      out: folder of the results; finished encodes in its `encodes/`.
      jobs: encodes at a time.
      on_progress: called after each step, in this process.
      shared: folder of encodes that evaluations share, see `EncodeStore`.
      compute: where the encodes run; its workers must reach the clips and `out`.

    Raises:
      InputError: none of the clips can be used, or another evaluation runs in `out`.
      OutputError: `out` cannot be written.
    """
    made = _make_folder(out)
    try:
        with FolderLock.own(out):
            return _Run(plan, encoder, out, on_progress, shared).finish(compute, jobs)
    except BaseException:
        # Leave no empty folder behind where nothing was finished.
        for folder in (out / "encodes", *made):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        raise


class _Run:
    """State of one evaluation while it runs."""

    def __init__(
        self,
        plan: EvaluationPlan,
        encoder: ClipEncoder,
        out: Path,
        on_progress: Callable[[Progress], None] | None,
        shared: Path | None,
    ) -> None:
        self._plan = plan
        self._out = out
        self._store = EncodeStore(out / "encodes", shared)
        self._media = MediaFolder(out) if plan.keep_streams else None
        self._handler = Handler(encoder, self._store, plan.build, self._media)
        self._on_progress = on_progress
        self._clips = {source.name: i for i, source in enumerate(plan.sources)}
        self._sources = {source.name: source.source or source.name for source in plan.sources}
        self._queue: list[tuple[tuple[int, int, int], Opening | Encoding]] = []
        self._done = 0
        targets = AUTO_COUNT if plan.targets_kbps is None else len(plan.targets_kbps)
        self._total = len(plan.sources) * (1 + targets * len(plan.methods))
        self._per_clip = targets * len(plan.methods)
        self._opened: dict[str, Opened] = {}
        self._records: list[EncodeRecord] = []
        self._failures: list[Failure] = []
        self._traces: list[str] = []

    def finish(self, compute: Compute, jobs: int) -> Results:
        for index, source in enumerate(self._plan.sources):
            opening = Opening(
                source, self._plan.anchor, self._plan.settings, self._plan.targets_kbps
            )
            heapq.heappush(self._queue, ((index, -1, 0), opening))
        with compute(jobs) as scheduler:
            while self._queue or scheduler.running:
                while self._queue and scheduler.room_for():
                    scheduler.submit(self._handler, heapq.heappop(self._queue)[1])
                for done in scheduler.wait():
                    self._take(done.task, done.answer)
        if not self._opened:
            raise InputError(self._failures[0].error)
        if self._traces:
            write_text(self._out / "errors.log", "\n".join(self._traces))
        results = self._results()
        results.save(self._out)
        return results

    def _take(self, task: Opening | Encoding, answer: Opened | EncodeRecord | TaskFailure) -> None:
        if isinstance(answer, TaskFailure):
            self._fail(task, answer)
        elif isinstance(answer, Opened):
            self._opened[task.source.name] = answer
            self._report(task.source.name)
            self._plan_encodes(task.source, answer)
        elif isinstance(task, Encoding):
            self._keep(answer, task, reused=False)

    def _plan_encodes(self, source: ClipSource, opened: Opened) -> None:
        """Queues the clip's encodes but for those on disk."""
        clip = self._clips[source.name]
        for i, target in enumerate(opened.targets_kbps):
            for j, method in enumerate(self._plan.methods):
                asked = jittered(target, method.jitter, opened.info.sha256)
                settings = method.settings(self._plan.settings).replace(target_kbps=asked)
                metrics = self._plan.metrics
                key = encode_key(
                    opened.info, method, settings, self._plan.build,
                    metrics=metrics, measured_by=self._plan.measured_by,
                )  # fmt: skip
                task = Encoding(source, method, settings, key, target, metrics)
                found = self._store.get(key)
                media = None if method.is_external else self._media
                whole = media is None or media.stream(key).is_file()
                if found is not None and whole:
                    self._keep(found, task, reused=True)
                else:
                    heapq.heappush(self._queue, ((clip, i, j), task))

    def _keep(self, record: EncodeRecord, task: Encoding, *, reused: bool) -> None:
        # On disk it may have been made under another name of the same clip or policy.
        record = dataclasses.replace(
            record,
            clip=task.source.name,
            method=task.method.name,
            target_kbps=task.target_kbps,
        )
        self._records.append(record)
        self._report(record.clip, record.method, record.target_kbps, reused=reused)

    def _fail(self, task: Opening | Encoding, failure: TaskFailure) -> None:
        if failure.kind == OutputError.__name__:
            # The folder of the results is full or gone: nothing more can be finished.
            raise OutputError(failure.message)
        method, target, where = "", 0, f"clip {task.source.name}"
        if isinstance(task, Encoding):
            method, target = task.method.name, task.target_kbps
            where += f", {method}, {target} kbit/s"
        else:
            self._total -= self._per_clip
        text = failure.message
        if failure.trace:
            text = f"{failure.kind}: {text} (traceback in {self._out / 'errors.log'})"
            self._traces.append(f"{where}\n{failure.trace}")
        self._failures.append(
            Failure(clip=task.source.name, method=method, target_kbps=target, error=text)
        )
        self._report(task.source.name, method, target, error=text)

    def _report(
        self,
        clip: str,
        method: str = "",
        target_kbps: int = 0,
        *,
        reused: bool = False,
        error: str = "",
    ) -> None:
        self._done += 1
        if self._on_progress is not None:
            self._on_progress(
                Progress(self._done, self._total, clip, method, target_kbps, reused, error)
            )

    def _results(self) -> Results:
        methods = [m.name for m in self._plan.methods]
        rank = {name: i for i, name in enumerate(methods)}
        clips = [s.name for s in self._plan.sources if s.name in self._opened]
        encodes = sorted(
            self._records,
            key=lambda e: (self._clips[e.clip], e.target_kbps, rank[e.method]),
        )
        pairs = [(clip, t) for clip in clips for t in self._opened[clip].targets_kbps]
        targets = mark_targets(pairs, encodes)
        bd = compare(encodes, clips, methods)
        failures = sorted(
            self._failures,
            key=lambda f: (self._clips[f.clip], f.target_kbps, rank.get(f.method, -1)),
        )
        return Results(
            settings=self._settings(clips),
            encodes=encodes,
            targets=targets,
            failures=failures,
            bd_rate=bd,
            summary=summarize(encodes, targets, bd, methods, self._sources),
        )

    def _settings(self, clips: Iterable[str]) -> dict[str, Any]:
        encoder = self._plan.settings.as_dict()
        # Differs from encode to encode; each record has it.
        del encoder["target_kbps"]
        described = []
        for clip in clips:
            opened = self._opened[clip]
            entry = opened.info.as_dict() | {
                "source": self._sources[clip],
                "targets_kbps": list(opened.targets_kbps),
            }
            if opened.auto is not None:
                entry["auto"] = dataclasses.asdict(opened.auto)
            described.append(entry)
        fixed = self._plan.targets_kbps
        return {
            "encoder": encoder,
            "build": self._plan.build,
            "targets": "auto" if fixed is None else list(fixed),
            "anchor": ANCHOR,
            "methods": [m.as_dict() for m in self._plan.methods],
            "metrics": list(self._plan.metrics),
            "measured_by": self._plan.measured_by,
            "clips": described,
            **self._plan.notes,
        }


def _make_folder(out: Path) -> list[Path]:
    """Makes sure that a folder can be written; returns those it made, innermost first.

    Raises:
      OutputError: it cannot.
    """
    made = []
    folder = out
    while not folder.exists() and folder != folder.parent:
        made.append(folder)
        folder = folder.parent
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write to the folder {out}: {error.strerror or error}; choose another --out"
        ) from error
    return made
