"""The compilation cache on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from muzero_rc.agents.compilation import keep_compiled
from muzero_rc.errors import OutputError

PROGRAM = """
import sys, jax
from muzero_rc.agents.compilation import keep_compiled
keep_compiled(sys.argv[1], min_seconds=0.0, limit_bytes=int(sys.argv[2]))
print(float(jax.jit(lambda x: (x * x).sum())(jax.numpy.arange(4.0))))
"""


@pytest.fixture(autouse=True)
def _no_folder_of_jax_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)


def test_what_is_compiled_is_found_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cache"
    # JAX's settings are per process.
    command = [sys.executable, "-c", PROGRAM, str(folder), str(2**20)]
    first = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    entries = sorted(path.name for path in folder.iterdir() if not path.name.endswith("-atime"))
    assert float(first.stdout) == 14.0 and entries
    second = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    again = sorted(path.name for path in folder.iterdir() if not path.name.endswith("-atime"))
    assert float(second.stdout) == 14.0 and again == entries
    # The old go before the new come.
    stale = folder / "jit_stale-00-cache"
    stale.write_bytes(bytes(2**20))
    os.utime(stale, (1000, 1000))
    subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert entries == sorted(p.name for p in folder.iterdir() if not p.name.endswith("-atime"))


def test_a_folder_given_to_jax_itself_goes_before_ours(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(ours), str(2**20)],
        env=os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(theirs),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        },
        check=True, timeout=120,
    )  # fmt: skip
    assert list(theirs.iterdir()) and not ours.exists()


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make the folder"):
        keep_compiled(tmp_path / "file" / "cache")
