"""All constants of control as one value."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from muzero_rc.env.control.recipe.constant import constant
from muzero_rc.env.control.recipe.frames import (
    FrameSpeeds,
    GopChoice,
    PartitionReuse,
    QpOffsets,
    ShowExistingRule,
)
from muzero_rc.env.control.recipe.rates import (
    EmptyFrame,
    FilmShare,
    ProbeEncodes,
    ProbeRate,
    RetryOffTarget,
    TwoPassRate,
)
from muzero_rc.errors import InputError

__all__ = ["DEFAULT_RECIPE", "Recipe"]


@dataclass(frozen=True)
class Recipe:
    """All constants of control."""

    frame_speed: FrameSpeeds = FrameSpeeds()
    show_existing: ShowExistingRule = ShowExistingRule()
    partition: PartitionReuse = PartitionReuse()
    gop: GopChoice = GopChoice()
    empty_frame: EmptyFrame = EmptyFrame()
    two_pass: TwoPassRate = TwoPassRate()
    probe_encodes: ProbeEncodes = ProbeEncodes()
    probe_rate: ProbeRate = ProbeRate()
    retry: RetryOffTarget = RetryOffTarget()
    film_share: FilmShare = FilmShare()
    qp_offsets: QpOffsets = QpOffsets()
    db_per_octave: float = constant(
        3.5,
        "dB per octave",
        "of PSNR avg that an octave of all bits is worth: the price of a bit where a frame is "
        "to be shown again, and in the choice of groups",
        "the middle one of 17 training clips, from 2.9 to 5",
    )
    max_moving_group: int = constant(
        30,
        "coded frames",
        "of a group, above which it is static and keeps the controller's qindexes: there one "
        "wrong step costs the whole group, and films have next to none to learn from",
        "libvpx makes longer groups of static pictures only; one step cost a fifth of the rate "
        "of a clip that was tried",
    )

    @functools.cached_property
    def digest(self) -> str:
        """Hash of all values."""
        text = json.dumps(self.as_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def as_dict(self) -> dict[str, Any]:
        """Plain values by topic, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Reads what `as_dict` gave, also by way of JSON; what is missing is the default's.

        Raises:
          InputError: there is no such field, or its value is of another form.
        """
        return cast(Recipe, _restored(cls(), values, ""))

    def replace(self, changes: Mapping[str, Any]) -> Recipe:
        """A copy with some fields changed.

        Args:
          changes: by topic and name, such as `frame_speed.probe`.

        Raises:
          InputError: there is no such field.
        """
        recipe = self
        for place, value in changes.items():
            topic, _, name = place.rpartition(".")
            try:
                if not topic:
                    recipe = dataclasses.replace(recipe, **{name: value})
                    continue
                changed = dataclasses.replace(getattr(recipe, topic), **{name: value})
                recipe = dataclasses.replace(recipe, **{topic: changed})
            except (AttributeError, TypeError):
                raise InputError(f"the recipe has no {place}") from None
        return recipe

    def with_speeds(self, speed: int, **speeds: int) -> Recipe:
        """A copy with some speeds of a stream's frames changed.

        Args:
          speed: the stream's, `cpu-used`.
          speeds: by role, such as leaf=4.
        """
        table = list(self.frame_speed.by_speed)
        row = min(speed, len(table) - 1)
        table[row] = table[row]._replace(**speeds)
        return self.replace({"frame_speed.by_speed": tuple(table)})


def _restored(default: Any, value: Any, place: str) -> Any:
    """A value in the form of its default."""
    try:
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            known = {
                field.name: getattr(default, field.name) for field in dataclasses.fields(default)
            }
            if unknown := sorted(set(value) - set(known)):
                raise InputError(f"the recipe has no {place}{unknown[0]}")
            given = {name: _restored(known[name], value[name], f"{place}{name}.") for name in value}
            return dataclasses.replace(default, **given)
        if isinstance(default, tuple):
            if hasattr(default, "_fields"):
                return type(default)(*value)
            # Rows alike, of any number.
            return tuple(_restored(default[0], part, place) for part in value)
        return type(default)(value)
    except (TypeError, ValueError, AttributeError):
        raise InputError(f"{place.rstrip('.')} of a recipe cannot be {value!r}") from None


DEFAULT_RECIPE = Recipe()
"""What a user gets."""
