"""Macro-actions, a node a group of pictures, searched by Gumbel MuZero over the world model.

An action moves three kinds of a group's frames: key frame and base alternate reference, deeper
ones, leaf frames. The model is the response model, so a state is the changes of all frames' log2
step so far; frames of later groups are where the search starts from. A state is worth

    V(g) = gain(g + s) - step_strength mean_f (g_f - centre_f)^2

with s the common step that leaves the rate as it was: rate control lands what is planned, so an
action need not be balanced by another one. The reward of an action is the change of V; their
sum is the model's own of the whole plan. A value that only knows which groups are left is the
same for all actions of a group and orders none, so it is zero.

Search: Danihelka et al. 2022, "Policy improvement by planning with Gumbel" (ICLR), through mctx.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import numpy.typing as npt

from muzero_rc.agents.world_model.features import features_of
from muzero_rc.agents.world_model.frames import NO_REFERENCE, EncodeFrames
from muzero_rc.agents.world_model.gain import Objective
from muzero_rc.agents.world_model.gain_arrays import FAR_OCTAVES, GainArrays, padded
from muzero_rc.agents.world_model.linear import Response, octaves_of_steps
from muzero_rc.agents.world_model.plan_model import ClipPlan, PlanModel, in_stretches
from muzero_rc.agents.world_model.planner import PlanSettings
from muzero_rc.errors import InputError
from muzero_rc.types import FrameRole

__all__ = [
    "KINDS",
    "MacroSettings",
    "groups_of",
    "kinds_of",
    "search_plan",
    "search_steps",
    "worth",
]

KINDS = 3
"""Kinds of frames that a macro-action moves: base, deeper, leaf."""

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_MULTIPLE = 64  # frames are padded to, so that few shapes are compiled


@dataclass(frozen=True, slots=True, kw_only=True)
class MacroSettings:
    """How macro-actions are searched.

    Attributes:
      simulations: of each group.
      steps: qindexes that a kind of frames can be moved by from where the search starts. They
        were asked for, not tuned.
      around: where the search starts from: the mean step of each kind of frames, or the plan of
        Newton's method.
      seed: of the search; it decides between actions that are as good.
    """

    simulations: int = 64
    steps: tuple[int, ...] = (-12, 0, 12)
    around: Literal["means", "plan"] = "means"
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
          InputError: no simulations or no steps.
        """
        if self.simulations < 1 or not self.steps:
            raise InputError(f"settings of a search are out of range: {self}")


class _Clip(NamedTuple):
    """What V is computed from; N frames, padded.

    Attributes:
      own: [4, N] a, a2, e, e2 of every frame.
      errors: [N, N] E by the frames' own errors.
      passed: [N, N] B by E.
      gain: what gains are computed from.
      strength: octaves that a square octave of a frame's step costs.
      centre: [N] changes of log2 step that plans shrink to.
      start: [N] changes of log2 step that the search starts from.
      moved: [levels, N] likewise with each of the steps added.
      group: [N] of the frame; -1 in padding.
      kind: [N] of the frame.
      groups: how many there are.
    """

    own: jax.Array
    errors: jax.Array
    passed: jax.Array
    gain: GainArrays
    strength: jax.Array
    centre: jax.Array
    start: jax.Array
    moved: jax.Array
    group: jax.Array
    kind: jax.Array
    groups: jax.Array


class _State(NamedTuple):
    """Changes of log2 step [B, N], the group that is decided next [B], and V [B]."""

    octaves: jax.Array
    group: jax.Array
    worth: jax.Array


def groups_of(frames: EncodeFrames) -> _Ints:
    """The group of pictures of each frame, from 0. [N]."""
    first = np.iinfo(np.int64).max
    begins = np.diff(frames.gop_index, prepend=first) <= 0
    return np.cumsum(begins) - 1


def kinds_of(frames: EncodeFrames) -> _Ints:
    """The kind of each frame, 0..KINDS - 1. [N]."""
    table = np.full(len(FrameRole), 2)
    table[[FrameRole.KEY, FrameRole.BASE_ARF]] = 0
    table[[FrameRole.SECOND_ARF, FrameRole.DEEPER_ARF]] = 1
    return table[frames.role]


