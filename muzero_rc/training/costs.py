"""What each stage of a run cost, all its starts together: `costs.json` in the run's folder.

It counts what was spent, not what was kept: encodes that a kill threw away and that were
made again count twice, studies copied from another run count nothing. What a killed
process had spent since its last save is missing.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import psutil

from muzero_rc.errors import CheckpointError
from muzero_rc.training.checkpoints import write_json

__all__ = [
    "COST_COLUMNS",
    "CostLedger",
    "StageCost",
    "StageMeter",
    "cost_rows",
    "gpus_in_use",
    "read_stages",
]

_FORMAT = "muzero_rc stage costs"
_DIGITS = 6  # of hours and minutes in the file


@dataclass(frozen=True)
class StageCost:
    """What a stage cost.

    Attributes:
      encodes: second passes that came to their end.
      encoder_frames: coded frames in them, hidden ones included.
      updates: of the learner.
      core_hours: CPU time of this process and of all it started, hours of one core.
      wall_minutes: time that the stage ran.
      gpu_minutes: wall time of the stage for each GPU that its networks ran on.
    """

    encodes: int = 0
    encoder_frames: int = 0
    updates: int = 0
    core_hours: float = 0.0
    wall_minutes: float = 0.0
    gpu_minutes: float = 0.0

    def __add__(self, other: StageCost) -> StageCost:
        """Both together."""
        ours, theirs = asdict(self), asdict(other)
        return StageCost(**{name: ours[name] + theirs[name] for name in ours})

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            name: round(value, _DIGITS) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StageCost:
        """Reads `as_dict` back.

        Raises:
          ValueError: a number is missing, negative, of another type, or unknown.
        """
        kinds = {entry.name: int if entry.type == "int" else float for entry in fields(cls)}
        if set(values) != set(kinds):
            raise ValueError(f"costs are {', '.join(kinds)}, not {', '.join(map(str, values))}")
        for name, value in values.items():
            wanted = (int,) if kinds[name] is int else (int, float)
            if type(value) not in wanted or not value >= 0:
                raise ValueError(f"{name} must be a number, 0 or more, not {value!r}")
        typed: dict[str, Any] = {name: kinds[name](value) for name, value in values.items()}
        return cls(**typed)


def read_stages(values: Mapping[str, Any]) -> dict[str, StageCost]:
    """Costs by stage, from `StageCost.as_dict` of each.

    Older records call the stage collect explore.

    Raises:
      ValueError: the costs of a stage are damaged.
    """
    return {
        "collect" if name == "explore" else name: StageCost.from_dict(cost)
        for name, cost in values.items()
    }


COST_COLUMNS = (
    "stage", "encodes", "encoder frames", "updates", "core s", "wall min", "GPU min",
)  # fmt: skip
"""Headings of `cost_rows`."""


def cost_rows(stages: Mapping[str, StageCost]) -> list[tuple[str, ...]]:
    """Stages as rows of a table under `COST_COLUMNS`, the last row their sum."""
    total = sum(stages.values(), StageCost())
    return [
        (
            name,
            f"{cost.encodes:,}",
            f"{cost.encoder_frames:,}",
            f"{cost.updates:,}",
            f"{3600 * cost.core_hours:,.1f}",
            f"{cost.wall_minutes:.1f}",
            f"{cost.gpu_minutes:.1f}",
        )
        for name, cost in [*stages.items(), ("all", total)]
    ]


class StageMeter:
    """Counts while a stage runs; any thread may call it."""

    def __init__(self, ledger: CostLedger, gpus: int) -> None:
        """Starts the clocks."""
        self._ledger = ledger
        self._gpus = gpus
        self._lock = threading.Lock()
        self._encodes = self._frames = self._updates = 0
        self._started = time.monotonic()
        self._cpu_before = _cpu_seconds()

    def encoded(self, frames: int) -> None:
        """An encode of so many coded frames has ended."""
        with self._lock:
            self._encodes += 1
            self._frames += frames

    def updated(self, updates: int = 1) -> None:
        """The learner has done so many updates more."""
        with self._lock:
            self._updates += updates

    def cost(self) -> StageCost:
        """So far, since the meter was made."""
        seconds = time.monotonic() - self._started
        # A child may be counted neither as alive nor as ended for a moment.
        cpu_seconds = max(_cpu_seconds() - self._cpu_before, 0.0)
        with self._lock:
            return StageCost(
                self._encodes,
                self._frames,
                self._updates,
                core_hours=cpu_seconds / 3600,
                wall_minutes=seconds / 60,
                gpu_minutes=self._gpus * seconds / 60,
            )

    def save(self) -> None:
        """Writes all costs; called before work is kept, so that what is kept is paid for.

        Raises:
          OutputError: they cannot be written.
        """
        self._ledger.save()


class CostLedger:
    """The costs of a run's stages, those of earlier starts included."""

    def __init__(self, path: Path) -> None:
        """Reads the file, if it is there.

        Raises:
          CheckpointError: it is damaged or something else.
        """
        self._path = path
        self._stages: dict[str, StageCost] = {}
        self._running: tuple[str, StageMeter] | None = None
        if not path.exists():
            return
        try:
            stored = json.loads(path.read_text())
            if stored["format"] != _FORMAT:
                raise ValueError(f"its format is {stored['format']!r}")
            self._stages = read_stages(stored["stages"])
        except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise CheckpointError(f"{path} is damaged: {error}; remove it to go on") from error

    @contextlib.contextmanager
    def stage(self, name: str, gpus: int = 0) -> Iterator[StageMeter]:
        """Measures what happens inside, however it ends.

        Args:
          name: of the stage.
          gpus: that its networks run on.
        """
        meter = StageMeter(self, gpus)
        self._running = (name, meter)
        try:
            yield meter
        finally:
            self._stages = self.stages()
            self._running = None
            self.save()

    def stages(self) -> dict[str, StageCost]:
        """Every stage so far, in the order of their first start; the running one, too."""
        found = dict(self._stages)
        if self._running is not None:
            name, meter = self._running
            found[name] = found.get(name, StageCost()) + meter.cost()
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a policy's record."""
        return {name: cost.as_dict() for name, cost in self.stages().items()}

    def save(self) -> None:
        """Writes the file, atomically.

        Raises:
          OutputError: it cannot be written.
        """
        write_json(self._path, {"format": _FORMAT, "stages": self.as_dict()})


def gpus_in_use(devices: int) -> int:
    """GPUs among the devices that share a batch; 0 where JAX runs on the CPU.

    Args:
      devices: as `OptimizerConfig.devices`; 0 is all there are.
    """
    import jax

    there: Sequence[Any] = jax.devices()
    if devices:
        there = there[:devices]
    return sum(device.platform != "cpu" for device in there)


def _cpu_seconds() -> float:
    """CPU time of this process and its descendants, ended ones included."""
    total = 0.0
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it has just ended: its parent has its time
            spent = process.cpu_times()
            total += spent.user + spent.system + spent.children_user + spent.children_system
    return total
