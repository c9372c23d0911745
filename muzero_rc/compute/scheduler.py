"""The protocol between work and where it runs.

A caller has a handler (what is done) and tasks (to what). A scheduler runs `handle(task)`
elsewhere and gives the answers as they come. Callers open one through a `Compute`, a
parameter of theirs, so that another place to run is another argument and no other code.

What callers may rely on:

- Handlers, tasks, answers, progress and published values are pickled. A worker shares
  neither memory nor working folder nor open files with the caller. A path means what it
  means on the worker's machine, and travels only as an argument.
- A worker may keep its copy of a handler between tasks, as a cache. Any task may also meet
  a fresh copy.
- A task that fails, or whose worker dies, fails alone: its answer is a `TaskFailure`.
- Answers come in any order. What depends on an order puts them in order.
- Tasks poll `check_cancelled()`, encodes at every frame.

Ctrl-C is one behaviour everywhere. `KeyboardInterrupt` arrives in the caller's thread, and
so does the exception that the command line makes of SIGTERM. It leaves the `with` block of
the scheduler, which cancels all that runs, and goes on upwards. Threads are asked to stop
and do so within a frame. Processes are terminated. Workers ignore the terminal's Ctrl-C.

A Ray backend maps on this as follows. `submit` is
`ray.remote(handle).options(num_cpus=, memory=, num_gpus=).remote(task)`, with the handler
put into the object store once. `wait` is `ray.wait`; `RayTaskError` and `WorkerCrashedError`
become `TaskFailure`. `cancel` is `ray.cancel(force=True)`. `report` and the results of actors
go through a `ray.util.queue.Queue`. `start_actors` makes `ray` actors with `num_restarts` 0,
for the group itself restarts and counts; `publish` is `ray.put` and a version number that
actors ask for; `environment` is `runtime_env={"env_vars": ...}`. `resources` is
`ray.cluster_resources()`. `SchedulerBase` and `ActorGroupBase` do the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from muzero_rc.errors import MuzeroRcError

__all__ = [
    "ONE_CORE",
    "ActorContext",
    "ActorGroup",
    "Compute",
    "Crash",
    "CrashLimitError",
    "Factory",
    "Handle",
    "Resources",
    "Scheduler",
    "TaskError",
    "TaskFailure",
]

TaskT = TypeVar("TaskT")
AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True)
class Resources:
    """What a task needs, or what a backend has.

    Attributes:
      cores: of the CPU.
      memory_bytes: main memory. 0 is no demand.
      gpus: whole GPUs.
    """

    cores: int = 1
    memory_bytes: int = 0
    gpus: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            self.cores + other.cores,
            self.memory_bytes + other.memory_bytes,
            self.gpus + other.gpus,
        )

    def __mul__(self, count: int) -> Resources:
        return Resources(self.cores * count, self.memory_bytes * count, self.gpus * count)

    def covers(self, needs: Resources) -> bool:
        """Whether all of the needs are there."""
        return (
            needs.cores <= self.cores
            and needs.memory_bytes <= self.memory_bytes
            and needs.gpus <= self.gpus
        )


ONE_CORE = Resources()


class TaskError(MuzeroRcError, RuntimeError):
    """A task failed with an error that cannot travel, or its worker died."""


@dataclass(frozen=True, slots=True)
class TaskFailure:
    """Why a task has no answer.

    Attributes:
      kind: name of the exception's class; `WorkerDied` if the process ended.
      message: one line.
      trace: traceback text, empty for errors of this package's own family.
      error: the exception, if it could travel.
    """

    kind: str
    message: str
    trace: str
    error: Exception | None = field(default=None, compare=False, repr=False)

    def exception(self) -> Exception:
        """The exception to raise in the caller."""
        return self.error or TaskError(f"{self.kind}: {self.message}")


@dataclass(eq=False, slots=True)
class Handle(Generic[TaskT, AnswerT]):
    """A submitted task.

    Attributes:
      task: what was submitted.
      needs: what it occupies while it runs.
      on_progress: told what the task reports, in the caller's thread.
      done: whether there is an answer.
      answer: of the handler, or why there is none; to be read once it is done.
    """

    task: TaskT
    needs: Resources
    on_progress: Callable[[TaskT, Any], None] | None = None
    done: bool = False
    answer: AnswerT | TaskFailure = None  # type: ignore[assignment]  # there is none yet

    @property
    def failed(self) -> bool:
        """Whether it is done and has no answer."""
        return isinstance(self.answer, TaskFailure)

    def result(self) -> AnswerT:
        """The answer of a task that is done.

        Raises:
          Exception: the task's own.
          TaskError: its worker died.
        """
        if isinstance(self.answer, TaskFailure):
            raise self.answer.exception()
        return self.answer


class ActorContext(Protocol):
    """What an actor's code knows of its surroundings.

    Attributes:
      number: how many actors of the group were started before it; for seeds.
    """

    number: int

    def newest(self) -> Any:
        """The newest published value; None if the actor has it already."""


Factory = Callable[[ActorContext], Iterator[Any]]
"""Makes an actor's results, one after the other; picklable."""


