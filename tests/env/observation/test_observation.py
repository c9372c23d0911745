"""Observations: finite, bounded, independent of the size, and cheap."""

from __future__ import annotations

import dataclasses
import math
import re
import timeit
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.control.baselines import ConstantPolicy, ProposalPolicy
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.gym.env import VP9RateControlEnv
from muzero_rc.env.observation.builder import (
    BOUND,
    CLIP_COLUMNS,
    CLIP_FEATURES,
    FRAME_CLIP_COLUMNS,
    FRAME_COLUMNS,
    FRAME_FEATURES,
    GLOBAL_COLUMNS,
    GLOBAL_FEATURES,
    HISTORY_COLUMNS,
    HISTORY_FEATURES,
    HISTORY_POSITION_COLUMNS,
    POSITION_SCALE,
    ObservationBuilder,
    clip_features,
)
from muzero_rc.env.passes.stepper import Stepper
from muzero_rc.env.testing.fakes import FakeBackend, FakeClip, FakeFirstPass, fake_stats
from muzero_rc.errors import InputError
from muzero_rc.types import FrameInfo, FrameResult, Observation, Policy, UpdateType

SETTINGS = EncoderSettings(target_kbps=100, speed=5)


def _named(names: tuple[str, ...], row: npt.NDArray[np.float32]) -> dict[str, float]:
    return dict(zip(names, row.tolist(), strict=True))


def _info(index: int, **changes: object) -> FrameInfo:
    info = FrameInfo(
        coding_index=index,
        show_index=index,
        update_type=UpdateType.LEAF if index else UpdateType.KEY,
        shown=True,
        gop_index=index % 9,
        gop_size=9,
        layer_depth=2,
        max_layer_depth=2,
        frames_to_key=30,
        ref_coding_indexes=(index - 1, 0, -1),
        proposal_qindex=80,
        proposal_bits=4000,
        min_qindex=40,
        max_qindex=200,
        boost=300,
    )
    return dataclasses.replace(info, **changes)  # type: ignore[arg-type]


def _result(index: int, **changes: object) -> FrameResult:
    result = FrameResult(
        coding_index=index,
        show_index=index,
        shown=True,
        qindex=100,
        bits=4000,
        sse=(100_000, 10_000, 10_000),
        samples=(176 * 144, 88 * 72, 88 * 72),
        intra_blocks=100,
        inter_blocks=296,
        skip_blocks=99,
        cpu_seconds=0.01,
    )
    return dataclasses.replace(result, **changes)  # type: ignore[arg-type]


def _builder(
    clip: FakeClip | None = None, config: EncoderSettings = SETTINGS
) -> ObservationBuilder:
    clip = clip or FakeClip()
    return ObservationBuilder(clip, config, FakeFirstPass(fake_stats(clip)))


def _check(observation: Observation) -> None:
    rows = len(observation.history)
    assert observation.clip.shape[1:] == (CLIP_FEATURES,)
    assert observation.history.shape == (rows, HISTORY_FEATURES)
    assert observation.frame.shape == (FRAME_FEATURES,)
    assert observation.globals.shape == (GLOBAL_FEATURES,)
    bounded = observation.history[:, : -len(HISTORY_POSITION_COLUMNS)]
    for array in (observation.clip, bounded, observation.frame, observation.globals):
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
        assert np.abs(array).max(initial=0.0) <= BOUND


@pytest.mark.parametrize("columns", [CLIP_COLUMNS, HISTORY_COLUMNS, FRAME_COLUMNS, GLOBAL_COLUMNS])
def test_column_names_are_unique(columns: tuple[str, ...]) -> None:
    assert len(set(columns)) == len(columns)


@pytest.mark.parametrize("policy", [ProposalPolicy(), ConstantPolicy(0), ConstantPolicy(255)])
@pytest.mark.parametrize("frames", [1, 2, 70])
def test_whole_episodes_stay_in_bounds(policy: Policy, frames: int) -> None:
    clip = FakeClip(num_frames=frames)
    backend = FakeBackend()
    first_pass = backend.first_pass(clip, SETTINGS)
    with Stepper.open(backend, clip, SETTINGS, first_pass) as episode:
        coded = 0
        while episode.info is not None:
            observation = episode.observe()
            _check(observation)
            assert len(observation.history) == coded
            assert observation.clip is episode.observe().clip
            episode.step(int(policy.qindexes([observation])[0]))
            coded += 1
        _check(episode.observe())
        assert _named(GLOBAL_COLUMNS, episode.observe().globals)["frames_done"] == 1.0


