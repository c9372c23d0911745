"""What encodes: the identity that encodes and logs are kept under."""

from __future__ import annotations

from muzero_rc.code_digest import digest_of_code, digest_of_extension
from muzero_rc.env.codec import _native
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.env.control.work_model import work_model_digest

__all__ = ["ROOTS", "build_identity"]

ROOTS = ("muzero_rc.encode.clip", "muzero_rc.evaluation.grid.policy_encoder")
"""What an encode that is kept comes from: what these import decides it and measures it."""


def build_identity(recipe: Recipe = DEFAULT_RECIPE) -> str:
    """What encodes, other than settings and policy file: extension, code, recipe, work model.

    The version of libvpx is for people, the hashes after it are what differs.
    """
    extension, code = digest_of_extension(), digest_of_code(*ROOTS)
    work = work_model_digest()
    build = _native.build_id()
    return f"{build} extension {extension} code {code} work {work} recipe {recipe.digest}"
