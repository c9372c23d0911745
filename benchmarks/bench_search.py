"""What our search costs over bare mctx: decisions per second with the same network.

Bare is `mctx.gumbel_muzero_policy`, compiled, on tokens that lie ready on the device and
with nothing taken back. Ours is the same compiled search through `make_search`, and the
whole of `AgentPolicy.decide`: from observations to tokens, valid actions, search, qindexes.
They take turns; the ratio is that of medians. Asked for is 0.9 of the search alone; what
tokens and copies cost in addition matters least where a search is worth its time.

    .venv/bin/python benchmarks/bench_search.py [--batch 1 8 64] [--simulations 16 50]
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import mctx
import numpy as np
from common import observations_of_the_model, print_table

from muzero_rc.agents.actions import valid_actions
from muzero_rc.agents.config import NetworkConfig, SearchConfig
from muzero_rc.agents.muzero.networks import initial_params, make_networks
from muzero_rc.agents.muzero.search import make_search
from muzero_rc.agents.muzero.support import expectation
from muzero_rc.agents.policy import AgentPolicy
from muzero_rc.agents.tokens import Tokenizer
from muzero_rc.training.presets import PRESETS

WANTED = 0.9


def _bare(network: NetworkConfig, config: SearchConfig) -> Callable[..., Any]:
    """mctx as its examples call it: (params, rng, tokens, valid) -> actions."""
    networks = make_networks(network)

    def step(params: Any, rng: Any, action: Any, state: Any) -> Any:
        del rng
        following = networks.dynamics(params, state, action).state
        prediction = networks.prediction(params, following)
        value = expectation(prediction.value_logits)
        return mctx.RecurrentFnOutput(
            reward=jnp.zeros_like(value), discount=jnp.ones_like(value),
            prior_logits=prediction.policy_logits, value=value,
        ), following  # fmt: skip

    def act(params: Any, rng: Any, tokens: Any, valid: Any) -> Any:
        state = networks.representation(params, tokens)
        prediction = networks.prediction(params, state)
        root = mctx.RootFnOutput(
            prior_logits=prediction.policy_logits,
            value=expectation(prediction.value_logits), embedding=state,
        )  # fmt: skip
        return mctx.gumbel_muzero_policy(
            params, rng, root, step, config.simulations, invalid_actions=~valid,
            max_depth=config.depth, max_num_considered_actions=config.max_considered,
            qtransform=functools.partial(
                mctx.qtransform_completed_by_mix_value, rescale_values=config.rescale_values
            ),
        ).action  # fmt: skip

    return jax.jit(act)


def _times(calls: Sequence[Callable[[], Any]], show_existing: int) -> list[float]:
    """Median seconds of each call, in turns; the first turn compiles."""
    taken: list[list[float]] = [[] for _ in calls]
    for turn in range(show_existing + 1):
        for times, call in zip(taken, calls, strict=True):
            begun = time.perf_counter()
            jax.block_until_ready(call())
            if turn:
                times.append(time.perf_counter() - begun)
    return [statistics.median(times) for times in taken]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--simulations", type=int, nargs="+", default=[16, 50])
    parser.add_argument("--repeats", type=int, default=60)
    given = parser.parse_args()

    network = PRESETS["laptop"].agent.network
    params = jax.device_put(initial_params(network, 0))
    rng = jax.random.key(0)
    rows = []
    for simulations in given.simulations:
        config = SearchConfig(simulations=simulations)
        for batch in given.batch:
            observations = observations_of_the_model(batch)
            anchors = np.array([o.base_qindex for o in observations], np.int32)
            reaches = np.array([o.reach for o in observations], np.int32)
            valid = jnp.asarray(valid_actions(anchors, network.action_frame, reaches))
            tokens = jax.device_put(Tokenizer(network).batch(observations, batch))
            policy = AgentPolicy(
                params, network, simulations=simulations, search=config, batch_size=batch
            )
            bare, search = _bare(network, config), make_search(network, config)
            calls = (
                functools.partial(bare, params, rng, tokens, valid),
                functools.partial(search, params, rng, tokens, valid, np.float32(1.0)),
                functools.partial(policy.decide, observations),
            )
            alone, ours, whole = _times(calls, given.show_existing)
            rows.append(
                (
                    f"{simulations} simulations, batch {batch}",
                    f"{batch / alone:.0f}",
                    f"{alone / ours:.2f}",
                    f"{alone / whole:.2f}",
                    "met" if alone / ours >= WANTED else "MISSED",
                )
            )
    print_table(
        f"laptop's network on {jax.devices()[0].platform}",
        ("search", "bare/s", "ours", "decide", f"wanted {WANTED}"),
        rows,
    )


if __name__ == "__main__":
    main()
