"""`time`: an encode that takes so many times VBR's work, probe encodes counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.control.work_model import WorkModel, shipped_work_model
from muzero_rc.env.control.work_plan import WorkPlan, share_work
from muzero_rc.errors import InputError
from muzero_rc.types import EncodeLog

__all__ = [
    "TIME_TOLERANCE",
    "FilmWork",
    "WorkSpent",
    "check_speed",
    "check_time",
    "film_work",
    "plan_work",
]

TIME_TOLERANCE = 0.05
"""Of the time asked for, within which it counts as kept. Asked for, not tuned."""


@dataclass(frozen=True, slots=True)
class WorkSpent:
    """What an encode took.

    Attributes:
      seconds: of work, in probe encodes and last passes.
      vbr_seconds: that VBR is expected to take.
    """

    seconds: float
    vbr_seconds: float

    @property
    def times(self) -> float:
        """Times VBR's."""
        return self.seconds / self.vbr_seconds


def check_time(settings: EncoderSettings, model: WorkModel | None = None) -> None:
    """Whether a budget of time can be kept with these settings, if they have one.

    Raises:
      InputError: no.
    """
    if settings.time is None:
        return
    check_speed(settings, model)
    if settings.passes != 3 or settings.speed_profile != "hierarchical":
        raise InputError(
            "--time goes by a probe encode: give a policy that has one, such as muzero, "
            "without --passes 2"
        )


def check_speed(settings: EncoderSettings, model: WorkModel | None = None) -> None:
    """Whether VBR's time is known at the speed.

    Raises:
      InputError: no.
    """
    known = sorted((model or shipped_work_model()).vbr)
    if settings.speed not in known:
        raise InputError(
            f"--time knows VBR's time at --speed {', '.join(map(str, known))}, not at "
            f"{settings.speed}"
        )


def plan_work(
    settings: EncoderSettings,
    probe: EncodeLog,
    fps: Fraction,
    spent: float,
    model: WorkModel | None = None,
) -> tuple[WorkPlan, float]:
    """What the last pass may spend on which frames, and what VBR would take; seconds of work.

    Args:
      settings: with `time`.
      probe: the probe encode.
      fps: frames per second of the clip.
      spent: seconds that all probe encodes took.
      model: None for the shipped one.

    Raises:
      InputError: the time cannot be kept, unless it is a chunk's share.
    """
    model = model or shipped_work_model()
    check_time(settings, model)
    assert settings.time is not None
    frames = model.frames(probe)
    vbr = model.vbr_work(frames, settings.speed, settings.target_kbps * 1000.0 / float(fps))
    if settings.budget_work is not None:
        return WorkPlan(model.options(frames), settings.budget_work - spent), vbr
    plan = WorkPlan(model.options(frames), settings.time * vbr - spent)
    _check(settings, spent + plan.least, spent + plan.most, vbr)
    return plan, vbr


@dataclass(frozen=True, slots=True)
class FilmWork:
    """The work of a film.

    Attributes:
      budgets: seconds of each chunk, its first probe encode counted.
      probes: seconds of all first probe encodes.
      vbr: seconds that VBR is expected to take.
    """

    budgets: tuple[float, ...]
    probes: float
    vbr: float


def film_work(
    settings: EncoderSettings,
    probes: Iterable[EncodeLog],
    targets_kbps: Sequence[float],
    fps: Fraction,
    model: WorkModel | None = None,
) -> FilmWork:
    """Splits the time of a film among its chunks, at one price of work.

    Args:
      settings: with `time`.
      probes: the first probe encode of each chunk.
      targets_kbps: that libvpx would give each chunk.
      fps: frames per second of the film.
      model: None for the shipped one.

    Raises:
      InputError: the time cannot be kept.
    """
    model = model or shipped_work_model()
    check_time(settings, model)
    assert settings.time is not None
    spent: list[float] = []
    plans: list[WorkPlan] = []
    vbr = 0.0
    # One log at a time: those of a long film would fill the memory.
    for log, kbps in zip(probes, targets_kbps, strict=True):
        frames = model.frames(log)
        vbr += model.vbr_work(frames, settings.speed, kbps * 1000.0 / float(fps))
        plans.append(WorkPlan(model.options(frames), 0.0))
        spent.append(model.work_of(log.results))
    least = sum(spent) + sum(plan.least for plan in plans)
    _check(settings, least, sum(spent) + sum(plan.most for plan in plans), vbr)
    shares = share_work(plans, settings.time * vbr - sum(spent))
    budgets = tuple(a + b for a, b in zip(spent, shares, strict=True))
    return FilmWork(budgets, sum(spent), vbr)


def _check(settings: EncoderSettings, least: float, most: float, vbr: float) -> None:
    assert settings.time is not None
    asked = settings.time * vbr
    if least > asked * (1.0 + TIME_TOLERANCE) or most < asked * (1.0 - TIME_TOLERANCE):
        raise InputError(
            f"--time {settings.time:g} cannot be kept: at speed {settings.speed} this takes "
            f"{least / vbr:.2f} to {most / vbr:.2f} times VBR's time; ask for a time between, "
            "or give another --speed"
        )
