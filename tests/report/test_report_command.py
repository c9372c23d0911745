"""`muzero-rc report`: what it writes and prints, and what it answers to bad input."""

import csv
import json
import shutil

import matplotlib.image
import pytest

from muzero_rc.cli.main import main
from muzero_rc.evaluation.report import FORMATS, format_results
from muzero_rc.evaluation.report.contents import gather


def test_all_at_once(three, tmp_path, capfd) -> None:
    three.save(tmp_path / "results")
    out, png = tmp_path / "report", tmp_path / "rd.png"
    words = ["report", tmp_path / "results", "-o", out, "--png", png, "--format", "md"]
    assert main([*map(str, words)]) == 0
    printed = capfd.readouterr()
    assert printed.err.splitlines() == [str(png), str(out / "index.html")]
    assert printed.out.startswith("| method | BD-rate |")
    assert main(["report", str(tmp_path / "results" / "results.json"), "-o", str(out)]) == 0
    assert capfd.readouterr().out == f"{out / 'index.html'}\n"


def test_picture_shows_something(three, make_results, tmp_path) -> None:
    many = make_results({f"clip {i}": {"proposal": 0.02, "mine": 0.05} for i in range(20)})
    for name, results in (("few", three), ("many", many)):
        folder = tmp_path / name
        results.save(folder)
        path = folder / "rd.png"
        assert main(["report", str(folder), "--png", str(path)]) == 0
        pixels = matplotlib.image.imread(path)
        assert min(pixels.shape[:2]) > 300
        colours = {tuple((255 * p).round().astype(int)) for p in pixels.reshape(-1, 4)[::7]}
        assert (0xD5, 0x5E, 0, 255) in colours and (0, 0x72, 0xB2, 255) in colours


def test_formats(three, tmp_path) -> None:
    data = gather(three, tmp_path).data
    markdown = format_results(data, "md").splitlines()
    assert markdown[1].startswith("| --- | ---: |")
    mine = markdown[2].split(" | ")
    assert mine[0] == "| mine" and mine[1] == "-10.00 [-12.00, -8.00]"
    assert "| vbr | n/a | n/a | n/a | n/a | 100% | 8.0% | 1.00 |" in markdown
    rows = list(csv.DictReader(format_results(data, "csv").splitlines()))
    assert [r["method"] for r in rows] == ["mine", "vbr", "proposal"]
    assert float(rows[0]["bd_rate"]) == pytest.approx(-10.0)
    assert float(rows[1]["mean_abs_deviation"]) == pytest.approx(0.08)
    assert float(rows[0]["against_control"]) == pytest.approx(
        100 * (0.9 / 0.95 + 0.92 / 0.98 + 0.88 / 0.97 - 3) / 3, abs=1e-3
    )
    assert rows[1]["bd_rate"] == ""
    latex = format_results(data, "latex")
    assert r"\begin{tabular}{lrrrrrrrrrrr}" in latex
    assert r"mine & $-10.00$ & $-12.00$ & $-8.00$" in latex
    assert r"over 5\%" in latex


def test_names_are_escaped_in_every_format(make_results, tmp_path) -> None:
    name = r"my_policy 50% a|b, c&d"
    data = gather(make_results({"one": {"proposal": 0.0, name: 0.1}}), tmp_path).data
    assert r"| my_policy 50% a\|b, c&d |" in format_results(data, "md")
    assert next(csv.reader(format_results(data, "csv").splitlines()[1:2]))[0] == name
    assert r"my\_policy 50\% a|b, c\&d" in format_results(data, "latex")
    assert set(FORMATS) == {"md", "csv", "latex"}


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_latex_compiles(three, tmp_path) -> None:
    import subprocess

    table = format_results(gather(three, tmp_path).data, "latex")
    text = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{table}\end{{document}}"
    (tmp_path / "t.tex").write_text(text)
    command = ["pdflatex", "-halt-on-error", "t.tex"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["RESULTS"], "nothing to write; give --out DIR, --png FILE or --format md"),
        (["missing", "-o", "out"], "cannot read missing"),
        (["RESULTS", "-o", "out", "--method", "nobody"], "no method 'nobody'"),
        (["RESULTS", "-o", "TEXT"], "is a file; give a folder"),
        (["RESULTS", "-o", "TEXT/out"], "cannot write the report"),
        (["RESULTS", "--png", "TEXT/x.png"], "cannot write"),
        (["RESULTS", "-o", "RESULTS"], "holds something else than a report"),
        (["RESULTS", "-o", "out", "--lottery", "TEXT"], "is not JSON or damaged"),
        (["TEXT", "-o", "out"], "is not JSON or damaged"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    three, tmp_path, monkeypatch, capfd, words, says
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("no results\n")
    three.save(tmp_path / "results")
    before = sorted(tmp_path.rglob("*"))
    words = [w.replace("RESULTS", "results").replace("TEXT", "text") for w in words]
    assert main(["report", *words]) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert says in printed.err
    assert printed.err.count("\n") == 1, printed.err
    assert sorted(tmp_path.rglob("*")) == before


def test_lottery_beside_the_results_is_taken_along(three, tmp_path) -> None:
    three.save(tmp_path / "results")
    (tmp_path / "results" / "lottery.json").write_text(json.dumps({"anything": [1, 2]}))
    assert main(["report", str(tmp_path / "results"), "-o", str(tmp_path / "report")]) == 0
    text = (tmp_path / "report" / "index.html").read_text()
    assert '"lottery":{"anything":[1,2]}' in text
    assert 'id="lottery"' in text
