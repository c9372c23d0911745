"""One path from a clip to its encode: `encode`, `evaluate` and the demo all take it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from muzero_rc.env.codec.backend import Backend, ClipLike, FirstPassLike, LibvpxBackend
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.one_pass import Rollout
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.policies.registry import prepare
from muzero_rc.types import EncodeLog, FrameResult, Policy, needs_blocks

__all__ = ["ClipEncode", "encode_clip"]


@dataclass(frozen=True, slots=True)
class ClipEncode:
    """An encode of a clip.

    Attributes:
      rollout: its log, score and stream.
      settings: as the policy used them.
      preparation_seconds: wall time that the policy took before the passes, for a search.
    """

    rollout: Rollout
    settings: EncoderSettings
    preparation_seconds: float


def encode_clip(
    clip: ClipLike,
    settings: EncoderSettings,
    policy: Policy,
    *,
    first_pass: FirstPassLike | None = None,
    first_probe: EncodeLog | None = None,
    output: Path | None = None,
    jobs: int = 1,
    on_settings: Callable[[EncoderSettings], None] | None = None,
    on_frame: Callable[[FrameResult], None] | None = None,
    on_probe_frame: Callable[[FrameResult], None] | None = None,
    backend: Backend | None = None,
    recipe: Recipe = DEFAULT_RECIPE,
) -> ClipEncode:
    """First pass, the policy's preparation, probe encodes, final pass, retries off target.

    Args:
      clip: what to encode.
      settings: how; the policy may change them.
      policy: decides on each frame.
      first_pass: of this clip; None runs it, or takes it from the cache.
      first_probe: the first probe encode, where `env.passes.probe.first_probe` has made it.
      output: file for the encoded stream as it is made; None keeps it in memory.
      jobs: probe encodes at a time.
      on_settings: told the settings that are used, once they are known.
      on_frame: called with each frame's result; from the first frame again with a retry.
      on_probe_frame: likewise, of probe encodes, in this thread.
      backend: the encoder; None is libvpx.
      recipe: the constants of control.

    Raises:
      InputError: settings, or what the policy decided, cannot be used.
      EncoderError: the encoder failed or did not answer in time.
    """
    backend = backend or LibvpxBackend()
    if first_pass is None:
        first_pass = backend.first_pass(clip, settings, blocks=needs_blocks(policy))
    start = time.perf_counter()
    settings = prepare(policy, clip, settings, first_pass)
    preparation_seconds = time.perf_counter() - start
    if on_settings is not None:
        on_settings(settings)
    done = rollout(
        clip, settings, policy,
        first_pass=first_pass, first_probe=first_probe, output=output, retry_off_target=True,
        jobs=jobs,
        on_frame=on_frame, on_probe_frame=on_probe_frame, backend=backend,
        recipe=recipe,
    )  # fmt: skip
    return ClipEncode(done, settings, preparation_seconds)
