"""Checks the English of README.md, CONTRIBUTING.md and docs/; part of `make lint`.

Three checks on the text that is left when code, link targets and comments are blanked out:

1. no private word where the field has one (`[tool.prose.words]` in pyproject.toml),
2. no sentence of more than `max_words` words outside tables and headings,
3. the checks of proselint that make sense for a technical text (`[tool.prose.proselint]`).

    python scripts/prose.py [FILE...]

Without files it reads `[tool.prose] files`; dated notes of experiments are left out, as they
quote what was written on their day. Prints `file:line: message`; exits with 1 if there is any.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proselint.checks import __register__ as PROSELINT_CHECKS
from proselint.registry import CheckRegistry
from proselint.tools import LintFile

CheckRegistry().register_many(PROSELINT_CHECKS)

ROOT = Path(__file__).resolve().parents[1]

# Blanked out in this order; a match keeps its line breaks, so that line numbers stay true.
_NOT_PROSE = tuple(
    re.compile(pattern, re.MULTILINE | re.DOTALL)
    for pattern in (
        r"^(?P<fence>```|~~~).*?^(?P=fence)[^\n]*$",  # a block of code
        r"<!--.*?-->",
        r"(?<=\])\([^()\n]*\)",  # the target of a link
        r"https?://[^\s)>]+",
        r"</?[a-z][^>\n]*>",
    )
)
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_HEADING = re.compile(r"^#+ ")
_LIST_ITEM = re.compile(r"^\s*(?:[-*]|\d+\.) ")
_SENTENCE_END = re.compile(r"(?<=[.!?:;])[)\"*_]*\s+(?=[^\sa-z])|(?<=[.!?])[)\"*_]*\s+")
# A dot after these ends no sentence.
_ABBREVIATION = re.compile(r"\b(?:al|e\.g|i\.e|vs|cf|no|fig)\.", re.IGNORECASE)


@dataclass(frozen=True)
class Rules:
    """What is checked.

    Attributes:
      words: regular expression of a private word -> the field's word.
      max_words: in a sentence.
      proselint: the checks of proselint, by name.
    """

    words: dict[re.Pattern[str], str]
    max_words: int
    proselint: dict[str, bool]

    @classmethod
    def of(cls, table: dict[str, Any]) -> Rules:
        """Rules from `[tool.prose]`."""
        words = {
            re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE): better
            for pattern, better in table["words"].items()
        }
        return cls(words, table["max_words"], dict(table["proselint"]))


@dataclass(frozen=True, order=True)
class Problem:
    """One thing to change.

    Attributes:
      line: from 1.
      message: what and why.
    """

    line: int
    message: str


def blank_out(text: str) -> str:
    """The text without code, comments and link targets, on the same lines."""
    for pattern in _NOT_PROSE:
        text = pattern.sub(lambda match: re.sub(r"[^\n]", "", match[0]), text)
    return _CODE.sub(lambda match: "X" + re.sub(r"[^\n]", "", match[0]), text)


def sentences(prose: str) -> Iterator[tuple[int, str]]:
    """(line, sentence) of all paragraphs and list items; tables and headings have none."""
    start, lines = 0, list[str]()

    def finished() -> Iterator[tuple[int, str]]:
        text = "\n".join(lines)
        text = _ABBREVIATION.sub(lambda match: match[0].replace(".", "\N{ONE DOT LEADER}"), text)
        at = 0
        for sentence in _SENTENCE_END.split(text):
            at = text.index(sentence, at)
            yield start + text.count("\n", 0, at), sentence
            at += len(sentence)

    for number, line in enumerate(prose.splitlines(), 1):
        apart = not line.strip() or line.lstrip().startswith("|") or _HEADING.match(line)
        if lines and (apart or _LIST_ITEM.match(line)):
            yield from finished()
            lines = []
        if not apart:
            start = start if lines else number
            lines.append(_LIST_ITEM.sub("", line) if not lines else line)
    if lines:
        yield from finished()


def check(text: str, rules: Rules) -> list[Problem]:
    """All problems of a page, in the order of its lines."""
    prose = blank_out(text)
    found = []
    for number, line in enumerate(prose.splitlines(), 1):
        for pattern, better in rules.words.items():
            for match in pattern.finditer(line):
                found.append(Problem(number, f'private word "{match[0]}": write {better}'))
    for number, sentence in sentences(prose):
        count = len(re.findall(r"[^\W_][\w.,%'-]*", sentence))
        if count > rules.max_words:
            opening = " ".join(sentence.split()[:6])
            message = f'{count} words in a sentence, {rules.max_words} at most: "{opening} ..."'
            found.append(Problem(number, message))
    if prose.strip():
        config: Any = {"max_errors": 1000, "checks": rules.proselint}
        for result in LintFile("page", prose).lint(config):
            message = " ".join(result.check_result.message.split())
            found.append(Problem(result.pos[0], message))
    return sorted(found)


def pages(root: Path, table: dict[str, Any]) -> list[Path]:
    """The files that `[tool.prose]` names, without those that it exempts."""
    exempt = {path for pattern in table["exempt"] for path in root.glob(pattern)}
    named = {path for pattern in table["files"] for path in root.glob(pattern)}
    return sorted(named - exempt)


def main(arguments: Sequence[str]) -> int:
    """Checks files; 1 if one has a problem."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["prose"]
    rules = Rules.of(table)
    allowed = pages(ROOT, table)
    # pre-commit names the files that change, dated notes among them.
    chosen = [p for p in allowed if p in {Path(a).resolve() for a in arguments}]
    failed = False
    for path in chosen if arguments else allowed:
        for problem in check(path.read_text(), rules):
            failed = True
            print(f"{path.relative_to(ROOT)}:{problem.line}: {problem.message}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
