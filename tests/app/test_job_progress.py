"""One measure of how far a film is."""

from __future__ import annotations

import re

import pytest

from muzero_rc.cli.display import make_display
from muzero_rc.encode.job_progress import JobProgress, frames_again, frames_alone, phase_costs
from muzero_rc.encode.progress import Progress

COSTS = {"first": 1.0, "second": 3.0}
CHUNK = 60  # frames that a phase's expected cost counts for


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
    clock.now = 43
    job.add("first", 50)
    clock.now = 50
    job.add("second", 1)
    clock.now = 246
    job.add("second", 49)
    # 4 s a frame by now; 1.2 s by the first phase still counts for a chunk of frames.
    assert job.read().eta_s == pytest.approx(50 * (CHUNK * 1.2 + 196) / (CHUNK + 49))


def test_what_was_expected_of_a_phase_counts_less_and_less() -> None:
    clock = Clock()
    job = JobProgress(COSTS, 6000, clock)
    job.add("first", 1)
    for _ in range(5999):
        clock.now += 1
        job.add("first", 1)
    off = []
    for _ in range(5500):
        clock.now += 9.0  # three times what the table says
        job.add("second", 1)
        eta = job.read().eta_s
        assert eta is not None
        off.append(eta / (9.0 * (6000 - job.done("second")[0])))
    assert off == sorted(off) and off[0] < 0.4 and off[600] > 0.9 and off[-1] < 1


def test_a_machine_that_gets_slower_is_soon_noticed() -> None:
    clock = Clock()
    job = JobProgress({"only": 1.0, "next": 2.0}, 4000, clock)
    job.add("only", 1)
    for seconds in (1.0, 4.0):
        for _ in range(1000):
            clock.now += seconds
            job.add("only", 1)
    eta = job.read().eta_s
    assert eta is not None
    # By the mean of all frames it would be 2.5 s.
    assert 3.4 < eta / (1999 + 2 * 4000) < 4.0


def test_frames_of_hard_chunks_weigh_more() -> None:
    clock = Clock()
    job = JobProgress({"only": 1.0}, 200, clock)
    job.add("only", 1, weight=0.5)
    for _ in range(99):  # an easy chunk, 1 s a frame; the other one takes three times that
        clock.now += 1
        job.add("only", 1, weight=0.5)
    state = job.read()
    assert state.share == pytest.approx(0.25) and state.eta_s == pytest.approx(300)
    for _ in range(100):
        clock.now += 3
        job.add("only", 1, weight=1.5)
    assert job.read().share == 1 and job.read().eta_s == 0


def test_frames_that_are_made_again_are_expected_and_then_counted() -> None:
    clock = Clock()
    job = JobProgress({"only": 1.0, "check": 0.0}, 100, clock)
    job.expect_again("only", 50)
    job.add("only", 1)
    clock.now = 98
    job.add("only", 98)
    assert job.done("only") == (99, 100)  # nobody is told of what may come
    assert job.read().eta_s == pytest.approx(51)
    job.add_ahead("only", 20, 2.0)  # it comes, and weighs 40
    assert job.done("only") == (99, 120) and job.read().eta_s == pytest.approx(41)
    job.add_ahead("only", 20, 2.0)
    assert job.read().eta_s == pytest.approx(81)
    job = JobProgress({"only": 1.0, "check": 0.0}, 100, clock)
    job.expect_again("only", 50)
    job.add("only", 100, kept=True)
    assert job.read().share == pytest.approx(100 / 150)
    job.add("check", 1)  # what has not come by then does not come
    assert job.read().share == 1


def test_frames_that_may_be_made_again_count_by_their_chance() -> None:
    clock = Clock()
    job = JobProgress({"only": 1.0, "check": 0.0}, 100, clock)
    job.add("only", 1)
    clock.now = 49
    job.add("only", 49)
    for chance in (1.0, 0.25, 0.0):
        job.expect_again("only", 40, chance)
        assert job.read().eta_s == pytest.approx(50 + 40 * chance)


def test_at_the_end_of_a_phase_workers_wait_for_the_last_chunk() -> None:
    clock = Clock()
    job = JobProgress({"only": 1.0}, 100, clock)
    job.expect_alone("only", 20)
    job.add("only", 1)
    clock.now = 49
    job.add("only", 49)
    assert job.read().eta_s == pytest.approx(50 + 20)
    clock.now = 89
    job.add("only", 40)
    assert job.read().eta_s == pytest.approx((10 + 10) * 89 / 89)
    job.add("only", 10)
    assert job.read().eta_s == 0 and job.read().share == 1


def test_repairs_have_all_workers_time_and_no_long_decode() -> None:
    one, four = frames_again(9000, 1, 10.0), frames_again(9000, 4, 10.0)
    assert one < four < 4 * one
    # What is far away is sought.
    assert frames_again(90_000, 4, 10.0) == four
    assert frames_again(100, 4, 10.0) == 50  # a short film is not made again as a whole
    assert frames_alone(1) == 0 < frames_alone(2) < frames_alone(4)


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
    # What was kept counts in seconds of this machine, too: 2/3 of one a frame, and 2.
    assert job.read().share == pytest.approx((100 * 2 / 3 + 50 * 2) / (100 * 2 / 3 + 100 * 2))


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
    # Encodes in real time beside the first pass have no phase.
    quick = phase_costs(5, 1, probe="beside", uniform=True)
    assert quick["second pass"] < one["second pass"]
    assert quick["probe"] == 0.0 and quick["first pass"] > one["first pass"]
    beside = phase_costs(5, 2, probe="beside", uniform=True)["first pass"]
    assert one["first pass"] < beside < quick["first pass"]


def test_encodes_go_with_the_square_root_of_the_bits() -> None:
    plain, four = phase_costs(4, 1), phase_costs(4, 1, bits_per_pixel=0.4)
    assert four["probe"] == 2 * plain["probe"] and four["second pass"] == 2 * plain["second pass"]
    assert four["first pass"] == plain["first pass"] and four["check"] == plain["check"]


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
    # 2 ms a frame of the first pass: 29.1 times that for all phases.
    assert re.fullmatch(
        r"film.webm: about 1:3[67]:\d\d to go, by the speed of the first pass", said[0]
    )
    assert len(said) == 2 and said[1].endswith("speed of the probe encodes")
    short = JobProgress(phase_costs(4, 1), 100, clock)
    short.add("first pass", 1)
    clock.now += 1
    short.add("first pass", 50)
    make_display("clip.webm")(Progress("first pass", 50, 100, None, short.read()))
    assert "about" not in capsys.readouterr().err
