"""Hindsight search: the qindexes of a clip that give the highest PSNR at its target.

Encodes are spent in this order: on families of trajectories to start from; where a probe
went ahead, on steps of whole kinds of frames (`families`); on a shift of the best of them,
which tells the price of rate and brings it to its target; on steps of all frames at once
along measured slopes (`response`); on single moves, several in an encode (`moves`); on a
last correction of the rate. Compared is PSNR avg less the price of the rate,

    J = psnr_avg - slope (d + CURVE d^2),   d = log2(actual / target)

the square keeping the search near its target; what is returned is the encode of highest
PSNR avg among those on target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from muzero_rc.agents.hindsight.encoder import Outcome
from muzero_rc.agents.hindsight.moves import Move, Moves, credits
from muzero_rc.agents.hindsight.plan import FrameKey, Plan, PlanBase, frame_key
from muzero_rc.agents.hindsight.rate_accuracy import (
    OCTAVES_PER_QINDEX,
    TOLERANCE,
    meet_target,
    on_target,
)
from muzero_rc.agents.hindsight.response import ResponseModel
from muzero_rc.agents.hindsight.trial_runner import TrialRunner
from muzero_rc.signals import answered

__all__ = ["SearchProgress", "SearchResult", "search"]

_LEAST_SLOPE, _LARGEST_SLOPE = 1.5, 12.0
_NEAR = 0.1  # octaves from the target that count for the slope
_LEAST_SPREAD = 0.03  # octaves that two encodes must be apart to tell a slope
_CURVE = 6.0
_LEAST_PRICE = 0.1  # of the slope
_TAIL = 0.35  # of the frames
_DOUBT = 1.0  # dB per octave
_PROBE = 5.0  # qindexes of the shift that measures the slope
_LANDING_TRIES = 3
_SEVERAL_LINES = 50  # budget from which two starts are followed before one is chosen
_RESERVE = 3  # encodes for the last correction of the rate
# How plans are tried, set by hand: nothing is on record that measures one of these.
_PLANNED_SHARE, _PROBED_SHARE = 0.125, 0.75  # of the budget
_PLANS_AGAIN = 8  # encodes, once single moves gain no more
_PLANS = 2  # of different strengths, side by side
_SPREAD = 2.0  # between their strengths, and from one that gained nothing to the next
_BOLDER, _MOST_CAREFUL = 8.0, 1000.0  # times the strength that the model came with
_LEAST_GAIN = 1e-3  # dB
_WORTH_A_SHIFT = 0.01  # dB


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
    runner: TrialRunner,
    starts: Sequence[Plan],
    response: ResponseModel,
    *,
    patience: int | None = None,
    width: int | None = None,
    probed: bool = False,
    on_progress: Callable[[SearchProgress], None] | None = None,
) -> SearchResult:
    """Searches until the budget is spent, nothing is gained any more, or Ctrl-C.

    Args:
      runner: runs plans; its budget is this search's.
      starts: plans to start from, the first of them what gains are told against.
      response: what is known of how frames answer; refined with every encode.
      patience: encodes without gain after which it stops; a third of the budget, 12 at
        least, if not given.
      width: moves that are tried side by side; as many as the runner has threads if not
        given. The way that is taken depends on it.
      probed: a probe went ahead. Then plans with feedback meet their target by themselves
        and libvpx's plan does not react to what was spent: kinds of frames are searched
        first, then fixed qindexes. Else moves are steps from libvpx's proposals, which
        come back to the budget by that; see docs/reference/hindsight-search.md.
      on_progress: called after each round, in this thread.

    Raises:
      KeyboardInterrupt: before any encode was finished.
      ValueError: no starts, or no budget.
    """
    if not starts or runner.budget < 1:
        raise ValueError("a search needs a plan to start from and a budget of at least 1")
    run = _Search(runner, starts, response, patience, width, probed, on_progress)
    interrupted = False
    try:
        run.run()
    except KeyboardInterrupt:
        if not runner.trials:
            raise
        interrupted = True
        answered()
    return run.result(interrupted)


def _tail(outcome: Outcome) -> tuple[set[FrameKey] | None, float]:
    """The last frames in coding order and their share of bits; all frames if it is small."""
    decided = [(info, result) for info, result in outcome.frames if info is not None]
    last = decided[round((1.0 - _TAIL) * len(decided)) :]
    total = sum(result.bits for _, result in decided)
    share = sum(result.bits for _, result in last) / max(total, 1)
    if share < _TAIL / 4:
        return None, 1.0
    return {frame_key(info) for info, _ in last}, share


class _Search:
    """State of one search."""

    def __init__(
        self,
        runner: TrialRunner,
        starts: Sequence[Plan],
        response: ResponseModel,
        patience: int | None,
        width: int | None,
        probed: bool,
        on_progress: Callable[[SearchProgress], None] | None,
    ) -> None:
        self._runner = runner
        self._starts = starts
        self._patience = max(12, runner.budget // 3) if patience is None else patience
        self._width = width or runner.jobs
        self._probed = probed
        self._on_progress = on_progress
        self._slope = response.usual_slope
        self._rate = OCTAVES_PER_QINDEX
        self._response = response
        self._moves = Moves()
        self._stopped_early = False
        self._idle = 0
        self._plan = starts[0]
        self._outcome: Outcome | None = None

    # ------------------------------------------------------------ phases

    def run(self) -> None:
        budget = self._runner.budget
        share = _PROBED_SHARE if self._probed else _PLANNED_SHARE
        lines = self._start()[: 1 + (budget >= _SEVERAL_LINES)]
        ends = []
        for self._plan, self._outcome in lines:
            if not self._probed:
                self._meet_target(_LANDING_TRIES)
            self._follow_plans(max(2, round(share * budget)) // len(lines))
            ends.append((self._plan, self._outcome))
        self._plan, self._outcome = max(ends, key=lambda pair: self._value(pair[1]))
        self._alternate()
        self._freeze()
        self._meet_target(self._runner.left, tail=True)
        # What the last correction did not need.
        self._move(0)

    def _alternate(self) -> None:
        """Single moves, and plans with what they told, for as long as either gains."""
        self._move(_RESERVE)
        while self._stopped_early and self._runner.left > _RESERVE:
            before = self._outcome
            self._follow_plans(min(_PLANS_AGAIN, self._runner.left - _RESERVE))
            self._moves, self._idle, self._stopped_early = Moves(), 0, False
            self._move(_RESERVE)
            if self._outcome is before:
                return

    def _start(self) -> list[tuple[Plan, Outcome]]:
        """Plays the families, and the best of them again, shifted onto the target.

        Returns:
          What to go on from, the best first.
        """
        budget = self._runner.budget
        count = min(max(round(0.1 * budget) + 1, 1), len(self._starts))
        starts = list(self._starts[:count])
        ran = self._finished(starts, self._run_plans(starts))
        if self._probed:
            return [self._base(*max(ran, key=lambda pair: self._value(pair[1])))]
        # How much rate is worth is not known yet, so what is far off the target is doubted.
        ran.sort(key=lambda p: self._plain(p[1]) - _DOUBT * abs(p[1].octaves), reverse=True)
        bases = [self._base(*pair) for pair in ran[: 1 + (budget >= 20) + (budget >= 50)]]
        shifts = [outcome.octaves / self._rate for _, outcome in bases]
        if abs(shifts[0]) < _PROBE:
            shifts[0] = math.copysign(_PROBE, shifts[0] or 1.0)
        plans = [base.shifted(shift) for (base, _), shift in zip(bases, shifts, strict=True)]
        outcomes = self._run_plans(plans)
        self._measure_price(bases, shifts, outcomes)
        lines = []
        for base, plan, outcome in zip(bases, plans, outcomes, strict=True):
            pairs = [base] if outcome is None else [base, (plan, outcome)]
            lines.append(max(pairs, key=lambda pair: self._value(pair[1])))
        return sorted(lines, key=lambda pair: self._value(pair[1]), reverse=True)

    def _freeze(self) -> bool:
        """Goes on from the qindexes of the best encode: as they are, they cost nothing.

        Returns:
          Whether that is a change.
        """
        if self._outcome is None or self._plan.base is PlanBase.FIXED:
            return False
        self._plan = Plan.frozen(self._outcome.frames)
        self._outcome = self._run_plans([self._plan])[0]
        return True

    @staticmethod
    def _finished(
        plans: Sequence[Plan], outcomes: Sequence[Outcome | None]
    ) -> list[tuple[Plan, Outcome]]:
        return [(p, o) for p, o in zip(plans, outcomes, strict=True) if o is not None]

    def _base(self, plan: Plan, outcome: Outcome) -> tuple[Plan, Outcome]:
        """The plan to move frames in, with what it gives, of libvpx's own encode about."""
        if not self._probed and plan.base in (PlanBase.PROPOSAL, PlanBase.FEEDBACK):
            return plan, outcome
        return Plan.frozen(outcome.frames), outcome

    def _measure_price(
        self,
        bases: Sequence[tuple[Plan, Outcome]],
        shifts: Sequence[float],
        outcomes: Sequence[Outcome | None],
    ) -> None:
        """The clip's own slope, from shifts towards the target."""
        slopes, rates = [], []
        for (_, before), shift, after in zip(bases, shifts, outcomes, strict=True):
            if after is None or before.structure != after.structure:
                continue
            moved = before.octaves - after.octaves
            if abs(moved) > _LEAST_SPREAD:
                slopes.append((before.score.psnr_avg - after.score.psnr_avg) / moved)
                rates.append(moved / shift)
        if slopes:
            self._slope = min(max(float(np.median(slopes)), _LEAST_SLOPE), _LARGEST_SLOPE)
            self._rate = min(max(float(np.median(rates)), 0.008), 0.12)

    def _meet_target(self, trials: int, *, tail: bool = False) -> None:
        """Brings the plan onto its target; goes on from there.

        Args:
          trials: most encodes.
          tail: shift the end of the clip only. What is before it stays as it was found,
            as coding is causal; a shift of all frames by one costs more than it seems,
            because moves were chosen for what they gave to the last bit.
        """
        if self._outcome is None:
            return
        before, rate, keys = self._outcome, self._rate, None
        if tail:
            keys, share = _tail(before)
            rate *= share
        found: list[tuple[Plan, Outcome]] = []

        def on_shift(plan: Plan, outcome: Outcome) -> None:
            found.append((plan, outcome))
            self._report()

        meet_target(
            self._runner, self._plan, before, trials, rate=rate, keys=keys, on_shift=on_shift
        )
        if not tail:
            self._refine_price([before, *(outcome for _, outcome in found)])
        if found:
            pairs = [*found, (self._plan, before)]
            self._plan, self._outcome = max(pairs, key=lambda pair: self._value(pair[1]))

    def _refine_price(self, outcomes: Sequence[Outcome]) -> None:
        """The slope at the target, from shifts of one plan."""
        same = [o for o in outcomes if o.structure == outcomes[0].structure]
        octaves = np.array([o.octaves for o in same])
        if np.ptp(octaves) < _LEAST_SPREAD:
            return
        psnr = np.array([o.score.psnr_avg for o in same])
        weight = np.exp(-np.abs(octaves) / _NEAR)
        off = octaves - np.average(octaves, weights=weight)
        slope = float((weight * off * psnr).sum() / (weight * off * off).sum())
        self._slope = min(max(slope, _LEAST_SLOPE), _LARGEST_SLOPE)

    def _follow_plans(self, trials: int) -> None:
        """Steps of all frames at once, planned from the best encode so far."""
        end = self._runner.spent + trials
        strength = self._response.step_strength
        least, most = strength / _BOLDER, strength * _MOST_CAREFUL
        while self._runner.spent < end and strength <= most:
            assert self._outcome is not None
            before = self._outcome
            count = min(max(self._width, 1), _PLANS, end - self._runner.spent)
            strengths = [strength * _SPREAD**place for place in range(count)]
            plans = [
                self._plan.moved(self._response.plan(before, self._slope, tried))
                for tried in strengths
            ]
            improved = False
            for plan, outcome in zip(plans, self._run_plans(plans), strict=True):
                if outcome is not None:
                    improved |= self._offer(plan, outcome, self._value)
            if improved:
                strength = max(strength / _SPREAD, least)
            else:
                # What the model learned from the failure may be enough; if not, smaller steps.
                strength *= _SPREAD

    def _move(self, reserve: int) -> None:
        """Single moves until the budget ends or nothing helps."""
        while self._outcome is not None:
            before = self._outcome
            close = abs(before.score.overshoot) <= TOLERANCE
            left = self._runner.left - (0 if close else reserve)
            self._moves.update(before)
            # Far under the target the curve of J would have more rate for less quality.
            price = self._slope * max(1.0 + 2.0 * _CURVE * before.octaves, _LEAST_PRICE)
            worth = self._response.worth(before, price)
            sets = self._moves.choose(worth, min(self._width, left)) if left > 0 else []
            stalled = not sets or self._idle >= self._patience // 2
            if left > 0 and stalled and self._freeze():
                # Fixed qindexes leave other ways open than steps from proposals do.
                self._moves, self._idle = Moves(), 0
                continue
            if not sets or self._idle >= self._patience:
                self._stopped_early = left > 0
                return
            plans = [self._with(moves) for moves in sets]
            outcomes = self._run_plans(plans)
            for plan, outcome in zip(plans, outcomes, strict=True):
                if outcome is not None:
                    self._offer(plan, outcome, self._value)
            adopted: Outcome | None = self._outcome
            if adopted is before:
                adopted = self._bring_back(plans, outcomes)
            for moves, outcome in zip(sets, outcomes, strict=True):
                if outcome is not None:
                    gains = self._gains(before, outcome, moves, price)
                    self._moves.settle(moves, gains, outcome is adopted)
            self._idle = 0 if self._outcome is not before else self._idle + len(sets)

    def _bring_back(
        self, plans: Sequence[Plan], outcomes: Sequence[Outcome | None]
    ) -> Outcome | None:
        """A move that gained, but led off the target, has its try with a shift.

        Returns:
          The outcome whose plan, shifted, is now the one to go on from.
        """
        assert self._outcome is not None
        pairs = [(p, o) for p, o in zip(plans, outcomes, strict=True) if o is not None]
        if not pairs or self._runner.left <= _RESERVE:
            return None
        plan, outcome = max(pairs, key=lambda pair: self._plain(pair[1]))
        if self._plain(outcome) <= self._plain(self._outcome) + _WORTH_A_SHIFT:
            return None
        shifted = plan.shifted(outcome.octaves / self._rate)
        found = self._run_plans([shifted])[0]
        if found is None:
            return None
        return outcome if self._offer(shifted, found, self._value) else None

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
        rest = (self._value(after) - self._value(before) - sum(found)) / len(moves)
        return [gain + rest for gain in found]

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

    def _run_plans(self, plans: Sequence[Plan]) -> list[Outcome | None]:
        outcomes = self._runner.run(plans)
        for outcome in outcomes:
            if outcome is not None:
                self._response.learn(outcome)
        self._report()
        return outcomes

    def _report(self) -> None:
        if self._on_progress is None or not self._runner.trials:
            return
        _, best, good = self._best()
        psnr = best.score.psnr_avg if good else float("nan")
        spent, budget = self._runner.spent, self._runner.budget
        self._on_progress(SearchProgress(spent, budget, psnr, self._saved(best)))

    def _best(self) -> tuple[Plan, Outcome, bool]:
        trials = self._runner.trials
        good = [pair for pair in trials if on_target(pair[1])]
        if good:
            return (*max(good, key=lambda pair: pair[1].score.psnr_avg), True)
        return (*min(trials, key=lambda pair: pair[1].score.actual_kbps), False)

    def _saved(self, outcome: Outcome) -> float:
        first = self._runner.trials[0][1]
        return 1.0 - 2.0 ** (-(self._plain(outcome) - self._plain(first)) / self._slope)

    def result(self, interrupted: bool) -> SearchResult:
        plan, outcome, good = self._best()
        return SearchResult(
            plan=plan,
            outcome=outcome,
            first=self._runner.trials[0][1],
            on_target=good,
            slope=self._slope,
            gain=self._saved(outcome),
            spent=self._runner.spent,
            encodes=self._runner.encodes,
            stopped_early=self._stopped_early,
            interrupted=interrupted,
        )
