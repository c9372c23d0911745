"""The benchmarks still fit the package: what they import from it is there."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

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
