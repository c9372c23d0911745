"""From a policy's name, or a file, to the policy.

A policy may have a method `prepare(clip, settings, first_pass) -> EncoderSettings`; it
is called once before a clip is encoded (`prepare` here does that) and may change the
settings or look for its own parameters by encoding the clip.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib.metadata
import importlib.util
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.world_model.plan_model import PlanModel, is_plan_model
from muzero_rc.env.codec.backend import ClipLike, ClipShape, FirstPassLike
from muzero_rc.env.codec.block_stats import BLOCK_FEATURES, block_grid
from muzero_rc.env.control.baselines import ConstantPolicy, ProposalPolicy, VbrPolicy
from muzero_rc.env.control.frame_speed import POLICY_SPEED_PROFILES, SpeedProfile
from muzero_rc.env.control.plan import DoubtsPlans, PlannedFrame, Plans
from muzero_rc.env.control.qp_offsets import QpOffsetPolicy
from muzero_rc.env.control.settings import EncoderSettings, modern_settings
from muzero_rc.env.observation.builder import (
    CLIP_FEATURES,
    FRAME_FEATURES,
    GLOBAL_FEATURES,
    HISTORY_FEATURES,
    OBSERVATION_VERSION,
)
from muzero_rc.errors import (
    CheckpointError,
    InputError,
    MuzeroRcError,
    OutputError,
    PolicyWarning,
)
from muzero_rc.policies.for_target import ConstantForTarget, ConstrainedQuality, OffsetsForTarget
from muzero_rc.policies.hindsight.policy import DEFAULT_BUDGET, HindsightPolicy, search_jobs
from muzero_rc.policies.identity import check_identity
from muzero_rc.policies.planned import PlannedPolicy
from muzero_rc.policies.shipped import shipped_policy_path
from muzero_rc.types import (
    EncodeLog,
    EpisodeScore,
    FrameDecision,
    KnownBlocks,
    Observation,
    Policy,
    QindexPolicy,
    needs_blocks,
)

__all__ = [
    "ENTRY_POINTS",
    "POLICY_NAMES",
    "Prepared",
    "WithSpeedProfile",
    "make_policy",
    "package_digest",
    "plan_file_of",
    "policy_package",
    "prepare",
    "searching",
    "warm_up",
]

POLICY_NAMES: dict[str, str] = {
    "planned": "the default: landed with a plan of all steps, which a learned model makes",
    "muzero": "the shipped network, which imitates that plan frame by frame",
    "vbr": "libvpx's own two-pass VBR",
    "proposal": "libvpx's proposal for each frame, verbatim: the control",
    "hierarchical": "the control with slower search where it pays",
    "landed": "the same, brought to the bitrate by feedback: muzero without its network",
    "cq": "libvpx's constrained quality; cq:LEVEL sets its quantizer 0..63",
    "constant": "one qindex for all frames, searched to meet the bitrate; constant:Q sets it",
    "hindsight": "the best of many encodes, found by search; hindsight:BUDGET sets how many",
    "const": "landed with the learned mean step of each kind of frames",
    "offsets": "leaf frames at a searched qindex, references finer by 60; offsets:N sets that",
}
"""Names that `make_policy` knows, each with what it means."""

_WITH_PARAMETER = frozenset({"cq", "constant", "offsets", "hindsight"})

ENTRY_POINTS = "muzero_rc.policies"
"""Entry point group in which other packages name their policies: name = "module:callable".

