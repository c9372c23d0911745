"""The open data set: what goes in comes out, within bounds, and needs no encoder."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from muzero_rc.dataset import FRAME_COLUMNS, DatasetWriter, EncodeRow, StudyRow, load_dataset
from muzero_rc.dataset.schema import ENCODE_COLUMNS, STUDY_COLUMNS, markdown, pack, unpack
from muzero_rc.errors import CheckpointError, InputError

DOCS = Path(__file__).resolve().parents[2] / "docs"
BY_NAME = {column.name: column for column in FRAME_COLUMNS}
BOUND = 2.0 ** (0.5 / 2048) - 1.0  # of 1 + x
Columns = dict[str, npt.NDArray[Any]]


def _columns(count: int, seed: int, steps: npt.NDArray[np.int64] | int = 0) -> Columns:
    """Frames: a key, a hidden ARF, leaves, and one row in ten that only shows a reference.

    `steps` move qindexes, and bits by 1.2 octaves for an octave of step.
    """
    rng = np.random.default_rng(seed)
    number = np.arange(count)
    shows = number % 10 == 9
    coding = np.where(shows, -1, number)
    kind = np.where(number == 0, 0, np.where(number % 10 == 1, 3, 1))
    base = rng.integers(30, 90, count)
    qindex = np.where(shows, -1, base + steps)
    bits = rng.integers(2000, 90_000, count) * 2.0 ** (
        -1.2 * np.log2((base + steps + 8) / (base + 8))
    )
    made: Columns = {
        "coding_index": coding,
        "show_index": number,
        "update_type": np.where(shows, -1, kind),
        "shown": kind != 3,
        "qindex": qindex,
        "bits": np.where(shows, 8, bits).astype(np.int64),
        "ref_coding_indexes": np.where(
            shows[:, None], 0, np.maximum(number[:, None] - np.array([1, 5, 9]), -1)
        ),
        "sse": rng.integers(0, 2**30, (count, 3)),
        "samples": np.tile([144 * 256, 9216, 9216], (count, 1)),
        "work": rng.integers(0, 2**31, (count, 9)) * (1 - shows[:, None]),
        "cpu_seconds": rng.gamma(2.0, 0.02, count),
        "decided": ~shows,
        "tpl_mc_dep_cost": rng.integers(0, 2**40, count),  # takes the coarser steps
    }
    for column in FRAME_COLUMNS:
        made.setdefault(column.name, rng.integers(0, 200, count) * ~shows)
    return made


def _encode(name: str, columns: Columns, number: int, **more: Any) -> EncodeRow:
    return EncodeRow(
        name, 1000 + number, 100.0, 99.5 + number / 7, 38.125, 37.5, 36.1, 4, columns,
        gops=[(0, 17, 0)] * (number % 3), **more,
    )  # fmt: skip


def _study(number: int, **more: Any) -> StudyRow:
    count = 20 + number % 7
    rng = np.random.default_rng(number)
    encodes = [_encode("base", _columns(count, number), 0)]
    for pair in range(3):
        steps = rng.choice((-16, -8, 8, 16), count)
        for sign in (1, -1):
            columns = _columns(count, number, sign * steps)
            encodes.append(
                _encode(
                    "perturbed", columns, 1 + pair, pattern="blocks", step_size=16, pair=pair,
                    sign=sign,
                )
            )  # fmt: skip
    given: dict[str, Any] = {
        "clip": f"{number}.mp4", "source": f"source {number // 2}", "set": "train",
        "part": (144, number, count), "width": 256, "height": 144, "fps": (30000, 1001),
        "speed": 2, "target_kbps": 100, "slope": 4.25, "stats": rng.random((count, 25)),
        "identity": "libvpx", "encodes": encodes,
    }  # fmt: skip
    return StudyRow(**given | more)


@pytest.fixture(scope="module")
def studies() -> list[StudyRow]:
    return [_study(number) for number in range(8)]


@pytest.fixture(scope="module")
def file(studies: list[StudyRow], tmp_path_factory: pytest.TempPathFactory) -> Path:
    writer = DatasetWriter()
    for study in studies:
        writer.add(study)
    path = tmp_path_factory.mktemp("dataset") / "dataset.npz"
    writer.write(path, {"note": "made up"})
    return path


def test_every_column_of_every_frame_comes_back(studies: list[StudyRow], file: Path) -> None:
    dataset = load_dataset(file)
    assert dataset.about == {"note": "made up"} and len(dataset.studies) == len(studies)
    for study, told in zip(dataset.studies, studies, strict=True):
        assert len(study.encodes) == len(told.encodes)
        for encode, row in zip(study.encodes, told.encodes, strict=True):
            assert list(encode) == list(BY_NAME) and encode.num_frames == len(row.columns["bits"])
            for name, column in BY_NAME.items():
                ours, theirs = encode[name], np.asarray(row.columns[name])
                assert ours.shape == theirs.shape, name
                if column.kind in ("int", "back"):
                    assert np.array_equal(ours, theirs), name
                elif column.kind == "seconds":
                    assert np.allclose(ours, theirs, rtol=1.01 * BOUND, atol=1e-9), name
                else:
                    coarse = 2 if name == "tpl_mc_dep_cost" else 1
                    assert np.allclose(ours, theirs, rtol=1.01 * coarse * BOUND, atol=1), name
            assert encode["shown"].dtype == np.bool_


def test_every_attribute_comes_back(studies: list[StudyRow], file: Path) -> None:
    dataset = load_dataset(file)
    for study, told in zip(dataset.studies, studies, strict=True):
        for column in STUDY_COLUMNS:
            ours, theirs = getattr(study, column.name), getattr(told, column.name)
            if column.name == "stats":
                assert np.array_equal(ours, theirs.astype(np.float32))
            else:
                assert ours == (Fraction(*theirs) if column.name == "fps" else theirs)
        for encode, row in zip(study.encodes, told.encodes, strict=True):
            for column in ENCODE_COLUMNS:
                ours, theirs = getattr(encode, column.name), getattr(row, column.name)
                if column.name == "gops":
                    assert ours.tolist() == [list(gop) for gop in theirs]
                else:
                    assert ours == theirs, column.name
    study = dataset.studies[0]
    assert study.encode("base") is study.encodes[0] and len(study.named("perturbed")) == 6
    with pytest.raises(KeyError):
        study.encode("vbr")
    with pytest.raises(KeyError):
        study.encodes[0]["qp"]


def test_a_column_of_all_frames_is_the_encodes_one_after_the_other(file: Path) -> None:
    dataset = load_dataset(file)
    for name in ("qindex", "sse", "ref_coding_indexes"):
        parts = [encode[name] for study in dataset.studies for encode in study.encodes]
        assert np.array_equal(dataset.column(name), np.concatenate(parts))
    with pytest.raises(KeyError):
        dataset.column("qp")


_large = hnp.arrays(np.int64, st.integers(0, 30), elements=st.integers(0, 2**53))


@settings(deadline=None)
@given(values=_large)
def test_large_counts_are_within_their_bound_and_small_ones_exact(
    values: npt.NDArray[np.int64],
) -> None:
    column = BY_NAME["tpl_intra_cost"]
    stored, scale = pack(column, values)
    back = unpack(column, stored, scale)
    assert stored.dtype == np.uint16
    assert scale == (2048 if not len(values) or values.max() < 2**31.99 else 1024)
    assert np.all(np.abs(back - values) <= 0.5 + (2.0 ** (0.501 / scale) - 1) * (1.0 + values))
    assert np.array_equal(back[values < 700], values[values < 700])
    if scale == 2048:
        assert np.array_equal(back[values <= 1400], values[values <= 1400])


@settings(deadline=None)
@given(values=hnp.arrays(np.int64, st.integers(0, 30), elements=st.integers(-(2**40), 2**40)))
def test_whole_numbers_are_exact_in_the_smallest_type(values: npt.NDArray[np.int64]) -> None:
    column = BY_NAME["bits"]
    stored, scale = pack(column, values)
    assert np.array_equal(unpack(column, stored, scale), values)
    if len(values) and 0 <= values.min() and values.max() < 256:
        assert stored.dtype == np.uint8


def test_what_cannot_be_stored_is_refused(studies: list[StudyRow], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must not be negative"):
        pack(BY_NAME["sse"], np.array([-1]))
    with pytest.raises(InputError, match="no study"):
        DatasetWriter().write(tmp_path / "x.npz", {})
    columns = _columns(20, 0)
    for change, says in (
        ({"bits": columns["bits"][:5]}, "bits must be"),
        ({"ref_coding_indexes": columns["ref_coding_indexes"] + 2}, "still to come"),
    ):
        wrong = _encode("base", columns | change, 0)
        with pytest.raises(InputError, match=says):
            DatasetWriter().add(_study(0, encodes=[wrong]))
    del columns["work"]
    with pytest.raises(InputError, match="no column work"):
        DatasetWriter().add(_study(0, encodes=[_encode("base", columns, 0)]))


@pytest.mark.parametrize("name", ["dev", "test", "validation", ""])
def test_no_other_set_than_train_is_published(name: str) -> None:
    with pytest.raises(InputError, match="only train is published"):
        DatasetWriter().add(_study(0, set=name))


def test_a_damaged_file_is_one_line(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", whole[:5000] + b"xxxx" + whole[5004:]):
        (tmp_path / "x.npz").write_bytes(damage)
        with pytest.raises(CheckpointError) as error:
            load_dataset(tmp_path / "x.npz")
        assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match="does not exist"):
        load_dataset(tmp_path / "none.npz")


_WITHOUT_ENCODER = """
    import sys

    class Blocked:
        def find_spec(self, name, path=None, target=None):
            blocked = ("muzero_rc.env", "muzero_rc.agents", "jax", "scipy", "gymnasium")
            if name == blocked[0] and path is None:
                return None
            if name.startswith(tuple(f"{b}." for b in blocked)) or name in blocked[1:]:
                raise ImportError(f"{name} is blocked")
            return None

    sys.meta_path.insert(0, Blocked())
