"""What encodes: the identity that results and logs are kept under."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
from types import ModuleType

from muzero_rc.env.codec import _native, session
from muzero_rc.env.control import baselines
from muzero_rc.env.control import frame_speed as effort
from muzero_rc.env.control import gop as gops
from muzero_rc.env.control import probe_record as probe
from muzero_rc.env.control.rate import probe as probed_landing
from muzero_rc.env.control.rate import two_pass as landing
from muzero_rc.env.observation import builder as observation
from muzero_rc.env.passes import one_pass
from muzero_rc.env.passes import pipeline as rollout
from muzero_rc.env.passes import probe as probe_encode
from muzero_rc.env.passes import stepper as episode

__all__ = ["build_identity", "code_digest"]

_DECISIVE = (
    baselines, effort, episode, probe_encode, gops, landing, observation, one_pass, probe,
    probed_landing, rollout, session,
)  # fmt: skip


@functools.cache
def build_identity() -> str:
    """What encodes, other than settings and policy: library, package, speed profile and landing.

    Versions are for people. The digest at the end is of the code that decides an encode: a
    formula that was tried and taken back leaves encodes behind, and nobody remembers to
    raise a number for each try.
    """
    from muzero_rc import __version__

    return (
        f"{_native.build_id()} muzero_rc {__version__} speed {effort.FRAME_SPEED_VERSION}"
        f" gops {gops.GOPS_VERSION} landing {landing.RATE_CONTROL_VERSION}"
        f" probed {probed_landing.PROBE_RATE_CONTROL_VERSION}"
        f" code {code_digest(*map(_source, _DECISIVE))}"
    )


def code_digest(*sources: str) -> str:
    """Hash of Python sources that neither comments, docstrings nor layout change."""
    digest = hashlib.sha256()
    for source in sources:
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (
                ast.get_docstring(node, clean=False) is not None
            ):
                node.body[0] = ast.Pass()
        digest.update(ast.unparse(tree).encode())
    return digest.hexdigest()[:12]


def _source(module: ModuleType) -> str:
    try:
        return inspect.getsource(module)
    except OSError:  # a package without sources: its version is all there is
        return ""
