"""The benchmark lottery, on boards whose answers are known and against scipy."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from muzero_rc.cli.main import main
from muzero_rc.errors import InputError
from muzero_rc.evaluation.measure.ranking import AGGREGATORS, aggregate, draw_subsets, kendall_tau
from muzero_rc.evaluation.measure.summary import compare, summarize
from muzero_rc.evaluation.results import BdEntry, EncodeRecord, Results
from muzero_rc.evaluation.sensitivity.lottery import lottery

METRICS = ("psnr_avg", "psnr_overall", "psnr_y")
LADDER = (100, 200, 400, 800, 1600)


def results(
    percents: dict[str, list[float | None]],
    sources: list[str] | None = None,
    **other_metrics: dict[str, list[float | None]],
) -> Results:
    """By method, the BD-rate on each clip; VBR's curve is 30 dB and 3 dB for each doubling."""
    clips = [f"clip{i}" for i in range(len(next(iter(percents.values()))))]
    methods = {"vbr": [0.0] * len(clips), **percents}
    encodes = []
    for c, clip in enumerate(clips):
        for target, (method, values) in itertools.product(LADDER, methods.items()):
            factor = 1 + (values[c] or 0.0) / 100
            db = 30 + 3 * math.log2(target / 100)
            encodes.append(record(clip, method, target, target * factor, db))
    bd = [
        BdEntry(
            clip=clip, method=method, metric=metric,
            percent=other_metrics.get(metric, percents)[method][c],
            overlap=1.0, db=0.0, reason="", dropped=0,
        )
        for c, clip in enumerate(clips) for method in percents for metric in METRICS
    ]  # fmt: skip
    settings = {
        "clips": [
            {"name": clip, "source": source}
            for clip, source in zip(clips, sources or clips, strict=True)
        ]
    }
    return Results(
        settings=settings, encodes=encodes, bd_rate=bd,
        summary=summarize(encodes, [], bd, list(methods)),
    )  # fmt: skip


def record(clip: str, method: str, target: int, kbps: float, db: float) -> EncodeRecord:
    return EncodeRecord(
        clip=clip, method=method, target_kbps=target, actual_kbps=kbps, bytes=1, psnr_avg=db,
        psnr_overall=db, psnr_y=db, psnr_worst=db, psnr_p5=db, psnr_deviation=0.0,
        psnr_last_second=db, seconds=1.0, decision_seconds=0.0, preparation_seconds=0.0,
        frames=1, coded_frames=1, qindex=[1], sha256="", clip_sha256="", settings={}, key="",
    )  # fmt: skip


scores = st.integers(2, 6).flatmap(
    lambda m: st.lists(st.lists(st.floats(-1, 1), min_size=m, max_size=m), min_size=1, max_size=6)
)


@given(scores, st.data())
def test_tau_is_scipys(rows, data) -> None:
    reference = data.draw(st.permutations(rows[0]))
    ours = kendall_tau(np.array(rows), np.array(reference))
    for row, tau in zip(rows, ours, strict=True):
        theirs = stats.kendalltau(row, reference).statistic
        assert tau == pytest.approx(0.0 if math.isnan(theirs) else theirs)


@settings(deadline=None)
@given(st.integers(1, 12), st.data())
def test_subsets_are_all_or_as_many_as_asked_for(n, data) -> None:
    k = data.draw(st.integers(1, n))
    found, exhaustive = draw_subsets(n, k, 100, np.random.default_rng(0))
    assert found.shape == (min(math.comb(n, k), 100), k)
    assert exhaustive == (math.comb(n, k) <= 100)
    assert all(len(set(row)) == k and min(row) >= 0 and max(row) < n for row in found.tolist())
    if exhaustive:
        assert len({frozenset(row) for row in found.tolist()}) == len(found)


def test_drawn_subsets_take_every_clip_equally_often() -> None:
    found, exhaustive = draw_subsets(30, 10, 6000, np.random.default_rng(1))
    assert not exhaustive
    counts = np.bincount(found.ravel(), minlength=30)
    # Binomial, 6000 draws of probability 1/3: five deviations.
    assert abs(counts - 2000).max() < 5 * math.sqrt(6000 * 2 / 9)


