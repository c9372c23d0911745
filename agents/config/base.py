"""What all sections of a configuration share: plain frozen data, checked when made."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from muzero_rc.errors import InputError

__all__ = ["Config"]

_C = TypeVar("_C", bound="Config")
INF = math.inf


class Config:
    """Shared checks; `_RANGES` gives inclusive bounds, `_CHOICES` allowed words."""

    _SECTION: ClassVar[str] = ""
    _RANGES: ClassVar[dict[str, tuple[float, float]]] = {}
    _CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {}

    def __post_init__(self) -> None:
        """Checks every value."""
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            self._check(field.name, str(field.type), getattr(self, field.name))

    def _check(self, name: str, kind: str, value: Any) -> None:
        key = f"{self._SECTION}.{name}"
        if kind == "str":
            choices = self._CHOICES[name]
            if value not in choices:
                raise InputError(f"{key} must be one of {', '.join(choices)}, not {value!r}")
            return
        if kind == "bool":
            if not isinstance(value, bool):
                raise InputError(f"{key} must be true or false, not {value!r}")
            return
        if kind == "int":
            if isinstance(value, bool) or not isinstance(value, int):
                raise InputError(f"{key} must be a whole number, not {value!r}")
        else:
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise InputError(f"{key} must be a number, not {value!r}")
            value = float(value)
            object.__setattr__(self, name, value)
        low, high = self._RANGES[name]
        if not (low <= value <= high and math.isfinite(value)):
            bounds = f"at least {low:g}" if high == INF else f"between {low:g} and {high:g}"
            raise InputError(f"{key} must be {bounds}, not {value}")

    @classmethod
    def from_dict(cls: type[_C], values: Mapping[str, Any]) -> _C:
        """Makes the configuration from plain values; absent keys take the defaults.

        Raises:
          InputError: an unknown or missing key, or a bad value, named in the message.
        """
        if not isinstance(values, Mapping):
            raise InputError(f"{cls._SECTION} must be a table of settings, not {values!r}")
        fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for key in values:
            if key not in fields:
                raise InputError(
                    f"unknown setting {cls._SECTION}.{key}; known are {', '.join(fields)}"
                )
        for key, field in fields.items():
            if field.default is dataclasses.MISSING and key not in values:
                raise InputError(f"setting {cls._SECTION}.{key} is missing")
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    def replace(self: _C, **changes: Any) -> _C:
        """A copy with some settings changed, checked again."""
        return self.from_dict({**self.as_dict(), **changes})
