"""Names of options and policies from before: they work for one release, with a line each."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

__all__ = ["modern_arguments"]

_OPTIONS = {"--no-repeats": "--no-show-existing"}
_OLD_SECTION, _SECTION = "--explore.", "--collect."  # settings of training
_POLICIES = {"layered": "hierarchical", "teacher": "hindsight"}
_SETTINGS = {
    "effort=even": "speed_profile=uniform",
    "effort=layered": "speed_profile=hierarchical",
    "repeats=": "show_existing=",
}
_POLICY_OPTIONS = ("--policy", "-p")
_SPEC = re.compile(r"(?P<name>[a-z]+)(?P<rest>$|[:@].*)", re.DOTALL)


def modern_arguments(arguments: Sequence[str], say: Callable[[str], None]) -> list[str]:
    """The arguments with old names replaced by their present ones.

    Args:
      arguments: of a command.
      say: told once of each name that was replaced, in one line.
    """
    modern = []
    before = ""
    for word in arguments:
        name, equals, value = word.partition("=")
        if before in _POLICY_OPTIONS:
            new = _modern_policy(word)
        elif equals and name in _POLICY_OPTIONS:
            new = f"{name}={_modern_policy(value)}"
        else:
            new = _OPTIONS.get(word, word)
            if new.startswith(_OLD_SECTION):
                new = _SECTION + new.removeprefix(_OLD_SECTION)
        if new != word:
            say(f"{word} is called {new} now; the old name goes with the next release")
        modern.append(new)
        before = word
    return modern


def _modern_policy(spec: str) -> str:
    found = _SPEC.fullmatch(spec)
    if found is None:
        return spec
    name, rest = found["name"], found["rest"]
    for old, new in _SETTINGS.items():
        rest = re.sub(rf"(?<=[@,]){old}", new, rest)
    return _POLICIES.get(name, name) + rest
