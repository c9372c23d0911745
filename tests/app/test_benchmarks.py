"""The benchmarks still fit the package: what they import from it is there."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted([*ROOT.glob("benchmarks/*.py"), *ROOT.glob("scripts/*.py")])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_what_a_benchmark_imports_is_there(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("muzero_rc"):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")


def test_every_module_that_a_text_in_the_tests_imports_is_there() -> None:
    found = 0
    for path in sorted(ROOT.glob("tests/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
                continue
            for line in node.value.splitlines():
                words = line.split()
                if len(words) >= 4 and words[0] == "from" and words[2] == "import":
                    if not words[1].startswith("muzero_rc"):
                        continue
                    module, name = words[1], re.split("[,;]", words[3])[0]
                    found += 1
                    if not hasattr(importlib.import_module(module), name):
                        importlib.import_module(f"{module}.{name}")
    assert found > 5


def test_bands_keep_rows_of_blocks_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the trial of block maps: 4 x 5 blocks in bands of 3 rows, frames in coding order."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    banded = importlib.import_module("hip_residual").banded
    maps = np.arange(3 * 4 * 5 * 4).reshape(3, 4, 5, 4).astype(np.float16)
    found = banded(maps, np.array([0, 2, 1, 7]), 6, (6, 7))
    assert found.values.shape == (6, 2, 21, 4) and found.places.shape == (2, 21, 2)
    np.testing.assert_array_equal(found.values[1, 0, 7:12], maps[2, 1])
    np.testing.assert_array_equal(found.values[2, 1, :5], maps[1, 3])
    assert found.there.sum(axis=1).tolist() == [15, 5]
    assert found.places[1, 4].tolist() == [1.0, 1.0] and not found.values[4:].any()
    # The clip shows a frame after its last map.
    np.testing.assert_array_equal(found.values[3], found.values[1])
    assert not banded(None, np.array([0, 1]), 6, (6, 7)).there.any()