The callable takes nothing and returns a `Policy`.
"""

_CONSTANT = "const"  # after a plan model's file and a colon: its mean steps alone


@runtime_checkable
class Prepared(Protocol):
    """A policy that wants to see the clip before it is encoded."""

    def prepare(
        self, clip: ClipLike, settings: EncoderSettings, first_pass: FirstPassLike
    ) -> EncoderSettings:
        """The settings to encode the clip with."""
        ...


class WithSpeedProfile(QindexPolicy):
    """A policy whose encodes have a speed profile of their own, see `env.control.frame_speed`.

    It may also want a third pass, see `env.passes.probe`; settings that say how many have the last
    word.
    """

    def __init__(
        self,
        policy: Policy,
        speed_profile: SpeedProfile,
        name: str | None = None,
        *,
        passes: Literal[2, 3] = 2,
    ) -> None:
        """Takes the policy that decides; its name is kept if none is given."""
        self.policy = policy
        self.speed_profile = speed_profile
        self.passes = passes
        self.name = name or policy.name

    @property
    def needs_blocks(self) -> bool:
        """The policy's own."""
        return needs_blocks(self.policy)

    @property
    def config(self) -> Any:
        """The networks' configuration, None if there are none."""
        return getattr(self.policy, "config", None)

    @property
    def meta(self) -> dict[str, Any]:
        """The policy file's metadata, empty if there is none."""
        return dict(getattr(self.policy, "meta", {}))

    def prepare(
        self, clip: ClipLike, settings: EncoderSettings, first_pass: FirstPassLike
    ) -> EncoderSettings:
        """The settings with this speed profile, and these passes if they have none."""
        passes = settings.passes or self.passes
        if settings.speed_profile == "auto":
            settings = settings.replace(speed_profile=self.speed_profile)
        settings = settings.replace(passes=passes)
        return prepare(self.policy, clip, settings, first_pass)

    def plan(
        self, clip: ClipShape, settings: EncoderSettings, probe: EncodeLog
    ) -> Mapping[int, PlannedFrame]:
        """The policy's plan; none if it makes none."""
        return self.policy.plan(clip, settings, probe) if isinstance(self.policy, Plans) else {}

    def doubts(self, score: EpisodeScore, probe: EpisodeScore, settings: EncoderSettings) -> bool:
        """Whether the policy, if it plans, doubts the plan of an encode."""
        policy = self.policy
        return isinstance(policy, DoubtsPlans) and policy.doubts(score, probe, settings)

    def gained(self, ours: EpisodeScore, theirs: EpisodeScore) -> float:
        """Octaves of rate that an encode saves against another, by a policy that doubts plans."""
        policy = self.policy
        return policy.gained(ours, theirs) if isinstance(policy, DoubtsPlans) else 0.0

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        """The policy's qindexes. [B] int32.

        Raises:
          InputError: it decides on more than the quantizer.
        """
        if not isinstance(self.policy, QindexPolicy):
            raise InputError(f"policy {self.name} decides on more than the qindex: ask decide")
        return self.policy.qindexes(observations)

    def decide(
        self, observations: Sequence[Observation], base: Sequence[FrameDecision]
    ) -> Sequence[FrameDecision]:
        """The policy's decisions."""
        return self.policy.decide(observations, base)


def make_policy(name_or_path: str, *, simulations: int = 0) -> Policy:
    """The policy of a name in `POLICY_NAMES`, of a policy file, or of an entry point.

    Args:
      name_or_path: which policy.
      simulations: of the search before each decision of a learned policy, or for each group of
        pictures of a plan; 0 plays from its policy head, or plans by Newton's method.

    Raises:
      InputError: unknown name, bad parameter after the colon, no such file, an entry
        point that cannot be used, or simulations of a policy that has nothing to search with.
      CheckpointError: the file is damaged or of another format, or it was made for another
        libvpx or other inputs.

    Warns:
      PolicyWarning: a file was made under other costs, see `policies.identity`; or another
        package registers a policy of this name, and this program's own is taken.
    """
    if simulations:
        return _searching(name_or_path, simulations)
    name, colon, parameter = name_or_path.partition(":")
    if name in POLICY_NAMES and (entry := _entry_points().get(name)) is not None:
        warnings.warn(
            f"{entry.value} is registered as {name}, which is a policy of muzero_rc and taken "
            "instead; register it under another name",
            PolicyWarning,
            stacklevel=2,
        )
    if name in POLICY_NAMES and name not in _WITH_PARAMETER and colon:
        raise InputError(f"the policy {name} takes no parameter; give --policy {name}")
    if name == "vbr":
        return VbrPolicy()
    if name == "proposal":
        return ProposalPolicy()
    if name == "hierarchical":
        return WithSpeedProfile(ProposalPolicy(), "hierarchical", name)
    if name == "landed":
        return WithSpeedProfile(QpOffsetPolicy(), "hierarchical", passes=3)
    if name == "cq":
        return ConstrainedQuality(_number(name, parameter)) if colon else ConstrainedQuality()
    if name == "constant":
        return ConstantPolicy(_number(name, parameter)) if colon else ConstantForTarget()
    if name == "hindsight":
        return HindsightPolicy(_number(name, parameter)) if colon else HindsightPolicy()
    if name == "offsets":
        return OffsetsForTarget(_number(name, parameter)) if colon else OffsetsForTarget()
    if name == "muzero":
        return _load(shipped_policy_path())
    if name in ("planned", "const"):
        return _planned(shipped_policy_path(name), constant=name == "const")
    if (entry := _entry_points().get(name_or_path)) is not None:
        return _registered(entry)
    path = Path(name_or_path)
    if path.is_file():
        return _load(path)
    if (plan_file := plan_file_of(name_or_path)) is not None:
        return _planned(plan_file, constant=True)
    if path.suffix or os.sep in name_or_path or path.exists():
        kind = "is a directory, not a policy file" if path.is_dir() else "does not exist"
        raise InputError(f"policy file {path} {kind}; give a policy file or {_names()}")
    close = difflib.get_close_matches(name_or_path.lower(), POLICY_NAMES, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}? " if close else ""
    raise InputError(f"unknown policy {name_or_path!r}: {hint}give {_names()}, or a policy file")


