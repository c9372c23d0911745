"""Encodes as flat arrays: what is shown, what is referred to, what a log says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muzero_rc.agents.world_model.features import (
    FEATURES,
    NUM_KINDS,
    REPEATED,
    features_of,
    matched_features,
)
from muzero_rc.agents.world_model.frames import MAX_FRAME_PSNR_DB, EncodeFrames, columns_of
from muzero_rc.env.codec.backend import LibvpxBackend
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.errors import InputError
from muzero_rc.policies.registry import make_policy
from muzero_rc.types import EpisodeScore, FrameRole, UpdateType

MakeColumns = Callable[..., dict[str, Any]]
KEY = {"update_type": int(UpdateType.KEY), "layer_depth": 0}
ARF = {"update_type": int(UpdateType.ARF), "layer_depth": 1, "shown": False}
SHOW = {"coding_index": -1, "update_type": -1, "qindex": -1, "bits": 8}


@pytest.fixture(scope="module")
def encode(
    sample_clips: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[EncodeFrames, EpisodeScore]:
    """40 frames of carphone, three passes at speed 3, with repeats."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUZERO_RC_CACHE", str(tmp_path_factory.mktemp("cache")))
        clip = Clip.load(sample_clips["carphone_pristine"], height=144, max_frames=40)
        settings = EncoderSettings(target_kbps=15, speed=3, passes=3, speed_profile="hierarchical")
        done = rollout(clip, settings, make_policy("landed"), backend=LibvpxBackend())
    return EncodeFrames.of_log(done.log), done.score


def test_a_real_log_gives_the_score_of_its_encode(
    encode: tuple[EncodeFrames, EpisodeScore],
) -> None:
    frames, score = encode
    hidden_and_shown_later = ~frames.shown & (frames.weight > 0)
    assert hidden_and_shown_later.any() and frames.repeated.any()
    assert len(frames) == score.coded_frames
    assert frames.weight.sum() == score.shown_frames
    assert frames.weight @ frames.shown_psnr / frames.weight.sum() == pytest.approx(
        score.psnr_avg, abs=1e-9
    )
    peak = (frames.weight @ frames.samples) * 255.0**2
    overall = 10 * np.log10(peak / (frames.weight @ frames.shown_sse))
    assert overall == pytest.approx(score.psnr_overall, abs=1e-9)
    # The indexes of superframes are no frame's.
    assert 0.95 * score.bits < frames.total_bits <= score.bits
    assert (frames.references < np.arange(len(frames))[:, None]).all()


def test_features_of_a_real_log_are_finite(encode: tuple[EncodeFrames, EpisodeScore]) -> None:
    features = features_of(encode[0])
    assert features.shape == (len(encode[0]), len(FEATURES)) and np.isfinite(features).all()
    np.testing.assert_array_equal(features[:, :NUM_KINDS].sum(axis=1), 1.0)
    np.testing.assert_array_equal(features[:, REPEATED] > 0, encode[0].repeated)


def test_a_buffer_that_is_shown_counts_for_the_frame_that_filled_it(
    columns_of_rows: MakeColumns,
) -> None:
    columns = columns_of_rows(
        [
            {"coding_index": 0, "show_index": 0, **KEY},
            {"coding_index": 1, "show_index": 2, **ARF, "ref_coding_indexes": (0, 0, -1)},
            {"coding_index": 2, "show_index": 1, "ref_coding_indexes": (0, 1, 2)},
            {**SHOW, "show_index": 2, "sse": (120000.0, 0.0, 0.0)},
            {"coding_index": 4, "show_index": 3, "ref_coding_indexes": (2, 9, 1)},
            {"coding_index": 5, "show_index": 4, **ARF},
        ]
    )
    frames = EncodeFrames.of_columns(columns, 176, 144)
    np.testing.assert_array_equal(frames.weight, [1, 1, 1, 1, 0])
    np.testing.assert_array_equal(frames.shown_sse, [90000, 120000, 90000, 90000, 90000])
    np.testing.assert_allclose(frames.passing, [1, 0.75, 1, 1, 1])
    assert frames.overhead_bits == 8
    # Names given twice, the frame itself, and frames that are not in the log are left out.
    np.testing.assert_array_equal(
        frames.references, [[-1, -1, -1], [0, -1, -1], [0, 1, -1], [2, -1, 1], [-1, -1, -1]]
    )
    assert list(frames.role) == [
        FrameRole.KEY, FrameRole.BASE_ARF, FrameRole.LEAF, FrameRole.LEAF, FrameRole.BASE_ARF,
    ]  # fmt: skip


