"""The controller: it proposes a decision for each frame of an encode, and learns what came of it.

It knows the target and keeps the encode on it (`env.control.rate`), how long each kind of frame
is searched (`env.control.frame_speed`), and what the probe encode told. It learns nothing from
one encode to the next. A policy adjusts its proposals.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from muzero_rc.env.codec.backend import ClipShape, FirstPassLike
from muzero_rc.env.codec.statistics import column, finite
from muzero_rc.env.control.frame_speed import frame_search, show_existing_price
from muzero_rc.env.control.probe_record import ProbeFrame, ProbeRecord
from muzero_rc.env.control.rate.probe import ProbeRateController, ProbeShift
from muzero_rc.env.control.rate.two_pass import TwoPassRateController, reach
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, PartitionReuse, Recipe
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.control.work_model import shipped_work_model
from muzero_rc.errors import InputError
from muzero_rc.types import (
    FROZEN,
    NUM_QINDEX,
    FrameDecision,
    FrameInfo,
    FrameResult,
    PartitionHint,
    RateAccount,
    ShowExisting,
)

__all__ = ["Controller", "Proposal"]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the controller proposes for a frame.

    Attributes:
      decision: libvpx's proposal for the quantizer with the rate offset, and all else.
      rate_offset: qindexes that the rate controller, and a plan, add to libvpx's proposal.
      reach: how far from the decision's qindex a policy may go.
    """

    decision: FrameDecision
    rate_offset: int
    reach: int


class Controller:
    """Controls one encode: `propose(info)` before each decision, `update` after each frame."""

    def __init__(
        self,
        clip: ClipShape,
        settings: EncoderSettings,
        first_pass: FirstPassLike,
        probe: ProbeRecord | None = None,
        *,
        recipe: Recipe = DEFAULT_RECIPE,
    ) -> None:
        """Starts with nothing spent.

        Args:
          clip: size, frame rate and length of what is encoded.
          settings: of the encode.
          first_pass: of the clip.
          probe: what the probe encode told, in the final one of three passes.
          recipe: the constants.
        """
        self._settings = settings
        self._recipe = recipe
        self._probe = probe
        budget, pixels = settings.frame_budget(clip.fps), clip.width * clip.height
        self._spender = None if probe is None or probe.work is None else probe.work.spender()
        self._work = None if self._spender is None else shipped_work_model()
        if settings.time is not None and self._spender is None:
            raise InputError(
                "a budget of time is planned by muzero_rc.env.passes.pipeline.rollout alone"
            )
        self._show_existing_price = show_existing_price(budget, recipe=recipe)
        self._rate: TwoPassRateController | ProbeShift | ProbeRateController
        if probe is not None:
            self._rate = ProbeRateController(budget, probe, clip.num_frames, pixels, recipe=recipe)
        elif settings.speed_profile == "probe":
            self._rate = ProbeShift(budget, pixels, recipe=recipe)
        else:
            coded_error = finite(first_pass.stats)[:, column("coded_error")]
            self._rate = TwoPassRateController(budget, coded_error, pixels, recipe=recipe)

    def propose(self, info: FrameInfo) -> Proposal:
        """The decision for a frame; asked once for each, in coding order."""
        settings, recipe = self._settings, self._recipe
        frame = None if self._probe is None else self._probe.matching_frame(info)
        offset, within = self._rate.step(info), reach(info, recipe=recipe)
        if frame is not None and frame.planned is not None:
            offset += min(max(frame.planned.step, -within), within)
        if frame is not None and self._stays_lossless(info, frame, offset):
            within = 0
        search = frame_search(settings.speed_profile, settings.speed, info, recipe=recipe)
        tier = None if self._spender is None or frame is None else self._spender.tier(info)
        decision = FrameDecision(
            qindex=min(max(info.proposal_qindex + offset, 0), NUM_QINDEX - 1),
            speed=search.speed if tier is None else tier,
            features=search.features,
            show_existing=search.show_existing if settings.show_existing else ShowExisting.NEVER,
            show_existing_price=self._show_existing_price,
            show_existing_change=recipe.show_existing.max_change,
            rate_account=FROZEN if settings.passes == 3 else None,
        )
        if frame is not None and settings.passes == 3:
            decision = _with_probe(decision, frame, recipe.partition)
        return Proposal(decision, offset, within)

    def _stays_lossless(self, info: FrameInfo, frame: ProbeFrame, offset: int) -> bool:
        """Whether no policy may move a frame away from qindex 0, where rate control has it.

        Lossless coding is another transform than that of finer and coarser steps. In a still
        page all frames after it have what it has, and a step from there would cost them that.
        Where pictures change, they have nothing of it: the probe encode is not saturated then.
        """
        lossless = frame.qindex == 0 and info.proposal_qindex + offset <= 0
        return lossless and self._probe is not None and self._probe.saturated

    def update(self, info: FrameInfo | None, result: FrameResult) -> None:
        """Takes in what a frame cost; `info` is None for a buffer that is shown again."""
        self._rate.record(info, result)
        if self._spender is not None and self._work is not None:
            self._spender.record(self._work.work_of([result]))

    def refined_probe(self) -> ProbeRecord | None:
        """The probe's record with what its frames cost in this encode; None if there was none."""
        return self._rate.refined() if isinstance(self._rate, ProbeRateController) else None


def _with_probe(decision: FrameDecision, frame: ProbeFrame, reuse: PartitionReuse) -> FrameDecision:
    """The decision with what the probe tells of the same frame."""
    shown = decision.show_existing
    if frame.shows_existing and shown is ShowExisting.CHEAPER:
        shown = ShowExisting.ALWAYS
    return dataclasses.replace(
        decision,
        show_existing=shown,
        rate_account=RateAccount(frame.qindex, 0 if frame.shows_existing else frame.bits),
        partition=PartitionHint(frame.partition, reuse.coarser, reuse.finer),
    )