def search_plan(
    model: PlanModel, probe: EncodeFrames, speed: int, macro: MacroSettings
) -> ClipPlan:
    """The plan for a clip by search, in the place of `PlanModel.plan`; `in_stretches`.

    Args:
      model: of the plan; its residual is not used.
      probe: frames of the clip's probe encode.
      speed: of the last pass.
      macro: of the search.
    """
    features, centre = features_of(probe), model.means.steps_of(probe, speed)
    start = centre
    if macro.around == "plan":
        start = model.plan(probe, speed).steps.astype(np.float64)

    def search_part(frames: EncodeFrames, place: slice) -> ClipPlan:
        response = model.linear.response(frames, features[place])
        steps = search_steps(
            response, model.slope, model.settings, macro, start=start[place], centre=centre[place]
        )
        changes, errors = response.changes(octaves_of_steps(frames, steps))
        objective = Objective(frames, model.slope, model.settings.average_share)
        gain = objective.gain(changes, objective.shown(errors))
        return ClipPlan(steps, frames.bits * np.exp2(changes), gain)

    return in_stretches(probe, search_part)


def search_steps(
    response: Response,
    slope: float,
    settings: PlanSettings,
    macro: MacroSettings,
    *,
    start: npt.ArrayLike | None = None,
    centre: npt.ArrayLike | None = None,
) -> _Ints:
    """The steps that the search takes, group by group. [N] whole qindexes.

    Args:
      response: of the frames of a clip.
      slope: of the clip's curve of quality over rate, dB per octave.
      settings: the limit and the strength of the penalty on steps; the rest is not used.
      macro: of the search.
      start: [N] steps in qindexes that actions are added to; None is the centre.
      centre: [N] steps in qindexes that plans shrink to; None is no steps.

    Raises:
      InputError: the slope is not positive, or there are not N steps.
    """
    base = response.base
    middle = _steps_of(base, centre)
    begin = middle if start is None else _steps_of(base, start)
    levels = np.array(macro.steps, np.float64)
    clip = _clip_of(response, slope, settings, middle, begin, levels)
    decide = _decider(len(levels), macro.simulations)
    state = _State(clip.start[None], jnp.zeros(1, jnp.int32), _worth(clip, clip.start)[None])
    group, kind = groups_of(base), kinds_of(base)
    actions = list(itertools.product(range(len(levels)), repeat=KINDS))
    moved = np.zeros(len(base))
    rng = jax.random.PRNGKey(macro.seed)
    for number in range(int(group[-1]) + 1):
        rng, key = jax.random.split(rng)
        action, state = decide(clip, key, state)
        chosen = levels[list(actions[int(action)])]
        moved = np.where(group == number, chosen[kind], moved)
    return np.rint(np.clip(begin + moved, -settings.limit, settings.limit)).astype(np.int64)


def worth(
    response: Response,
    slope: float,
    settings: PlanSettings,
    steps: npt.ArrayLike,
    *,
    centre: npt.ArrayLike | None = None,
) -> float:
    """V of steps [N] in qindexes, octaves of rate: what the search makes large.

    Args:
      response: of the frames of a clip.
      slope: of the clip's curve of quality over rate, dB per octave.
      settings: as of `search_steps`.
      steps: in qindexes.
      centre: [N] as of `search_steps`.

    Raises:
      InputError: as of `search_steps`.
    """
    base = response.base
    middle, taken = _steps_of(base, centre), _steps_of(base, steps)
    clip = _clip_of(response, slope, settings, middle, taken, np.zeros(1))
    return float(jax.jit(_worth)(clip, clip.start))


def _steps_of(base: EncodeFrames, steps: npt.ArrayLike | None) -> _Floats:
    """[N] steps."""
    found = np.zeros(len(base)) if steps is None else np.asarray(steps, np.float64)
    if found.shape != (len(base),):
        raise InputError(f"{len(base)} frames want as many steps, not {found.shape}")
    return found


