"""The package as the wheel lays it out: layers, bare imports, files that must stand together."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES: dict[str, str] = PROJECT["tool"]["scikit-build"]["wheel"]["packages"]
SHADOWED = {"env", "agents", "evaluation"}


def lay_out(target: Path) -> Path:
    """Copies the Python files to where the wheel puts them."""
    for package, folder in PACKAGES.items():
        shutil.copytree(
            ROOT / folder,
            target / package,
            ignore=lambda _, names: [n for n in names if n in ("__pycache__", "native")],
            dirs_exist_ok=True,
        )
    return target


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    """import-linter with this project's contracts on the package in `tree`."""
    return subprocess.run(
        [sys.executable, ROOT / "scripts/lint_imports.py", tree],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=120,
    )


def python_files() -> Iterator[Path]:
    for folder in (*PACKAGES.values(), "tests", "benchmarks", "scripts"):
        yield from (ROOT / folder).rglob("*.py")


def test_layers_hold(tmp_path: Path) -> None:
    result = lint_imports(lay_out(tmp_path))
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("muzero_rc/agents/wrong.py", "import muzero_rc.env"),
        ("muzero_rc/env/wrong.py", "import muzero_rc.agents"),
        ("muzero_rc/env/wrong.py", "import jax"),
        ("muzero_rc/agents/wrong.py", "import gymnasium"),
        ("muzero_rc/evaluation/wrong.py", "import muzero_rc.cli"),
        ("muzero_rc/types/frame.py", "import muzero_rc.env"),
    ],
)
def test_a_broken_layer_is_found(tmp_path: Path, module: str, line: str) -> None:
    path = lay_out(tmp_path) / module
    path.write_text((path.read_text() if path.exists() else "") + f"\n{line}\n")
    result = lint_imports(tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "BROKEN" in result.stdout


def test_no_bare_or_relative_imports() -> None:
    wrong = []
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = ["." * node.level + (node.module or "")]
            wrong += [
                f"{path.relative_to(ROOT)}:{node.lineno}: {name}"
                for name in names
                if name.startswith(".") or name.split(".")[0] in SHADOWED
            ]
    assert not wrong


def test_no_init_files_in_tests() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_every_patch_is_explained() -> None:
    upstream = (ROOT / "third_party/libvpx/UPSTREAM.md").read_text()
    patches = {path.name for path in (ROOT / "third_party/libvpx/patches").glob("*.patch")}
    assert patches
    assert set(re.findall(r"^\| `(\d+[^`]*\.patch)`", upstream, re.MULTILINE)) == patches


def test_lock_pins_every_dependency_and_names_no_index() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    pinned = {name.lower() for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *PROJECT["build-system"]["requires"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    missing = [w for w in wanted if re.split(r"[<>=]", w)[0].lower() not in pinned]
    assert not missing


def test_source_folder_alone_says_what_to_do() -> None:
    """Imported from the checkout by a Python that has no muzero_rc installed."""
    result = subprocess.run(
        [sys.executable, "-S", "-c", "import muzero_rc"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 1
    assert "run make setup" in result.stderr.strip().splitlines()[-1]


def test_checkout_root_does_not_shadow_the_installed_package() -> None:
    """`.venv/bin/python` in the checkout finds all parts, the compiled one too."""
    code = (
        "import muzero_rc.env.codec._native, muzero_rc.agents, muzero_rc;"
        "print(muzero_rc.__version__)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == PROJECT["project"]["version"]