@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 5), st.just(25)),
        elements=st.floats(allow_nan=True, allow_infinity=True),
    ),
    st.integers(1, 5000),
    st.integers(1, 5000),
)
@hypothesis_settings(max_examples=100, deadline=None)
def test_clip_features_survive_any_statistics(
    stats: npt.NDArray[np.float64], width: int, height: int
) -> None:
    features = clip_features(stats, width, height)
    assert features.shape == (len(stats), CLIP_FEATURES)
    assert np.isfinite(features).all()
    assert np.abs(features).max() <= BOUND


@given(st.data())
@hypothesis_settings(max_examples=100, deadline=None)
def test_frames_and_results_survive_any_numbers(data: st.DataObject) -> None:
    big = st.integers(0, 2**40)
    builder = _builder()
    for index in range(3):
        info = _info(
            index,
            show_index=data.draw(st.integers(0, 29)),
            update_type=data.draw(st.sampled_from(UpdateType)),
            gop_index=data.draw(big),
            gop_size=data.draw(big),
            layer_depth=data.draw(st.integers(0, 9)),
            max_layer_depth=data.draw(st.integers(0, 9)),
            frames_to_key=data.draw(big),
            ref_coding_indexes=(index - 1, 99, -1),
            proposal_bits=data.draw(big),
            boost=data.draw(big),
            tpl_intra_cost=data.draw(big),
            tpl_mc_dep_cost=data.draw(big),
        )
        _check(builder.observe(info))
        sse = data.draw(big)
        result = _result(
            index,
            bits=data.draw(big),
            sse=(sse, sse, sse),
            intra_blocks=data.draw(st.integers(0, 9)),
            inter_blocks=data.draw(st.integers(0, 9)),
            skip_blocks=data.draw(st.integers(0, 20)),
        )
        builder.record(info, result)
    _check(builder.observe(info))


def test_clip_features_carry_over_between_sizes() -> None:
    """Twice the size: same errors per macroblock, twice the motion in pixels."""
    clip = FakeClip(width=320, height=160)
    stats = fake_stats(clip)
    doubled = stats.copy()
    floor, doubled_floor = 200 / math.sqrt(200), 200 / math.sqrt(800)
    doubled[:, 2:5] += doubled_floor - floor
    doubled[:, 16:20] *= 2
    doubled[:, 20:22] *= 4  # variances
    small, large = clip_features(stats, 320, 160), clip_features(doubled, 640, 320)
    # libvpx's own share is computed with its floor, so it alone moves a little.
    rest = [i for i, name in enumerate(CLIP_COLUMNS) if name != "libvpx_share"]
    np.testing.assert_allclose(small[:, rest], large[:, rest], atol=1e-5)


def test_libvpx_share_tells_apart_easy_and_hard_frames() -> None:
    stats = fake_stats(FakeClip())
    stats[7, 3] *= 50
    share = clip_features(stats, 176, 144)[:, CLIP_COLUMNS.index("libvpx_share")]
    assert share.argmax() == 7


def test_a_clip_row_says_what_was_measured() -> None:
    stats = fake_stats(FakeClip())
    stats[:, 3] = 200 / math.sqrt(11 * 9) + (math.e**3 - 1)
    stats[:, 16] = 8 * 144 * 0.02  # 2% of the height, in eighths of a pixel
    row = _named(CLIP_COLUMNS, clip_features(stats, 176, 144)[3])
    assert row["coded_error"] == pytest.approx(0.0, abs=1e-6)
    assert row["mv_row"] == pytest.approx(math.asinh(2.0) / 2, abs=1e-6)
    assert row["coded_to_clip"] == pytest.approx(0.0, abs=1e-6)
    assert row["pcnt_inter"] == pytest.approx(stats[3, 6])
    assert row["grid_fill"] == 0.0