def prepare(
    policy: Policy, clip: ClipLike, settings: EncoderSettings, first_pass: FirstPassLike
) -> EncoderSettings:
    """What `policy.prepare` answers, or the settings as they are if it has no such method."""
    if isinstance(policy, Prepared):
        return policy.prepare(clip, settings, first_pass)
    return settings


def searching(policy: Policy, budget: int | None = None, *, threads: int = 1) -> HindsightPolicy:
    """A search that starts from a policy's own trajectory, on all cores.

    Args:
      policy: what to start from; its trajectory is one of the budget. The search plans as
        `planned` does, so for that one there is no trajectory to begin with.
      budget: encodes of the search.
      threads: of each encode.

    Raises:
      InputError: the budget is out of range, or the policy changes settings, takes mean steps or
        searches by itself.
    """
    budget = DEFAULT_BUDGET if budget is None else budget
    jobs = search_jobs(threads)
    if isinstance(policy, HindsightPolicy):
        return HindsightPolicy(budget, jobs=jobs)
    if isinstance(policy, WithSpeedProfile):
        policy = policy.policy
    if isinstance(policy, PlannedPolicy) and not policy.constant:
        # The search plans by the same model itself, from every encode anew.
        return HindsightPolicy(budget, model=policy.model, jobs=jobs)
    if isinstance(policy, Prepared | Plans):
        raise InputError(
            f"a search cannot start from the policy {policy.name}; give planned, muzero, vbr, "
            "proposal, constant:Q or a policy file"
        )
    # The families that every search starts from have these two.
    start = None if isinstance(policy, VbrPolicy | ProposalPolicy) else policy
    return HindsightPolicy(budget, start=start, jobs=jobs)


def warm_up(policy: Policy, size: tuple[int, int] | None = None) -> None:
    """Lets a learned policy compile its networks; others have nothing to do.

    Args:
      policy: any.
      size: width and height of what it will see; matters if it reads blocks.
    """
    # Only networks have a configuration; a random policy must not lose a draw here.
    if getattr(policy, "config", None) is None:
        return
    blocks = None
    if size is not None and needs_blocks(policy):
        blocks = np.zeros((1, *block_grid(*size), BLOCK_FEATURES), np.float16)
    observation = Observation(
        clip=np.zeros((1, CLIP_FEATURES), np.float32),
        history=np.zeros((0, HISTORY_FEATURES), np.float32),
        frame=np.zeros(FRAME_FEATURES, np.float32),
        globals=np.zeros(GLOBAL_FEATURES, np.float32),
        show_index=0,
        proposal_qindex=128,
        first_pass=KnownBlocks(blocks),
    )
    policy.decide([observation], [FrameDecision(qindex=128)])


def policy_package(name: str) -> str:
    """Package and version that register a policy, such as `mine 1.2`; empty if none does."""
    entry = _entry_points().get(name)
    if entry is None or name in POLICY_NAMES:
        return ""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def package_digest(name: str) -> str:
    """Hash of the files of the package that registers a policy; a version alone says too little.

    Of its topmost package, or of its module, with all data in it. Other packages that it
    imports, and files elsewhere, are not looked at.

    Raises:
      InputError: its files cannot be found or read.
    """
    entry = _entry_points()[name]
    try:
        folder, paths = _files_of(entry.module)
        digest = hashlib.sha256()
        for path in sorted(paths):
            with path.open("rb") as file:
                digest.update(f"{path.relative_to(folder)}\n".encode())
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except (ImportError, OSError, ValueError) as error:
        raise InputError(
            f"the policy {name}, registered as {entry.value}, has no files to read: {error}"
        ) from error
    return digest.hexdigest()[:16]