"""


def test_it_loads_without_the_encoder(file: Path) -> None:
    code = textwrap.dedent(_WITHOUT_ENCODER) + textwrap.dedent(
        """
        try:
            import muzero_rc.env.codec._native
        except ImportError:
            pass
        else:
            raise SystemExit("the encoder is not blocked")
        from muzero_rc.dataset import load_dataset

        dataset = load_dataset(sys.argv[1])
        print(sum(e["bits"].sum() > 0 for s in dataset.studies for e in s.encodes))
        loaded = {name.partition(".")[0] for name in sys.modules}
        print(sorted(loaded & {"jax", "scipy", "gymnasium", "matplotlib"}))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split("\n")[:2] == ["56", "[]"], done.stderr


def test_the_guide_runs_without_the_encoder_and_finds_the_slope(file: Path) -> None:
    page = (DOCS / "guide" / "dataset.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 5
    code = textwrap.dedent(_WITHOUT_ENCODER) + "\n".join(blocks)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=file.parent, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("8 studies of 4 sources")
    found = re.search(r"shown = \[ *(\S+) +(\S+) +(\S+?) *\]", done.stdout)
    assert found is not None and all(abs(float(v) + 1.2) < 0.05 for v in found.groups())
    explained = re.search(r"held-out sources: (\S+)", done.stdout)
    assert explained is not None and float(explained[1]) > 0.95


def test_the_sheet_has_the_tables_of_the_schema() -> None:
    text = (DOCS / "reference" / "dataset.md").read_text()
    table = text.partition("<!-- table:dataset -->\n")[2].partition("<!-- /table -->")[0]
    assert table == markdown(), "run: python -m muzero_rc.dataset docs/reference/dataset.md"


def test_views_can_be_compared_and_be_in_sets(file: Path) -> None:
    one, two = load_dataset(file), load_dataset(file)
    study, other = one.studies[0], two.studies[0]
    assert study in one.studies and study not in two.studies and study != other and one != two
    base = study.encode("base")
    assert base == study.encode("base") and base != other.encode("base")
    assert len({base, study.encode("base"), other.encode("base")}) == 2
    assert len({*one.studies, *one.studies}) == len(one.studies)


def test_the_sheet_says_what_is_in_the_file_of_the_repository() -> None:
    path = DOCS.parent / "benchmarks" / "data" / "studies.npz"
    dataset = load_dataset(path)
    studies = dataset.studies
    counts = (
        f"{len(studies)} studies of {len(dataset.sources)} sources, "
        f"{sum(len(s.encodes) for s in studies):,} encodes, {dataset.num_frames:,} frames, "
        f"{path.stat().st_size / 1e6:.0f} MB"
    )
    assert counts in (DOCS / "reference" / "dataset.md").read_text()
    depths = {0: {0}, 1: {1, 2, 3, 4, 5}, 2: {0}, 3: {1, 2, 3, 4}, 4: {5}}
    for study in studies[::12]:
        vbr, high = study.encode("vbr"), study.encode("vbr_high")
        slope = (high.psnr_avg - vbr.psnr_avg) / np.log2(high.kbps / vbr.kbps)
        assert study.slope == pytest.approx(min(max(slope, 1.0), 8.0))
        assert study.part[0] == study.height == 144 and study.part[2] == len(study.stats)
        for encode in study.encodes:
            shown, index, kind = encode["shown"], encode["coding_index"], encode["update_type"]
            coded = kind >= 0
            np.testing.assert_array_equal(index, np.where(coded, np.arange(len(index)), -1))
            assert (encode["qindex"] >= 0).tolist() == coded.tolist()
            for number, allowed in depths.items():
                assert set(encode["layer_depth"][kind == number].tolist()) <= allowed
            assert encode["show_index"][shown].tolist() == list(range(study.part[2]))
            seconds = float(study.part[2] / study.fps)
            assert encode.kbps == pytest.approx(encode.size_bytes / 125 / seconds)
            error, samples = encode["sse"][shown].sum(1), encode["samples"][shown].sum(1)
            psnr = np.minimum(10 * np.log10(255**2 * samples / np.maximum(error, 1e-9)), 100)
            assert encode.psnr_avg == pytest.approx(psnr.mean(), abs=0.001)
            low, high_q = encode["min_qindex"], encode["max_qindex"]
            own = encode["proposal_qindex"]
            assert ((low <= own) & (own <= high_q))[coded].all()
