"""The recipe: every constant that decides an encode without being learned, as data.

Whoever controls takes a `Recipe`; `DEFAULT_RECIPE` is what a user gets. Two equal recipes are
interchangeable, so tables that follow from one are cached by it. Every field has its unit and
says where its number comes from: `frames` has those of frames and groups, `rates` those of rate
control. `python -m muzero_rc.env.control.recipe.table` prints them all.
"""

from muzero_rc.env.control.recipe.frames import (
    FrameSpeeds,
    GopChoice,
    PartitionReuse,
    QpOffsets,
    ShowExistingRule,
    SpeedsByRole,
)
from muzero_rc.env.control.recipe.rates import (
    EmptyFrame,
    FilmShare,
    ProbeEncodes,
    ProbeRate,
    RetryOffTarget,
    TwoPassRate,
)
from muzero_rc.env.control.recipe.recipe import DEFAULT_RECIPE, Recipe

__all__ = [
    "DEFAULT_RECIPE",
    "EmptyFrame",
    "FilmShare",
    "FrameSpeeds",
    "GopChoice",
    "PartitionReuse",
    "ProbeEncodes",
    "ProbeRate",
    "QpOffsets",
    "Recipe",
    "RetryOffTarget",
    "ShowExistingRule",
    "SpeedsByRole",
    "TwoPassRate",
]
