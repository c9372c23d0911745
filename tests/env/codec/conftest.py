"""The encoder's own tests take the larger clip: blocks and their sizes are what they look at."""

from __future__ import annotations

import pytest

from muzero_rc.env.codec.clip import Clip


@pytest.fixture(scope="session")
def carphone(large_carphone: Clip) -> Clip:
    """176x144, 60 frames."""
    return large_carphone