def test_a_method_that_is_better_everywhere_wins_every_draw() -> None:
    found = lottery(results({"proposal": [-1, -2, -3, -4], "mine": [-5, -6, -7, -8]}))
    assert found.winner == "mine"
    assert [s.win_share["mine"] for s in found.samples] == [1.0] * 4
    assert all(s.exhaustive and s.tau_p5 == 1.0 for s in found.samples)
    assert [s.draws for s in found.samples] == [4, 6, 4, 1]
    assert found.stable_size == {"proposal": 1, "mine": 1}
    assert found.stable_winner_size == 1
    assert found.aggregator_disagreement == 0.0
    assert {t.winner for t in found.targets} == {"mine"}
    assert {t.rungs for t in found.targets} == set(itertools.combinations(range(1, 6), 4))
    assert not any(i.sign_flips for i in found.clip_influence)


def test_one_clip_that_decides_is_found_out() -> None:
    """Nine clips at +1 %, one at -30 %: the mean is a gain, the median a loss."""
    found = lottery(results({"mine": [1.0] * 9 + [-30.0]}))
    assert found.winner == "mine"
    winners = {a.name: a.winner for a in found.aggregates}
    assert winners == {
        "mean": "mine", "mean_percent": "mine", "median": "vbr", "mean_rank": "vbr",
        "share_lost": "vbr", "worst": "vbr",
    }  # fmt: skip
    # 2 against 4: 8 of 15 pairs disagree.
    assert found.aggregator_disagreement == pytest.approx(8 / 15)
    first = found.clip_influence[0]
    assert (first.left_out, first.sign_flips, first.winner) == ("clip9", ("mine",), "vbr")
    assert first.shift["mine"] == pytest.approx(
        math.log(1.01) - (9 * math.log(1.01) + math.log(0.7)) / 10
    )
    assert found.stable_size == {"mine": None}
    # A subset of k has the decisive clip in k of 10 cases.
    for sample in found.samples:
        assert sample.same_sign["mine"] == pytest.approx(sample.size / 10)
        assert sample.win_share["mine"] == pytest.approx(sample.size / 10)
        assert sample.tau_mean == pytest.approx(2 * sample.size / 10 - 1)


def test_a_source_counts_as_a_whole_when_left_out() -> None:
    found = lottery(results({"mine": [-9.0, -9.0, 1.0, 2.0]}, sources=["film", "film", "a", "b"]))
    assert found.sources == 3
    film = found.source_influence[0]
    assert (film.left_out, film.clips, film.sign_flips) == ("film", 2, ("mine",))
    assert {i.left_out for i in found.source_influence} == {"film", "a", "b"}
    assert lottery(results({"mine": [1.0, 2.0]})).source_influence == ()


def test_the_smallest_stable_size_by_hand() -> None:
    """Five clips, one of -1 % and four of +1 %: two clips may tie, three never mislead."""
    found = lottery(results({"mine": [-1.0, 1.0, 1.0, 1.0, 1.0]}))
    shares = {s.size: s.same_sign["mine"] for s in found.samples}
    # log(0.99) + log(1.01) < 0: the pairs with the odd clip have the other sign.
    assert shares == pytest.approx({1: 0.8, 2: 0.6, 3: 1.0, 4: 1.0, 5: 1.0})
    assert found.stable_size == {"mine": 3}


def test_metrics_draw_their_own_winner() -> None:
    found = lottery(
        results(
            {"proposal": [-1.0, -1.0], "mine": [-2.0, -2.0]},
            psnr_y={"proposal": [-3.0, None], "mine": [-1.0, -1.0]},
        )
    )
    draws = {m.metric: m for m in found.metrics}
    assert list(draws) == list(METRICS)
    assert (draws["psnr_overall"].winner, draws["psnr_overall"].tau) == ("mine", 1.0)
    assert (draws["psnr_y"].winner, draws["psnr_y"].clips) == ("proposal", 1)
    # vbr last in both, the others swapped: 1 of 3 pairs disagrees.
    assert draws["psnr_y"].tau == pytest.approx(1 / 3)


