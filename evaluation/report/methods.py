"""The methods of an evaluation by what they are, not by what they are called."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from muzero_rc.env.control.settings import modern_settings
from muzero_rc.evaluation.measure.bd_rate import MIN_POINTS
from muzero_rc.evaluation.measure.summary import ANCHOR
from muzero_rc.evaluation.results import Results
from muzero_rc.policies.registry import POLICY_NAMES, WithSpeedProfile, make_policy

__all__ = ["Control", "Described", "Methods"]

_WITHOUT_LEARNING = "landed"  # the policy that has all rules and nothing learned
_LEARNED = frozenset({"planned", "muzero", "const"})
_EXTERNAL = "external:"
_KNOBS = ("speed_profile", "passes", "show_existing")


class Control(NamedTuple):
    """How the passes of an encode are controlled, as far as headlines differ in it.

    Attributes:
      speed_profile: as in `EncoderSettings`, never auto.
      passes: 2, or 3 with a probe encode.
      show_existing: a reference may be shown in the place of a frame.
    """

    speed_profile: str
    passes: int
    show_existing: bool


@dataclass(frozen=True, slots=True)
class Described:
    """A method.

    Attributes:
      name: in the tables.
      spec: name or file of its policy; empty if the results do not tell.
      simulations: of its search.
      changes: settings in which it was asked to differ from the evaluation's.
      rest: all settings that it was asked for, but for those of `Control`.
      control: as its encodes had it; None if they differ, or another encoder made them.
    """

    name: str
    spec: str
    simulations: int
    changes: Mapping[str, Any]
    rest: Mapping[str, Any]
    control: Control | None

    @property
    def speed(self) -> int | None:
        """libvpx's cpu-used; None if the results do not tell, or it is another encoder."""
        speed = self.rest.get("speed")
        return speed if isinstance(speed, int) and not self.is_external else None

    @property
    def is_external(self) -> bool:
        """Whether another encoder's command line does it."""
        return self.spec.startswith(_EXTERNAL)

    @property
    def is_learned(self) -> bool:
        """Whether anything in it is learned: a shipped policy's name, a file, or a package's."""
        name = self.spec.partition(":")[0]
        known = name in POLICY_NAMES or not name or self.is_external
        return name in _LEARNED if known else True

    def word(self, **changes: Any) -> str:
        """As `--policy` takes it, with other settings if any are given."""
        return _word(self.spec or self.name, self.simulations, {**self.changes, **changes})

    def word_without_learning(self) -> str:
        """What `Methods.without_learning` looks for, as `--policy` takes it."""
        usual = _usual(_WITHOUT_LEARNING)._asdict()
        asked = self.control._asdict() if self.control else usual
        changes = {k: v for k, v in self.changes.items() if k not in _KNOBS}
        changed = {k: v for k, v in asked.items() if v != usual[k]}
        return _word(_WITHOUT_LEARNING, 0, changes | changed)


