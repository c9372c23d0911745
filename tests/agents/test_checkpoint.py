"""The npz container: round trip, damage, atomicity, refusal of anything that runs code."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from muzero_rc.checkpoint import read_arrays, read_meta, write_arrays
from muzero_rc.errors import CheckpointError, OutputError

TREE = {
    "net/~/linear": {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(3)},
    "counts": np.array([1, 2**40]),
    "mask": np.array([True, False]),
    "scalar": np.float32(2.5),
}


def test_round_trip_keeps_names_values_dtypes_and_meta(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    meta = {"text": "ä", "list": [1, 2.5, None], "nested": {"big": 2**80}}
    write_arrays(path, TREE, meta)
    tree, found = read_arrays(path)
    assert found == meta
    assert set(tree) == set(TREE) and set(tree["net/~/linear"]) == {"w", "b"}
    np.testing.assert_array_equal(tree["net/~/linear"]["w"], TREE["net/~/linear"]["w"])
    assert tree["net/~/linear"]["w"].dtype == np.float32
    assert tree["counts"].tolist() == [1, 2**40]
    assert tree["mask"].tolist() == [True, False]
    assert tree["scalar"].shape == () and float(tree["scalar"]) == 2.5


@settings(max_examples=25, deadline=None)
@given(
    array=npst.arrays(
        dtype=npst.floating_dtypes(sizes=(16, 32, 64)) | npst.integer_dtypes(),
        shape=npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    key=st.text(st.characters(codec="utf-8", exclude_characters="|/\\\0"), min_size=1, max_size=8),
)
def test_any_array_of_numbers_survives(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, key: str
) -> None:
    if key.startswith("__"):
        return
    path = tmp_path_factory.mktemp("any") / "a.npz"
    write_arrays(path, {key: array})
    tree, _ = read_arrays(path)
    assert tree[key].dtype == array.dtype
    np.testing.assert_array_equal(tree[key], array)


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a", TREE, {"x": 1})
    write_arrays(tmp_path / "b", TREE, {"x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_truncation_is_one_line_of_checkpoint_error(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_arrays(path, TREE)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError) as caught:
            read_arrays(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_flipped_bits_in_the_data_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    array = np.random.default_rng(0).normal(size=500)
    write_arrays(path, {"x": array})
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(array.tobytes()) + 1000] ^= 1
    path.write_bytes(bytes(damaged))
    with pytest.raises(CheckpointError, match="damaged"):
        read_arrays(path)


def test_missing_folder_foreign_and_pickled_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        read_arrays(tmp_path / "none.npz")
    with pytest.raises(CheckpointError, match="cannot read"):
        read_arrays(tmp_path)
    np.savez(tmp_path / "foreign.npz", x=np.zeros(3))
    with pytest.raises(CheckpointError, match="not a file of this program"):
        read_arrays(tmp_path / "foreign.npz")
    np.save(tmp_path / "plain.npy", np.zeros(3))
    with pytest.raises(CheckpointError, match="not a file of this program"):
        read_arrays(tmp_path / "plain.npy")
    (tmp_path / "text").write_text("hello, this is no archive\n")
    with pytest.raises(CheckpointError):
        read_arrays(tmp_path / "text")


def test_pickles_are_not_executed(tmp_path: Path) -> None:
    trap = tmp_path / "trap"

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(trap),)

    np.savez(tmp_path / "evil.npz", __header__=np.array([Bomb()], dtype=object))
    with pytest.raises(CheckpointError):
        read_arrays(tmp_path / "evil.npz")
    assert not trap.exists()


def test_objects_and_bad_keys_are_not_written(tmp_path: Path) -> None:
    for tree in ({"x": np.array([{}])}, {"x": np.array(["text"])}, {"a|b": 1}, {"": 1}):
        with pytest.raises(ValueError, match="stored"):
            write_arrays(tmp_path / "a.npz", tree)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_arrays(path, TREE, {"old": True})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OutputError, match="cannot write"):
            write_arrays(path, {"x": np.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert read_arrays(path)[1] == {"old": True}
    assert list(tmp_path.iterdir()) == [path]


def test_no_folder_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_arrays(tmp_path / "none" / "a.npz", TREE)


def test_the_meta_alone_is_that_of_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_arrays(path, {"a": np.arange(5)}, {"x": [1, 2]})
    assert read_meta(path) == read_arrays(path)[1] == {"x": [1, 2]}
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CheckpointError):
        read_meta(path)
