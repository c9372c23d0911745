"""What a chunk of constant quality is coded with, and the encode that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from muzero_rc.encode.stretches import Stretches
from muzero_rc.env.control.frame_speed import is_quick
from muzero_rc.env.control.qp_offsets import ConstantQualityPolicy
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.env.control.settings import EncoderSettings

__all__ = ["Level", "at_level", "nearest_level", "quantizer_of"]

# libvpx's quantizer_to_qindex: its quantizers 0 to 61 are four qindexes apart.
QINDEXES_PER_QUANTIZER, _LAST_EVEN = 4, 61


class Level(NamedTuple):
    """What a chunk is coded with.

    Attributes:
      qindex: of its constant quality, 0 to 255; 0 is without loss.
      lossless: stretches in which the base layer is without loss; the qindex is that of all
        other frames.
      offset_scale: times which the recipe's QP offsets by layer of the pyramid are taken.
    """

    qindex: float
    lossless: Stretches = ()
    offset_scale: float = 1.0

    @classmethod
    def of(cls, told: Sequence[Any]) -> Level:
        """The level that was written as JSON."""
        qindex, lossless, offset_scale = told
        return cls(qindex, tuple((first, end) for first, end in lossless), offset_scale)


def at_level(
    settings: EncoderSettings, level: Level, *, recipe: Recipe = DEFAULT_RECIPE
) -> tuple[EncoderSettings, ConstantQualityPolicy]:
    """Settings and policy of constant quality, between libvpx's quantizers too.

    Args:
      settings: of the encode.
      level: of the constant quality.
      recipe: the constants of control.
    """
    quantizer = min(int(level.qindex) // QINDEXES_PER_QUANTIZER, _LAST_EVEN)
    policy = ConstantQualityPolicy(
        level.qindex - QINDEXES_PER_QUANTIZER * quantizer,
        recipe.qp_offsets.scaled(level.offset_scale),
        lossless=level.lossless,
    )
    settings = settings.replace(rc_mode="q", cq_level=quantizer)
    if is_quick(settings.speed_profile, settings.speed, recipe=recipe):
        settings = settings.replace(speed_profile="quick", tpl=False)
    return settings, policy


def nearest_level(level: float) -> float:
    """The nearest qindex that one of libvpx's quantizers has."""
    return float(QINDEXES_PER_QUANTIZER * min(round(level / QINDEXES_PER_QUANTIZER), _LAST_EVEN))


def quantizer_of(level: float) -> int:
    """libvpx's quantizer whose qindex is nearest."""
    return round(nearest_level(level)) // QINDEXES_PER_QUANTIZER