class Methods:
    """The methods of an evaluation, to be found by what they are, and the command that adds more.

    Older results that do not describe their methods have the anchor alone, and the names.
    """

    def __init__(self, results: Results) -> None:
        """Takes the results' settings apart."""
        self._settings = results.settings
        encoder = modern_settings(self._settings.get("encoder") or {})
        listed = self._settings.get("methods")
        described = {
            entry["name"]: entry
            for entry in (listed if isinstance(listed, list) else [])
            if isinstance(entry, Mapping)
            and isinstance(entry.get("name"), str)
            # An A/A run has other targets.
            and not entry.get("jitter")
        }
        used: dict[str, set[Control]] = {}
        self._targets: dict[str, set[int]] = {}
        for record in results.encodes:
            self._targets.setdefault(record.clip, set()).add(record.target_kbps)
            if "speed_profile" in (settings := modern_settings(record.settings)):
                used.setdefault(record.method, set()).add(_control(settings))
        self._by_name: dict[str, Described] = {}
        for name in results.summary:
            entry = described.get(name, {})
            changes = modern_settings(entry.get("changes") or {})
            controls = used.get(name, set())
            self._by_name[name] = Described(
                name=name,
                spec=str(entry.get("spec", name if name == ANCHOR else "")),
                simulations=int(entry.get("simulations") or 0),
                changes=changes,
                rest={k: v for k, v in {**encoder, **changes}.items() if k not in _KNOBS},
                control=next(iter(controls)) if len(controls) == 1 else None,
            )

    def most_targets(self) -> int:
        """Different targets of the clip that has most of them."""
        return max(map(len, self._targets.values()), default=0)

    def __getitem__(self, name: str) -> Described:
        return self._by_name[name]

    def variant(self, method: Described, control: Control) -> Described | None:
        """The same policy with all settings the same but for the control; None if there is none."""
        return self._find(method, control, method.spec, method.simulations)

    def without_learning(self, method: Described) -> Described | None:
        """The same without what is learned; None if it is not there or nothing is learned."""
        if not method.is_learned or method.control is None:
            return None
        return self._find(method, method.control, _WITHOUT_LEARNING, 0)

    def anchors(self) -> list[Described]:
        """The anchor, and those that differ from it in speed alone."""
        anchor = self._by_name.get(ANCHOR)
        if anchor is None:
            return []
        others = [
            other
            for other in self._by_name.values()
            if (other.spec, other.control) == (ANCHOR, anchor.control)
            and other.speed not in (None, anchor.speed)
            and {**other.rest, "speed": anchor.speed} == anchor.rest
        ]
        return [anchor, *others]

    def anchor_of(self, method: Described) -> Described | None:
        """The anchor at a method's speed; None if there is none.

        Where a method has no such speed, as another encoder has none, it is the anchor itself.
        """
        anchors = self.anchors()
        if method.speed is None:
            return next(iter(anchors), None)
        return next((a for a in anchors if a.speed == method.speed), None)

    def _find(
        self, method: Described, control: Control, spec: str, simulations: int
    ) -> Described | None:
        wanted = (spec, simulations, dict(method.rest), control)
        found = (
            other
            for other in self._by_name.values()
            if spec and (other.spec, other.simulations, dict(other.rest), other.control) == wanted
        )
        return next(found, None)

    def command(self, lead: Described, policies: Iterable[str]) -> str:
        """The evaluation's own command with more methods, all of them timed anew in one run.

        Times of encodes that were made at another time, under another load, are no measure: it
        has a folder of its own, and takes nothing from the cache.

        Args:
          lead: a method that it has; named where the results do not tell their command.
          policies: words for `--policy`.
        """
        words = _split(self._settings.get("command"))
        if words[:2] != ["muzero-rc", "evaluate"] or words.count("--out") != 1:
            words = ["muzero-rc", "evaluate", "CLIPS", "--out", "DIR", "--policy", lead.word()]
        elif "--policy" not in words:
            words += ["--policy", "muzero"]  # which it was without one
        if self.most_targets() < MIN_POINTS and words.count("--targets") == 1:
            # Those would leave all headlines without a number again.
            asked = words.index("--targets")
            del words[asked : asked + 2]
        place = words.index("--out") + 1
        words[place] = f"{words[place].rstrip('/')}-headlines"
        for policy in policies:
            words += ["--policy", policy]
        return shlex.join([*words, *(() if "--no-cache" in words else ("--no-cache",))])


def _word(policy: str, simulations: int, changes: Mapping[str, Any]) -> str:
    every = {**({"simulations": simulations} if simulations else {}), **changes}
    said = [f"{k}={('off', 'on')[v] if isinstance(v, bool) else v}" for k, v in every.items()]
    return f"{policy}@{','.join(said)}" if said else policy


@functools.cache
def _usual(name: str) -> Control:
    """The control of a policy's encodes where nothing else is asked for."""
    policy = make_policy(name)
    assert isinstance(policy, WithSpeedProfile)
    return _control({"speed_profile": policy.speed_profile, "passes": policy.passes})


def _control(settings: Mapping[str, Any]) -> Control:
    """What is left to the policy in settings as they were used is what it is without a wish."""
    profile = settings["speed_profile"]
    profile = "uniform" if profile == "auto" else str(profile)
    # With uniform speed no frame is shown again by rule, whatever is allowed.
    shows = bool(settings.get("show_existing", True)) and profile != "uniform"
    return Control(profile, settings.get("passes") or 2, shows)


def _split(command: object) -> list[str]:
    try:
        return shlex.split(command) if isinstance(command, str) else []
    except ValueError:
        return []
