"""Policies without a controller that keep a clip at or under its target in other ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from muzero_rc.env.codec.backend import Backend, ClipLike, FirstPassLike
from muzero_rc.env.control.baselines import ConstantPolicy
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.errors import InputError
from muzero_rc.types import KEEP, NUM_QINDEX, Observation, Policy, QindexPolicy, UpdateType

__all__ = ["ConstantForTarget", "ConstrainedQuality", "OffsetsForTarget"]

_REFERENCE_OFFSET = 60  # qindexes
_OVERLAY_SHARE = 3  # an overlay repeats its reference: coarser by a third of the offset
_DEFAULT_CQ_LEVEL = 31  # libvpx's guides recommend 15 to 35, 31 for 1080p


class ConstrainedQuality(QindexPolicy):
    """libvpx's constrained quality: VBR that never spends more than a quality needs."""

    name = "cq"

    def __init__(self, level: int = _DEFAULT_CQ_LEVEL) -> None:
        """Takes the quantizer 0..63 that frames need not be better than.

        Raises:
          InputError: the level is out of range.
        """
        if not 0 <= level <= 63:
            raise InputError(f"the level of cq must be between 0 and 63, not {level}")
        self.level = level

    def prepare(
        self, clip: ClipLike, settings: EncoderSettings, first_pass: FirstPassLike
    ) -> EncoderSettings:
        """The same settings with libvpx's constrained quality switched on."""
        return settings.replace(rc_mode="cq", cq_level=self.level)

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        """`KEEP` for all. [B] int32."""
        return np.full(len(observations), KEEP, np.int32)


class ConstantForTarget(QindexPolicy):
    """One qindex for all frames, the lowest that keeps the clip at or under its target.

    Found by bisection on whole encodes: eight of them, each as long as the last one.
    """

    name = "constant"

    def __init__(self, backend: Backend | None = None) -> None:
        """Takes the encoder to search with; None is libvpx."""
        self._backend = backend
        self.qindex: int | None = None

    def prepare(
        self, clip: ClipLike, settings: EncoderSettings, first_pass: FirstPassLike
    ) -> EncoderSettings:
        """Searches the qindex; the settings stay as they are."""
        self.qindex = _finest(ConstantPolicy, clip, settings, first_pass, self._backend)
        return settings

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        """The qindex that `prepare` found. [B] int32."""
        if self.qindex is None:
            raise InputError("the policy constant must be prepared for a clip before it decides")
        return np.full(len(observations), self.qindex, np.int32)


class _Offsets(QindexPolicy):
    """Frames of a type at a fixed distance from one qindex."""

    name = "offsets"

    def __init__(self, qindex: int, offset: int) -> None:
        self._qindex = {kind: qindex for kind in UpdateType}
        for kind in (UpdateType.KEY, UpdateType.GOLDEN, UpdateType.ARF):
            self._qindex[kind] = max(qindex - offset, 0)
        for kind in (UpdateType.OVERLAY, UpdateType.MID_OVERLAY):
            self._qindex[kind] = min(qindex + offset // _OVERLAY_SHARE, NUM_QINDEX - 1)

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        # An observation's first columns are the one-hot type of the frame.
        kinds = [UpdateType(int(o.frame[: len(UpdateType)].argmax())) for o in observations]
        return np.array([self._qindex[kind] for kind in kinds], np.int32)


class OffsetsForTarget(QindexPolicy):
    """Offsets by frame type, as encoders do without rate control, found by bisection.

    Leaf frames at q; key, golden and alternate reference frames finer by the offset,
    overlays coarser by a third of it; q is the lowest that keeps the clip at or under its
    target, found as `ConstantForTarget` finds its own.
    """

    name = "offsets"

    def __init__(self, offset: int = _REFERENCE_OFFSET, backend: Backend | None = None) -> None:
        """Takes the offset, 0..255 qindexes, and the encoder to search with; None is libvpx.

        Raises:
          InputError: the offset is out of range.
        """
        if not 0 <= offset < NUM_QINDEX:
            raise InputError(
                f"the offset of offsets must be between 0 and {NUM_QINDEX - 1}, not {offset}"
            )
        self.offset = offset
        self._backend = backend
        self._found: _Offsets | None = None

    def prepare(
        self, clip: ClipLike, settings: EncoderSettings, first_pass: FirstPassLike
    ) -> EncoderSettings:
        """Searches the qindex of leaf frames; the settings stay as they are."""

        def at(qindex: int) -> Policy:
            return _Offsets(qindex, self.offset)

        qindex = _finest(at, clip, settings, first_pass, self._backend)
        self._found = _Offsets(qindex, self.offset)
        return settings

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        """The qindex of each frame's type. [B] int32."""
        if self._found is None:
            raise InputError("the policy offsets must be prepared for a clip before it decides")
        return self._found.qindexes(observations)


def _finest(
    policy_at: Callable[[int], Policy],
    clip: ClipLike,
    settings: EncoderSettings,
    first_pass: FirstPassLike,
    backend: Backend | None,
) -> int:
    """The lowest qindex whose policy keeps a clip at or under its target, by bisection."""
    # If even the coarsest qindex is too much, it is still the best there is.
    low, high = 0, NUM_QINDEX - 1
    while low < high:
        middle = (low + high) // 2
        result = rollout(clip, settings, policy_at(middle), first_pass=first_pass, backend=backend)
        if result.score.actual_kbps <= settings.target_kbps:
            high = middle
        else:
            low = middle + 1
    return high
