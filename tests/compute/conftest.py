"""Backends that tests run on; `handlers` and `fake_cluster` importable by name, in workers too."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_cluster import FakeCluster  # noqa: E402

from muzero_rc.compute import ProcessScheduler, Scheduler, ThreadScheduler  # noqa: E402

BACKENDS = {"processes": ProcessScheduler, "threads": ThreadScheduler, "cluster": FakeCluster}


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Callable[..., Scheduler]:
    """Each backend in turn."""
    return BACKENDS[request.param]


@pytest.fixture(params=["processes", "cluster"])
def apart(request: pytest.FixtureRequest) -> Callable[..., Scheduler]:
    """Each backend that survives the end of a worker's process."""
    return BACKENDS[request.param]
