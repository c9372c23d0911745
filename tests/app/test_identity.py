"""The identity that encodes are kept under, and what may not be served under another one."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import muzero_rc
from muzero_rc import code_digest
from muzero_rc.code_digest import closure, digest_of_code, digest_of_sources, extension_path
from muzero_rc.env.control.recipe import DEFAULT_RECIPE
from muzero_rc.identity import ROOTS, build_identity

SOURCE = '''
"""About."""
from __future__ import annotations
import numpy as np
LIMIT = 3  # why
"""Its docstring."""
_STEP: int = 4


class _Held:
    """A class."""

    def __init__(self, *, start: int) -> None:
        self._spent: float = start

    def _add(self, cost: float) -> None:
        self._spent += cost


def f(x: int, y: int = 2) -> int:
    """What."""
    total = x + LIMIT
    def inner(z: int) -> int:
        nonlocal total
        total += z
        kept = [part for part in range(total)]
        return sum(kept)
    return inner(y) + _STEP
'''
OTHER = "import m\n\ndef g(held): return held._seen\n"


def _digest(source: str, other: str = OTHER) -> str:
    return digest_of_sources({"a": source, "b": other})


SAME: dict[str, Callable[[str], str]] = {
    "comment": lambda s: s.replace("  # why", "  # because"),
    "docstrings": lambda s: re.sub(r'"""[^"]*"""', '"""Other."""', s),
    "no attribute docstring": lambda s: s.replace('"""Its docstring."""\n', ""),
    "layout": lambda s: s.replace("x + LIMIT", "(x +\n        LIMIT)").replace("\n\n\n", "\n\n"),
    "annotations": lambda s: s.replace("x: int", "x: float").replace(" -> int", " -> float"),
    "annotation of a variable": lambda s: s.replace("_STEP: int = 4", "_STEP = 4"),
    "private global": lambda s: s.replace("_STEP", "_STRIDE"),
    "private class": lambda s: s.replace("_Held", "_Kept"),
    "private attribute": lambda s: s.replace("_spent", "_paid"),
    "private method": lambda s: s.replace("_add", "_count"),
    "local": lambda s: s.replace("kept", "parts"),
    "local of a comprehension": lambda s: re.sub(r"\bpart\b", "piece", s),
    "for mypy": lambda s: s.replace(
        "LIMIT = 3", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import m\nLIMIT = 3"
    ).replace("from typing import TYPE_CHECKING\n", ""),
}
CHANGED: dict[str, Callable[[str], str]] = {
    "number": lambda s: s.replace("3", "5"),
    "operator": lambda s: s.replace("x + LIMIT", "x - LIMIT"),
    "one more function": lambda s: s + "\n\ndef g(): pass\n",
    "statement": lambda s: s.replace('"""What."""', '"""What."""\n    x = x * 2'),
    "public name": lambda s: s.replace("LIMIT", "BOUND"),
    "parameter": lambda s: s.replace("start", "begin"),
    "import": lambda s: s.replace("numpy", "numba"),
    "default": lambda s: s.replace("y: int = 2", "y: int = 3"),
    "other variable": lambda s: s.replace("sum(kept)", "sum([total])"),
    "other scope": lambda s: s.replace("        nonlocal total\n", ""),
    # `b` reads an attribute `_seen` of what may be of this class.
    "private name that another module has": lambda s: s.replace("_spent", "_seen"),
    "private name in a string": lambda s: s.replace("_spent", "_paid") + "\nN = '_paid'\n",
}


@pytest.mark.parametrize("change", SAME)
def test_words_layout_and_private_names_do_not_count(change: str) -> None:
    other = SAME[change](SOURCE)
    assert other != SOURCE
    assert _digest(other) == _digest(SOURCE)


@pytest.mark.parametrize("change", CHANGED)
def test_code_counts(change: str) -> None:
    other = CHANGED[change](SOURCE)
    assert other != SOURCE
    assert _digest(other) != _digest(SOURCE)


def test_each_module_counts_under_its_name() -> None:
    given = {"a": "x = 1", "b": "y = 2"}
    assert digest_of_sources(given) == digest_of_sources(dict(reversed(given.items())))
    assert digest_of_sources(given) != digest_of_sources({"a": "y = 2", "b": "x = 1"})
    assert digest_of_sources(given) != digest_of_sources({"a": "x = 1\ny = 2", "b": ""})


