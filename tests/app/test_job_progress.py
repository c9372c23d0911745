"""One measure of how far a film is."""

from __future__ import annotations

import pytest

from muzero_rc.encode.job_progress import JobProgress, phase_costs

COSTS = {"first": 1.0, "second": 3.0}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_shares_go_by_costs_until_something_is_measured() -> None:
    clock = Clock()
    job = JobProgress(COSTS, 100, clock)
    assert job.read().share == 0 and job.read().eta_s is None
    job.add("first", 0)
    clock.now = 20
    job.add("first", 50)
    # 0.4 s a frame, so 1.2 s for one of the second phase.
    assert job.read().share == pytest.approx(50 / 400)
    assert job.read().eta_s == pytest.approx(0.4 * 50 + 1.2 * 100)
    job.add("first", 50)
    clock.now = 30
    job.add("second", 0)
    clock.now = 230
    job.add("second", 50)
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
    clock.now = 20
    job.add("second", 10)
    assert job.read().eta_s == pytest.approx(100)


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
