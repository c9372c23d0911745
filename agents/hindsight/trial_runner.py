"""Encodes plans within a budget: several at a time, none twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from muzero_rc.agents.hindsight.encoder import Outcome, PlanEncoder
from muzero_rc.agents.hindsight.plan import Plan, PlanBase
from muzero_rc.compute import Compute, TaskFailure, ThreadScheduler

__all__ = ["TrialRunner"]


class TrialRunner:
    """Encodes plans and remembers their outcomes.

    A plan costs one of the budget the first time that it is asked for, also if its
    outcome is known from an earlier run: so a run that goes on takes the same way, and
    ends where the first would have ended. A plan that makes the same decisions as one
    before costs nothing. libvpx's state cannot be copied, so what two encodes have in
    common at their beginning is encoded again.

    Attributes:
      spent: plans that were run.
      encodes: those of them that had to be encoded.
      budget: most plans.
    """

    def __init__(
        self,
        encoder: PlanEncoder,
        budget: int,
        *,
        jobs: int = 1,
        known: Mapping[str, Outcome] | None = None,
        on_encode: Callable[[Plan, Outcome], None] | None = None,
        compute: Compute = ThreadScheduler,
    ) -> None:
        """Starts with the whole budget.

        Args:
          encoder: encodes plans.
          budget: most plans.
          jobs: encodes at a time.
          known: outcomes by `Plan.identity`, from earlier runs.
          on_encode: told of every encode that was really made, in this thread.
          compute: where they are made.
        """
        self.spent = 0
        self.encodes = 0
        self.budget = budget
        self.jobs = jobs
        self._encoder = encoder
        self._known = dict(known or {})
        self._on_encode = on_encode
        self._ran: dict[str, tuple[Plan, Outcome]] = {}
        self._compute = compute

    @property
    def left(self) -> int:
        """Plans that can still be run."""
        return self.budget - self.spent

    @property
    def trials(self) -> list[tuple[Plan, Outcome]]:
        """All plans that were run, in order."""
        return list(self._ran.values())

    def run(self, plans: Sequence[Plan]) -> list[Outcome | None]:
        """Outcomes of plans; None for those that the budget does not reach."""
        new: dict[str, Plan] = {}
        for plan in plans:
            name = plan.identity
            if name in self._ran or name in new or len(new) >= self.left:
                continue
            same = self._same_decisions(plan)
            if same is None:
                new[name] = plan
            else:
                self._ran[name] = (plan, same)
        try:
            self._encode({name: p for name, p in new.items() if name not in self._known})
        finally:
            # Of a round that was cut short, what was finished counts.
            for name, plan in new.items():
                if name in self._known:
                    self.spent += 1
                    self._ran[name] = (plan, self._known[name])
        return [
            self._ran[plan.identity][1] if plan.identity in self._ran else None for plan in plans
        ]

    def _same_decisions(self, plan: Plan) -> Outcome | None:
        for ran, outcome in self._ran.values():
            # A frame that libvpx coded twice leaves traces: its qindexes do not repeat it.
            if ran.base is not PlanBase.VBR and plan.repeats(outcome.frames):
                return outcome
        return None

    def _encode(self, plans: Mapping[str, Plan]) -> None:
        if not plans:
            return
        with self._compute(min(self.jobs, len(plans))) as scheduler:
            try:
                for plan, answer in scheduler.map(self._encoder.encode, plans.values()):
                    if isinstance(answer, TaskFailure):
                        raise answer.exception()
                    self._keep(plan, answer)
            except BaseException:
                # The encoders stop within a frame; those that were done by then count.
                for done in scheduler.cancel():
                    if not done.failed:
                        self._keep(done.task, done.result())
                raise

    def _keep(self, plan: Plan, outcome: Outcome) -> None:
        self._known[plan.identity] = outcome
        self.encodes += 1
        if self._on_encode is not None:
            self._on_encode(plan, outcome)
