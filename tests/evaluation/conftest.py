"""A cache for the tests of evaluations; `fake_rd` importable by name, in workers too."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def own_cache(tmp_path_factory, monkeypatch) -> None:
    """One cache folder for a whole run of these tests."""
    monkeypatch.setenv("MUZERO_RC_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
