"""Three headlines, each with its time, from methods that are known by their settings."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import pytest
import tyro

from muzero_rc.cli.evaluate import EvaluateArgs
from muzero_rc.cli.methods import methods_of
from muzero_rc.evaluation.report.headlines import Headline, headlines
from muzero_rc.evaluation.results import Results

ALONE = {"speed_profile": "uniform", "passes": 2, "show_existing": False}
PROBED = ALONE | {"passes": 3}
OWN = {"speed_profile": "hierarchical", "passes": 3}
"""What landed and all that is made on it wish for."""

COMMAND = "muzero-rc evaluate 'a b.mp4' --out out --policy planned --speed 5"


def three(results: Results, lead: str = "planned") -> dict[str, Headline]:
    found = headlines(results, lead, "psnr_avg")
    assert [h.key for h in found] == ["a", "b", "c"]
    return {h.key: h for h in found}


@pytest.fixture
def whole(make_results) -> Results:
    """All that the first and the third take; names say nothing of what a method is."""
    savings = {
        "one": {"planned": 0.20, "L": 0.20, "E": 0.18, "A": 0.04, "LA": 0.05, "P": 0.06},
        "two": {"planned": 0.30, "L": 0.25, "E": 0.28, "A": 0.02, "LA": 0.02, "P": 0.04},
        "three": {"planned": 0.25, "L": 0.20, "E": 0.20, "A": 0.03, "LA": 0.03, "P": 0.02},
    }
    return make_results(
        savings,
        specs={"E": "planned", "A": "planned", "P": "planned", "L": "landed", "LA": "landed"},
        changes={"E": {"show_existing": False}, "A": ALONE, "LA": ALONE, "P": PROBED},
        wished=dict.fromkeys(("planned", "L", "E"), OWN),
        seconds={"planned": 2.5, "L": 2.0, "E": 2.6, "A": 1.1, "P": 1.5},
        command=COMMAND,
    )


def test_qindexes_alone_are_found_by_their_settings(whole) -> None:
    found = three(whole)["a"]
    gain = found.gain
    assert gain is not None and (gain.method, gain.n, gain.undefined) == ("A", 3, 0)
    assert gain.value == pytest.approx(-3.0)  # 4, 2 and 3 percent
    assert gain.low == pytest.approx(-4.0) and gain.high == pytest.approx(-2.0)
    assert gain.time == pytest.approx(1.1)
    # 0.96 / 0.95 on one clip, no more nor less on two.
    assert gain.learned is not None and gain.learned.without == "LA"
    assert gain.learned.gain.mean == pytest.approx((96 / 95 - 1) * 100 / 3)
    assert not gain.learned.same
    (probed,) = found.beside
    assert (probed.label, probed.method) == ("With a probe encode", "P")
    assert (probed.value, probed.time) == (pytest.approx(-4.0), pytest.approx(1.5))
    assert probed.learned is None
    assert found.missing == "Not measured: what is learned with it."
    assert "--policy landed@speed_profile=uniform,show_existing=off " in found.command


def test_everything_has_its_time_what_is_learned_and_the_figure_without_repeats(whole) -> None:
    found = three(whole)["c"]
    gain = found.gain
    assert gain is not None and gain.method == "planned"
    assert (gain.value, gain.time) == (pytest.approx(-25.0), pytest.approx(2.5))
    assert found.held == "As evaluated, against VBR at speed 5"
    learned = gain.learned
    assert learned is not None and learned.without == "L"
    # 0, 70 / 75 - 1 and 75 / 80 - 1.
    assert learned.gain.mean == pytest.approx(-4.30556, abs=1e-4)
    assert learned.gain.error == pytest.approx(2.15613, abs=1e-4)
    assert (learned.gain.better, learned.gain.n) == (2, 3)
    assert learned.gain.worst == pytest.approx(0.0, abs=1e-9)
    (coded,) = found.beside
    assert (coded.label, coded.method) == ("Every frame coded", "E")
    assert (coded.value, coded.time) == (pytest.approx(-22.0), pytest.approx(2.6))
    assert (found.missing, found.command) == ("", "")


def test_clips_of_one_source_are_counted_together(whole) -> None:
    for clip in whole.settings["clips"]:
        clip["source"] = "film" if clip["name"] != "one" else "other"
    learned = three(whole)["c"].gain.learned
    # Sums of deviations of 4.30556 and as much less: sqrt(2 * 4.30556^2 * 2) / 3.
    assert learned.gain.error == pytest.approx(2 * 4.30556 / 3, abs=1e-4)


def test_the_same_bytes_are_told(whole) -> None:
    shas = {(e.clip, e.target_kbps): e.sha256 for e in whole.encodes if e.method == "A"}
    encodes = [
        dataclasses.replace(e, sha256=shas[e.clip, e.target_kbps]) if e.method == "LA" else e
        for e in whole.encodes
    ]
    same = dataclasses.replace(whole, encodes=encodes)
    assert three(same)["a"].gain.learned.same
    assert not three(same)["c"].gain.learned.same


def test_what_is_not_there_has_one_command_that_measures_it_all(make_results) -> None:
    """In one run, in a folder of its own: times of two runs are not to be compared."""
    results = make_results(
        {"one": {"proposal": 0.02, "planned": 0.2}}, wished={"planned": OWN}, command=COMMAND
    )
    found = three(results)
    alone, over_time, everything = found["a"], found["b"], found["c"]
    assert alone.gain is None and alone.missing == "Not measured."
    assert over_time.gain is None and over_time.missing == "Not measured."
    assert everything.gain is not None and everything.gain.value == pytest.approx(-20.0)
    assert everything.missing == "Not measured: what is learned, every frame coded."
    assert {h.command for h in found.values()} == {
        "muzero-rc evaluate 'a b.mp4' --out out-headlines --policy planned --speed 5"
        " --policy planned@speed_profile=uniform,passes=2,show_existing=off"
        " --policy landed@speed_profile=uniform,passes=2,show_existing=off"
        " --policy planned@speed_profile=uniform,passes=3,show_existing=off"
        " --policy landed@speed_profile=uniform,show_existing=off"
        " --policy vbr@speed=1 --policy vbr@speed=2 --policy vbr@speed=3 --policy vbr@speed=4"
        " --policy landed --policy planned@show_existing=off --no-cache"
    }


def test_the_command_names_what_evaluate_knows(make_results) -> None:
    """Its policies are those that the results would be searched for."""
    results = make_results({"one": {"planned": 0.2}}, wished={"planned": OWN}, command=COMMAND)
    words = shlex.split(three(results)["a"].command)
    args = tyro.cli(EvaluateArgs, args=words[2:])
    assert (args.out, args.no_cache, args.speed) == (Path("out-headlines"), True, 5)
    methods = methods_of(args.policy)
    wished = {m.name: OWN for m in methods if m.spec in ("planned", "landed")}
    savings = {m.name: 0.1 * (m.spec != "vbr" or m.changes != {}) for m in methods}
    times = {m.name: 10.0 - m.changes.get("speed", 5) for m in methods}
    again = make_results(
        {"one": savings},
        specs={m.name: m.spec for m in methods},
        changes={m.name: m.changes for m in methods},
        wished=wished,
        seconds=times,
    )
    found = three(again)
    assert [h.missing for h in found.values()] == ["", "", ""]
    assert [h.command for h in found.values()] == ["", "", ""]
    assert found["a"].gain.learned and found["a"].beside[0].learned
    assert found["c"].gain.learned and found["c"].beside


@pytest.mark.parametrize(
    ("speed", "others"), [(5, (1, 2, 3, 4)), (2, (1,)), (1, (0,)), (0, (1,)), (None, range(1, 6))]
)
def test_the_curve_takes_slower_speeds(make_results, speed, others) -> None:
    results = make_results({"one": {"planned": 0.2}}, command=COMMAND)
    results.settings["encoder"]["speed"] = speed
    words = shlex.split(three(results)["b"].command)
    assert [w for w in words if w.startswith("vbr")] == [f"vbr@speed={n}" for n in others]


def test_times_of_two_runs_make_no_curve(make_results) -> None:
    clips = {"one": {"vbr@speed=3": 0.10, "vbr@speed=1": 0.20, "planned": 0.18}}
    results = at_speeds(make_results, clips)
    encodes = [
        dataclasses.replace(e, seconds=0.5) if e.method == "vbr@speed=1" else e
        for e in results.encodes
    ]
    found = three(dataclasses.replace(results, encodes=encodes))["b"]
    assert found.gain is None
    assert found.missing.endswith("not timed in one run.")
    assert "--policy vbr@speed=3 --policy vbr@speed=1 " in found.command


@pytest.mark.parametrize(
    ("command", "begins"),
    [
        ("muzero-rc evaluate c --out o/", "muzero-rc evaluate c --out o-headlines --policy muzero"),
        ("muzero-rc evaluate c --out o --no-cache", "muzero-rc evaluate c --out o-headlines --no-"),
        (None, "muzero-rc evaluate CLIPS --out DIR-headlines --policy planned --policy "),
        ("broken 'quote", "muzero-rc evaluate CLIPS --out DIR-headlines --policy planned --policy"),
    ],
)
def test_commands_keep_what_was_evaluated(make_results, command, begins) -> None:
    results = make_results({"one": {"planned": 0.2}}, wished={"planned": OWN}, command=command)
    found = three(results)["c"].command
    assert found.startswith(begins)
    assert found.count("--no-cache") == 1


def test_few_targets_are_no_curve_again(make_results) -> None:
    """Of three targets nothing can be told, and the command asks for as many as it takes."""
    results = make_results(
        {"one": {"planned": 0.2}}, command=f"{COMMAND} --targets 100,200,400 --frames 8"
    )
    few = [e for e in results.encodes if e.target_kbps <= 400]
    for found in three(dataclasses.replace(results, encodes=few)).values():
        assert found.gain is None and found.beside == ()
        assert found.missing == "A BD-rate takes 4 targets and there are 3."
        assert "--targets" not in found.command and " --speed 5 --frames 8 " in found.command
    assert "--targets 100,200,400 --frames 8" in three(results)["b"].command


def at_speeds(make_results, savings: dict[str, dict[str, float]], **more: Any) -> Results:
    """VBR and the method at speeds 5, 3 and 1, in 1, 2 and 8 times the time, and 4 times."""
    names = {"vbr@speed=3": 3, "vbr@speed=1": 1}
    return make_results(
        savings,
        specs=dict.fromkeys(names, "vbr") | {"planned@speed=3": "planned"},
        changes={name: {"speed": speed} for name, speed in names.items()}
        | {"planned@speed=3": {"speed": 3}},
        wished=dict.fromkeys(("planned", "planned@speed=3"), OWN),
        seconds={"vbr@speed=3": 2.0, "vbr@speed=1": 8.0, "planned": 4.0, "planned@speed=3": 6.0},
        **more,
    )


def test_equal_time_is_read_from_the_curve(make_results) -> None:
    clips = {
        name: {"vbr@speed=3": 0.10, "vbr@speed=1": 0.20, "planned": saving}
        for name, saving in (("one", 0.17), ("two", 0.19))
    }
    found = three(at_speeds(make_results, clips))["b"]
    # At four times VBR's time VBR is half way from -10 to -20; the method is at -18.
    assert found.gain.value == pytest.approx(-3.0)
    assert (found.gain.n, found.gain.undefined, found.gain.time) == (2, 0, 4.0)
    assert (found.unit, found.missing, found.command) == ("points", "", "")
    assert found.gain.low is None


def test_the_curve_is_of_the_same_clips(make_results) -> None:
    clips = {
        "one": {"vbr@speed=3": 0.10, "vbr@speed=1": 0.20, "planned": 0.18},
        "two": {"vbr@speed=3": 0.50, "vbr@speed=1": 0.60, "planned": 0.1},
    }
    results = at_speeds(make_results, clips)
    few = [
        e for e in results.encodes
        if (e.clip, e.method) != ("two", "planned") or e.target_kbps < 200
    ]  # fmt: skip
    found = three(dataclasses.replace(results, encodes=few))["b"].gain
    assert (found.n, found.undefined) == (1, 1)
    assert found.value == pytest.approx(-3.0)


def test_slower_speeds_that_gain_nothing_are_no_curve(make_results) -> None:
    clips = {"one": {"vbr@speed=3": -0.1, "vbr@speed=1": -0.2, "planned": 0.2}}
    found = three(at_speeds(make_results, clips))["b"]
    assert found.gain is None and found.command == ""
    assert found.missing == "No slower speed of VBR needs less bitrate here."


def test_a_method_of_another_speed_is_against_vbr_at_that_speed(make_results) -> None:
    clips = {"one": {"vbr@speed=3": 0.10, "vbr@speed=1": 0.20, "planned@speed=3": 0.28}}
    results = at_speeds(make_results, clips)
    found = three(results, "planned@speed=3")
    gain = found["c"].gain
    assert gain.value == pytest.approx(-20.0)  # 72 / 90
    assert gain.time == pytest.approx(3.0)
    assert found["c"].held == "As evaluated, against VBR at speed 3"
    assert "--policy landed@speed=3" in found["c"].command
    assert "--policy planned@speed=3,show_existing=off" in found["c"].command
    # VBR with other settings beside its speed is another thing.
    for entry in results.settings["methods"]:
        if entry["name"] == "vbr@speed=3":
            entry["changes"]["tpl"] = False
    other = three(results, "planned@speed=3")["c"]
    assert other.gain is None and other.missing == "Not measured."
    assert "--policy vbr@speed=3 " in other.command


def test_the_control_is_qindexes_alone_and_has_nothing_learned(make_results) -> None:
    found = three(make_results({"one": {"proposal": 0.02}}), "proposal")
    assert found["a"].gain.method == "proposal"
    assert found["a"].missing == found["c"].missing == ""
    assert found["c"].gain.learned is None


def test_another_encoder_has_no_qindexes_of_ours(make_results) -> None:
    results = make_results({"one": {"x264": 0.3}}, specs={"x264": "external:x264 {in}"})
    for record in results.encodes:
        if record.method == "x264":
            for name in ("speed_profile", "passes", "show_existing", "speed"):
                del record.settings[name]
    found = three(results, "x264")
    assert found["a"].gain is None and found["a"].command == ""
    assert "Another encoder" in found["a"].missing
    assert found["c"].gain.value == pytest.approx(-30.0)
    assert found["c"].held == "As evaluated, against two-pass VBR"


def test_an_encode_that_is_missing_leaves_no_time(whole) -> None:
    encodes = [e for e in whole.encodes if (e.method, e.clip, e.target_kbps) != ("A", "one", 100)]
    gain = three(dataclasses.replace(whole, encodes=encodes))["a"].gain
    assert gain.time is None and gain.value is not None