def _clip_of(
    response: Response,
    slope: float,
    settings: PlanSettings,
    centre: _Floats,
    start: _Floats,
    levels: _Floats,
) -> _Clip:
    base = response.base
    count = len(base)
    size = -(-count // _MULTIPLE) * _MULTIPLE
    _, errors = response.propagation()
    passed = np.zeros((count, count))
    for place in range(base.references.shape[1]):
        rows = np.flatnonzero(base.references[:, place] != NO_REFERENCE)
        passed[rows, base.references[rows, place]] += response.bits[rows, 2 + place]
    square = np.zeros((2, size, size), np.float32)
    square[:, :count, :count] = errors, passed
    own = np.stack([response.bits[:, 0], response.bits[:, 1], *response.sse[:, :2].T])
    flat = functools.partial(padded, size=size)
    moved = [np.clip(start + level, -settings.limit, settings.limit) for level in levels]
    return _Clip(
        own=jnp.asarray(flat(own)),
        errors=jnp.asarray(square[0]),
        passed=jnp.asarray(square[1]),
        gain=jax.tree.map(jnp.asarray, GainArrays.of(base, slope, settings.average_share, size)),
        strength=jnp.asarray(settings.step_strength / count, jnp.float32),
        centre=jnp.asarray(flat(octaves_of_steps(base, centre))),
        start=jnp.asarray(flat(octaves_of_steps(base, start))),
        moved=jnp.asarray(flat(np.stack([octaves_of_steps(base, steps) for steps in moved]))),
        group=jnp.asarray(padded(groups_of(base).astype(np.float64), size, -1.0), jnp.int32),
        kind=jnp.asarray(flat(kinds_of(base).astype(np.float64)), jnp.int32),
        groups=jnp.asarray(int(groups_of(base)[-1]) + 1, jnp.int32),
    )


def _changes(clip: _Clip, octaves: jax.Array) -> tuple[jax.Array, jax.Array]:
    """B and E. [N] -> [N], [N]."""
    a, a2, e, e2 = clip.own
    errors = jnp.clip(clip.errors @ (e * octaves + e2 * octaves**2), -FAR_OCTAVES, FAR_OCTAVES)
    bits = a * octaves + a2 * octaves**2 + clip.passed @ errors
    return jnp.clip(bits, -FAR_OCTAVES, FAR_OCTAVES), errors


def _rate(clip: _Clip, octaves: jax.Array) -> jax.Array:
    bits, _ = _changes(clip, octaves)
    return clip.gain.rate(bits)


def _worth(clip: _Clip, octaves: jax.Array) -> jax.Array:
    """V of changes of log2 step [N]."""
    everywhere = (clip.group >= 0).astype(octaves.dtype)
    rate, slope = jax.jvp(functools.partial(_rate, clip), (octaves,), (everywhere,))
    # One Newton step; a rate that does not fall with the step is left as it is.
    common = jnp.where(slope < -0.05, -rate / jnp.minimum(slope, -0.05), 0.0)
    landed = octaves + jnp.clip(common, -1.0, 1.0) * everywhere
    bits, errors = _changes(clip, landed)
    away = octaves - clip.centre
    return clip.gain.gain(bits, errors) - clip.strength * (away @ away)


def _after(clip: _Clip, levels: int, action: jax.Array, state: _State) -> _State:
    """The state after an action [B] of its group; an end stays as it is."""
    digits = jnp.stack(
        [action // levels ** (KINDS - 1 - kind) % levels for kind in range(KINDS)], axis=-1
    )  # [B, KINDS], as itertools.product counts
    level = digits[:, clip.kind]  # [B, N]
    moved = clip.moved[level, jnp.arange(level.shape[1])]
    octaves = jnp.where(clip.group == state.group[:, None], moved, state.octaves)
    value = jax.vmap(functools.partial(_worth, clip))(octaves)
    return _State(octaves, jnp.minimum(state.group + 1, clip.groups), value)


@functools.lru_cache(maxsize=8)
def _decider(levels: int, simulations: int) -> Any:
    """Decides one group: (clip, rng, state) -> action, the state after it."""
    actions = levels**KINDS

    def step(
        clip: _Clip, rng: jax.Array, action: jax.Array, state: _State
    ) -> tuple[mctx.RecurrentFnOutput, _State]:
        del rng  # the model is deterministic
        after = _after(clip, levels, action, state)
        output = mctx.RecurrentFnOutput(
            reward=after.worth - state.worth,
            discount=(after.group < clip.groups).astype(jnp.float32),
            prior_logits=jnp.zeros((action.shape[0], actions)),
            value=jnp.zeros_like(after.worth),
        )
        return output, after

    def decide(clip: _Clip, rng: jax.Array, state: _State) -> tuple[jax.Array, _State]:
        root = mctx.RootFnOutput(
            prior_logits=jnp.zeros((1, actions)), value=jnp.zeros(1), embedding=state
        )
        found = mctx.gumbel_muzero_policy(
            params=clip,
            rng_key=rng,
            root=root,
            recurrent_fn=step,
            num_simulations=simulations,
            max_num_considered_actions=actions,
            gumbel_scale=0.0,
            qtransform=functools.partial(
                mctx.qtransform_completed_by_mix_value, rescale_values=True
            ),
        )
        return found.action[0], _after(clip, levels, found.action, state)

    return jax.jit(decide)
