"""The sentence is what the numbers say."""

import dataclasses

import pytest

from muzero_rc.errors import InputError
from muzero_rc.evaluation.report.saving import saving
from muzero_rc.evaluation.report.verdict import (
    Comparison,
    against,
    find_lead,
    give_verdict,
    times,
)


def comparison(mean, low=None, high=None, n=5, opponent="vbr", time=2.14) -> Comparison:
    percents = {f"clip {i}": mean for i in range(n)}
    return Comparison(
        method="mine", opponent=opponent, metric="psnr_avg", percents=percents, mean=mean,
        median=mean, low=low, high=high, n=n, time=time,
    )  # fmt: skip


LANDING = {"mean_abs_deviation": 0.081, "share_over_5": 0.27}


def verdict(first, second=None, landings=None):
    both = {"vbr": first} | ({"proposal": second} if second else {})
    return give_verdict("mine", both, landings or {})


@pytest.mark.parametrize(
    ("numbers", "headline", "interval"),
    [
        ((-2.34, -4.6, -0.3), "needs 2.3% less bitrate than two-pass VBR for the same PSNR",
         "95% interval of the mean BD-rate −4.6% to −0.3%, 5 clips. With so few clips it is"),
        ((2.34, 0.1, 4.6), "needs 2.3% more bitrate than", "+0.1% to +4.6%, 5 clips."),
        ((-1.5, -3.9, 0.9), "needs 1.5% less bitrate than",
         "−3.9% to +0.9%, 5 clips. It includes zero."),
        ((-1.5, None, None), "needs 1.5% less", "Mean BD-rate over 5 clips: too few for an"),
        ((0.04, -1.0, 1.0), "needs as much bitrate as two-pass VBR", "−1.0% to +1.0%"),
    ],
)  # fmt: skip
def test_sentences(numbers, headline, interval) -> None:
    found = verdict(comparison(*numbers))
    assert f"mine {headline}" in found.headline
    assert found.headline.endswith(" for the same PSNR, in 2.1 times its time")
    mean, low, high = numbers
    unclear = low is not None and low <= 0 <= high and abs(mean) >= 0.05
    assert found.headline.startswith("No clear difference: mine" if unclear else "mine")
    assert interval in found.interval
    assert found.control == found.landing == ""


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(2.14, "in 2.1 times its time"), (0.762, "in 0.76 times its time"),
     (120.0, "in 120.0 times its time"), (None, "in an unknown multiple of its time")],
)  # fmt: skip
def test_a_time_has_words(ratio, text) -> None:
    assert times(ratio, "its") == text


def test_clips_without_a_number_are_told() -> None:
    some = comparison(-2.0, -3.0, -1.0, n=4)
    some = dataclasses.replace(some, percents=some.percents | {"odd": None})
    assert "too narrow" not in verdict(comparison(-2.0, -3.0, -1.0, n=10)).interval
    assert "4 clips; undefined on 1 more." in verdict(some).interval
    none = dataclasses.replace(comparison(-2.0, n=1), mean=None, median=None, n=0)
    assert verdict(none).headline == "There is no BD-rate of mine against two-pass VBR"
    assert verdict(comparison(-1.0), none).control.startswith("There is no BD-rate")


def test_control_and_rate_accuracy_have_sentences() -> None:
    found = verdict(
        comparison(-2.0, -3.0, -1.0),
        comparison(0.5, -0.2, 1.2, opponent="proposal"),
        {"mine": LANDING, "vbr": {"mean_abs_deviation": 0.127, "share_over_5": 0.48}},
    )
    assert found.control.startswith(
        "No clear difference: mine needs 0.5% more bitrate than the control"
    )
    assert "It includes zero" in found.control
    assert found.landing == (
        "mine is off its target by 8.1% on average (two-pass VBR 12.7%); 27% of its files are more"
        " than 5% too large (two-pass VBR 48%)."
    )


def test_against_knows_the_law(three) -> None:
    vbr = against(three, "mine", "vbr", "psnr_avg")
    assert vbr.percents == pytest.approx({"one": -10.0, "two": -8.0, "three": -12.0})
    assert (vbr.mean, vbr.median, vbr.n) == (pytest.approx(-10.0), pytest.approx(-10.0), 3)
    assert vbr.low == pytest.approx(-12.0) and vbr.high == pytest.approx(-8.0)
    assert vbr.clear
    # The results' own interval is the one that is shown.
    three.summary["mine"]["psnr_avg"]["interval"] = [-13.0, 0.5]
    again = against(three, "mine", "vbr", "psnr_avg")
    assert (again.low, again.high, again.clear) == (-13.0, 0.5, False)
    control = against(three, "mine", "proposal", "psnr_y")
    expected = {"one": 0.9 / 0.95, "two": 0.92 / 0.98, "three": 0.88 / 0.97}
    assert control.percents == pytest.approx({c: 100 * (r - 1) for c, r in expected.items()})


def test_too_few_points_against_the_control_are_undefined(three) -> None:
    encodes = [e for e in three.encodes if (e.clip, e.method) != ("two", "mine")]
    found = against(dataclasses.replace(three, encodes=encodes), "mine", "proposal", "psnr_avg")
    assert found.percents["two"] is None
    assert found.n == 2


def test_saving_is_what_the_bd_rate_is_the_mean_of(three) -> None:
    one = [e for e in three.encodes if e.clip == "one"]
    found = saving(
        [e for e in one if e.method == "vbr"], [e for e in one if e.method == "mine"], "psnr_y"
    )
    assert found is not None
    assert found.percent == pytest.approx([-10.0] * 25, abs=1e-3)
    assert saving(one[:2], one, "psnr_y") is None
    assert saving([], one, "psnr_y") is None


def test_the_lead_is_chosen_by_order_not_by_numbers() -> None:
    assert find_lead(["vbr", "proposal", "b", "a"]) == "b"
    assert find_lead(["vbr", "proposal"]) == "proposal"
    assert find_lead(["vbr", "proposal", "b", "a"], "a") == "a"
    with pytest.raises(InputError, match="no method 'c' in these results; give one of"):
        find_lead(["vbr", "proposal"], "c")
    with pytest.raises(InputError, match="no method 'vbr'"):
        find_lead(["vbr", "proposal"], "vbr")
    with pytest.raises(InputError, match="nothing to report"):
        find_lead(["vbr"])