def test_the_frame_row_says_what_is_known() -> None:
    builder = _builder()
    builder.record(_info(0), _result(0, qindex=51, show_index=0))
    info = _info(1, show_index=10, ref_coding_indexes=(0, 0, -1), shown=False)
    info = dataclasses.replace(
        info, update_type=UpdateType.ARF, tpl_intra_cost=100, tpl_mc_dep_cost=200
    )
    observation = builder.observe(info)
    row = _named(FRAME_COLUMNS, observation.frame)
    assert [n for n in FRAME_COLUMNS if n.startswith("type_") and row[n]] == ["type_arf"]
    assert row["shown"] == 0.0
    assert row["proposal_qindex"] == pytest.approx(80 / 255)
    assert (row["last_valid"], row["altref_valid"]) == (1.0, 0.0)
    assert row["last_qindex"] == pytest.approx(51 / 255)
    assert row["last_age"] == pytest.approx(math.asinh(10) / 3)
    assert row["lead"] == pytest.approx(math.asinh(9) / 3)
    assert (row["tpl_known"], row["tpl_gain"]) == (1.0, pytest.approx(math.log(2)))
    own = _named(CLIP_COLUMNS, observation.clip[10])
    assert {c: row[f"clip_{c}"] for c in FRAME_CLIP_COLUMNS} == {
        c: own[c] for c in FRAME_CLIP_COLUMNS
    }
    assert (observation.show_index, observation.proposal_qindex) == (10, 80)


def test_the_history_row_says_what_came_of_it() -> None:
    builder = _builder()
    result = _result(300, bits=25344, show_index=298)
    builder.record(_info(300, show_index=298, proposal_bits=25344), result)
    row = _named(HISTORY_COLUMNS, builder.observe(_info(1)).history[0])
    assert row["qindex"] == pytest.approx(100 / 255)
    assert row["bpp"] == pytest.approx((math.log(1.0) + 4) / 3)
    assert row["bits_to_proposal"] == pytest.approx(0.0)
    assert row["psnr"] == pytest.approx((result.psnr - 38) / 10, abs=1e-6)
    assert row["skip_share"] == pytest.approx(0.25)
    assert row["intra_share"] + row["inter_share"] == pytest.approx(1.0)
    assert row["show_index"] * POSITION_SCALE == 298
    assert row["coding_index"] * POSITION_SCALE == 300


def test_globals_keep_the_books() -> None:
    clip = FakeClip(num_frames=10, fps=Fraction(10))
    config = EncoderSettings(target_kbps=80, speed=7)  # 8000 bits per frame
    builder = _builder(clip, config)
    before = _named(GLOBAL_COLUMNS, builder.observe(_info(0)).globals)
    assert (before["started"], before["budget_spent"], before["budget_left"]) == (0, 0, 0)
    assert (before["speed_5"], before["speed_4"]) == (1.0, 0.0)
    builder.record(_info(0), _result(0, bits=24000))
    builder.record(_info(1, shown=False), _result(1, bits=16000, shown=False))
    # A buffer shown again: counts as shown and in bits, has no row of its own.
    builder.record(None, _result(-1, bits=0, qindex=-1))
    observation = builder.observe(_info(2))
    after = _named(GLOBAL_COLUMNS, observation.globals)
    assert len(observation.history) == 2
    assert after["frames_done"] == pytest.approx(0.2)
    assert after["budget_spent"] == pytest.approx(0.5)
    assert after["budget_left"] == pytest.approx(math.log(40000 / (8 * 8000)))
    assert after["budget_lead"] == pytest.approx((40000 - 16000) / 80000)
    assert after["mean_qindex"] == pytest.approx(100 / 255)
    assert after["mean_offset"] == pytest.approx(20 / 64)
    builder.record(_info(3), _result(3, bits=900_000))
    broke = _named(GLOBAL_COLUMNS, builder.observe(_info(4)).globals)
    assert broke["budget_left"] == -BOUND


@pytest.mark.parametrize("offset", [-255, -30, 0, 255])
def test_the_rate_offset_is_bounded_as_all_else(offset: int) -> None:
    observation = _builder().observe(_info(0), offset)
    _check(observation)
    assert observation.rate_offset == offset
    shown = _named(GLOBAL_COLUMNS, observation.globals)["rate_offset"]
    assert shown == pytest.approx(min(max(offset / 48, -BOUND), BOUND))


