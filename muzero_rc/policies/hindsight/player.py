"""Plays the teacher's plans on an encoder."""

from __future__ import annotations

import threading
from typing import Any

from muzero_rc.agents.hindsight import Outcome, Plan, PlanBase
from muzero_rc.compute import check_cancelled
from muzero_rc.env.codec.backend import Backend, ClipLike, FirstPassLike, LibvpxBackend
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.stepper import Stepper
from muzero_rc.errors import InputError
from muzero_rc.types import KEEP, FrameDecision, FrameInfo, Policy

__all__ = ["PlanPlayer"]


class PlanPlayer:
    """Encodes one clip at one target by plans; for several threads at a time.

    libvpx works in a native thread for each encode, without the GIL, so that threads keep
    as many cores busy.
    """

    def __init__(
        self,
        clip: ClipLike,
        settings: EncoderSettings,
        first_pass: FirstPassLike,
        *,
        backend: Backend | None = None,
        policy: Policy | None = None,
        probe: ProbeRecord | None = None,
        timeout_s: float = 120.0,
        recipe: Recipe = DEFAULT_RECIPE,
    ) -> None:
        """Takes what to encode.

        Args:
          clip: the clip.
          settings: of the encoder, the target among them.
          first_pass: of the clip; with blocks if the policy reads them.
          backend: the encoder; None is libvpx.
          policy: what plans whose base is `POLICY` start from.
          probe: the record of the probe, if the settings have three passes.
          timeout_s: watchdog, seconds in which the encoder works on one frame or stands still.
          recipe: the constants of control.
        """
        self._clip = clip
        self._settings = settings
        self._first_pass = first_pass
        self._backend: Backend = backend or LibvpxBackend()
        self._policy = policy
        self._probe = probe
        self._timeout_s = timeout_s
        self._recipe = recipe
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """A lock does not travel; each copy has its own policy and needs its own lock."""
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    def encode(self, plan: Plan) -> Outcome:
        """Encodes by a plan.

        Raises:
          Cancelled: the task was cancelled.
          EncoderError: the encoder failed.
          InputError: the plan starts from a policy and there is none.
        """
        clip, settings, first_pass = self._clip, self._settings, self._first_pass
        with Stepper.open(
            self._backend, clip, settings, first_pass,
            probe=self._probe, timeout_s=self._timeout_s, recipe=self._recipe,
        ) as stepper:  # fmt: skip
            while stepper.info is not None:
                check_cancelled()
                stepper.step(self._decision(plan, stepper, stepper.info))
            return Outcome(stepper.score(), tuple(stepper.log().pairs))

    def _decision(self, plan: Plan, stepper: Stepper, info: FrameInfo) -> FrameDecision:
        proposal = stepper.base
        if plan.base is PlanBase.VBR:
            return proposal.with_qindex(KEEP)
        base = info.proposal_qindex
        if plan.base is PlanBase.FEEDBACK:
            base = proposal.qindex
        elif plan.base is PlanBase.POLICY:
            if self._policy is None:
                raise InputError("the plan starts from a policy, and none was given")
            with self._lock:
                proposal = self._policy.decide([stepper.observe()], [proposal])[0]
            base = proposal.qindex
        return proposal.with_qindex(plan.qindex(info, base))
