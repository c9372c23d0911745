"""The teacher as a policy: it searches a clip when it is prepared for it, then repeats."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from muzero_rc import disk_cache
from muzero_rc.agents.hindsight import (
    Outcome,
    Plan,
    ResponseModel,
    SearchProgress,
    SearchResult,
    TrialRunner,
    probed_plans,
    search,
    start_plans,
)
from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.agents.world_model.plan_model import PlanModel
from muzero_rc.compute import usable_cores
from muzero_rc.env.codec.backend import Backend, ClipLike, FirstPassLike
from muzero_rc.env.control.frame_speed import SpeedProfile
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.probe import probe_score, run_probes
from muzero_rc.errors import InputError, OutputError
from muzero_rc.identity import build_identity
from muzero_rc.policies.hindsight.log import (
    SEARCHES_LIMIT_BYTES,
    SearchHeader,
    SearchLog,
    searches_folder,
)
from muzero_rc.policies.hindsight.player import PlanPlayer
from muzero_rc.policies.identity import check_identity
from muzero_rc.policies.shipped import shipped_policy_path
from muzero_rc.types import KEEP, EncodeLog, Observation, Policy, QindexPolicy, needs_blocks

__all__ = ["DEFAULT_BUDGET", "HindsightPolicy", "search_jobs"]

DEFAULT_BUDGET = 30
"""Encodes of a search, if nobody says."""

_MOST_ENCODES = 100_000


def search_jobs(threads: int) -> int:
    """Encodes at a time that keep all cores busy, with `threads` for each."""
    return max(1, usable_cores() // threads)


class HindsightPolicy(QindexPolicy):
    """Encodes a clip up to `budget` times, then answers with the best qindexes found.

    Every encode is logged in the cache folder; searching the same clip with the same
    settings again goes on from there, and with the same budget costs nothing. Not so if it
    starts from a policy that draws, or has no `digest` to know it by.

    Attributes:
      name: "hindsight".
      budget: encodes of a search.
      result: of the last search.
      model: that steps are planned by.
      start: policy whose trajectory is the first to start from.
      needs_blocks: as that policy.
      on_progress: told how far a search is.
    """

    name = "hindsight"

    def __init__(
        self,
        budget: int = DEFAULT_BUDGET,
        *,
        start: Policy | None = None,
        model: PlanModel | None = None,
        jobs: int = 2,
        width: int | None = None,
        speed_profile: SpeedProfile = "hierarchical",
        log: bool = True,
        backend: Backend | None = None,
        recipe: Recipe = DEFAULT_RECIPE,
    ) -> None:
        """Takes how to search.

        Args:
          budget: encodes, those known from the log included.
          start: a policy whose trajectory is the first to start from.
          model: that steps are planned by; None is the shipped one.
          jobs: encodes at a time.
          width: moves tried side by side; `jobs` if not given. What is found depends on it.
          speed_profile: of all encodes, see `env.control.frame_speed`.
          log: keep the encodes in the cache folder.
          backend: the encoder; None is libvpx.
          recipe: the constants of control.

        Raises:
          InputError: the budget is out of range.
          CheckpointError: the shipped model is missing.
        """
        if not 1 <= budget <= _MOST_ENCODES:
            raise InputError(
                f"the budget of a search must be 1 to {_MOST_ENCODES} encodes, not {budget}"
            )
        self.budget = budget
        self.result: SearchResult | None = None
        self.needs_blocks = start is not None and needs_blocks(start)
        self.on_progress: Callable[[SearchProgress], None] | None = None
        self.start = start
        if model is None:
            path = shipped_policy_path(self.name)
            model = PlanModel.load(path)
            check_identity(path, "plan", model.identity)
        self.model = model
        self._jobs = jobs
        self._width = width
        self._speed_profile = speed_profile
        self._log = log
        self._backend = backend
        self._recipe = recipe
        self._qindexes: npt.NDArray[np.int32] | None = None

    def prepare(
        self, clip: ClipLike, settings: EncoderSettings, first_pass: FirstPassLike
    ) -> EncoderSettings:
        """Searches the clip; the settings with the search's speed profile.

        Raises:
          InputError: the clip is too large for memory.
          KeyboardInterrupt: before the first encode was finished; later it ends the search
            with what was found.
        """
        if not clip.in_memory:
            raise InputError(
                f"{clip.name} is too long to be searched: its frames do not fit into memory; "
                "scale it down, take fewer frames, or encode it without a search"
            )
        self.result = self._qindexes = None
        if settings.speed_profile == "auto":
            settings = settings.replace(speed_profile=self._speed_profile)
        settings = settings.replace(passes=settings.passes or 3)
        log = self._open_log(clip, settings)
        probe, seen = None, None
        if settings.needs_probe:
            probe_encode, log = self._probe(clip, settings, first_pass, log)
            probe, seen = ProbeRecord.of(probe_encode), EncodeFrames.of_log(probe_encode)
        player = PlanPlayer(
            clip, settings, first_pass, backend=self._backend, policy=self.start, probe=probe,
            recipe=self._recipe,
        )  # fmt: skip

        def on_encode(plan: Plan, outcome: Outcome) -> None:
            nonlocal log
            log = _noted(log, lambda file: file.add(plan, outcome))

        runner = TrialRunner(
            player,
            self.budget,
            jobs=self._jobs,
            known=None if log is None else log.known,
            on_encode=on_encode,
        )
        plans = start_plans if probe is None else probed_plans
        self.result = search(
            runner,
            plans(policy=self.start is not None),
            ResponseModel(self.model, seen),
            width=self._width,
            probed=probe is not None,
            on_progress=self.on_progress,
        )
        self._qindexes = self._decisions(self.result)
        if self.result.encodes:
            slope = self.result.slope
            _noted(log, lambda file: file.finish(slope))
        return settings

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        """The qindexes that `prepare` found. [B] int32."""
        if self._qindexes is None:
            raise InputError("the policy hindsight must be prepared for a clip before it decides")
        # The history has a row for every frame coded so far.
        places = [min(len(o.history), len(self._qindexes) - 1) for o in observations]
        return self._qindexes[places]

    def _probe(
        self,
        clip: ClipLike,
        settings: EncoderSettings,
        first_pass: FirstPassLike,
        log: SearchLog | None,
    ) -> tuple[EncodeLog, SearchLog | None]:
        """The probe encode, from the search's log if it is there; and the log to go on with."""
        known = None if log is None else log.probe
        if log is not None and known is not None:
            return EncodeLog.of_pairs(known.frames, known.score.bits // 8, log.gops), log
        probe_encode = run_probes(
            clip, settings, first_pass,
            jobs=self._jobs, backend=self._backend, recipe=self._recipe,
        )  # fmt: skip
        outcome = Outcome(probe_score(clip, settings, probe_encode), tuple(probe_encode.pairs))
        return probe_encode, _noted(log, lambda file: file.add_probe(outcome, probe_encode.gops))

    def _open_log(self, clip: ClipLike, settings: EncoderSettings) -> SearchLog | None:
        start = "" if self.start is None else getattr(self.start, "digest", None)
        if not self._log or self._backend is not None or start is None:
            return None
        header = SearchHeader.of(clip, settings, build_identity(self._recipe), start)
        try:
            log = SearchLog(searches_folder() / f"{header.key}.jsonl", header)
            with contextlib.suppress(OSError):  # of another user: a larger folder, not an error
                disk_cache.trim(searches_folder(), SEARCHES_LIMIT_BYTES, [header.key])
            return log
        except (InputError, OutputError):
            return None  # without its log a search can still be made, only not resumed

    @staticmethod
    def _decisions(found: SearchResult) -> npt.NDArray[np.int32]:
        frames = found.outcome.frames
        qindexes = [result.qindex for info, result in frames if info is not None]
        if found.plan.base.value == "vbr":
            # Its qindexes would not repeat libvpx's own recode loop.
            qindexes = [KEEP] * len(qindexes)
        return np.array(qindexes, np.int32)


def _noted(log: SearchLog | None, note: Callable[[SearchLog], None]) -> SearchLog | None:
    """The log with a note more; None once it failed: a full cache must not end a search."""
    if log is not None:
        try:
            note(log)
        except OutputError:
            return None
    return log