def test_a_name_from_elsewhere_is_no_private_name() -> None:
    one, other = "from m import _a\nx = _a()\n", "from m import _b\nx = _b()\n"
    assert digest_of_sources({"a": one}) != digest_of_sources({"a": other})
    one, other = "def f(m): return m._a\n", "def f(m): return m._b\n"
    assert digest_of_sources({"a": one}) != digest_of_sources({"a": other})


def test_what_decides_an_encode_is_in_the_closure() -> None:
    modules = {name.removeprefix("muzero_rc.") for name in closure(*ROOTS)}
    decide = """
        agents.policy agents.actions agents.muzero.search agents.muzero.networks
        env.control.qp_offsets
        agents.tokens.tokenizer agents.perceiver.attention agents.hindsight.search types
        policies.registry policies.hindsight.policy env.codec.settings env.codec.first_pass
        env.codec.session env.control.settings env.control.controller env.control.frame_speed
        env.control.gop env.control.probe_record env.control.baselines env.control.rate.probe
        env.control.rate.two_pass env.observation.builder env.passes.pipeline env.passes.probe
        env.passes.one_pass env.passes.stepper encode.clip checkpoint
        evaluation.measure.quality
    """.split()
    assert not set(decide) - modules
    aside = ("training", "cli", "env.gym.env", "env.rewards", "env.testing", "evaluation.report",
             "agents.muzero.learner", "agents.muzero.losses", "plots")  # fmt: skip
    assert not [name for name in modules if name.startswith(aside)]
    # All of control and of the passes: nothing there is for anything else, but what repeats a
    # log and what prints the recipe.
    for room in ("control", "passes"):
        for path in (_folder("env") / room).rglob("*.py"):
            parts = path.relative_to(_folder("env").parent).with_suffix("").parts
            name = ".".join(parts).removesuffix(".__init__")
            assert name in modules or name in ("env.passes.replay", "env.control.recipe.table")


def _folder(name: str) -> Path:
    return Path(importlib.import_module(f"muzero_rc.{name}").__file__ or "").parent


def _copy(to: Path) -> Path:
    """The package as a wheel has it, in a folder that can go onto the path."""
    package = to / "muzero_rc"
    leave = shutil.ignore_patterns("__pycache__", "native", "env", "agents", "evaluation")
    shutil.copytree(Path(muzero_rc.__file__ or "").parent, package, ignore=leave)
    for name in ("env", "agents", "evaluation"):
        where = package / name
        shutil.copytree(_folder(name), where, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(extension_path(), package / "env" / "codec")
    return package


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _copy(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def digest(copied: Path) -> str:
    return digest_of_code(*ROOTS, folders=[copied])


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("agents/policy.py", "count = len(observations)", "count = 1 + len(observations)"),
        ("agents/actions.py", "import", "import sys\nimport"),
        ("policies/for_target.py", "_REFERENCE_OFFSET = 60", "_REFERENCE_OFFSET = 61"),
        ("types/frame.py", "NUM_QINDEX = 256", "NUM_QINDEX = 255"),
        ("env/codec/settings.py", "speed: int = 1", "speed: int = 2"),
        ("env/codec/first_pass.py", '"vbr": 0', '"vbr": 1'),
        ("env/control/controller.py", "NUM_QINDEX - 1", "NUM_QINDEX - 2"),
        ("env/passes/pipeline.py", "Pass.FIRST_PASS, Pass.FINAL", "Pass.FINAL, Pass.FIRST_PASS"),
        ("evaluation/measure/quality.py", "import", "import sys\nimport"),
    ],
)
def test_a_change_in_a_file_changes_the_digest(
    copied: Path, digest: str, file: str, old: str, new: str
) -> None:
    path = copied / file
    text = path.read_text()
    assert text.count(old) >= 1
    try:
        path.write_text(text.replace(old, new))
        assert digest_of_code(*ROOTS, folders=[copied]) != digest
    finally:
        path.write_text(text)


