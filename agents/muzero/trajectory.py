"""One encode as the learner sees it, and the recorder that fills it.

The clip's statistics are held once, the history as one growing array with its length
at each step; everything else is a row per decision.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.actions import NUM_ACTIONS, action_of_qindex
from muzero_rc.types import NUM_QINDEX, KnownBlocks, Observation

__all__ = ["Trajectory", "TrajectoryRecorder"]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A finished episode of N decisions. Arrays are not to be changed.

    Attributes:
      clip: [T, C] float32, first-pass statistics of the clip.
      history: [H, F] float32, rows of the last observation's history.
      history_lengths: [N] int32, rows of it that step n saw.
      frames: [N, F] float32, `Observation.frame`.
      globals: [N, G] float32, `Observation.globals`.
      show_indexes: [N] int32.
      proposals: [N] int32, libvpx's qindex.
      rate_offsets: [N] int32, `Observation.rate_offset`.
      reaches: [N] int32, `Observation.reach`.
      actions: [N] int32, what was done, in the agent's action frame.
      policies: [N, 256] float16, what to learn: search result or a teacher's choice.
      policy_weights: [N] float32, weight of that; 0 where there is nothing to learn.
      values: [N] float32, root value when acting; NaN if there was none.
      bits: [N] float32, log2 bits per pixel of the coded frame; NaN if not known.
      psnr: [N] float32, dB of the coded frame; NaN if not known.
      outcome: in [-1, 1]; NaN if the episode has no reward.
      overshoot: actual/target bitrate - 1 of the episode; NaN if not known.
      psnr_gain: dB over libvpx's VBR on the same clip and target; NaN if not known.
      blocks: [T, rows, columns, C] float16, first-pass blocks of the clip, or None.
    """

    clip: npt.NDArray[np.float32]
    history: npt.NDArray[np.float32]
    history_lengths: npt.NDArray[np.int32]
    frames: npt.NDArray[np.float32]
    globals: npt.NDArray[np.float32]
    show_indexes: npt.NDArray[np.int32]
    proposals: npt.NDArray[np.int32]
    rate_offsets: npt.NDArray[np.int32]
    reaches: npt.NDArray[np.int32]
    actions: npt.NDArray[np.int32]
    policies: npt.NDArray[np.float16]
    policy_weights: npt.NDArray[np.float32]
    values: npt.NDArray[np.float32]
    bits: npt.NDArray[np.float32]
    psnr: npt.NDArray[np.float32]
    outcome: float
    overshoot: float
    psnr_gain: float
    blocks: npt.NDArray[np.float16] | None = None

    def __len__(self) -> int:
        """Number of decisions, N."""
        return len(self.actions)

    @property
    def nbytes(self) -> int:
        """Memory of the arrays, the clip's not counted."""
        return sum(
            array.nbytes
            for field in dataclasses.fields(self)
            if field.name not in ("clip", "blocks")
            and isinstance(array := getattr(self, field.name), np.ndarray)
        )

    def observation(self, step: int) -> Observation:
        """What the agent saw at decision `step`."""
        return Observation(
            clip=self.clip,
            history=self.history[: self.history_lengths[step]],
            frame=self.frames[step],
            globals=self.globals[step],
            show_index=int(self.show_indexes[step]),
            proposal_qindex=int(self.proposals[step]),
            rate_offset=int(self.rate_offsets[step]),
            reach=int(self.reaches[step]),
            first_pass=None if self.blocks is None else KnownBlocks(self.blocks),
        )


