"""Tables for documents: they read back to the numbers they were made of."""

import csv
import io
import re

import pytest
from fake_rd import FakeEncoder
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import InputError
from muzero_rc.evaluation.grid.encoder import ClipSource, Method
from muzero_rc.evaluation.measure.summary import compare, mark_targets, summarize
from muzero_rc.evaluation.report.sheet import Cell, Sheet, as_rich, render
from muzero_rc.evaluation.report.table import results_document, results_sheets
from muzero_rc.evaluation.results import Results

METHODS = ["vbr", "proposal", "save:0.1"]
TARGETS = [256, 384, 512, 768, 1024]


@pytest.fixture
def results(tmp_path) -> Results:
    """Three clips with PSNR and VMAF; one encode of one clip is over its target."""
    encoder = FakeEncoder(tmp_path)
    encodes = []
    for clip in ("a_b", "c", "d"):
        (tmp_path / clip).write_text(clip)
        for target in TARGETS:
            for method in METHODS:
                encodes.append(
                    encoder.encode(
                        ClipSource(tmp_path / clip, clip), Method(method, method, ""),
                        EncoderSettings(target_kbps=target), "k", ("ssim", "vmaf"),
                    )
                )  # fmt: skip
    targets = mark_targets([(c, t) for c in ("a_b", "c", "d") for t in TARGETS], encodes)
    bd = compare(encodes, ["a_b", "c", "d"], METHODS)
    return Results(
        settings={"encoder": EncoderSettings(target_kbps=1).as_dict()}, encodes=encodes,
        targets=targets, bd_rate=bd, summary=summarize(encodes, targets, bd, METHODS),
    )  # fmt: skip


def test_csv_has_every_number_unrounded(results) -> None:
    rows = list(csv.DictReader(io.StringIO(results_document(results, "csv"))))
    assert set(rows[0]) == {"table", "row", "column", "value"}
    found = {(r["table"], r["row"], r["column"]): r["value"] for r in rows}
    percent = next(
        b.percent for b in results.bd_rate
        if (b.clip, b.method, b.metric) == ("c", "save:0.1", "psnr_avg")
    )  # fmt: skip
    assert float(found["bd_rate_psnr", "c", "save:0.1 avg"]) == percent
    assert float(found["bd_rate_measured", "mean", "save:0.1 SSIM"]) == pytest.approx(-10.0)
    # Two doublings of 3.5 dB, moved by what 10 % of rate are worth.
    shift = 3.5 * 0.152003093
    assert float(found["overlap", "c", "save:0.1 avg"]) == pytest.approx((7 - shift) / (7 + shift))
    assert float(found["bd_quality", "c", "save:0.1 avg"]) == pytest.approx(3.5 * 0.152003093)
    assert float(found["bd_rate_psnr", "mean gain, dB", "save:0.1 avg"]) == pytest.approx(
        3.5 * 0.152003093
    )
    assert float(found["bitrate accuracy", "vbr", "encodes"]) == 15
    assert float(found["at_target", "save:0.1", "at most 1% over win"]) == 1.0
    assert len(found) == len(rows)
    cells = sum(len(c) for s in results_sheets(results) for _, c in s.rows)
    assert len(rows) == cells


def test_markdown_tables_are_rectangles(results) -> None:
    text = results_document(results, "md")
    tables = re.findall(r"(?:^\|.*\|$\n?)+", text, flags=re.M)
    assert len(tables) == len(results_sheets(results))
    for table in tables:
        widths = {len(re.split(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1
    assert r"| a\_b " in text
    assert "BD-rate against two-pass VBR" in text


def test_latex_is_escaped_and_balanced(results) -> None:
    text = results_document(results, "latex")
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == text.count(r"\toprule")
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert r"a\_b" in body
    assert not re.search(r"(?<!\\)[%_#]", body)


@settings(deadline=None, max_examples=40)
@given(st.text(st.sampled_from("a|\\`*_<>~é中"), min_size=1, max_size=12))
def test_names_cannot_break_a_markdown_table(name) -> None:
    sheet = Sheet("t", "", [("x", ""), ("", name)], [(name, [Cell(name)])])
    lines = render([sheet], [], "md").strip().splitlines()
    assert len(lines) == 3
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines} == {3}


def test_unknown_forms_are_refused() -> None:
    for form in ("html", "text"):
        with pytest.raises(InputError, match="give md, csv or latex"):
            render([], [], form)


def test_notes_come_along(results) -> None:
    sheets = results_sheets(results)
    assert "% 1 failed" in render(sheets, ["1 failed"], "latex")
    assert "- 1 failed" in render(sheets, ["1 failed"], "md")


@pytest.mark.parametrize(("width", "parts"), [(60, 5), (80, 3), (160, 1), (1000, 1)])
def test_no_number_is_cut_at_any_width(width, parts) -> None:
    methods = ["proposal", "muzero", "muzero@simulations=8", "hindsight:100", "landed"]
    columns = [("clip", ""), *((m, metric) for m in methods for metric in ("avg", "Y"))]
    numbers = [f"{-10 - i}.{i:02}" for i in range(len(columns) - 1)]
    row = ("a_clip_with_a_long_name", [Cell(number) for number in numbers])
    file = io.StringIO()
    Console(file=file, width=width).print(as_rich(Sheet("t", "", columns, [row])))
    text = file.getvalue()
    assert [word for word in text.split() if re.fullmatch(r"-\d+\.\d\d", word)] == numbers
    assert all(method in text for method in methods)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("a_clip_with_a_long_name") == parts