def test_divisors_of_the_docstring_are_those_of_the_columns() -> None:
    text = VP9RateControlEnv.__doc__ or ""
    clip, config = FakeClip(num_frames=9), EncoderSettings(target_kbps=80, lag_in_frames=20)
    builder = _builder(clip, config)
    builder.record(_info(0), _result(0, qindex=92))
    builder.record(_info(7), _result(7, qindex=72))
    observation = builder.observe(_info(8), rate_offset=30)
    raw = {
        "history": {"qindex": 72, "proposal_qindex": 80, "show_index": 7, "coding_index": 7},
        "frame": {
            "max_layer_depth": 2, "proposal_qindex": 80, "min_qindex": 40, "max_qindex": 200,
            "last_qindex": 72, "golden_qindex": 92,
        },
        "globals": {
            "arf_layers": 6, "lag": 20, "mean_qindex": 82, "mean_offset": 2, "rate_offset": 30,
        },
    }  # fmt: skip
    tables = dict(re.findall(r"Columns of `(\w+)`:\n\n((?:    \|.*\n)+)", text))
    found = {
        "history": _named(HISTORY_COLUMNS, observation.history[-1]),
        "frame": _named(FRAME_COLUMNS, observation.frame),
        "globals": _named(GLOBAL_COLUMNS, observation.globals),
    }
    for table, values in raw.items():
        for name, value in values.items():
            row = re.search(rf"\| {name} \| .*/ (\d+)\b", tables[table])
            assert row is not None, name
            assert found[table][name] == pytest.approx(value / int(row[1])), name


@pytest.mark.parametrize("growth", [1.03, 1 / 1.03])
def test_blocks_that_leave_the_centre_count_below_zero(growth: float) -> None:
    width, height, frames = 176, 144, 8
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(300, 360)), 3)
    noise = 128 + 100 * noise / np.abs(noise).max()
    rows, columns = np.mgrid[:height, :width].astype(float)
    data = np.full((frames, width * height * 3 // 2), 128, np.uint8)
    for index in range(frames):
        size = growth ** (index - frames / 2)  # of what is seen
        at = [150 + (rows - height / 2) / size, 180 + (columns - width / 2) / size]
        data[index, : width * height] = ndimage.map_coordinates(noise, at, order=1).ravel()
    clip = Clip.from_frames(data, width, height, 25)
    table = clip_features(first_pass(clip, SETTINGS, cache=False).stats, width, height)
    motion = table[1:, CLIP_COLUMNS.index("mv_in_out")]
    assert (motion < -0.3).all() if growth > 1 else (motion > 0.3).all()
    assert "| mv_in_out | blocks move to the picture's centre (1) or away from it (-1) |" in (
        VP9RateControlEnv.__doc__ or ""
    )


def test_arrays_handed_out_never_change() -> None:
    builder = _builder()
    first = builder.observe(_info(0))
    builder.record(_info(0), _result(0))
    early = builder.observe(_info(1))
    kept = early.history.copy()
    for index in range(1, 200):
        builder.record(_info(index), _result(index, qindex=index))
    assert len(first.history) == 0
    np.testing.assert_array_equal(early.history, kept)
    assert len(builder.observe(_info(1)).history) == 200
    for array in (early.clip, early.history, early.frame, early.globals):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_statistics_must_fit_the_clip() -> None:
    clip = FakeClip(num_frames=5)
    with pytest.raises(InputError, match="4 frames but the clip 5"):
        ObservationBuilder(clip, SETTINGS, FakeFirstPass(fake_stats(clip)[:4]))
    with pytest.raises(InputError, match="25"):
        ObservationBuilder(clip, SETTINGS, FakeFirstPass(np.zeros((5, 24))))


def test_observing_is_cheap() -> None:
    """The policy's share of the time must stay small: well under 60 us, best of five."""
    builder = _builder(FakeClip(num_frames=300))
    for index in range(300):
        builder.record(_info(index), _result(index))
    info = _info(150)
    assert min(timeit.repeat(lambda: builder.observe(info), number=200, repeat=5)) / 200 < 60e-6