def _files_of(module: str) -> tuple[Path, list[Path]]:
    """Folder and files of the topmost package of a module that is no namespace of several."""
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        found = importlib.util.find_spec(".".join(parts[:count]))
        if found is not None and found.origin is not None:
            origin = Path(found.origin)
            if found.submodule_search_locations is None:
                return origin.parent, [origin]
            files = (path for path in origin.parent.rglob("*") if path.is_file())
            return origin.parent, [path for path in files if "__pycache__" not in path.parts]
    raise ImportError(f"no module {module}")


def _entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)}


def _registered(entry: importlib.metadata.EntryPoint) -> Policy:
    where = f"the policy {entry.name}, registered as {entry.value},"
    try:
        policy = entry.load()()
    except MuzeroRcError:
        raise
    except Exception as error:  # somebody else's code may raise anything
        raise InputError(
            f"{where} cannot be made: {type(error).__name__}: {error}; mend or remove its package"
        ) from error
    if not (isinstance(getattr(policy, "name", None), str) and isinstance(policy, Policy)):
        raise InputError(f"{where} is no Policy but {type(policy).__name__}: see muzero_rc.types")
    return policy


def _searching(name_or_path: str, simulations: int) -> Policy:
    """A learned policy with search; without exploration, so that it repeats itself."""
    if simulations < 0:
        raise InputError(f"simulations must be 0 or more, not {simulations}")
    found = make_policy(name_or_path)
    if isinstance(found, WithSpeedProfile) and isinstance(found.policy, PlannedPolicy):
        planned = found.policy.with_search(simulations)
        return WithSpeedProfile(planned, found.speed_profile, passes=found.passes)
    from muzero_rc.agents.policy import AgentPolicy

    if not (isinstance(found, WithSpeedProfile) and isinstance(found.policy, AgentPolicy)):
        raise InputError(f"the policy {name_or_path} has no network to search with")
    plain = found.policy
    searching = AgentPolicy(
        plain.params, plain.config, simulations=simulations, gumbel_scale=0.0, name=plain.name,
        meta=plain.meta,
    )  # fmt: skip
    return WithSpeedProfile(searching, found.speed_profile, passes=found.passes)


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(
            f"the policy {name} takes a whole number after the colon, not {text!r}"
        ) from None


def _names() -> str:
    *most, last = dict.fromkeys((*POLICY_NAMES, *_entry_points()))
    return f"{', '.join(most)} or {last}"


def plan_file_of(spec: str) -> Path | None:
    """The file of a plan model whose mean steps are asked for, as FILE:const; else None.

    Raises:
      CheckpointError: the file is none of this program.
    """
    name, _, parameter = spec.rpartition(":")
    path = Path(name)
    return path if parameter == _CONSTANT and path.is_file() and is_plan_model(path) else None


def _planned(path: Path, *, constant: bool = False) -> Policy:
    model = PlanModel.load(path)
    check_identity(path, "plan", model.identity)
    policy = PlannedPolicy(model, constant=constant)
    return WithSpeedProfile(policy, "hierarchical", passes=3)


def _load(path: Path) -> Policy:
    if is_plan_model(path):
        return _planned(path)
    # JAX is heavy; the policies that need none must not wait for it.
    from muzero_rc.agents.compilation import compiled_folder, keep_compiled
    from muzero_rc.agents.policy import load_policy

    # Without a folder to keep it in, the network is compiled anew: seconds, not an error.
    with contextlib.suppress(OutputError):
        keep_compiled(compiled_folder())

    policy = load_policy(path, observation_version=OBSERVATION_VERSION)
    check_identity(path, "network", policy.identity)
    speed_profile = modern_settings(policy.meta).get("speed_profile", "uniform")
    if speed_profile not in POLICY_SPEED_PROFILES:
        raise CheckpointError(
            f"{path} wants a speed profile that this program does not know: {speed_profile}"
        )
    return WithSpeedProfile(
        policy, speed_profile, passes=3 if speed_profile == "hierarchical" else 2
    )
