"""What decisions cost as clips grow: time and memory of each representation.

Statistics are made up, so that 15,000 frames take no encode. A decision is timed as an
encode makes it, observation, tokens and network, where nearly all frames are coded but the
look-ahead is whole. Preparation is what depends on the clip alone and is done once; memory
is what it holds, with the history. Asked for is at most linear growth: what a frame of the
longest clip costs, its share of the preparation included, over what one of the shortest
costs, and the same of memory. "hip" reads blocks from a file, as after a real first pass.

Columns: ms of a decision, ms of it for observation and tokens, ms of the preparation, MB held,
MB of blocks on disk, growth of time and of memory a frame.

    .venv/bin/python benchmarks/bench_length.py [--frames 150 1500 15000] [--height 360]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
import tracemalloc
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from common import print_table

from muzero_rc.agents.config import REPRESENTATIONS, NetworkConfig
from muzero_rc.agents.muzero.networks import initial_params
from muzero_rc.agents.policy import AgentPolicy
from muzero_rc.agents.tokens import ClipTokens, Tokenizer
from muzero_rc.env.codec.block_stats import BLOCK_FEATURES, BlockWriter, block_grid
from muzero_rc.env.codec.first_pass import FIRST_PASS_FIELDS
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.observation.builder import (
    CLIP_FEATURES,
    FRAME_FEATURES,
    GLOBAL_FEATURES,
    HISTORY_FEATURES,
    ObservationBuilder,
)
from muzero_rc.types import FrameInfo, FrameResult, UpdateType

LIMIT = 1.5  # growth of the cost a frame, with room for noise


@dataclass(frozen=True)
class MadeUpClip:
    """Size and length of a clip that nobody encodes."""

    num_frames: int
    width: int
    height: int
    fps: Fraction = Fraction(25)


@dataclass(frozen=True)
class MadeUpFirstPass:
    """Its statistics."""

    stats: npt.NDArray[np.float64]
    blocks: npt.NDArray[np.float16] | None


@dataclass(frozen=True)
class Cost:
    """What was measured on one clip."""

    frames: int
    decision_ms: float
    tokens_ms: float  # of it: observation and tokens
    preparation_ms: float
    held_bytes: int
    blocks_bytes: int

    @property
    def frame_ms(self) -> float:
        """Of all decisions of the clip and their preparation."""
        return self.decision_ms + self.preparation_ms / self.frames


def _first_pass(clip: MadeUpClip, writer: BlockWriter | None) -> MadeUpFirstPass:
    rng = np.random.default_rng(0)
    stats = rng.uniform(0.1, 1000, (clip.num_frames, len(FIRST_PASS_FIELDS)))
    if writer is None:
        return MadeUpFirstPass(stats, None)
    grid = block_grid(clip.width, clip.height)
    for _ in range(clip.num_frames):
        writer.add(rng.integers(0, 4000, (*grid, 4), dtype=np.int32))
    return MadeUpFirstPass(stats, writer.finish())


def _info(index: int) -> FrameInfo:
    kind = UpdateType.LEAF if index else UpdateType.KEY
    refs = (index - 1, index - 1, index - 1)
    return FrameInfo(
        index, index, kind, True, index % 16, 16, 1, 2, 99, refs, 120, 20_000, 60, 200, 500
    )  # fmt: skip


def _result(index: int, clip: MadeUpClip) -> FrameResult:
    luma = clip.width * clip.height
    samples = (luma, luma // 4, luma // 4)
    errors = (20 * luma, 5 * luma, 5 * luma)
    return FrameResult(index, index, True, 120, 20_000, errors, samples, 10, 40, 20, 0.001)


def _prepare(
    clip: MadeUpClip, first_pass: MadeUpFirstPass, config: NetworkConfig
) -> tuple[ObservationBuilder, ClipTokens]:
    settings = EncoderSettings(target_kbps=500, speed=5)
    builder = ObservationBuilder(clip, settings, first_pass)
    return builder, Tokenizer(config).clip(builder.clip)


def _cost(policy: AgentPolicy, clip: MadeUpClip, decisions: int) -> Cost:
    config, frames = policy.config, clip.num_frames
    with contextlib.ExitStack() as stack:
        writer = None
        if policy.needs_blocks:
            writer = stack.enter_context(BlockWriter(None, clip.width, clip.height))
        first_pass = _first_pass(clip, writer)
        preparations = []
        for _ in range(5):
            begun = time.perf_counter()
            _prepare(clip, first_pass, config)
            preparations.append(time.perf_counter() - begun)
        tracemalloc.start()
        # The clip's tokens are held while memory is measured, as a policy holds them.
        builder, held_tokens = _prepare(clip, first_pass, config)
        start = max(frames - decisions - config.window_ahead, 0)
        for index in range(start):
            builder.record(_info(index), _result(index, clip))
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        del held_tokens
        tokenizer = Tokenizer(config)
        policy.qindexes([builder.observe(_info(start))])  # compiles
        tokenizer.batch([builder.observe(_info(start))])
        whole, tokens = [], []
        for index in range(start, start + decisions):
            begun = time.perf_counter()
            policy.qindexes([builder.observe(_info(index))])
            decided = time.perf_counter()
            tokenizer.batch([builder.observe(_info(index))])
            tokens.append(time.perf_counter() - decided)
            whole.append(decided - begun)
            builder.record(_info(index), _result(index, clip))
        blocks = 0 if first_pass.blocks is None else first_pass.blocks.nbytes
    return Cost(
        frames,
        1e3 * statistics.median(whole),
        1e3 * statistics.median(tokens),
        1e3 * statistics.median(preparations),
        held,
        blocks,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[150, 1500, 15_000])
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--decisions", type=int, default=40, help="timed on each clip")
    parser.add_argument("--representations", nargs="+", default=REPRESENTATIONS)
    parser.add_argument("--sequence-rows", type=int, help="frames perceiver_ar looks back at")
    given = parser.parse_args()
    if min(given.frames) <= given.decisions:
        parser.error("clips must have more frames than --decisions")

    rows = []
    for name in given.representations:
        config = NetworkConfig(
            clip_features=CLIP_FEATURES,
            history_features=HISTORY_FEATURES,
            frame_features=FRAME_FEATURES,
            global_features=GLOBAL_FEATURES,
            representation=name,
            block_columns=BLOCK_FEATURES if name == "hip" else 0,
        )
        if given.sequence_rows is not None:
            config = config.replace(sequence_rows=given.sequence_rows)
        policy = AgentPolicy(initial_params(config, 0), config)
        width = round(given.height * 16 / 9 / 2) * 2
        costs = [
            _cost(policy, MadeUpClip(frames, width, given.height), given.decisions)
            for frames in sorted(given.frames)
        ]
        first = costs[0]
        for cost in costs:
            time_growth = cost.frame_ms / first.frame_ms
            memory_growth = (cost.held_bytes / cost.frames) / (first.held_bytes / first.frames)
            fits = max(time_growth, memory_growth) <= LIMIT
            rows.append(
                (
                    f"{name}, {cost.frames}",
                    f"{cost.decision_ms:.2f}",
                    f"{cost.tokens_ms:.2f}",
                    f"{cost.preparation_ms:.1f}",
                    f"{cost.held_bytes / 1e6:.2f}",
                    f"{cost.blocks_bytes / 1e6:.1f}",
                    f"{time_growth:.2f}",
                    f"{memory_growth:.2f}",
                    "met" if fits else "OVER",
                )
            )
    print_table(
        f"{width}x{given.height}, one decision at a time",
        ("frames", "ms", "tokens", "prep", "MB", "disk", "time", "mem", f"max {LIMIT}"),
        rows,
    )


if __name__ == "__main__":
    main()
