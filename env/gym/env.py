"""The rate-control problem as a Gymnasium environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import gymnasium
from gymnasium import spaces
from gymnasium.error import ResetNeeded

from muzero_rc.env.codec.backend import Backend, ClipLike, LibvpxBackend
from muzero_rc.env.codec.settings import MAX_TARGET_KBPS
from muzero_rc.env.control.plan import Plans
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.gym import arguments
from muzero_rc.env.gym.actions import ActionKind, make_action_map
from muzero_rc.env.gym.clip_pool import ClipPool, Targets, VbrReferences
from muzero_rc.env.gym.spaces import (
    ObservationArrays,
    default_history_rows,
    observation_space,
    pad_observation,
)
from muzero_rc.env.passes.probe import run_probes
from muzero_rc.env.passes.stepper import Stepper
from muzero_rc.env.rewards import Reward, psnr_gain_at_equal_rate
from muzero_rc.errors import InputError
from muzero_rc.types import NUM_QINDEX, EpisodeScore, FrameDecision, FrameInfo, Observation

__all__ = ["VP9RateControlEnv"]

StepResult = tuple[ObservationArrays, float, bool, bool, dict[str, Any]]


class VP9RateControlEnv(gymnasium.Env[ObservationArrays, Any]):
    """Choose the quantizer of every frame of a two-pass VP9 encode.

    ## Description

    libvpx encodes a clip at a target bitrate. Its first pass is done; in the second
    pass the encoder stops before each coded frame, hidden alternate references
    included, and asks for a qindex 0..255: that pause is a step. Everything else
    (frame types, groups of pictures, modes, motion) is left to libvpx. The aim is the
    highest PSNR at a bitrate that is not above the target. The task is that of
    Mandhane et al. 2022 (arXiv 2202.06626); what is certain of the paper's version
    and what is a reconstruction is said in `muzero_rc.env.rewards` and
    `muzero_rc.env.observation.builder`.

    Clip, settings, seed and actions determine every byte of the encode.

    ## Action Space

    With `action="qindex"` it is `Discrete(256)`: the qindex, 0 the finest (lossless),
    255 the coarsest. `"proposal_offset"` is `Discrete(256)`: action - 128 is added to
    libvpx's own proposal for the frame. `"full"` is `MultiDiscrete([256, 11, 4, 26,
    7])`: action - 128 is added to the controller's qindex; 0 or `cpu-used` + 1 of the frame;
    0 or `ShowExisting` + 1 (never, where it is cheaper, always); with the last frame of a
    group of pictures the most frames and the most layers of alternate references of the next
    group. 0 is what the controller proposes, and so is what an action does not name.
    `info["action_mask"]` (int8) is 1 for the allowed actions, of `"full"` its parts joined; a
    qindex that is not allowed is taken as the nearest that is, limits of a group as 0.

    ## Observation Space

    A `Dict` of fixed shapes, T the longest clip's frames and H the history kept. All
    values are float32 in [-3, 3], except the history's two position columns, which go
    up to (4 T + 64) / 256; unused rows are zero. Per pixel or per 16x16 macroblock
    everywhere, so that a policy carries over between sizes.

    | key | shape | meaning |
    |---|---|---|
    | clip | [T, 28] | first-pass statistics of all shown frames |
    | clip_mask | [T] int8 | 1 for rows of `clip` in use |
    | history | [H, 20] | the frames coded so far, latest H, oldest first |
    | history_mask | [H] int8 | 1 for rows of `history` in use |
    | frame | [46] | the frame to code now |
    | globals | [27] | target, budget, settings |

    Columns of `clip`:

    | # | column | meaning |
    |---|---|---|
    | 0 | weight | libvpx's frame weight - 1 |
    | 1 | intra_error | ln(1 + error per macroblock predicted from within) / 3 - 1 |
    | 2 | coded_error | the same of the better of intra and the previous frame |
    | 3 | sr_coded_error | the same against the second (golden) reference |
    | 4 | noise_energy | the same of the noise estimate |
    | 5 | pcnt_inter | share of macroblocks predicted from the previous frame |
    | 6 | pcnt_motion | share with a motion vector that is not zero |
    | 7 | pcnt_second_ref | share better predicted from the second reference |
    | 8 | pcnt_neutral | share where intra and inter are about equal |
    | 9 | pcnt_intra_low | share of intra with low variance |
    | 10 | pcnt_intra_high | share of intra with high variance |
    | 11 | pcnt_intra_skip | share of flat macroblocks |
    | 12 | pcnt_intra_smooth | share of smooth macroblocks |
    | 13 | inactive_rows | share of rows in black bars |
    | 14 | mv_row | mean vertical motion, asinh(percent of the height) / 2 |
    | 15 | mv_row_abs | mean size of vertical motion |
    | 16 | mv_col | mean horizontal motion, asinh(percent of the width) / 2 |
    | 17 | mv_col_abs | mean size of horizontal motion |
    | 18 | mv_row_spread | standard deviation of vertical motion |
    | 19 | mv_col_spread | standard deviation of horizontal motion |
    | 20 | mv_in_out | blocks move to the picture's centre (1) or away from it (-1) |
    | 21 | duration | ln(duration / the clip's median) |
    | 22 | coded_to_intra | log coded error - log intra error, / 3 |
    | 23 | sr_to_coded | log second-reference error - log coded error |
    | 24 | coded_to_clip | log coded error - its mean over the clip |
    | 25 | coded_to_previous | log coded error - the previous frame's |
    | 26 | libvpx_share | ln(bit share by libvpx's formula / the clip's mean) |
    | 27 | grid_fill | pixels / pixels of whole macroblocks - 1 |

    Columns of `history`:

    | # | column | meaning |
    |---|---|---|
    | 0 | type_key | 1 for a key frame |
    | 1 | type_leaf | 1 for an ordinary inter frame |
    | 2 | type_golden | 1 for a golden frame |
    | 3 | type_arf | 1 for an alternate reference |
    | 4 | type_overlay | 1 for the frame over an alternate reference |
    | 5 | type_mid_overlay | 1 for the frame over an inner layer's reference |
    | 6 | type_use_buf | 1 for a frame that takes over a buffer |
    | 7 | shown | 0 for hidden alternate references |
    | 8 | layer_depth | depth in the layers / depth of the leaves |
    | 9 | gop_position | position in the group of pictures / its size |
    | 10 | qindex | qindex used / 255 |
    | 11 | proposal_qindex | libvpx's proposal / 255 |
    | 12 | bpp | (ln(bits per pixel) + 4) / 3 |
    | 13 | bits_to_proposal | ln(bits / libvpx's bit target) |
    | 14 | psnr | (PSNR in dB over Y+U+V - 38) / 10 |
    | 15 | skip_share | share of blocks without residual |
    | 16 | intra_share | share of intra blocks |
    | 17 | inter_share | share of inter blocks |
    | 18 | show_index | display index / 256, not bounded by 3 |
    | 19 | coding_index | coding index / 256, not bounded by 3 |

    Columns of `frame`:

    | # | column | meaning |
    |---|---|---|
    | 0 | type_key | 1 for a key frame |
    | 1 | type_leaf | 1 for an ordinary inter frame |
    | 2 | type_golden | 1 for a golden frame |
    | 3 | type_arf | 1 for an alternate reference |
    | 4 | type_overlay | 1 for the frame over an alternate reference |
    | 5 | type_mid_overlay | 1 for the frame over an inner layer's reference |
    | 6 | type_use_buf | 1 for a frame that takes over a buffer |
    | 7 | shown | 0 for hidden alternate references |
    | 8 | layer_depth | depth in the layers / depth of the leaves |
    | 9 | max_layer_depth | depth of the leaves / 6 |
    | 10 | gop_position | position in the group of pictures / its size |
    | 11 | gop_size | ln(1 + coded frames in the group) / 3 |
    | 12 | frames_to_key | ln(1 + shown frames until the next key frame) / 3 |
    | 13 | show_share | display index / frames of the clip |
    | 14 | lead | asinh(display index - frames shown so far) / 3 |
    | 15 | proposal_qindex | libvpx's proposal / 255 |
    | 16 | min_qindex | libvpx's lower bound / 255 |
    | 17 | max_qindex | libvpx's upper bound / 255 |
    | 18 | proposal_bpp | libvpx's bit target, (ln(bits per pixel) + 4) / 3 |
    | 19 | proposal_to_target | ln(libvpx's bit target / mean bits per frame) |
    | 20 | boost | (ln(1 + libvpx's boost in percent) - 6) / 2 |
    | 21 | tpl_known | 1 if the temporal dependency model covers the frame |
    | 22 | tpl_gain | ln(cost that depends on the frame / its own cost) |
    | 23 | last_valid | 1 if there is a LAST reference |
    | 24 | last_qindex | its qindex / 255 |
    | 25 | last_psnr | its PSNR, as in the history |
    | 26 | last_age | asinh(display frames since it) / 3, negative: it lies ahead |
    | 27 | golden_valid | 1 if there is a GOLDEN reference |
    | 28 | golden_qindex | its qindex / 255 |
    | 29 | golden_psnr | its PSNR, as in the history |
    | 30 | golden_age | asinh(display frames since it) / 3, negative: it lies ahead |
    | 31 | altref_valid | 1 if there is an ALTREF reference |
    | 32 | altref_qindex | its qindex / 255 |
    | 33 | altref_psnr | its PSNR, as in the history |
    | 34 | altref_age | asinh(display frames since it) / 3, negative: it lies ahead |
    | 35 | clip_intra_error | intra_error of the frame's own clip row |
    | 36 | clip_coded_error | coded_error of the frame's own clip row |
    | 37 | clip_sr_coded_error | sr_coded_error of the frame's own clip row |
    | 38 | clip_pcnt_inter | pcnt_inter of the frame's own clip row |
    | 39 | clip_pcnt_motion | pcnt_motion of the frame's own clip row |
    | 40 | clip_pcnt_neutral | pcnt_neutral of the frame's own clip row |
    | 41 | clip_mv_row_abs | mv_row_abs of the frame's own clip row |
    | 42 | clip_mv_col_abs | mv_col_abs of the frame's own clip row |
    | 43 | clip_coded_to_intra | coded_to_intra of the frame's own clip row |
    | 44 | clip_coded_to_clip | coded_to_clip of the frame's own clip row |
    | 45 | clip_libvpx_share | libvpx_share of the frame's own clip row |

    Columns of `globals`:

    | # | column | meaning |
    |---|---|---|
    | 0 | target_bpp | target, (ln(bits per pixel) + 4) / 3 |
    | 1 | size | (ln(pixels) - 12) / 2 |
    | 2 | frame_rate | ln(frames per second / 30) |
    | 3 | num_frames | ln(1 + frames) / 3 - 1 |
    | 4 | speed_0 | 1 at speed 0 |
    | 5 | speed_1 | 1 at speed 1 |
    | 6 | speed_2 | 1 at speed 2 |
    | 7 | speed_3 | 1 at speed 3 |
    | 8 | speed_4 | 1 at speed 4 |
    | 9 | speed_5 | 1 at speed 5 and above |
    | 10 | auto_alt_ref | 1 if alternate references are on |
    | 11 | arf_layers | their setting / 6 |
    | 12 | lag | look-ahead / 25 |
    | 13 | tpl | 1 if the temporal dependency model is on |
    | 14 | aq | 1 if adaptive quantization is on |
    | 15 | complexity | ln(1 + mean coded error) / 3 - 1 |
    | 16 | started | 1 once a frame is coded |
    | 17 | frames_done | share of the frames shown |
    | 18 | budget_spent | bits / budget of the clip |
    | 19 | budget_left | ln(bits left per frame left / mean bits per frame) |
    | 20 | deviation | ln of bits / plan so far, damped at the start |
    | 21 | budget_lead | (bits - plan so far) / budget of the clip |
    | 22 | mean_psnr | of the shown frames, as in the history |
    | 23 | mean_qindex | of the coded frames / 255 |
    | 24 | mean_offset | mean of qindex - proposal, / 64 |
    | 25 | complexity_left | ln(mean coded error ahead / of the clip) |
    | 26 | rate_offset | qindexes that the controller adds to libvpx's proposal, / 48 |

    ## Rewards

    Zero before the last frame. At the end, with `reward="self_competition"`, 1 or -1
    (0 for a tie) by comparing the episode with the moving averages of the past ones on
    the same clip and target: first by overshoot, then by PSNR. The first opponent is
    libvpx's two-pass VBR, which is encoded, once, at the end of the first episode on a
    clip and target. Because the past is kept, rewards depend on the episodes before;
    give a function of the score where that is not wanted. A callable is a
    `muzero_rc.env.rewards.Reward`: `reward(score, reference) -> float`, where
    `reference(rate)` gives VBR's score at that multiple of the target, 1 by default.

    ## Starting State

    `reset` draws a clip (each as likely as the other) and a target; the options `clip`
    (its number) and `target_kbps` fix either. The first decision is on the first key
    frame. `info` names `clip`, `clip_name` and `target_kbps`; each `info` before a
    decision has `coding_index`, `show_index`, `update_type`, `shown`, `ends_gop` (it is the
    last decision of its group of pictures), `proposal_qindex`, `controller_qindex` (the
    proposal with rate control and plan), `min_qindex`, `max_qindex` and `action_mask`, and
    each after one `qindex`, `bits` and `psnr` of the frame that was coded.

    ## Episode End

    Terminated after the last coded frame; never truncated. The last observation has
    the whole history and describes the last frame once more. Its `info` has, under
    `score_key`, the raw score: `clip`, `target_kbps`, `actual_kbps`, `bits`,
    `psnr_avg`, `psnr_overall`, `psnr_y`, `shown_frames`, `coded_frames`, `overshoot`,
    and where VBR's score is known also `psnr_gain_db`, the gain over it at equal rate
    (a linear estimate). The key "episode" belongs to Gymnasium's `RecordEpisodeStatistics`
    and to the monitors of other libraries.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | clips | | files or decoded `Clip` objects, or a `ClipPool` of them |
    | targets_kbps | | a list of targets, or a tuple (low, high): a range, even in log rate |
    | max_frames | None | most frames of a file, and T; None decodes all files to know T |
    | height | None | scale files down to this many rows |
    | reward | "self_competition" | lagrangian, rd_gain, ranked, equal_rate, or a callable |
    | action | "qindex" | or "proposal_offset", "full" |
    | history_rows | 2 T + 16, at most 1024 | H |
    | score_key | "score" | key of the raw score in the last `info` |
    | timeout_s | 120 | seconds in which the encoder works on one frame or stands still |
    | render_mode | None | there is nothing to render; others are warned of and not used |
    | backend | None | the encoder; None is libvpx |
    | recipe | the shipped one | the constants of control, `muzero_rc.env.control.recipe.Recipe` |
    | plans | None | with `passes=3`: a policy that plans the last pass, such as `planned` |
    | speed, auto_alt_ref, ... | | any of `EncoderSettings` but the target |

    ## Version History

    * v1: the mask holds the controller's safety rule, so that in static groups its qindex is
      the only one; `action="full"`; 3.7 is no action; `"levels64"` is gone.
    * v0: first version. Its name is kept for one release and makes a v1.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]

    def __init__(
        self,
        clips: Sequence[str | Path | ClipLike] | ClipPool,
        targets_kbps: float | Sequence[float],
        *,
        max_frames: int | None = None,
        height: int | None = None,
        reward: str | Reward = "self_competition",
        action: ActionKind = "qindex",
        history_rows: int | None = None,
        score_key: str = "score",
        timeout_s: float = 120.0,
        render_mode: str | None = None,
        backend: Backend | None = None,
        recipe: Recipe = DEFAULT_RECIPE,
        plans: Plans | None = None,
        references: VbrReferences | None = None,
        **settings: Any,
    ) -> None:
        """Arguments as in the class's chapter; `references` shares VBR's scores.

        Raises:
          InputError: an argument that cannot be used.
        """
        if render_mode is not None:  # tools ask for one without knowing what there is
            gymnasium.logger.warn(f"there is nothing to render: no render_mode {render_mode!r}")
        if history_rows is not None:
            history_rows = arguments.whole_number("history_rows", history_rows, least=1)
        self.render_mode = None
        self.score_key = arguments.score_key_of(score_key)
        self.reward: Reward = arguments.reward_of(reward)
        self._backend = backend or LibvpxBackend()
        self._options: dict[str, Any] = {
            "timeout_s": arguments.timeout_of(timeout_s),
            "recipe": arguments.recipe_of(recipe),
        }
        self.clips = (
            clips
            if isinstance(clips, ClipPool)
            else ClipPool(clips, self._backend, height=height, max_frames=max_frames)
        )
        self._targets = Targets(targets_kbps)
        self._settings = EncoderSettings.named(1, settings)
        if plans is not None and not (isinstance(plans, Plans) and self._settings.needs_probe):
            raise InputError("plans takes a policy that plans, and needs passes=3: a probe encode")
        self._plans = plans
        self._references = references or VbrReferences(self._backend, timeout_s)
        self._actions = make_action_map(action)
        self._clip_rows = self.clips.max_num_frames
        self._history_rows = history_rows or default_history_rows(self._clip_rows)
        self._episode: Stepper | None = None
        self._last_frame: FrameInfo | None = None
        self.action_space = self._actions.space
        self.observation_space = cast(
            "spaces.Space[ObservationArrays]",
            observation_space(self._clip_rows, self._history_rows),
        )

    @property
    def observation(self) -> Observation:
        """The present observation as agents take it: nothing padded.

        Raises:
          ResetNeeded: there is no episode.
        """
        return self._running().observe()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ObservationArrays, dict[str, Any]]:
        """Drops the present encode and starts another.

        Args:
          seed: of the generator that draws clip and target.
          options: `clip`, the clip's number, and `target_kbps` fix what is drawn.

        Raises:
          InputError: an option that cannot be used.
          EncoderError: libvpx refused.
        """
        super().reset(seed=seed)
        self._drop()
        index = int(self.np_random.integers(len(self.clips)))
        target_kbps = self._targets.sample(self.np_random)
        index, target_kbps = arguments.reset_options(options, len(self.clips), (index, target_kbps))
        clip = self.clips[index]
        settings = self._settings.replace(target_kbps=target_kbps)
        first_pass = self._backend.first_pass(clip, settings)
        probe = None
        if settings.needs_probe:
            log = run_probes(clip, settings, first_pass, backend=self._backend, **self._options)
            probe = ProbeRecord.of(log)
            if self._plans is not None:
                probe = probe.with_plan(self._plans.plan(clip, settings, log))
        self._episode = Stepper.open(
            self._backend, clip, settings, first_pass, probe=probe, **self._options
        )
        info = {"clip": index, "clip_name": clip.name, "target_kbps": target_kbps}
        return self._arrays(), info | self._frame_info(self._episode)

    def step(self, action: Any) -> StepResult:
        """Codes the frame with the action's qindex and goes on to the next decision.

        Raises:
          InputError: the action is not in the action space, or the reward is no finite number.
          ResetNeeded: there is no episode, or it is over.
          EncoderError: libvpx failed or did not answer in time.
        """
        self.submit(self.decision(action))
        return self.collect()

    def decision(self, action: Any) -> FrameDecision:
        """What an action means for the frame that waits, within the mask; nothing is coded.

        Raises:
          InputError: the action is not in the action space.
          ResetNeeded: there is no episode, or it is over.
        """
        episode = self._running()
        if episode.info is None:
            raise ResetNeeded("the episode is over: call reset()")
        decision = self._actions.decision(action, episode.info, episode.base)
        qindex, base = decision.qindex, episode.base.qindex
        near = min(max(qindex, base - episode.reach), base + episode.reach)
        return decision.with_qindex(min(max(near, 0), NUM_QINDEX - 1))

    def submit(self, decision: FrameDecision) -> None:
        """First half of `step`: gives what `decision` said, returns while the frame is coded."""
        self._running().submit(decision)

    def collect(self) -> StepResult:
        """Second half of `step`: waits for the frame and the next decision."""
        episode = self._running()
        try:
            result = episode.collect()
        except BaseException:
            self._drop()
            raise
        terminated = episode.info is None
        info: dict[str, Any] = {"qindex": result.qindex, "bits": result.bits, "psnr": result.psnr}
        info |= self._frame_info(episode)
        reward = 0.0
        if terminated:
            score = episode.score()
            reward = arguments.reward_value(self.reward(score, self._reference))
            info[self.score_key] = self._score_info(score)
            episode.close()  # The native memory; what was observed stays.
        return self._arrays(), reward, terminated, False, info

    def close(self) -> None:
        """Drops the present encode and frees its memory."""
        self._drop()

    def __getstate__(self) -> dict[str, Any]:
        """For pickle, copy and deepcopy: all but an encode that is over.

        Raises:
          InputError: an encode is under way: libvpx's state cannot be copied.
        """
        if self._episode is not None and self._episode.info is not None:
            raise InputError("an encode under way cannot be copied: repeat its seed and actions")
        return vars(self) | {"_episode": None}

    def __del__(self) -> None:
        """Ends the encoder's thread when the environment is dropped without `close`."""
        if getattr(self, "_episode", None) is not None:
            self._drop()

    def _running(self) -> Stepper:
        if self._episode is None:
            raise ResetNeeded("there is no episode: call reset()")
        return self._episode

    def _drop(self) -> None:
        episode, self._episode = self._episode, None
        if episode is not None:
            episode.close()

    def _arrays(self) -> ObservationArrays:
        return pad_observation(self._running().observe(), self._clip_rows, self._history_rows)

    def _frame_info(self, episode: Stepper) -> dict[str, Any]:
        frame = episode.info
        if frame is None:
            assert self._last_frame is not None
            mask = self._actions.mask(self._last_frame, episode.base, episode.reach)
            return {"action_mask": mask}
        self._last_frame = frame
        return {
            "coding_index": frame.coding_index,
            "show_index": frame.show_index,
            "update_type": int(frame.update_type),
            "shown": frame.shown,
            "ends_gop": frame.ends_gop,
            "proposal_qindex": frame.proposal_qindex,
            "controller_qindex": episode.base.qindex,
            "min_qindex": frame.min_qindex,
            "max_qindex": frame.max_qindex,
            "action_mask": self._actions.mask(frame, episode.base, episode.reach),
        }

    def _reference(self, rate: float = 1.0) -> EpisodeScore:
        episode = self._running()
        target = min(max(round(episode.settings.target_kbps * rate), 1), MAX_TARGET_KBPS)
        return self._references.get(episode.clip, episode.settings.replace(target_kbps=target))

    def _score_info(self, score: EpisodeScore) -> dict[str, Any]:
        episode = self._running()
        info = {**dataclasses.asdict(score), "overshoot": score.overshoot}
        reference = self._references.known(episode.clip, episode.settings)
        if reference is not None:
            info["psnr_gain_db"] = psnr_gain_at_equal_rate(score, reference)
        return info
