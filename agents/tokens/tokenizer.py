"""From observations to arrays of fixed size."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.config import NetworkConfig
from muzero_rc.agents.tokens.clip import DISTANCE_SCALE, ClipTokens
from muzero_rc.agents.tokens.shapes import Tokens, block_groups, token_shapes
from muzero_rc.errors import InputError
from muzero_rc.types import Observation

__all__ = ["Tokenizer"]


class Tokenizer:
    """Turns observations into token arrays; keeps a `ClipTokens` per living clip array.

    Safe to share between threads.
    """

    def __init__(self, config: NetworkConfig) -> None:
        """Makes a tokenizer for networks of this configuration."""
        self.config = config
        self._shapes = token_shapes(config)
        # By id, with a weak reference that proves that the id is still the same array's.
        self._clips: dict[int, tuple[weakref.ref[npt.NDArray[np.float32]], ClipTokens]] = {}

    def clip(self, clip: npt.NDArray[np.float32]) -> ClipTokens:
        """The clip's `ClipTokens`, computed at its first observation."""
        key = id(clip)
        found = self._clips.get(key)
        if found is not None and found[0]() is clip:
            return found[1]
        tokens = ClipTokens(clip, self.config)
        clips = self._clips

        def forget(dead: weakref.ref[npt.NDArray[np.float32]]) -> None:
            kept = clips.get(key)
            if kept is not None and kept[0] is dead:
                clips.pop(key, None)

        clips[key] = (weakref.ref(clip, forget), tokens)
        return tokens

    def write(self, observation: Observation, out: Tokens, row: int) -> None:
        """Writes one observation's tokens into row `row` of zeroed batch arrays.

        Args:
          observation: what the agent sees.
          out: arrays [B, ...], zeros in that row.
          row: 0..B-1.

        Raises:
          InputError: columns differ from the network's configuration.
        """
        clip = self.clip(observation.clip)
        show_index = min(max(observation.show_index, 0), clip.length - 1)
        out["window"][row], out["window_mask"][row] = clip.window(show_index)
        out["segments"][row] = clip.segments
        out["segment_mask"][row] = clip.segment_mask
        out["segment_position"][row] = clip.segment_position(show_index)
        try:
            if "blocks" in out:
                self._write_blocks(observation, out, row, show_index)
            out["frame"][row] = observation.frame
            out["globals"][row] = observation.globals
            if "query_position" in out:
                out["query_position"][row] = len(observation.history)
            if "sequence" in out:
                self._write_sequence(observation.history, out, row)
            elif "history" in out:
                self._write_history(observation.history, out, row, show_index)
        except ValueError as error:
            raise InputError(
                "the observation has other columns than the policy was trained with "
                f"({error}); use the policy made for this version"
            ) from error
        out["scalars"][row] = (
            observation.proposal_qindex / 255.0,
            show_index / clip.length,
            np.log(clip.length) / 8.0,
        )

    def _write_history(
        self, history: npt.NDArray[np.float32], out: Tokens, row: int, show_index: int
    ) -> None:
        kept = min(len(history), self.config.history_rows)
        if kept:
            out["history"][row, :kept] = history[len(history) - kept :][::-1]
            out["history_mask"][row, :kept] = True
            self._place(out["history"][row, :kept], out["history_position"][row], show_index)

    def _write_sequence(self, history: npt.NDArray[np.float32], out: Tokens, row: int) -> None:
        rows = out["sequence"].shape[1]
        kept = min(len(history), rows)
        if not kept:
            return
        sequence = out["sequence"][row, rows - kept :]
        sequence[:] = history[len(history) - kept :]
        out["sequence_mask"][row, rows - kept :] = True
        out["sequence_position"][row, rows - kept :] = np.arange(len(history) - kept, len(history))
        scale = self.config.history_position_scale
        if scale:
            # Nothing may say how long ago the encode began: how far the frame was shown
            # ahead of its coding, and how far after the one coded before it.
            shown = history[max(len(history) - kept - 1, 0) :, -2] * scale
            step = np.diff(shown) if len(shown) > kept else np.diff(shown, prepend=shown[0])
            lead = np.rint((sequence[:, -2] - sequence[:, -1]) * scale)
            sequence[:, -2] = np.arcsinh(lead) / DISTANCE_SCALE
            sequence[:, -1] = np.arcsinh(np.rint(step)) / DISTANCE_SCALE

    def _write_blocks(
        self, observation: Observation, out: Tokens, row: int, show_index: int
    ) -> None:
        if observation.blocks is None:
            return
        ahead = observation.blocks[show_index : show_index + self.config.block_frames]
        count = ahead.shape[1] * ahead.shape[2]
        flat = out["blocks"][row].reshape(self.config.block_frames, -1, self.config.block_columns)
        flat[: len(ahead), :count] = ahead.reshape(len(ahead), count, -1)
        mask = out["block_mask"][row].reshape(self.config.block_frames, -1)
        mask[: len(ahead), :count] = True

    def _place(
        self,
        history: npt.NDArray[np.float32 | np.int32 | np.bool_],
        position: npt.NDArray[np.float32 | np.int32 | np.bool_],
        show_index: int,
    ) -> None:
        """Makes the position columns of kept rows (newest first) relative, in place."""
        scale = self.config.history_position_scale
        span = self.config.window_back + 1 + self.config.window_ahead
        if not scale:
            position[: len(history)] = span
            return
        distance = np.rint(history[:, -2] * scale) - show_index
        age = np.rint((history[:, -1] - history[0, -1]) * scale) - 1.0
        history[:, -2] = np.arcsinh(distance) / DISTANCE_SCALE
        history[:, -1] = np.arcsinh(age) / DISTANCE_SCALE
        slot = distance + self.config.window_back
        position[: len(history)] = np.where(slot < 0, span, np.where(slot >= span, span + 1, slot))

    def batch(self, observations: Sequence[Observation], batch_size: int | None = None) -> Tokens:
        """Tokens of several observations, padded with empty rows to `batch_size`.

        Args:
          observations: N of them, N at most `batch_size`.
          batch_size: B; N if not given.

        Returns:
          Arrays [B, ...]; rows N.. are zeros with all masks False.

        Raises:
          InputError: an observation does not fit the network's configuration.
          ValueError: more observations than `batch_size`.
        """
        size = len(observations) if batch_size is None else batch_size
        if len(observations) > size:
            raise ValueError(f"{len(observations)} observations do not fit a batch of {size}")
        out = self._zeros((size,), observations)
        for row, observation in enumerate(observations):
            self.write(observation, out, row)
        return out

    def steps(self, runs: Sequence[Sequence[Observation]]) -> Tokens:
        """Tokens of runs of consecutive decisions, for `Networks.states`.

        Args:
          runs: B runs of T observations of one episode each.

        Returns:
          Arrays [B, T, ...]; what the decisions of a run share, `sequence` and its mask
          and positions, has no T, and T - 1 rows more than one decision's: the first
          decision finds all that it finds alone.
        """
        size, steps = len(runs), len(runs[0])
        flat = [observation for run in runs for observation in run]
        if self.config.representation != "perceiver_ar":
            single = self.batch(flat)
            return {n: x.reshape(size, steps, *x.shape[1:]) for n, x in single.items()}
        out = self._zeros((size * steps,), flat)
        shared: Tokens = {}
        for name in [name for name in out if name.startswith("sequence")]:
            _, rows, *rest = out.pop(name).shape
            shared[name] = np.zeros((size, rows + steps - 1, *rest), self._shapes[name][1])
        for row, run in enumerate(runs):
            self._write_sequence(run[-1].history, shared, row)
        for row, observation in enumerate(flat):
            self.write(observation, out, row)  # all but the sequence
        return {n: x.reshape(size, steps, *x.shape[1:]) for n, x in out.items()} | shared

    def _zeros(self, lead: tuple[int, ...], observations: Sequence[Observation]) -> Tokens:
        out: Tokens = {
            name: np.zeros((*lead, *shape), dtype) for name, (shape, dtype) in self._shapes.items()
        }
        if "blocks" in out:
            c = self.config
            maps = [o.blocks for o in observations if o.blocks is not None]
            most = max((blocks.shape[1] * blocks.shape[2] for blocks in maps), default=1)
            groups = (*lead, c.block_frames, block_groups(most, c), c.block_rows)
            out["blocks"] = np.zeros((*groups, c.block_columns), np.float32)
            out["block_mask"] = np.zeros(groups, np.bool_)
        return out
