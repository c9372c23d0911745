"""Hindsight search: the qindexes of a clip that give the highest PSNR at its target.

Encodes are spent on, in this order: families of trajectories to start from; a shift of
the best of them, which tells the price of rate and lands it; steps of all frames at once
along measured slopes (`response`); single moves, several in an encode (`moves`); a last
landing. What is compared is PSNR avg less the price of the rate,

    J = psnr_avg - slope (d + CURVE d^2),   d = log2(actual / target)

the square keeping the search near its target; what is returned is the encode of highest
PSNR avg among those on target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from muzero_rc.agents.teacher.bench import Bench
from muzero_rc.agents.teacher.encoder import Outcome
from muzero_rc.agents.teacher.landing import OCTAVES_PER_QINDEX, land, on_target
from muzero_rc.agents.teacher.moves import Move, Moves, credits
from muzero_rc.agents.teacher.plan import Anchor, Plan
from muzero_rc.agents.teacher.response import FrameWorth, ResponseModel

__all__ = ["SearchProgress", "SearchResult", "search"]

_USUAL_SLOPE = 4.5  # dB per octave
_CURVE = 4.0
_PROBE = 5.0  # qindexes of the shift that measures the slope
_LANDING_TRIES = 4
_FIRST_LIMIT = 24.0  # qindexes that the model may move a frame by
_LEAST_GAIN = 1e-3  # dB
_DRIFT = 0.03  # octaves from the target that are too far


@dataclass(frozen=True)
class SearchProgress:
    """How far a search is.

    Attributes:
      spent: encodes of the budget.
      budget: most encodes.
      psnr_avg: of the best encode on target, dB; NaN while there is none.
      gain: share of bits saved over the first encode at the same PSNR avg.
    """

    spent: int
    budget: int
    psnr_avg: float
    gain: float


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
      plan: the best plan.
      outcome: what it gave.
      first: what the first plan gave.
      on_target: over its target by no more than the tolerance; False if none was.
      slope: price of rate, dB of PSNR avg per octave.
      gain: share of bits saved over the first encode at the same PSNR avg.
      spent: encodes of the budget that were used, those known from earlier runs included.
      encodes: those that were really made.
      stopped_early: nothing was gained for a while.
      interrupted: by Ctrl-C.
    """

    plan: Plan
    outcome: Outcome
    first: Outcome
    on_target: bool
    slope: float
    gain: float
    spent: int
    encodes: int
    stopped_early: bool
    interrupted: bool


def search(
    bench: Bench,
    starts: Sequence[Plan],
    *,
    patience: int | None = None,
    width: int | None = None,
    relative: bool = False,
    on_progress: Callable[[SearchProgress], None] | None = None,
) -> SearchResult:
    """Searches until the budget is spent, nothing is gained any more, or Ctrl-C.

    Args:
      bench: plays plans; its budget is this search's.
      starts: plans to start from, the first of them what gains are told against.
      patience: encodes without gain after which it stops; a third of the budget, 12 at
        least, if not given.
      width: moves that are tried side by side; as many as the bench has threads if not
        given. The way that is taken depends on it.
      relative: moves are steps from libvpx's proposals instead of fixed qindexes.
      on_progress: called after each round, in this thread.

    Raises:
      KeyboardInterrupt: before any encode was finished.
      ValueError: no starts, or no budget.
    """
    if not starts or bench.budget < 1:
        raise ValueError("a search needs a plan to start from and a budget of at least 1")
    run = _Search(bench, starts, patience, width, relative, on_progress)
    interrupted = False
    try:
        run.run()
    except KeyboardInterrupt:
        if not bench.tries:
            raise
        interrupted = True
    return run.result(interrupted)


