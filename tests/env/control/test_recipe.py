"""The recipe: all constants of control as one value that travels with an encode."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.control.baselines import BasePolicy
from muzero_rc.env.control.frame_speed import frame_search, show_existing_price, stream_speed
from muzero_rc.env.control.gop import probe_plan_of
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.rate.probe import ProbeRateController, ProbeShift, off_target
from muzero_rc.env.control.rate.two_pass import TwoPassRateController, empty_frame, reach
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.env.control.recipe.table import markdown
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import Pass, pipeline, rollout
from muzero_rc.env.passes.probe import run_probes
from muzero_rc.errors import InputError
from muzero_rc.types import EpisodeScore, FrameInfo, FrameResult, SpeedFeatures, UpdateType

THREE = EncoderSettings(target_kbps=60, speed=5, speed_profile="hierarchical", passes=3)
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "recipe.md"


def _fields() -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """Place, field and value of every constant."""
    for field in dataclasses.fields(DEFAULT_RECIPE):
        value = getattr(DEFAULT_RECIPE, field.name)
        if not dataclasses.is_dataclass(value):
            yield field.name, field, value
            continue
        for part in dataclasses.fields(value):
            yield f"{field.name}.{part.name}", part, getattr(value, part.name)


FIELDS = {place: (field, value) for place, field, value in _fields()}


def _other(value: Any) -> Any:
    """Another value of the same form."""
    if isinstance(value, SpeedFeatures):
        return SpeedFeatures.NONE
    if not isinstance(value, tuple):
        return value + 1
    last = _other(value[-1])
    return value._replace(leaf=9) if hasattr(value, "_replace") else (*value[:-1], last)


def test_every_constant_has_unit_meaning_and_source() -> None:
    assert len(FIELDS) > 50
    for place, (field, _) in FIELDS.items():
        assert set(field.metadata) == {"unit", "about", "source"}, place
        assert all(field.metadata.values()), place


def test_it_can_be_written_and_read() -> None:
    text = json.dumps(DEFAULT_RECIPE.as_dict())
    assert Recipe.from_dict(json.loads(text)) == DEFAULT_RECIPE
    assert Recipe.from_dict({}) == DEFAULT_RECIPE
    assert Recipe.from_dict({"retry": {"over": 1}}).retry.over == 1.0


@pytest.mark.parametrize("place", FIELDS)
def test_every_constant_counts(place: str) -> None:
    changed = DEFAULT_RECIPE.replace({place: _other(FIELDS[place][1])})
    assert changed != DEFAULT_RECIPE and hash(changed) != hash(DEFAULT_RECIPE)
    assert changed.digest != DEFAULT_RECIPE.digest
    assert Recipe.from_dict(json.loads(json.dumps(changed.as_dict()))) == changed
    back = changed.replace({place: FIELDS[place][1]})
    assert back == DEFAULT_RECIPE and back.digest == DEFAULT_RECIPE.digest
    assert type(FIELDS[place][1]) is type(getattr(*_split(changed, place)))


def _split(recipe: Recipe, place: str) -> tuple[Any, str]:
    topic, _, name = place.rpartition(".")
    return (getattr(recipe, topic) if topic else recipe), name


@pytest.mark.parametrize("place", ["retry.ever", "ever.over", "ever"])
def test_what_it_has_not_is_refused(place: str) -> None:
    with pytest.raises(InputError, match=f"no {place}"):
        DEFAULT_RECIPE.replace({place: 1})


@pytest.mark.parametrize(
    "values", [{"ever": 1}, {"retry": {"ever": 1}}, {"retry": 1}, {"retry": {"over": "much"}},
               {"gop": {"deep_lengths": 3}}, {"frame_speed": {"by_speed": [[1, 2]]}}]
)  # fmt: skip
def test_what_is_no_recipe_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="recipe"):
        Recipe.from_dict(values)


def test_the_page_has_the_table() -> None:
    text = PAGE.read_text()
    table = text.partition("<!-- table:recipe -->\n")[2].partition("<!-- /table -->")[0]
    assert table == markdown(), (
        "run: python -m muzero_rc.env.control.recipe.table docs/reference/recipe.md"
    )


def _info(update: UpdateType, depth: int) -> FrameInfo:
    return FrameInfo(
        0, 0, update, True, 0, 17, depth, 3, 99, (-1, -1, -1), 100, 1000, 0, 255, 0
    )  # fmt: skip


def test_each_constant_does_what_it_says() -> None:
    key, leaf = _info(UpdateType.KEY, 0), _info(UpdateType.LEAF, 3)
    base = DEFAULT_RECIPE
    other = base.with_speeds(5, stream=3, key=2)
    assert frame_search("hierarchical", 7, key, recipe=other).speed == 2
    assert stream_speed("hierarchical", 9, recipe=other) == 3
    other = base.replace({"frame_speed.probe": 1, "frame_speed.leaf_features": SpeedFeatures.NONE})
    assert frame_search("probe", 5, key, recipe=other).speed == 1
    assert frame_search("hierarchical", 5, leaf, recipe=other).features == SpeedFeatures.NONE
    assert frame_search("hierarchical", 5, leaf).features != SpeedFeatures.NONE
    other = base.replace({"db_per_octave": 7.0, "max_moving_group": 16})
    assert show_existing_price(9.0, recipe=other) == 2 * show_existing_price(9.0)
    assert reach(leaf, recipe=other) == 0 < reach(leaf)
    other = base.replace({"gop.probe_encodes": ((1, 1),), "gop.fewer_layers": (2,)})
    plan = probe_plan_of(THREE, recipe=other)
    assert plan.lengths == base.gop.deep_lengths[:1] and plan.layers == (2,)
    assert probe_plan_of(THREE).lengths == ()
    other = base.replace({"empty_frame.header_bits": 230.0})
    assert empty_frame(1e6, 0, recipe=other) == empty_frame(1e6, 0) + 100.0
    score = EpisodeScore("", 100.0, 102.0, 0, 0.0, 0.0, 0.0, 1, 1)
    assert off_target(score)
    assert not off_target(score, recipe=base.replace({"retry.over": 0.05}))
    passes = pipeline(THREE, retry_off_target=True, recipe=base.replace({"retry.max_encodes": 5}))
    assert passes.count(Pass.RETRY) == 5


def test_rate_controllers_go_by_it() -> None:
    key = _info(UpdateType.KEY, 0)
    base = DEFAULT_RECIPE
    other = base.replace({"probe_encodes.plan_off": 0.5})
    assert ProbeShift(1e4, 1000, recipe=other).step(key) > ProbeShift(1e4, 1000).step(key)
    steps = []
    for recipe in (base, base.replace({"two_pass.aim": 0.5})):
        rate = TwoPassRateController(1e4, np.full(20, 500.0), recipe=recipe)
        for shown in range(10):
            result = FrameResult(shown, shown, True, 100, 10_000, (1,) * 3, (1,) * 3, 0, 0, 0, 0.0)
            rate.record(_info(UpdateType.LEAF, 3), result)
        steps.append(rate.step())
    assert steps[0] < steps[1]


@pytest.mark.parametrize(
    ("place", "value"),
    [("probe_rate.aim", 0.7), ("probe_rate.bin_width", 2), ("partition.finer", 3)],
)
def test_an_encode_goes_by_its_recipe(carphone: Clip, place: str, value: Any) -> None:
    recipe = DEFAULT_RECIPE.replace({place: value})
    as_it_is = rollout(carphone, THREE, BasePolicy())
    again = rollout(carphone, THREE, BasePolicy(), recipe=DEFAULT_RECIPE)
    assert again.log.decisions == as_it_is.log.decisions
    changed = rollout(carphone, THREE, BasePolicy(), recipe=recipe)
    assert changed.log.decisions != as_it_is.log.decisions
    if place == "probe_rate.aim":
        assert changed.score.actual_kbps < 0.85 * as_it_is.score.actual_kbps


def test_probe_encodes_go_by_their_recipe(carphone: Clip) -> None:
    stats = first_pass(carphone, THREE)
    once = DEFAULT_RECIPE.replace({"probe_encodes.far": 1000})
    probe = ProbeRecord.of(run_probes(carphone, THREE, stats, recipe=once))
    recipe = once.replace({"probe_encodes.plan_off": 0.3})
    shifted = ProbeRecord.of(run_probes(carphone, THREE, stats, recipe=recipe))
    assert shifted.shift > probe.shift
    pixels = carphone.width * carphone.height
    budget = THREE.frame_budget(carphone.fps)
    rate = [
        ProbeRateController(budget, probe, carphone.num_frames, pixels, recipe=r).first_step()
        for r in (DEFAULT_RECIPE, DEFAULT_RECIPE.replace({"probe_rate.aim": 0.5}))
    ]
    assert rate[0] < rate[1]
