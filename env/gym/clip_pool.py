"""The clips and targets that episodes draw from, and libvpx's score on them."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from muzero_rc.env.codec.backend import Backend, ClipLike
from muzero_rc.env.codec.settings import MAX_TARGET_KBPS
from muzero_rc.env.control.baselines import VbrPolicy
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.gym.arguments import is_number, whole_number
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
        clips: str | Path | Iterable[str | Path | ClipLike],
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
        self._clips = _listed(clips)
        if max_frames is not None:
            max_frames = whole_number("max_frames", max_frames, least=1)
        if height is not None:
            height = whole_number("height", height)
        self._backend = backend
        self._height = height
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._decoded: OrderedDict[int, ClipLike] = OrderedDict()
        self.max_num_frames = max(self._bound(index) for index in range(len(self._clips)))

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


def _listed(clips: Any) -> list[str | Path | ClipLike]:
    if isinstance(clips, (str, Path)):
        return [clips]
    if not isinstance(clips, Iterable):
        raise InputError(f"clips must be files or decoded clips, not {clips!r}")
    listed = list(clips)
    if not listed:
        raise InputError("clips is empty: give at least one file or clip")
    for clip in listed:
        if not isinstance(clip, (str, Path)) and not hasattr(clip, "num_frames"):
            raise InputError(f"clips must be files or decoded clips, not {clip!r}")
    return listed


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
          InputError: empty, no numbers, out of range, or a range that is none.
        """
        given: Any = [targets_kbps] if isinstance(targets_kbps, Real) else targets_kbps
        listed = list(given) if isinstance(given, Iterable) else []
        numbers = all(is_number(value) and 1 <= value <= MAX_TARGET_KBPS for value in listed)
        if not listed or not numbers:
            raise InputError(
                f"targets_kbps must be kbit/s between 1 and {MAX_TARGET_KBPS}, not {targets_kbps!r}"
            )
        values = [float(value) for value in listed]
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
