"""Where work runs: one protocol for processes, threads and, later, clusters."""

from muzero_rc.compute.base import usable_cores
from muzero_rc.compute.cancel import Cancelled, CancelToken, check_cancelled, current_token, report
from muzero_rc.compute.local import ProcessScheduler
from muzero_rc.compute.scheduler import (
    ActorContext,
    ActorGroup,
    Compute,
    Crash,
    CrashLimitError,
    Handle,
    Resources,
    Scheduler,
    TaskError,
    TaskFailure,
)
from muzero_rc.compute.threads import ThreadScheduler

__all__ = [
    "ActorContext",
    "ActorGroup",
    "CancelToken",
    "Cancelled",
    "Compute",
    "Crash",
    "CrashLimitError",
    "Handle",
    "ProcessScheduler",
    "Resources",
    "Scheduler",
    "TaskError",
    "TaskFailure",
    "ThreadScheduler",
    "check_cancelled",
    "current_token",
    "report",
    "usable_cores",
]
