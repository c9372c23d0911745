"""scripts/prose.py: what `make lint` asks of the English in README and docs."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prose", ROOT / "scripts/prose.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


prose = load()
TABLE = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["prose"]
RULES = prose.Rules.of(TABLE)


def found(text: str) -> list[tuple[int, str]]:
    return [(problem.line, problem.message) for problem in prose.check(text, RULES)]


def sentence_of(words: int) -> str:
    return "Frame " + "bits " * (words - 2) + "end."


@pytest.mark.parametrize(
    "text",
    [
        "A pilot comes first.",
        "The clip is flown again.",
        "| what | a survey of groups |",
        "# The judge",
        "Encodes insist on the target.",
        "Effort goes to references.",
        "Frames\nare repeated frames\nhere.",
    ],
)
def test_a_private_word_is_found(text: str) -> None:
    problems = found(text)
    assert len(problems) == 1, problems
    assert "private word" in problems[0][1]


@pytest.mark.parametrize(
    "text",
    [
        "Call `fly_pilot(effort)` once.",
        "```sh\nmuzero-rc encode --effort search\n```",
        "See [the rule](notes/pilot.md).",
        "<!-- the pilot's table\nfollows -->",
        "Butterflies and an effortless walk.",
        "The command repeats the table.",
    ],
)
def test_code_links_comments_and_parts_of_words_are_no_private_words(text: str) -> None:
    assert found(text) == []


def test_line_numbers_survive_what_is_blanked_out() -> None:
    text = "# Title\n\n```\npilot\n```\n\n<!-- a\nb -->\n\nA judge\nof frames.\n"
    assert [line for line, _ in found(text)] == [10]


@pytest.mark.parametrize(("words", "problems"), [(30, 0), (31, 1)])
def test_a_sentence_has_at_most_thirty_words(words: int, problems: int) -> None:
    assert len(found(f"Short one. {sentence_of(words)} Another.")) == problems


def test_a_long_sentence_is_found_on_its_line() -> None:
    text = f"First sentence.\nSecond one. {sentence_of(40)}\n"
    ((line, message),) = found(text)
    assert line == 2
    assert message.startswith("40 words")


@pytest.mark.parametrize("pattern", ["| {} |", "# {}", "```text\n{}\n```"])
def test_tables_headings_and_output_have_no_sentences(pattern: str) -> None:
    assert found(pattern.format(sentence_of(60))) == []


def test_items_of_a_list_are_sentences_of_their_own() -> None:
    item = sentence_of(20).rstrip(".")
    assert found(f"- {item}\n- {item}\n1. {item}\n") == []
    assert len(found(f"- {item}\n  {item}\n")) == 1


def test_an_abbreviation_ends_no_sentence() -> None:
    half = "bits " * 14
    assert len(found(f"Frame {half} e.g. Mandhane et al. 2022 {half} end.")) == 1


@pytest.mark.parametrize("line", [1, 2, 3, 7])
def test_proselint_runs_on_the_same_line_numbers(line: int) -> None:
    problems = found("\n" * (line - 1) + "It is the most unique codec.\nLast line.\n")
    assert [number for number, _ in problems] == [line]
    assert "uncomparable" in problems[0][1]


def test_dated_notes_are_exempt_and_other_pages_are_not(tmp_path: Path) -> None:
    for name in ("README.md", "docs/guide/encode.md", "docs/notes/2026-11-26.md", "other.md"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text\n")
    names = [str(path.relative_to(tmp_path)) for path in prose.pages(tmp_path, TABLE)]
    assert names == ["README.md", "docs/guide/encode.md"]


def links(path: Path) -> list[str]:
    """Targets of a page's links to other files and headings of this repository."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]


def headings(path: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_lead_somewhere() -> None:
    patterns = ["*.md", "docs/**/*.md", "third_party/libvpx/*.md", "muzero_rc/**/*.md"]
    wrong, seen = [], 0
    for page in sorted(path for pattern in patterns for path in ROOT.glob(pattern)):
        for link in links(page):
            file, _, anchor = link.partition("#")
            target = page.parent / file if file else page
            seen += 1
            if not target.exists() or (anchor and anchor not in headings(target)):
                wrong.append(f"{page.relative_to(ROOT)}: {link}")
    assert not wrong
    assert seen > 50


def test_the_pages_of_this_repository_are_clean() -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "scripts/prose.py"], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert prose.pages(ROOT, TABLE)
