"""One measure of how far a film is."""

from __future__ import annotations

import re

import pytest

from muzero_rc.cli.display import make_display
from muzero_rc.encode.job_progress import JobProgress, phase_costs
from muzero_rc.encode.progress import Progress

COSTS = {"first": 1.0, "second": 3.0}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_shares_go_by_costs_until_something_is_measured() -> None:
    clock = Clock()
    job = JobProgress(COSTS, 100, clock)
    assert job.read().share == 0 and job.read().eta_s is None
    clock.now = 7  # what it takes to start
    job.add("first", 10)
    clock.now = 23
    job.add("first", 40)
    # 0.4 s a frame, so 1.2 s for one of the second phase.
    assert job.read().share == pytest.approx(50 / 400)
    assert job.read().eta_s == pytest.approx(0.4 * 50 + 1.2 * 100)
    job.add("first", 50)
    clock.now = 30
    job.add("second", 1)
    clock.now = 226
    job.add("second", 49)
    # Measured by now: 4 s a frame.
    assert job.read().eta_s == pytest.approx(200)


def test_the_share_never_falls_and_ends_at_one() -> None:
    clock = Clock()
    job = JobProgress(COSTS, 100, clock)
    seen = []
    for phase, seconds in (("first", 0.1), ("second", 9.0)):
        job.add(phase, 0)
        for _ in range(100):
            clock.now += seconds
            job.add(phase, 1)
            seen.append(job.read().share)
    assert seen == sorted(seen) and seen[-1] == 1.0
    assert job.read().eta_s == 0


def test_what_an_earlier_start_has_done_tells_nothing_of_the_speed() -> None:
    clock = Clock()
    job = JobProgress(COSTS, 100, clock)
    job.add("first", 100, kept=True)
    job.add("second", 40, kept=True)
    assert job.read().share == pytest.approx((100 + 120) / 400) and job.read().eta_s is None
    clock.now = 2
    job.add("second", 1)
    clock.now = 20
    job.add("second", 9)
    assert job.read().eta_s == pytest.approx(100)


def test_a_phase_without_frames_takes_what_its_trial_took() -> None:
    clock = Clock()
    job = JobProgress(COSTS, 100, clock)
    job.expect("mux", 5.0)
    job.set_frames(110)
    assert job.done("mux") == (0, 1)
    job.add("first", 110, kept=True)
    job.add("second", 10)
    clock.now = 100
    job.add("second", 50)
    assert job.read().eta_s == pytest.approx(2.0 * 50 + 5.0)
    job.add("second", 50)
    clock.now = 200
    assert job.read().eta_s == pytest.approx(5.0)
    job.reach("mux", 1, 1)
    assert job.read().eta_s == 0 and job.read().share == 1


def test_frames_that_come_on_top_are_counted() -> None:
    job = JobProgress(COSTS, 100)
    job.add("first", 120)
    assert job.done("first") == (120, 120)
    job.set_frames(110)
    assert job.done("first") == (120, 120) and job.done("second") == (0, 110)


def test_many_workers_make_the_passes_that_they_share_cheap() -> None:
    one, four = phase_costs(4, 1), phase_costs(4, 4)
    assert four["probe"] == one["probe"] / 4 and four["first pass"] == one["first pass"]
    assert phase_costs(9, 1) == phase_costs(5, 1)
    # A whole probe encode is uniform; encodes in real time beside the first pass have no phase.
    quick = phase_costs(5, 1, probe="beside", uniform=True)
    assert quick["second pass"] == phase_costs(5, 1)["probe"] < one["second pass"]
    assert quick["probe"] == 0.0 and quick["first pass"] > one["first pass"]
    assert phase_costs(2, 1, uniform=True) == phase_costs(2, 1)


def test_a_phase_that_is_begun_anew_comes_on_top() -> None:
    clock = Clock()
    job = JobProgress(COSTS, 100, clock)
    job.add("first", 100, kept=True)
    for done in range(101):
        clock.now = done
        job.reach("second", done, 100)
    assert job.read().eta_s == 0
    clock.now = 110
    job.reach("second", 10, 100)
    assert job.done("second") == (110, 200) and job.read().eta_s == pytest.approx(90)
    assert job.read().share == 1  # it never falls


def test_a_phase_is_measured_once_its_speed_is_known() -> None:
    job = JobProgress(COSTS, 100, Clock())
    job.add("first", 1)
    job.add("first", 2)
    assert not job.read().is_measured("first")
    job.add("first", 1)
    assert job.read().is_measured("first") and not job.read().is_measured("second")


def test_a_long_job_is_estimated_once_a_phase(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    job = JobProgress(phase_costs(4, 1), 100_000, clock)
    display = make_display("film.webm")
    for phase, seconds in (("first pass", 0.002), ("probe", 0.02)):
        job.add(phase, 1)
        for _ in range(20):
            clock.now += seconds * 5000
            job.add(phase, 5000)
            display(Progress(phase, *job.done(phase), None, job.read()))
    said = [line for line in capsys.readouterr().err.splitlines() if "about" in line]
    # 2 ms a frame of the first pass: 29.14 / 0.54 times that for all phases.
    assert re.fullmatch(
        r"film.webm: about 2:59:\d\d to go, by the speed of the first pass", said[0]
    )
    assert len(said) == 2 and said[1].endswith("speed of the probe encodes")
    short = JobProgress(phase_costs(4, 1), 100, clock)
    short.add("first pass", 1)
    clock.now += 1
    short.add("first pass", 50)
    make_display("clip.webm")(Progress("first pass", 50, 100, None, short.read()))
    assert "about" not in capsys.readouterr().err