def test_repeats_and_frames_without_error(columns_of_rows: MakeColumns) -> None:
    columns = columns_of_rows(
        [{**KEY, "sse": (0, 0, 0)}, {"coding_index": 1, "show_index": 1, "bits": 0, "qindex": 255}]
    )
    frames = EncodeFrames.of_columns(columns, 176, 144)
    np.testing.assert_array_equal(frames.repeated, [False, True])
    assert frames.psnr[0] == pytest.approx(MAX_FRAME_PSNR_DB)
    assert frames.bits[1] == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": None}, "lacks the columns bits"),
        ({"sse": np.zeros(2)}, "column sse has the shape"),
        ({"ref_coding_indexes": np.array([[1, -1, -1], [0, -1, -1]])}, "refers to a later one"),
        ({"update_type": np.array([-1, 1])}, "never coded"),
        ({"update_type": np.array([-1, -1])}, "without coded frames"),
    ],
)
def test_damaged_columns(
    columns_of_rows: MakeColumns, change: dict[str, Any], message: str
) -> None:
    columns = columns_of_rows([KEY, {"coding_index": 1, "show_index": 1}])
    columns.update(change)
    columns = {name: value for name, value in columns.items() if value is not None}
    with pytest.raises(InputError, match=message):
        EncodeFrames.of_columns(columns, 176, 144)


def test_other_frames_are_told_apart(columns_of_rows: MakeColumns) -> None:
    rows = [KEY, {"coding_index": 1, "show_index": 1}]
    one = EncodeFrames.of_columns(columns_of_rows(rows), 176, 144)
    same = EncodeFrames.of_columns(columns_of_rows([{**KEY, "qindex": 3}, rows[1]]), 176, 144)
    hidden = {"coding_index": 1, "show_index": 1, "shown": False}
    other = EncodeFrames.of_columns(columns_of_rows([KEY, hidden]), 176, 144)
    assert one.same_structure(same) and not one.same_structure(other)


def test_features_of_the_matching_frames_of_a_probe(columns_of_rows: MakeColumns) -> None:
    rows = [KEY, {"coding_index": 1, "show_index": 1}, {"coding_index": 2, "show_index": 2}]
    base = EncodeFrames.of_columns(columns_of_rows(rows), 176, 144)
    probe_rows = [{**KEY, "bits": 9}, {**rows[1], "bits": 99}, {**rows[2], "show_index": 5}]
    probe = EncodeFrames.of_columns(columns_of_rows(probe_rows), 176, 144)
    matched = matched_features(base, probe)
    np.testing.assert_array_equal(matched[:2], features_of(probe)[:2])
    np.testing.assert_array_equal(matched[2], features_of(base)[2])


def test_columns_of_a_log_have_a_row_for_each_result() -> None:
    from muzero_rc.env.testing.fakes import FakeBackend, FakeClip

    backend = FakeBackend()
    done = rollout(
        FakeClip(), EncoderSettings(target_kbps=80, speed=5), make_policy("proposal"),
        backend=backend,
    )  # fmt: skip
    columns = columns_of(done.log)
    assert {len(values) for values in columns.values()} == {len(done.log.frames)}
    frames = EncodeFrames.of_log(done.log)
    assert frames.weight.sum() == FakeClip().num_frames
    assert (frames.pixels, len(frames)) == (176 * 144, len(done.log.decisions))
