"""`muzero-rc report`: what it writes and prints, and what it answers to bad input."""

import json

import matplotlib.image
import pytest

from muzero_rc.cli.main import main


def test_all_at_once(three, tmp_path, capfd) -> None:
    three.save(tmp_path / "results")
    out, png = tmp_path / "report", tmp_path / "rd.png"
    words = ["report", tmp_path / "results", "-o", out, "--png", png]
    assert main([*map(str, words)]) == 0
    assert capfd.readouterr().out.splitlines() == [str(png), str(out / "index.html")]
    assert main(["report", str(tmp_path / "results" / "results.json"), "-o", str(out)]) == 0
    assert capfd.readouterr().out == f"{out / 'index.html'}\n"


def test_picture_shows_something(three, make_results, tmp_path) -> None:
    many = make_results({f"clip {i}": {"proposal": 0.02, "mine": 0.05} for i in range(13)})
    for name, results in (("few", three), ("many", many)):
        folder = tmp_path / name
        results.save(folder)
        path = folder / "rd.png"
        assert main(["report", str(folder), "--png", str(path)]) == 0
        pixels = matplotlib.image.imread(path)
        assert min(pixels.shape[:2]) > 300
        colours = {tuple((255 * p).round().astype(int)) for p in pixels.reshape(-1, 4)[::7]}
        assert (0xD5, 0x5E, 0, 255) in colours and (0, 0x72, 0xB2, 255) in colours


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["RESULTS"], "nothing to write; give --out DIR or --png FILE"),
        (["missing", "-o", "out"], "cannot read missing"),
        (["RESULTS", "-o", "out", "--method", "nobody"], "no method 'nobody'"),
        (["RESULTS", "-o", "TEXT"], "is a file; give a folder"),
        (["RESULTS", "-o", "TEXT/out"], "cannot write the report"),
        (["RESULTS", "--png", "TEXT/x.png"], "cannot write"),
        (["RESULTS", "-o", "TEXT", "--png", "x.png"], "is a file; give a folder"),
        (["RESULTS", "-o", "TEXT/out", "--png", "x.png"], "cannot write the report"),
        (["RESULTS", "-o", "out", "--png", "out/x.png"], "replaces all that is in out"),
        (["RESULTS", "-o", "RESULTS", "--png", "x.png"], "holds something else"),
        (["RESULTS", "-o", "RESULTS"], "holds something else than a report"),
        (["RESULTS", "-o", "out", "--lottery", "TEXT"], "is not JSON or damaged"),
        (
            ["RESULTS", "-o", "out", "--lottery", "RESULTS/results.json"],
            "is not what muzero-rc lottery",
        ),
        (["RESULTS", "--png", "x.txt"], "the picture is a PNG file; give --png NAME.png"),
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
    (tmp_path / "results" / "lottery.json").write_text(
        json.dumps({"type": "lottery", "draws": [1, 2]})
    )
    assert main(["report", str(tmp_path / "results"), "-o", str(tmp_path / "report")]) == 0
    text = (tmp_path / "report" / "index.html").read_text()
    assert '"lottery":{"type":"lottery","draws":[1,2]}' in text
    assert 'id="lottery"' in text