class TrajectoryRecorder:
    """Collects the steps of one running episode.

    Call `step` once per decided frame, after it was coded, then `finish`.
    """

    def __init__(self, action_frame: str, *, blocks: bool = False) -> None:
        """Starts an empty episode.

        Args:
          action_frame: the agent's, "proposal" or "absolute".
          blocks: the episode keeps the observations' blocks, for a network that reads them.
        """
        self._blocks = blocks
        self._action_frame = action_frame
        self._observations: list[Observation] = []
        self._actions: list[int] = []
        self._policies: list[npt.NDArray[np.float16]] = []
        self._policy_weights: list[float] = []
        self._values: list[float] = []
        self._bits: list[float] = []
        self._psnr: list[float] = []

    def __len__(self) -> int:
        """Steps so far."""
        return len(self._actions)

    def step(
        self,
        observation: Observation,
        qindex: int,
        *,
        bits_per_pixel: float = math.nan,
        psnr_db: float = math.nan,
        policy: npt.ArrayLike | None = None,
        policy_weight: float = 1.0,
        value: float = math.nan,
    ) -> None:
        """Adds one decision and what came of it.

        Args:
          observation: what was seen before the decision.
          qindex: the qindex that the frame was coded with, 0..255 (never `KEEP`).
          bits_per_pixel: of the coded frame, luma pixels; NaN if not known.
          psnr_db: of the coded frame; NaN if not known.
          policy: [256] what the policy head shall learn here (search policy, or
            `actions.imitation_target`); None if nothing.
          policy_weight: weight of `policy` in the loss.
          value: the search's root value, for priorities; NaN if there was none.

        Raises:
          ValueError: qindex out of range, a policy that is no distribution, or an
            observation that does not continue the one before.
        """
        if not 0 <= qindex < NUM_QINDEX:
            raise ValueError(f"qindex must be between 0 and {NUM_QINDEX - 1}, not {qindex}")
        if self._observations:
            before = self._observations[-1]
            rows = len(before.history)
            last = slice(max(0, rows - 1), rows)
            same_clip = observation.clip is before.clip or np.array_equal(
                observation.clip, before.clip
            )
            if not same_clip or not np.array_equal(observation.history[last], before.history[last]):
                raise ValueError(
                    "the observation does not continue the episode: another clip, or earlier "
                    "history rows changed"
                )
        if policy is None:
            target = np.zeros(NUM_ACTIONS, np.float16)
            policy_weight = 0.0
        else:
            dense = np.asarray(policy, dtype=np.float32)
            if dense.shape != (NUM_ACTIONS,) or abs(float(dense.sum()) - 1.0) > 1e-2:
                raise ValueError(f"policy must be [{NUM_ACTIONS}] and sum to 1")
            target = dense.astype(np.float16)
        action = action_of_qindex(qindex, observation.base_qindex, self._action_frame)
        self._observations.append(observation)
        self._actions.append(int(action))
        self._policies.append(target)
        self._policy_weights.append(policy_weight)
        self._values.append(value)
        self._bits.append(math.log2(bits_per_pixel) if bits_per_pixel > 0 else math.nan)
        self._psnr.append(psnr_db)

    def finish(
        self,
        *,
        outcome: float = math.nan,
        overshoot: float = math.nan,
        psnr_gain_db: float = math.nan,
    ) -> Trajectory:
        """Closes the episode.

        Args:
          outcome: the reward in [-1, 1] (win, loss, tie); NaN if it has none.
          overshoot: actual/target bitrate - 1; NaN if not known.
          psnr_gain_db: PSNR over VBR's on the same clip and target; NaN if not known.

        Returns:
          The episode; what is NaN is not learned from.

        Raises:
          ValueError: no steps, or an outcome outside [-1, 1].
        """
        if not self._observations:
            raise ValueError("an episode needs at least one step")
        if abs(outcome) > 1.0:
            raise ValueError(f"outcome must be between -1 and 1, not {outcome}")
        seen = self._observations
        return Trajectory(
            clip=seen[0].clip,
            history=np.array(seen[-1].history, np.float32),
            history_lengths=np.array([len(o.history) for o in seen], np.int32),
            frames=np.stack([o.frame for o in seen]).astype(np.float32),
            globals=np.stack([o.globals for o in seen]).astype(np.float32),
            show_indexes=np.array([o.show_index for o in seen], np.int32),
            proposals=np.array([o.proposal_qindex for o in seen], np.int32),
            rate_offsets=np.array([o.rate_offset for o in seen], np.int32),
            reaches=np.array([o.reach for o in seen], np.int32),
            actions=np.array(self._actions, np.int32),
            policies=np.stack(self._policies),
            policy_weights=np.array(self._policy_weights, np.float32),
            values=np.array(self._values, np.float32),
            bits=np.array(self._bits, np.float32),
            psnr=np.array(self._psnr, np.float32),
            outcome=float(outcome),
            overshoot=float(overshoot),
            psnr_gain=float(psnr_gain_db),
            blocks=seen[0].blocks if self._blocks else None,
        )