def test_the_ladder_matters_where_curves_cross() -> None:
    """Better at low rates, worse at high ones."""
    encodes = []
    for clip in ("a", "b"):
        for i, target in enumerate(LADDER):
            db = 30.0 + 3 * i
            encodes.append(record(clip, "vbr", target, target, db))
            encodes.append(record(clip, "mine", target, target * (0.8 + 0.1 * i), db))
    bd = compare(encodes, ["a", "b"], ["vbr", "mine"])
    found = lottery(Results(settings={}, encodes=encodes, bd_rate=bd))
    means = {t.rungs: t.mean["mine"] for t in found.targets}
    assert means[1, 2, 3, 4] < 0 < means[2, 3, 4, 5]
    assert {t.rungs: t.winner for t in found.targets}[2, 3, 4, 5] == "vbr"


def test_the_same_seed_draws_the_same() -> None:
    percents = np.random.default_rng(0).normal(-1, 5, 40).tolist()
    board = results({"proposal": percents[:20], "mine": percents[20:]})
    first = lottery(board, draws=300, seed=4)
    assert first == lottery(board, draws=300, seed=4)
    assert first != lottery(board, draws=300, seed=5)
    assert [s.exhaustive for s in first.samples][:3] == [True, True, False]
    for sample in first.samples:
        assert sum(sample.win_share.values()) == pytest.approx(1.0)
    assert first.samples[-1].win_share[first.winner] == 1.0


@given(scores)
def test_aggregators_do_not_care_for_the_order_of_clips(rows) -> None:
    board = np.array(rows)
    for name in AGGREGATORS:
        assert aggregate(name, board) == pytest.approx(aggregate(name, board[::-1]))
    with pytest.raises(InputError, match="no aggregator 'mode'"):
        aggregate("mode", board)


def test_undefined_clips_and_the_noise_run_stay_out() -> None:
    board = results({"vbr-aa": [9.0, 9.0, 9.0], "mine": [-1.0, None, -3.0]})
    found = lottery(board)
    assert found.methods == ("vbr", "mine")
    assert found.left_out == ("clip1",)
    assert found.clips == 2


def test_no_verdict_no_lottery() -> None:
    for board, words in (
        (results({"mine": [1.0]}), "1 clips have .* needs at least 2"),
        (results({"vbr-aa": [1.0, 2.0]}), "no method beside the anchor"),
    ):
        with pytest.raises(InputError, match=words):
            lottery(board)
    with pytest.raises(InputError, match="no metric 'vmaf'; give one of psnr_avg"):
        lottery(results({"mine": [1.0, 2.0]}), metric="vmaf")


def test_command(tmp_path, capsys) -> None:
    percents = {"proposal": [-1.0, 2.0, 1.0, -4.0], "mine_1": [-5.0, 6.0, -7.0, -8.0]}
    results(percents, sources=["f", "f", "g", "h"]).save(tmp_path)
    assert main(["lottery", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "over 4 clips of 3 sources the winner is mine_1" in text
    assert "metrics: 3 of 3 agree" in text
    assert max(map(len, text.splitlines())) <= 160
    assert main(["lottery", str(tmp_path / "results.json"), "--json", "--draws", "5"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["type"] == "lottery"
    assert data["winner"] == "mine_1"
    assert len(data["samples"]) == 4
    assert main(["lottery", str(tmp_path), "--format", "md"]) == 0
    assert "| mean of log ratios |" in capsys.readouterr().out.replace("  ", " ").replace("  ", "")
    for words, says in (
        (["none.json"], "cannot read none.json"),
        ([str(tmp_path), "--metric", "vmaf"], "no metric 'vmaf'"),
        ([str(tmp_path), "--draws", "0"], "--draws must be at least 1"),
        ([str(tmp_path), "--seed=-1"], "--seed must be at least 0"),
    ):
        assert main(["lottery", *words]) == 2
        assert says in capsys.readouterr().err


def test_results_without_sources_make_each_clip_its_own() -> None:
    board = dataclasses.replace(results({"mine": [1.0, 2.0, 3.0]}), settings={})
    assert lottery(board).sources == 3