class _Search:
    """State of one search."""

    def __init__(
        self,
        bench: Bench,
        starts: Sequence[Plan],
        patience: int | None,
        width: int | None,
        relative: bool,
        on_progress: Callable[[SearchProgress], None] | None,
    ) -> None:
        self._bench = bench
        self._starts = starts
        self._patience = max(12, bench.budget // 3) if patience is None else patience
        self._width = width or bench.jobs
        self._relative = relative
        self._on_progress = on_progress
        self._slope = _USUAL_SLOPE
        self._rate = OCTAVES_PER_QINDEX
        self._response = ResponseModel()
        self._moves = Moves()
        self._stopped_early = False
        self._plan = starts[0]
        self._outcome: Outcome | None = None

    # ------------------------------------------------------------ phases

    def run(self) -> None:
        self._start()
        self._measure_price()
        self._land(min(_LANDING_TRIES, self._bench.left))
        reserve = max(2, min(4, self._bench.budget // 6))
        self._follow_slopes(max(2, self._bench.budget // 6), reserve)
        self._move(reserve)
        self._land(self._bench.left)

    def _start(self) -> None:
        count = min(max(round(0.2 * self._bench.budget) + 1, 1), len(self._starts))
        starts = list(self._starts[:count])
        outcomes = self._play(starts)
        played = [(p, o) for p, o in zip(starts, outcomes, strict=True) if o is not None]
        for (_, before), (_, after) in zip(played, played[1:], strict=False):
            self._response.learn(before, after)
        self._plan, self._outcome = max(played, key=lambda pair: self._plain(pair[1]))
        if self._relative and self._plan.anchor in (Anchor.PROPOSAL, Anchor.FEEDBACK):
            return
        if self._relative:
            self._plan, self._outcome = played[0]
            return
        frozen = Plan.frozen(self._outcome.frames)
        # Free but for libvpx's own encode, which its qindexes do not repeat.
        again = self._play([frozen])[0]
        if again is None:
            return
        self._plan, self._outcome = frozen, again
        if self._plain(again) < self._plain(max((o for _, o in played), key=self._plain)):
            others = [pair for pair in played if pair[0].anchor is not Anchor.VBR]
            if others:
                plan, outcome = max(others, key=lambda pair: self._plain(pair[1]))
                if self._plain(outcome) > self._plain(again):
                    self._plan, self._outcome = Plan.frozen(outcome.frames), outcome

    def _measure_price(self) -> None:
        """The clip's own slope, from a shift towards the target."""
        assert self._outcome is not None
        octaves = self._outcome.octaves
        shift = octaves / self._rate
        if abs(shift) < _PROBE:
            shift = math.copysign(_PROBE, octaves or 1.0)
        plan = self._plan.shifted(shift)
        outcome = self._play([plan])[0]
        if outcome is None:
            return
        moved = self._outcome.octaves - outcome.octaves
        lost = self._outcome.score.psnr_avg - outcome.score.psnr_avg
        if abs(moved) > 0.02:
            self._slope = min(max(lost / moved, 1.0), 12.0)
            self._rate = min(max(moved / shift, 0.01), 0.12)
        self._response.learn(self._outcome, outcome)
        self._offer(plan, outcome, self._plain)

    def _land(self, tries: int) -> None:
        """Brings the plan onto its target; goes on from there."""
        if self._outcome is None or tries < 1:
            return
        before = self._outcome
        found: list[tuple[Plan, Outcome]] = []

        def on_shift(plan: Plan, outcome: Outcome) -> None:
            self._response.learn(before, outcome)
            found.append((plan, outcome))
            self._report()

        land(self._bench, self._plan, before, tries, rate=self._rate, on_shift=on_shift)
        if found:
            pairs = [*found, (self._plan, before)]
            self._plan, self._outcome = max(pairs, key=lambda pair: self._value(pair[1]))

    def _follow_slopes(self, tries: int, reserve: int) -> None:
        """Steps of all frames at once, as far as the model of responses is trusted."""
        limit, left = _FIRST_LIMIT, tries
        while left > 0 and self._bench.left > reserve and limit >= 4.0:
            assert self._outcome is not None
            before = self._outcome
            trusts = (0.5, 1.0)[: min(left, self._bench.left - reserve)]
            plans = [self._model_plan(trust, limit) for trust in trusts]
            spent = self._bench.spent
            outcomes = self._play(plans)
            left -= max(self._bench.spent - spent, 1)
            improved = False
            for plan, outcome in zip(plans, outcomes, strict=True):
                if outcome is not None:
                    self._response.learn(before, outcome)
                    improved |= self._offer(plan, outcome, self._value)
            if not improved:
                limit /= 2.0

    def _model_plan(self, trust: float, limit: float) -> Plan:
        """Every frame's best step by the model, at the price at which the bits fit."""
        assert self._outcome is not None
        low, high = self._slope / 16.0, self._slope * 16.0
        steps: dict[tuple[int, int], int] = {}
        for _ in range(24):
            slope = math.sqrt(low * high)
            worth = self._response.worth(self._outcome, slope)
            steps = {key: round(trust * w.best_step(limit)) for key, w in worth.items()}
            if self._predicted(worth, steps) > 0:
                low = slope
            else:
                high = slope
        return self._plan.moved(steps)

    def _predicted(
        self, worth: dict[tuple[int, int], FrameWorth], steps: dict[tuple[int, int], int]
    ) -> float:
        """Octaves over the target after steps."""
        assert self._outcome is not None
        share = sum(w.share * (2.0 ** (-w.rate * steps[key]) - 1.0) for key, w in worth.items())
        return self._outcome.octaves + math.log2(max(1.0 + share, 1e-3))

    def _move(self, reserve: int) -> None:
        """Single moves until the budget ends or nothing helps."""
        idle = 0
        while self._bench.left > reserve:
            assert self._outcome is not None
            if abs(self._outcome.octaves) > _DRIFT and idle == 0:
                self._land(1)
            before = self._outcome
            self._moves.update(before)
            price = self._slope * (1.0 + 2.0 * _CURVE * before.octaves)
            worth = self._response.worth(before, price)
            sets = self._moves.choose(worth, min(self._width, self._bench.left - reserve))
            if not sets or idle >= self._patience:
                self._stopped_early = True
                return
            plans = [self._with(moves) for moves in sets]
            outcomes = self._play(plans)
            best = self._outcome
            for plan, outcome in zip(plans, outcomes, strict=True):
                if outcome is not None:
                    self._response.learn(before, outcome)
                    self._offer(plan, outcome, self._value)
            for moves, outcome in zip(sets, outcomes, strict=True):
                if outcome is not None:
                    adopted = outcome is self._outcome
                    self._moves.settle(moves, self._gains(before, outcome, moves, price), adopted)
            idle = 0 if self._outcome is not best else idle + len(sets)

    def _with(self, moves: Sequence[Move]) -> Plan:
        plan = self._plan
        for move in moves:
            plan = plan.moved(move.steps)
        return plan

    def _gains(
        self, before: Outcome, after: Outcome, moves: Sequence[Move], price: float
    ) -> list[float]:
        found = credits(before, after, moves, price)
        if found is None:
            whole = self._value(after) - self._value(before)
            return [whole / len(moves)] * len(moves)
        return found

    # ------------------------------------------------------------ keeping account

    def _plain(self, outcome: Outcome) -> float:
        return outcome.score.psnr_avg - self._slope * outcome.octaves

    def _value(self, outcome: Outcome) -> float:
        octaves = outcome.octaves
        return self._plain(outcome) - self._slope * _CURVE * octaves * octaves

    def _offer(self, plan: Plan, outcome: Outcome, value: Callable[[Outcome], float]) -> bool:
        """Goes on from an encode if it is better."""
        assert self._outcome is not None
        if value(outcome) <= value(self._outcome) + _LEAST_GAIN:
            return False
        self._plan, self._outcome = plan, outcome
        return True

    def _play(self, plans: Sequence[Plan]) -> list[Outcome | None]:
        outcomes = self._bench.play(plans)
        self._report()
        return outcomes

    def _report(self) -> None:
        if self._on_progress is None or not self._bench.tries:
            return
        _, best, good = self._best()
        psnr = best.score.psnr_avg if good else float("nan")
        spent, budget = self._bench.spent, self._bench.budget
        self._on_progress(SearchProgress(spent, budget, psnr, self._saved(best)))

    def _best(self) -> tuple[Plan, Outcome, bool]:
        tries = self._bench.tries
        good = [pair for pair in tries if on_target(pair[1])]
        if good:
            return (*max(good, key=lambda pair: pair[1].score.psnr_avg), True)
        return (*min(tries, key=lambda pair: pair[1].score.actual_kbps), False)

    def _saved(self, outcome: Outcome) -> float:
        first = self._bench.tries[0][1]
        return 1.0 - 2.0 ** (-(self._plain(outcome) - self._plain(first)) / self._slope)

    def result(self, interrupted: bool) -> SearchResult:
        plan, outcome, good = self._best()
        return SearchResult(
            plan=plan,
            outcome=outcome,
            first=self._bench.tries[0][1],
            on_target=good,
            slope=self._slope,
            gain=self._saved(outcome),
            spent=self._bench.spent,
            encodes=self._bench.encodes,
            stopped_early=self._stopped_early,
            interrupted=interrupted,
        )
