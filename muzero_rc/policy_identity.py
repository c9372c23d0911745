"""What a policy file was made for, kept in the file and compared with the program's own.

It is told by what the program does with one small reference encode, not by its sources: what
the policy would be told of it, and what the controller would propose for its frames. Renaming,
documentation and every change that leaves these numbers alone leave it alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from muzero_rc.errors import CheckpointError

__all__ = ["PolicyIdentity"]

_TOLERANCE = 1e-4  # of float32 columns: another machine rounds otherwise
# Hashes of patches after which libvpx writes the bytes of 8 bits that it wrote before, each with
# the one that stands for all: neither 10 bits nor a comment has changed what a policy knows, nor
# has a search of motion that none asks for.
_SAME_BYTES = {
    "patches:e393c5661f06edae": "patches:035fb9c9cefbf412",
    "patches:8edcdf7d7b512317": "patches:035fb9c9cefbf412",
}


@dataclass(frozen=True, eq=False)
class PolicyIdentity:
    """What a policy was made for.

    Attributes:
      encoder: libvpx's build with the hash of our patches, as `build_id` says it.
      told: what the policy is told of the reference encode. [n] float32.
      proposed: what the controller proposes for its frames. [m] float32.
    """

    encoder: str
    told: npt.NDArray[np.float32]
    proposed: npt.NDArray[np.float32]

    @property
    def libvpx(self) -> str:
        """Version of libvpx as its authors number it."""
        words = self.encoder.split()
        return words[1].partition("-")[0] if len(words) > 1 else self.encoder

    def refusal(self, program: PolicyIdentity) -> str:
        """Why the program cannot use the policy; empty if it can."""
        if self.libvpx != program.libvpx:
            return f"it was made for libvpx {self.libvpx}, this program has {program.libvpx}"
        if not _alike(self.told, program.told):
            return "its inputs mean something else in this program"
        return ""

    def doubt(self, program: PolicyIdentity) -> str:
        """What has shifted since the policy was made; empty if nothing has."""
        if _bytes_of(self.encoder) != _bytes_of(program.encoder):
            return f"it was made with the encoder {self.encoder}, this is {program.encoder}"
        if not _alike(self.proposed, program.proposed):
            return "the controller's proposals are others than when it was made"
        return ""

    def put(self, tree: dict[str, Any], meta: dict[str, Any]) -> None:
        """Puts it into what `checkpoint.write_arrays` is given."""
        tree["identity"] = {"told": self.told, "proposed": self.proposed}
        meta["encoder"] = self.encoder

    @classmethod
    def of_file(cls, tree: Mapping[str, Any], meta: Mapping[str, Any]) -> PolicyIdentity | None:
        """What `put` has put there; None if nothing has.

        Raises:
          CheckpointError: it is damaged.
        """
        if "identity" not in tree:
            return None
        try:
            found = tree["identity"]
            told, proposed = (np.asarray(found[n], np.float32) for n in ("told", "proposed"))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"the identity of a policy is damaged: {error}") from error
        return cls(str(meta.get("encoder")), told, proposed)


def _bytes_of(encoder: str) -> list[str]:
    """The words of a build, the same for all builds that write the same bytes."""
    return [_SAME_BYTES.get(word, word) for word in encoder.split()]


def _alike(ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32]) -> bool:
    return ours.shape == theirs.shape and bool(
        np.allclose(ours, theirs, rtol=_TOLERANCE, atol=_TOLERANCE)
    )