@dataclass(frozen=True, slots=True)
class Crash:
    """Why an actor ended.

    Attributes:
      why: one line.
      status: exit status of its process, None where there is no process.
    """

    why: str
    status: int | None


class CrashLimitError(MuzeroRcError, RuntimeError):
    """Actors crash again and again without a result in between.

    Attributes:
      count: crashes in a row.
      crash: the last one.
    """

    def __init__(self, count: int, crash: Crash) -> None:
        super().__init__(f"actors crashed {count} times in a row: {crash.why}")
        self.count = count
        self.crash = crash


class ActorGroup(Protocol):
    """Long-lived workers that stream results and take published values.

    A context manager; leaving it ends the actors within seconds.
    """

    @property
    def crashes(self) -> int:
        """Actors that had to be started again."""

    def publish(self, value: Any) -> None:
        """Gives all actors a newer value; each takes it up when it asks for it."""

    def receive(self, wait_s: float) -> list[Any]:
        """Results that have arrived; waits so many seconds at most for the first.

        Actors that have ended are started again, and told the newest value.

        Raises:
          CrashLimitError: they crash again and again.
        """

    def close(self) -> None:
        """Ends the actors."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Scheduler(Protocol):
    """Runs tasks elsewhere; a context manager, whose end cancels what still runs.

    A scheduler is used by one thread, the caller's: answers, progress and Ctrl-C arrive
    there.
    """

    @property
    def resources(self) -> Resources:
        """What there is to run on."""

    @property
    def running(self) -> int:
        """Tasks that were submitted and are not done."""

    def room_for(self, needs: Resources = ONE_CORE) -> bool:
        """Whether such a task can be submitted now.

        Raises:
          InputError: it never can: it needs more than there is.
        """

    def submit(
        self,
        handle: Callable[[TaskT], AnswerT],
        task: TaskT,
        *,
        needs: Resources = ONE_CORE,
        on_progress: Callable[[TaskT, Any], None] | None = None,
    ) -> Handle[TaskT, AnswerT]:
        """Starts a task; only while there is room for it.

        Args:
          handle: picklable.
          task: picklable.
          needs: what it occupies while it runs.
          on_progress: called in this thread, in `wait` and `map`, with the task and what
            it reports.
        """

    def wait(self, timeout_s: float | None = None) -> list[Handle[Any, Any]]:
        """Waits for tasks to finish.

        Returns:
          What has finished and was not returned before: at least one, but nothing if
          nothing runs or the time is over.
        """

    def map(
        self,
        handle: Callable[[TaskT], AnswerT],
        tasks: Iterable[TaskT],
        *,
        needs: Resources = ONE_CORE,
        look_ahead: int | None = None,
        on_progress: Callable[[TaskT, Any], None] | None = None,
    ) -> Iterator[tuple[TaskT, AnswerT | TaskFailure]]:
        """Runs all tasks and gives each with its answer, as they finish.

        Args:
          handle: as in `submit`.
          tasks: taken one by one as there is room.
          needs: of each.
          look_ahead: most tasks that were taken and are not yet given; twice as many as
            can run at a time if not given.
          on_progress: as in `submit`.
        """

    def gather(
        self,
        handle: Callable[[TaskT], AnswerT],
        tasks: Iterable[TaskT],
        *,
        needs: Resources = ONE_CORE,
        on_progress: Callable[[TaskT, Any], None] | None = None,
    ) -> list[AnswerT]:
        """Runs all tasks; their answers in the order of the tasks.

        Raises:
          Exception: of the first task that was seen to fail; the others are cancelled.
        """

    def cancel(self) -> list[Handle[Any, Any]]:
        """Ends all tasks and returns when none runs.

        Returns:
          Those that had finished and were not returned before.
        """

    def start_actors(
        self,
        factory: Factory,
        count: int,
        *,
        initial: Any,
        needs: Resources = ONE_CORE,
        environment: Mapping[str, str] | None = None,
        most_crashes: int = 5,
        on_restart: Callable[[Crash], None] = lambda crash: None,
    ) -> ActorGroup:
        """Starts long-lived workers.

        Args:
          factory: makes each actor's results.
          count: actors.
          initial: the first published value.
          needs: of each actor; occupied until the group is closed.
          environment: variables that are set in the actors' processes before they import
            anything. Threads have the caller's.
          most_crashes: so many crashes in a row, of all actors together, end the group.
          on_restart: told why an actor was started again.
        """

    def close(self) -> None:
        """Cancels all tasks, ends all actors and gives the workers back."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


Compute = Callable[[int], Scheduler]
"""Opens a scheduler for so many tasks of one core at a time."""
