"""A plan: which qindex each coded frame of a clip is to have."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from muzero_rc.types import NUM_QINDEX, FrameInfo, FrameResult

__all__ = ["FrameKey", "Frames", "Kind", "Plan", "PlanBase", "frame_key", "kind_of"]

FrameKey = tuple[int, int]
"""Show index and update type of a coded frame: stays right when groups change."""

Kind = tuple[int, int]
"""Update type and layer depth."""

Frames = Iterable[tuple[FrameInfo | None, FrameResult]]
"""Frames of an encode in coding order; the description is None for buffers shown again."""

_GOLDEN_RATIO = 0.6180339887498949


class PlanBase(enum.Enum):
    """What a plan's numbers are relative to."""

    VBR = "vbr"
    """libvpx alone, its recode loop included; the plan adds nothing."""
    PROPOSAL = "proposal"
    """libvpx's proposal for the frame."""
    FEEDBACK = "feedback"
    """The proposal, brought back to the budget."""
    POLICY = "policy"
    """What a given policy chooses."""
    FIXED = "fixed"
    """Nothing: the plan's values are qindexes."""


def frame_key(info: FrameInfo) -> FrameKey:
    """What a plan knows a frame by."""
    return info.show_index, int(info.update_type)


def kind_of(info: FrameInfo) -> Kind:
    """The class of frames that a frame is of."""
    return int(info.update_type), info.layer_depth


@dataclass(frozen=True)
class Plan:
    """The qindex of every frame, as far as it does not depend on the encode itself.

        qindex = pivot + stretch (base qindex - pivot) + by_kind + values + shift

    the base qindex is what `base` says, for `FIXED` the frame's own value. Fractions are
    dithered: of all frames, the fraction's share gets one more. A frame that a fixed plan
    does not know, because its groups have changed, takes the value of the nearest frame
    of its type.

    Attributes:
      base: what the numbers are relative to.
      values: for `FIXED` qindexes, else steps added.
      by_kind: steps added by update type and depth.
      stretch: of the distance from `pivot`.
      pivot: qindex that stays where it is.
      shift: qindexes added to all frames.
    """

    base: PlanBase
    values: Mapping[FrameKey, int] = field(default_factory=dict)
    by_kind: Mapping[Kind, float] = field(default_factory=dict)
    stretch: float = 1.0
    pivot: float = 128.0
    shift: float = 0.0

    @classmethod
    def frozen(cls, frames: Frames) -> Plan:
        """The plan that repeats an encode."""
        values = {frame_key(info): result.qindex for info, result in frames if info is not None}
        return cls(PlanBase.FIXED, values)

    def qindex(self, info: FrameInfo, base: int) -> int:
        """The qindex of a frame, 0..255.

        Args:
          info: the frame.
          base: what the plan's base says; a fixed plan does not look at it.
        """
        key = frame_key(info)
        start: float = base
        extra = 0
        if self.base is PlanBase.FIXED:
            start = self._value(key, base)
        else:
            extra = self.values.get(key, 0)
        wanted = self.pivot + self.stretch * (start - self.pivot)
        wanted += self.by_kind.get(kind_of(info), 0.0) + extra + self.shift
        return _dithered(wanted, key)

    def shifted(self, step: float, keys: Collection[FrameKey] | None = None) -> Plan:
        """All frames `step` qindexes coarser; a fixed plan stays one of whole numbers.

        Args:
          step: qindexes.
          keys: only these frames of a fixed plan.
        """
        if self.base is not PlanBase.FIXED:
            return replace(self, shift=self.shift + step)
        return replace(
            self,
            values={
                key: _dithered(q + step, key) if keys is None or key in keys else q
                for key, q in self.values.items()
            },
        )

    def moved(self, steps: Mapping[FrameKey, int]) -> Plan:
        """Some frames' values changed by steps."""
        values = dict(self.values)
        for key, step in steps.items():
            if self.base is PlanBase.FIXED:
                if key in values:
                    values[key] = min(max(values[key] + step, 0), NUM_QINDEX - 1)
            else:
                values[key] = values.get(key, 0) + step
        return replace(self, values=values)

    def repeats(self, frames: Frames) -> bool:
        """Whether an encode by this plan is certain to be the given one.

        The encoder is deterministic, so that it is if all decisions are the same. It
        cannot be said of plans that depend on more than libvpx's proposals, nor of frames
        that libvpx codes several times.
        """
        if self.base not in (PlanBase.FIXED, PlanBase.PROPOSAL):
            return False
        return all(
            info is None or self.qindex(info, info.proposal_qindex) == result.qindex
            for info, result in frames
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; equal plans give equal values."""
        return {
            "base": self.base.value,
            "values": [[*key, value] for key, value in sorted(self.values.items())],
            "by_kind": [[*kind, value] for kind, value in sorted(self.by_kind.items())],
            "stretch": self.stretch,
            "pivot": self.pivot,
            "shift": self.shift,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """Reads what `as_dict` gave.

        Raises:
          KeyError, TypeError, ValueError: it is something else.
        """
        return cls(
            PlanBase(values["base"] if "base" in values else values["anchor"]),
            {(int(s), int(t)): int(v) for s, t, v in values["values"]},
            {(int(t), int(d)): float(v) for t, d, v in values["by_kind"]},
            float(values["stretch"]),
            float(values["pivot"]),
            float(values["shift"]),
        )

    @property
    def identity(self) -> str:
        """The same for equal plans only."""
        return json.dumps(self.as_dict(), sort_keys=True)

    def _value(self, key: FrameKey, default: int) -> int:
        if key in self.values:
            return self.values[key]
        if not self.values:
            return default
        show_index, kind = key
        # Any type does if there is none of the frame's own.
        nearest = min(self.values, key=lambda k: (k[1] != kind, abs(k[0] - show_index), k))
        return self.values[nearest]


def _dithered(qindex: float, key: FrameKey) -> int:
    """Rounds so that of many frames with fraction f a share of f is rounded up."""
    threshold = (key[0] * _GOLDEN_RATIO + key[1] * 0.381) % 1.0
    return min(max(math.floor(qindex + threshold + 1e-9), 0), NUM_QINDEX - 1)