def test_the_digest_is_of_the_code_alone(copied: Path, digest: str) -> None:
    assert digest_of_code(*ROOTS) == digest  # elsewhere
    path = copied / "agents" / "policy.py"
    text = path.read_text()
    try:
        path.write_text("# A comment.\n" + text.replace("_decide", "_answer"))
        assert digest_of_code(*ROOTS, folders=[copied]) == digest
    finally:
        path.write_text(text)


def test_the_extension_counts(copied: Path) -> None:
    path = extension_path([copied])
    before = code_digest.digest_of_extension(folders=[copied])
    assert before == code_digest.digest_of_extension()
    content = path.read_bytes()
    path.write_bytes(content + b"\0")
    try:
        assert code_digest.digest_of_extension(folders=[copied]) != before
    finally:
        path.write_bytes(content)


def test_the_identity_names_its_parts() -> None:
    parts = build_identity().split()
    assert parts[0] == "libvpx" and "patches:" in parts[2]
    assert parts[3::2] == ["extension", "code", "work", "recipe"]
    assert all(len(part) == 12 and int(part, 16) >= 0 for part in parts[4::2])
    recipe = DEFAULT_RECIPE.replace({"retry.over": 0.02})
    changed = build_identity(recipe).split()
    assert changed[:-1] == parts[:-1] and changed[-1] != parts[-1]


def test_the_identity_takes_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUZERO_RC_CACHE", str(tmp_path))
    folders = [Path(folder) for folder in muzero_rc.__path__]
    first = digest_of_code(*ROOTS, folders=folders)
    begun = time.process_time()
    assert digest_of_code(*ROOTS, folders=folders) == first  # from what the first one left on disk
    assert time.process_time() - begun < 0.3
    (path,) = (tmp_path / "code").iterdir()
    path.write_text("{}")
    assert digest_of_code(*ROOTS, folders=folders) == first


def test_what_is_on_disk_is_of_the_files_as_they_are(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUZERO_RC_CACHE", str(tmp_path))
    roots = ("muzero_rc.env.codec.settings",)
    before = digest_of_code(*roots, folders=[copied])
    path = copied / "env" / "codec" / "settings.py"
    text = path.read_text()
    try:
        path.write_text(text.replace("speed: int = 1", "speed: int = 2"))
        assert digest_of_code(*roots, folders=[copied]) != before
        path.unlink()
        with pytest.raises(ImportError, match="no source"):
            digest_of_code(*roots, folders=[copied])
    finally:
        path.write_text(text)
    assert digest_of_code(*roots, folders=[copied]) == before


def _evaluate(package: Path, clip: Path, folder: Path, cache: Path) -> list[str]:
    """SHA-256 of the encodes of an evaluation by a copy of the package."""
    # -S keeps the installed package's import hook out.
    paths = [str(package.parent), *(p for p in sys.path if p.endswith("site-packages"))]
    words = ["evaluate", str(clip), "-o", str(folder), "-p", "muzero", "--targets", "60",
             "--scale", "72", "--frames", "6", "--speed", "5", "-q", "-j", "1"]  # fmt: skip
    run = subprocess.run(
        [sys.executable, "-S", "-c", "from muzero_rc.cli.main import main; main()", *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "MUZERO_RC_CACHE": str(cache)},
        capture_output=True, text=True, check=False, cwd=package.parent,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    encodes = json.loads((folder / "results.json").read_text())["encodes"]
    return [encode["sha256"] for encode in encodes if encode["method"] == "muzero"]


@pytest.mark.slow
def test_an_encode_of_another_agent_is_not_served(clip_file: Path, tmp_path: Path) -> None:
    package = _copy(tmp_path)
    cache = tmp_path / "cache"
    before = _evaluate(package, clip_file, tmp_path / "one", cache)
    assert len(before) == 1
    assert _evaluate(package, clip_file, tmp_path / "two", cache) == before
    path = package / "agents" / "policy.py"
    text = path.read_text()
    decided = "qindex_of_action(actions, proposals[:count], frame)"
    assert text.count(decided) == 1
    path.write_text(text.replace(decided, f"np.minimum({decided} + 7, 255).astype(np.int32)"))
    assert _evaluate(package, clip_file, tmp_path / "three", cache) != before
