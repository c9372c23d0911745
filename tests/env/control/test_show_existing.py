"""References in the place of frames: shown again, or nothing at all where the frame is hidden."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Container
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.codec.session import EncoderSession
from muzero_rc.env.control.baselines import BasePolicy, VbrPolicy
from muzero_rc.env.control.frame_speed import show_existing_price
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import Rollout, rollout
from muzero_rc.env.passes.probe import run_probes
from muzero_rc.types import (
    SHOW_BITS,
    FrameDecision,
    FrameInfo,
    FrameResult,
    ShowExisting,
    UpdateType,
)

WIDTH, HEIGHT, FRAMES = 176, 144, 60
THREE = EncoderSettings(target_kbps=40, speed=5, speed_profile="hierarchical", passes=3)


@pytest.fixture(scope="module")
def screen() -> Clip:
    """A page that stands still, but for a cursor that jumps now and then."""
    rng = np.random.default_rng(5)
    page = rng.integers(40, 200, (HEIGHT // 8, WIDTH // 8)).repeat(8, 0).repeat(8, 1)
    page = (page + rng.normal(0.0, 12.0, page.shape)).round().astype(np.int64)
    frames = np.full((FRAMES, WIDTH * HEIGHT * 3 // 2), 128, np.uint8)
    for index, frame in enumerate(frames):
        luma = page.copy()
        left = 12 * (index // 11)
        luma[60:84, 20 + left : 32 + left] = 250
        frame[: WIDTH * HEIGHT] = luma.ravel()
    return Clip.from_frames(frames, WIDTH, HEIGHT, fps=25)


@pytest.fixture(scope="module")
def creeping() -> Clip:
    """A soft spot that moves half a pixel from frame to frame over a page that stands still."""
    rng = np.random.default_rng(6)
    page = rng.integers(80, 160, (HEIGHT // 8, WIDTH // 8)).repeat(8, 0).repeat(8, 1)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    frames = np.full((FRAMES, WIDTH * HEIGHT * 3 // 2), 128, np.uint8)
    for index, frame in enumerate(frames):
        far = ((rows - 72) ** 2 + (columns - 40 - index / 2) ** 2) / 8.0**2
        frame[: WIDTH * HEIGHT] = (page + 60 * np.exp(-far)).round().ravel()
    return Clip.from_frames(frames, WIDTH, HEIGHT, fps=25)


def _steps(
    clip: Clip,
    repeat: ShowExisting,
    of: Container[UpdateType] = tuple(UpdateType),
    price: float = 0.0,
    change: float = 0.0,
    output: Path | None = None,
) -> tuple[list[tuple[FrameInfo, FrameResult]], list[FrameResult]]:
    """All frames at qindex 90, and those that only show a buffer."""
    settings = EncoderSettings(target_kbps=40, speed=5, auto_alt_ref=6)
    with EncoderSession(clip, settings, output=output) as encoder:
        steps = []
        while (info := encoder.next()) is not None:
            how = repeat if info.update_type in of else ShowExisting.NEVER
            encoder.submit(
                FrameDecision(
                    90,
                    show_existing=how,
                    show_existing_price=price,
                    show_existing_change=change,
                )
            )
            steps.append((info, encoder.result()))
        encoder.finish()
        return steps, [result for result in encoder.results if result.qindex < 0]


def _decoded(path: Path, clip: Clip) -> npt.NDArray[np.uint8]:
    """Frames as ffmpeg's own decoder, which shares nothing with libvpx, has them."""
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-c:v", "vp9", "-i", f"file:{path}", "-f", "rawvideo",
         "-pix_fmt", "yuv420p", "-"],
        check=True, capture_output=True,
    )  # fmt: skip
    assert not raw.stderr
    return np.frombuffer(raw.stdout, np.uint8).reshape(-1, clip.width * clip.height * 3 // 2)


def _shown(done: Rollout) -> list[FrameResult]:
    return sorted((r for _, r in done.frames if r.shown), key=lambda result: result.show_index)


@pytest.mark.parametrize("frame_parallel", [True, False])
@pytest.mark.parametrize("auto_alt_ref", [1, 6])
def test_what_is_decoded_is_what_the_encoder_says(
    screen: Clip, tmp_path: Path, auto_alt_ref: int, frame_parallel: bool
) -> None:
    settings = THREE.replace(auto_alt_ref=auto_alt_ref, frame_parallel=frame_parallel)
    path = tmp_path / "out.ivf"
    done = rollout(screen, settings, BasePolicy(), output=path)
    results = [result for info, result in done.frames if info is not None]
    assert sum(result.shows_existing for result in results) > FRAMES // 3
    if auto_alt_ref == 6:
        assert any(not result.shown and result.bits == 0 for result in results)
    source = np.stack([screen.frame(index) for index in range(FRAMES)]).astype(np.int64)
    errors = ((_decoded(path, screen) - source) ** 2).sum(1)
    assert errors.tolist() == [sum(result.sse) for result in _shown(done)]
    assert [result.show_index for result in _shown(done)] == [*range(FRAMES)]


def test_only_leaf_frames_and_references_below_the_base_are_replaced(screen: Clip) -> None:
    steps, uncoded = _steps(screen, ShowExisting.ALWAYS)
    for info, result in steps:
        below = info.update_type is UpdateType.ARF and info.layer_depth > 1
        assert result.shows_existing == (below or info.update_type is UpdateType.LEAF)
        if result.shows_existing:
            assert result.bits == (SHOW_BITS if info.shown else 0)
            blocks = result.skip_blocks
            assert blocks == result.inter_blocks > 0 == result.intra_blocks
    shown = sum(info.shown for info, _ in steps)
    assert shown + len(uncoded) == FRAMES and len(steps) > shown


def test_a_frame_is_replaced_where_it_costs_less(screen: Clip) -> None:
    """Both sides go the same way up to the first frame that is repeated."""
    coded, _ = _steps(screen, ShowExisting.NEVER)
    chosen, _ = _steps(screen, ShowExisting.CHEAPER, of=[UpdateType.LEAF])
    first = next(i for i, (_, result) in enumerate(chosen) if result.shows_existing)
    assert [(r.bits, r.sse) for _, r in coded[:first]] == [
        (r.bits, r.sse) for _, r in chosen[:first]
    ]
    (_, own), (_, other) = coded[first], chosen[first]
    # libvpx's multiplier (vp9/encoder/vp9_rd.c) of a leaf frame, for bits and 128 times 16
    # squared errors: of the squared step of DC, a quarter more for a boost of 100.
    step = 92  # of qindex 90, vp9/common/vp9_quant_common.c
    multiplier = 1.25 * (4.15 + 0.001 * 90) * step**2 / (128 * 16)
    saved = own.bits - SHOW_BITS
    assert sum(other.sse) - sum(own.sse) <= multiplier * saved
    shows_existing = sum(result.shows_existing for _, result in chosen)
    less = sum(r.bits for _, r in coded) - sum(r.bits for _, r in chosen)
    assert less > 64 * shows_existing > 0


def test_what_loses_more_than_its_price_is_coded(screen: Clip) -> None:
    """At next to no dB for a bit nothing is repeated but what loses none."""
    free, _ = _steps(screen, ShowExisting.CHEAPER)
    priced, _ = _steps(screen, ShowExisting.CHEAPER, price=1e-9)
    never, _ = _steps(screen, ShowExisting.NEVER)
    count = [sum(result.shows_existing for _, result in steps) for steps in (free, priced, never)]
    assert count[0] > count[1] >= count[2] == 0
    assert show_existing_price(1000.0) * 1000.0 == pytest.approx(3.5 / math.log(2.0))


def _largest_change(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    """Mean absolute difference of luma in the 16x16 block that differs most."""
    luma = [frame[: WIDTH * HEIGHT].reshape(HEIGHT, WIDTH).astype(int) for frame in (one, other)]
    differences = np.abs(luma[0] - luma[1]).reshape(HEIGHT // 16, 16, WIDTH // 16, 16)
    return float(differences.mean((1, 3)).max())


def test_what_would_be_seen_to_stand_still_is_coded(creeping: Clip, tmp_path: Path) -> None:
    """Both sides go the same way up to the first frame that only one of them repeats."""
    limit = 2.0
    leaf = [UpdateType.LEAF]
    paths = [tmp_path / f"{name}.ivf" for name in ("free", "limited", "never")]
    free, _ = _steps(creeping, ShowExisting.CHEAPER, of=leaf, output=paths[0])
    limited, _ = _steps(creeping, ShowExisting.CHEAPER, of=leaf, change=limit, output=paths[1])
    never, _ = _steps(creeping, ShowExisting.NEVER, output=paths[2])
    count = [sum(result.shows_existing for _, result in steps) for steps in (free, limited, never)]
    assert count[0] > count[1] > count[2] == 0
    shown = [_decoded(path, creeping) for path in paths]
    for one, a, other, b, more in (
        (free, shown[0], limited, shown[1], True),
        (limited, shown[1], never, shown[2], False),
    ):
        at = next(
            info.show_index
            for (info, mine), (_, theirs) in zip(one, other, strict=True)
            if mine.shows_existing > theirs.shows_existing
        )
        assert (_largest_change(a[at], b[at]) > limit) == more


@pytest.mark.parametrize(("width", "height"), [(182, 98), (24, 18), (8, 40)])
def test_any_size_is_compared(width: int, height: int) -> None:
    """The encoder compares in eights; what does not fill one is left out."""
    rows, columns = np.mgrid[:height, :width]
    luma = ((rows * 7 + columns * 3) % 100 + 60).astype(np.uint8).ravel()
    chroma = np.full(2 * ((width + 1) // 2) * ((height + 1) // 2), 128, np.uint8)
    frames = np.tile(np.concatenate([luma, chroma]), (FRAMES, 1))
    still = Clip.from_frames(frames, width, height, fps=25)
    done = rollout(still, THREE.replace(target_kbps=5), BasePolicy())
    assert sum(result.shows_existing for _, result in done.frames) > FRAMES // 3


def test_what_moves_is_coded(carphone: Clip) -> None:
    done = rollout(carphone, THREE.replace(target_kbps=300), BasePolicy())
    assert not any(result.shows_existing for _, result in done.frames)


def test_what_the_probe_replaced_is_not_coded_again(screen: Clip) -> None:
    probe = ProbeRecord.of(run_probes(screen, THREE, first_pass(screen, THREE)))
    done = rollout(screen, THREE, BasePolicy(), probe=probe)
    shows_existing = {index for index, frame in probe.coded.items() if frame.shows_existing}
    assert len(shows_existing) > FRAMES // 3
    found = {info.coding_index: result for info, result in done.frames if info is not None}
    assert all(found[index].shows_existing for index in shows_existing)
    # And with the same plan, though neither encode has learned from those.
    for info, _ in done.frames:
        if info is not None:
            matching_frame = probe.matching_frame(info)
            assert (
                matching_frame is not None
                and matching_frame.proposal_qindex == info.proposal_qindex
            )


def test_libvpx_by_itself_replaces_nothing(screen: Clip) -> None:
    for settings in (
        THREE,
        THREE.replace(passes=2),
        THREE.replace(speed_profile="uniform", passes=2),
    ):
        done = rollout(screen, settings, VbrPolicy())
        assert not any(result.shows_existing for _, result in done.frames)
    even = rollout(screen, THREE.replace(speed_profile="uniform", passes=2), BasePolicy())
    assert not any(result.shows_existing for _, result in even.frames)


def test_show_existing_frames_save_bits_and_the_target_is_met(screen: Clip) -> None:
    tight = THREE.replace(target_kbps=20)
    done = rollout(screen, tight, BasePolicy(), retry_off_target=True)
    without = rollout(
        screen, tight.replace(show_existing=False), BasePolicy(), retry_off_target=True
    )
    assert not any(result.shows_existing for _, result in without.frames)
    assert done.score.psnr_avg > without.score.psnr_avg + 0.5
    assert abs(done.score.overshoot) < 0.03


def test_a_rollout_keeps_to_the_visible_change(creeping: Clip) -> None:
    def shows_existing(recipe: Recipe) -> int:
        done = rollout(creeping, THREE.replace(target_kbps=12), BasePolicy(), recipe=recipe)
        return sum(result.shows_existing for _, result in done.frames)

    strict = DEFAULT_RECIPE.replace({"show_existing.max_change": 0.5})
    assert shows_existing(strict) < shows_existing(DEFAULT_RECIPE)
