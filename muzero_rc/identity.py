"""What encodes: the identity that encodes and logs are kept under."""

from __future__ import annotations

import functools

from muzero_rc.code_digest import digest_of_code, digest_of_extension
from muzero_rc.env.codec import _native

__all__ = ["ROOTS", "build_identity"]

ROOTS = ("muzero_rc.encode.clip", "muzero_rc.evaluation.grid.policy_encoder")
"""What an encode that is kept comes from: what these import decides it and measures it."""


@functools.cache
def build_identity() -> str:
    """What encodes, other than settings and policy file: the extension, and the code.

    The version of libvpx is for people, the two hashes after it are what differs.
    """
    return f"{_native.build_id()} extension {digest_of_extension()} code {digest_of_code(*ROOTS)}"
