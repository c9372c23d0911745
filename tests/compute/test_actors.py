"""Long-lived workers, on every backend."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import handlers
import psutil
import pytest

from muzero_rc.compute import (
    ActorGroup,
    Crash,
    CrashLimitError,
    ProcessScheduler,
    Resources,
    Scheduler,
)
from muzero_rc.errors import InputError

Backend = Callable[..., Scheduler]


def receive(group: ActorGroup, wanted: Callable[[Any], bool] = lambda result: True) -> Any:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for result in group.receive(0.5):
            if wanted(result):
                return result
    raise AssertionError("no such result in time")


def test_actors_stream_and_take_what_is_published(backend: Backend) -> None:
    with backend(2) as scheduler:
        with scheduler.start_actors(handlers.echo, 2, initial="first") as group:
            found = {receive(group, lambda r, n=n: r[0] == n)[2] for n in (0, 1)}
            assert found == {"first"}
            assert not scheduler.room_for(), "they occupy both cores"
            group.publish("lost on the way")
            group.publish({"step": 7})
            for number in (0, 1):
                receive(group, lambda r, n=number: r[0] == n and r[2] == {"step": 7})
            assert group.crashes == 0
        assert scheduler.room_for(Resources(2))
        with pytest.raises(InputError, match="3 cores"):
            scheduler.start_actors(handlers.echo, 3, initial=1)
        with pytest.raises(InputError, match="at least 1 actor"):
            scheduler.start_actors(handlers.echo, 0, initial=1)


def test_a_killed_actor_is_started_again_and_told_the_newest(apart: Backend) -> None:
    crashes: list[Crash] = []
    with apart(1) as scheduler:
        group = scheduler.start_actors(handlers.echo, 1, initial="old", on_restart=crashes.append)
        number, pid, value = receive(group)
        assert (number, value) == (0, "old")
        group.publish("new")
        os.kill(pid, signal.SIGKILL)
        number, other, value = receive(group, lambda r: r[0] == 1)
        assert value == "new" and other != pid
        assert group.crashes == 1
    assert crashes == [Crash("its process ended", -signal.SIGKILL)]
    assert not psutil.pid_exists(other), "closing the scheduler ends the actors"


def test_an_exception_is_told_and_counted(backend: Backend) -> None:
    crashes: list[Crash] = []
    with backend(1) as scheduler:
        group = scheduler.start_actors(
            handlers.echo, 1, initial="raise", most_crashes=3, on_restart=crashes.append
        )
        with pytest.raises(CrashLimitError, match="3 times in a row: ValueError: told to") as error:
            receive(group)
        assert error.value.count == 3 and group.crashes == 3
    assert [crash.why for crash in crashes] == ["ValueError: told to"] * 2


def test_a_result_in_between_begins_the_count_anew(backend: Backend) -> None:
    with backend(1) as scheduler:

        def go_on(crash: Crash) -> None:
            group.publish(group.crashes)

        group = scheduler.start_actors(
            handlers.echo, 1, initial=0, most_crashes=2, on_restart=go_on
        )
        for crashes in (1, 2, 3):
            receive(group)
            group.publish("end")
            receive(group, lambda r, c=crashes: r[2] == c)
            assert group.crashes == crashes


def test_actors_that_die_at_once_end_the_group(apart: Backend) -> None:
    with apart(1) as scheduler:
        group = scheduler.start_actors(handlers.dies, 1, initial=0)
        with pytest.raises(CrashLimitError) as error:
            receive(group)
    assert error.value.count == 5 and error.value.crash == Crash("its process ended", 4)


def test_processes_have_the_variables_they_were_given(apart: Backend) -> None:
    with apart(1) as scheduler:
        group = scheduler.start_actors(
            handlers.variables, 1, initial=0, environment={"MUZERO_RC_TEST": "yes"}
        )
        assert receive(group) == "yes"
    assert "MUZERO_RC_TEST" not in os.environ


def test_published_values_leave_no_litter(tmp_path: Path) -> None:
    with ProcessScheduler(1, folder=tmp_path) as scheduler:
        group = scheduler.start_actors(handlers.echo, 1, initial="x" * 10**6)
        assert receive(group)[2] == "x" * 10**6
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())
