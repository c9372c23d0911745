"""Where films are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from muzero_rc.encode.cut import LEAST_FRAMES, WHOLE_FRAMES, Chunk, cut, starts_so_far


def lengths(keys: list[int], frames: int) -> list[int]:
    return [chunk.frames for chunk in cut(keys, frames)]


def test_a_short_film_is_whole() -> None:
    assert cut([0, 100, 200], 300) == [Chunk(0, 0, 300)]
    assert len(cut([0, 100, 200], 301)) > 1


def test_chunks_end_at_the_first_key_frame_that_is_far_enough() -> None:
    assert lengths([0, 59, 60, 110, 125, 240], 400) == [60, 65, 115, 160]


def test_the_end_of_a_film_is_no_chunk_of_a_few_frames() -> None:
    assert lengths([0, 128, 256], 310) == [128, 182]


def test_a_long_shot_is_cut_only_if_it_is_far_too_long() -> None:
    assert lengths([0, 600], 700) == [600, 100]
    assert lengths([0, 601], 700) == [300, 301, 99]
    assert lengths([0], 2000) == [300, 300, 300, 300, 300, 500]


@given(st.lists(st.integers(1, 128), min_size=1, max_size=60), st.integers(1, 128))
def test_chunks_cover_the_film_and_are_neither_short_nor_long(
    distances: list[int], last: int
) -> None:
    keys = [0]
    for distance in distances:
        keys.append(keys[-1] + distance)
    frames = keys[-1] + last
    chunks = cut(keys, frames)
    assert [c.index for c in chunks] == list(range(len(chunks)))
    assert [c.start for c in chunks] == [0, *(c.end for c in chunks[:-1])]
    assert chunks[-1].end == frames
    if frames > WHOLE_FRAMES:
        assert {c.start for c in chunks} <= set(keys)
        assert min(c.frames for c in chunks) >= LEAST_FRAMES
        assert max(c.frames for c in chunks) <= 187 + 59


@given(
    st.lists(st.integers(1, 1300), min_size=1, max_size=20),
    st.integers(1, 1300),
    st.data(),
)
def test_starts_are_the_same_ones_as_frames_come(
    distances: list[int], last: int, data: st.DataObject
) -> None:
    keys = [0]
    for distance in distances:
        keys.append(keys[-1] + distance)
    frames = keys[-1] + last
    whole = [chunk.start for chunk in cut(keys, frames)]
    seen = data.draw(st.integers(1, frames))
    known = data.draw(st.integers(max(seen - 40, 0), seen))
    starts, safe = starts_so_far([k for k in keys if k < max(known, 1)], known, seen)
    if frames > WHOLE_FRAMES:
        assert whole[: len(starts)] == starts
        assert not any(safe > start for start in whole[len(starts) :])
    assert seen - safe <= max(40 + LEAST_FRAMES, WHOLE_FRAMES + 40)
