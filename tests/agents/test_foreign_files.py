"""Policy files that lie are refused in one line, before much memory is taken."""

from __future__ import annotations

import io
import json
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from muzero_rc.agents.config import NetworkConfig
from muzero_rc.agents.muzero.networks import initial_params
from muzero_rc.agents.policy import load_policy, save_policy
from muzero_rc.checkpoint import read_arrays, write_arrays
from muzero_rc.errors import CheckpointError

Flat = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def policy_bytes(tmp_path_factory: pytest.TempPathFactory, tiny: NetworkConfig) -> bytes:
    path = tmp_path_factory.mktemp("policy") / "policy.npz"
    weights = initial_params(tiny, 0)
    save_policy(path, weights, tiny, observation_version=3, env_id="e", training={})
    return path.read_bytes()


@pytest.fixture
def policy_file(tmp_path: Path, policy_bytes: bytes) -> Path:
    path = tmp_path / "policy.npz"
    path.write_bytes(policy_bytes)
    return path


def _nan(flat: Flat, first: str) -> Flat:
    return {**flat, first: np.full_like(flat[first], np.nan)}


def _one_infinite(flat: Flat, first: str) -> Flat:
    changed = flat[first].copy()
    changed.flat[-1] = np.inf
    return {**flat, first: changed}


def _strings(flat: Flat, first: str) -> Flat:
    return {**flat, first: flat[first].astype("U8")}


def _whole_numbers(flat: Flat, first: str) -> Flat:
    return {**flat, first: np.zeros(flat[first].shape, np.int64)}


def _array_for_a_table(flat: Flat, first: str) -> Flat:
    return {"__header__": flat["__header__"], "params": np.zeros(1)}


def _table_under_an_array(flat: Flat, first: str) -> Flat:
    return {**flat, f"{first}|x": np.zeros(1)}


def _array_over_a_table(flat: Flat, first: str) -> Flat:
    return {**flat, first.rpartition("|")[0]: np.zeros(1)}


def _deep_header(flat: Flat, first: str) -> Flat:
    return {"__header__": np.frombuffer(b"[" * 200_000 + b"]" * 200_000, np.uint8)}


def _header_of_floats(flat: Flat, first: str) -> Flat:
    return {**flat, "__header__": np.zeros(4)}


@pytest.mark.parametrize(
    "change",
    [
        _nan, _one_infinite, _strings, _whole_numbers, _array_for_a_table, _table_under_an_array,
        _array_over_a_table, _deep_header, _header_of_floats,
    ],
)  # fmt: skip
def test_arrays_that_cannot_be_weights(policy_file: Path, change: Callable[..., Flat]) -> None:
    flat = dict(np.load(policy_file))
    changed = change(flat, next(name for name in flat if name != "__header__"))
    np.savez(policy_file, **changed)
    with pytest.raises(CheckpointError) as caught:
        load_policy(policy_file)
    assert "\n" not in str(caught.value)


def _claim(path: Path, header: npt.NDArray[Any], shape: tuple[int, ...], blocks: int) -> None:
    """An archive with an array that says it has a shape, and so many blocks of 16 MB zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        content = io.BytesIO()
        np.save(content, header)
        archive.writestr("__header__.npy", content.getvalue())
        content = io.BytesIO()
        says = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(content, says)
        with archive.open("params.npy", "w", force_zip64=True) as member:
            member.write(content.getvalue())
            for _ in range(blocks):
                member.write(bytes(1 << 24))


@pytest.mark.parametrize(
    ("shape", "blocks"),
    [((10**15,), 0), ((10**30,), 0), ((1 << 26,), 16), ((-1,), 0), ((1 << 26,), 1)],
    ids=["petabytes", "no-such-number", "bomb", "negative", "shorter-than-it-says"],
)
def test_sizes_are_looked_at_before_memory_is_taken(
    policy_file: Path, shape: tuple[int, ...], blocks: int
) -> None:
    _claim(policy_file, np.load(policy_file)["__header__"], shape, blocks)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError) as caught:
        load_policy(policy_file)
    assert "\n" not in str(caught.value)
    # KiB; the bomb's array alone has 256 MiB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_members_that_are_not_arrays(policy_file: Path) -> None:
    with zipfile.ZipFile(policy_file, "w") as archive:
        archive.writestr("__header__", b"{}")
    with pytest.raises(CheckpointError):
        load_policy(policy_file)


def test_any_damage_of_the_directory_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_arrays(path, {"a": np.arange(3)}, {"x": 1})
    good = path.read_bytes()
    start = good.index(b"PK\x01\x02")
    for at in range(start, len(good)):
        for value in (0, 173, 255):
            path.write_bytes(good[:at] + bytes([value]) + good[at + 1 :])
            try:
                assert json.dumps(read_arrays(path)[1]) == '{"x": 1}'
            except CheckpointError as error:
                assert "\n" not in str(error)
