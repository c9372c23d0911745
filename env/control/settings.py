"""Settings of an encode: libvpx's, and how its passes are controlled."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from muzero_rc.env.codec.settings import CodecSettings
from muzero_rc.env.control.frame_speed import SPEED_PROFILES, SpeedProfile
from muzero_rc.errors import InputError

__all__ = ["EncoderSettings", "modern_settings"]

_RENAMED: dict[str, tuple[str, dict[Any, Any]]] = {
    "effort": ("speed_profile", {"even": "uniform", "layered": "hierarchical", "pilot": "probe"}),
    "repeats": ("show_existing", {}),
}


def modern_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name, with those that had another name before under their present one."""
    modern = {}
    for name, value in settings.items():
        new, values = _RENAMED.get(name, (name, {}))
        modern[new] = values.get(value, value) if values else value
    return modern


@dataclass(frozen=True, kw_only=True)
class EncoderSettings(CodecSettings):
    """Settings of an encode in two or three passes.

    Attributes:
      speed_profile: uniform codes every frame at `speed`, hierarchical searches longest where
        it pays, see `env.control.frame_speed`. auto leaves it to the policy, uniform if it has
        no wish.
      passes: 2, or 3 for a quick probe encode before the final pass, so that its rate control
        knows what frames cost. 0 leaves it to the policy, 2 if it has no wish.
      budget_kbps: bitrate that rate control meets where it is not libvpx's target: the share of
        a part of a film, whose frames libvpx plans at the target that the probe had. None for
        `target_kbps`.
      time: times VBR's work that probe encodes and the last pass are to take, see
        `env.control.work_plan`; None takes as long as the speed profile's tables do.
      budget_work: seconds of work that they are to take instead: the share of a part of a film.
      show_existing: with the hierarchical speed profile a reference may be shown in the place
        of a frame that says next to nothing new; False codes every frame, so that none looks
        like the one before unless the clip's do.
    """

    speed_profile: SpeedProfile = "auto"
    passes: Literal[0, 2, 3] = 0
    show_existing: bool = True
    budget_kbps: float | None = None
    time: float | None = None
    budget_work: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.show_existing, bool):
            raise InputError(f"show_existing must be True or False, not {self.show_existing!r}")
        if self.speed_profile not in SPEED_PROFILES:
            raise InputError(
                f"speed_profile must be {' or '.join(SPEED_PROFILES)}, not {self.speed_profile!r}"
            )
        if self.passes not in (0, 2, 3) or isinstance(self.passes, bool):
            raise InputError(
                f"passes must be 2, 3, or 0 for what the policy wants, not {self.passes!r}"
            )
        for name in ("budget_kbps", "time", "budget_work"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and 0 < value < float("inf")):
                raise InputError(f"{name} must be a number above 0, not {value!r}")

    @classmethod
    def named(cls, target_kbps: int, settings: Mapping[str, Any]) -> EncoderSettings:
        """Settings by name, from a caller whose names may be wrong.

        Raises:
          InputError: an unknown name or a value out of range.
        """
        settings = modern_settings(settings)
        names = {field.name for field in dataclasses.fields(cls)}
        names -= {"target_kbps", "budget_kbps", "budget_work"}
        unknown = sorted(set(settings) - names)
        if unknown:
            raise InputError(
                f"unknown encoder setting {', '.join(unknown)}; "
                f"there are: {', '.join(sorted(names))}"
            )
        # A sweep over settings has numpy's whole numbers.
        plain: dict[str, Any] = {
            k: int(v) if isinstance(v, np.integer) else v for k, v in settings.items()
        }
        return cls(target_kbps=target_kbps, **plain)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EncoderSettings:
        """Reads what `as_dict` of this version, or of one before, gave.

        Raises:
          InputError: a value out of range.
          TypeError: an unknown name, or no target.
        """
        return cls(**modern_settings(values))

    @property
    def rate_kbps(self) -> float:
        """Bitrate that rate control meets, kbit/s."""
        return self.target_kbps if self.budget_kbps is None else self.budget_kbps

    def frame_budget(self, fps: Fraction) -> float:
        """Bits per shown frame that rate control meets, at so many frames per second."""
        return self.rate_kbps * 1000.0 / float(fps)

    @property
    def needs_probe(self) -> bool:
        """True if probe encodes go before the encode; they have none of their own."""
        return self.passes == 3 and self.speed_profile != "probe"

    @property
    def of_probe(self) -> EncoderSettings:
        """The settings of the probe encodes for these."""
        return self.replace(speed_profile="probe", time=None, budget_work=None)
