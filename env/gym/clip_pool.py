"""The clips and targets that episodes draw from, and libvpx's score on them."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from muzero_rc.env.codec.backend import Backend, ClipLike
from muzero_rc.env.control.baselines import VbrPolicy
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.errors import InputError
from muzero_rc.types import EpisodeScore

__all__ = ["ClipPool", "Targets", "VbrReferences"]

_DEFAULT_POOL_BYTES = 2**30


class ClipPool:
    """Clips by number: decoded ones as they are, files when they are asked for.

    Decoded files are kept up to `max_bytes`, the longest unused dropped first.

    Attributes:
      max_num_frames: upper bound of the clips' lengths.
    """

    def __init__(
        self,
        clips: Sequence[str | Path | ClipLike],
        backend: Backend,
        *,
        height: int | None = None,
        max_frames: int | None = None,
        max_bytes: int = _DEFAULT_POOL_BYTES,
    ) -> None:
        """Takes clips and files; decodes files only where their length must be known.

        Args:
          clips: files, or decoded clips, which `height` and `max_frames` leave alone.
          backend: what decodes files.
          height: scale files down to this many rows; None keeps their size.
          max_frames: decode at most this many frames of a file; None all of them.
          max_bytes: limit of decoded files kept in memory.

        Raises:
          InputError: no clips, or a file that cannot be used.
        """
        if isinstance(clips, (str, Path)):
            clips = [clips]
        if len(clips) == 0:
            raise InputError("clips is empty: give at least one file or clip")
        if max_frames is not None and max_frames < 1:
            raise InputError(f"max_frames must be 1 or more, not {max_frames}")
        self._clips = list(clips)
        self._backend = backend
        self._height = height
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._decoded: OrderedDict[int, ClipLike] = OrderedDict()
        self.max_num_frames = max(self._bound(index) for index in range(len(clips)))

    def _bound(self, index: int) -> int:
        if self._max_frames is not None and isinstance(self._clips[index], (str, Path)):
            return self._max_frames
        return self[index].num_frames

    def __len__(self) -> int:
        """Number of clips."""
        return len(self._clips)

    def __getitem__(self, index: int) -> ClipLike:
        """The clip, decoded now if need be.

        Raises:
          IndexError: there is no such clip.
          InputError: the file cannot be used.
        """
        clip = self._clips[index]
        if not isinstance(clip, (str, Path)):
            return clip
        if index in self._decoded:
            self._decoded.move_to_end(index)
            return self._decoded[index]
        decoded = self._backend.load(clip, height=self._height, max_frames=self._max_frames)
        self._decoded[index] = decoded
        while len(self._decoded) > 1 and sum(map(_num_bytes, self._decoded.values())) > (
            self._max_bytes
        ):
            self._decoded.popitem(last=False)
        return decoded


def _num_bytes(clip: ClipLike) -> int:
    if not clip.in_memory:
        return 0
    return clip.num_frames * clip.width * clip.height * 3 // 2


class Targets:
    """Target bitrates: a list to choose from, or a range, drawn evenly in log rate."""

    def __init__(self, targets_kbps: float | Sequence[float]) -> None:
        """Takes one target, a list of targets, or a range.

        Args:
          targets_kbps: kbit/s. A tuple of two numbers is a range (low, high); any
            other sequence is a list of choices.

        Raises:
          InputError: empty, not positive, or a range that is none.
        """
        if isinstance(targets_kbps, (int, float)):
            targets_kbps = [targets_kbps]
        values = [float(value) for value in targets_kbps]
        if not values or not all(1 <= value <= 1_000_000 for value in values):
            raise InputError(
                f"targets_kbps must be kbit/s between 1 and 1000000, not {targets_kbps!r}"
            )
        self._is_range = isinstance(targets_kbps, tuple) and len(values) == 2
        if self._is_range and values[0] > values[1]:
            raise InputError(f"targets_kbps: the range {targets_kbps!r} ends before it begins")
        self._values = values

    def sample(self, rng: np.random.Generator) -> int:
        """One target, kbit/s."""
        if self._is_range:
            low, high = map(math.log, self._values)
            return round(math.exp(rng.uniform(low, high)))
        return round(self._values[int(rng.integers(len(self._values)))])


class VbrReferences:
    """libvpx's two-pass VBR on each clip and setting, encoded once."""

    def __init__(self, backend: Backend, timeout_s: float = 120.0) -> None:
        """Starts empty."""
        self._backend = backend
        self._timeout_s = timeout_s
        self._scores: dict[tuple[str, EncoderSettings], EpisodeScore] = {}

    def known(self, clip: ClipLike, settings: EncoderSettings) -> EpisodeScore | None:
        """The score, None if it was never asked for."""
        return self._scores.get((clip.sha256, settings))

    def get(self, clip: ClipLike, settings: EncoderSettings) -> EpisodeScore:
        """The score; the first time this encodes the clip."""
        key = (clip.sha256, settings)
        if key not in self._scores:
            self._scores[key] = rollout(
                clip, settings, VbrPolicy(), timeout_s=self._timeout_s, backend=self._backend
            ).score
        return self._scores[key]
