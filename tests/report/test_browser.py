"""The page in a real Chromium, from disk: it plays, sorts, drags, and can be read."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from muzero_rc.cli.main import main

_BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
_DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        _BROWSER is None or _DRIVER is None,
        reason="no browser to try the report in (Debian: apt install chromium chromium-driver)",
    ),
]

PATIENCE_S = 180  # a machine that does much else besides is not a broken page
ALPHA, BETA, GAMMA = "alpha card", "beta <img src=x onerror=hacked=1>", "gamma"


@pytest.fixture(scope="session")
def page(real_results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of three real clips, with a lottery."""
    draws = {"size": 1, "win_share": {"vbr": 0.2, "proposal": 0.3, "cq:20": 0.5}}
    draw = {"clips": 3, "mean": {"vbr": 0.0, "proposal": -0.02, "cq:20": 0.03}}
    found = {
        "methods": ["vbr", "proposal", "cq:20"],
        "winner": "proposal",
        "samples": [
            draws | {"same_sign": {"proposal": 0.8, "cq:20": 0.9}},
            draws | {"size": 2, "same_sign": {"proposal": 1.0, "cq:20": 1.0}},
        ],
        "metrics": [draw | {"metric": "psnr_avg"}, draw | {"metric": "psnr_y"}],
        "targets": [draw | {"rungs": [1, 2, 3, 4]}],
        "aggregates": [{"name": "mean", "winner": "proposal"}],
        "clip_influence": [
            {"left_out": BETA, "shift": {"proposal": 0.01, "cq:20": -0.02}, "sign_flips": []}
        ],
    }
    folder = tmp_path_factory.mktemp("page")
    lottery = folder / "lottery.json"
    lottery.write_text(json.dumps(found))
    out = folder / "report"
    words = ["report", real_results, "-o", out, "--lottery", lottery]
    assert main([*map(str, words)]) == 0
    return out / "index.html"


class Browser:
    """A Chromium with the page open."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def scheme(self, name: str) -> None:
        features = [
            {"name": "prefers-color-scheme", "value": name},
            # The driver clicks where an element was before it was scrolled to.
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def load(self, page: Path) -> None:
        self.driver.get(page.as_uri())
        self.until(lambda: self.js("return document.documentElement.dataset.ready === 'yes'"))
        self.until(self.still)

    def still(self) -> bool:
        """Both sides of the player have arrived where they were sent."""
        return bool(
            self.js(
                "return ['a', 'b'].every(s => { const v = document.getElementById(`video-${s}`);"
                " return v.readyState >= 2 && !v.seeking; })"
            )
        )

    def js(self, code: str, *arguments: object) -> Any:
        return self.driver.execute_script(code, *arguments)

    def wait_for(self, code: str) -> Any:
        """Result of a promise."""
        return self.driver.execute_async_script(
            f"const done = arguments[0];"
            f" (async () => {{ {code} }})().then(done, e => done(`${{e}}`))"
        )

    def until(self, test: Callable[[], object]) -> None:
        WebDriverWait(self.driver, PATIENCE_S, poll_frequency=0.05).until(lambda _: test())

    def painted(self) -> None:
        """What was changed before this is on the screen."""
        self.wait_for(
            "await new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))"
        )

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def player(self) -> dict[str, Any]:
        return self.js("return report.player.state()")

    def picture(self, selector: str) -> np.ndarray:
        """What an element looks like. [H, W, 3], 0..255."""
        element = self.one(selector)
        self.js("arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", element)
        self.painted()
        return np.asarray(Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB"), float)

    def problems(self) -> list[str]:
        return [e["message"] for e in self.driver.get_log("browser") if e["level"] != "INFO"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = _BROWSER
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                 "--disable-dev-shm-usage", "--force-device-scale-factor=1",
                 "--host-resolver-rules=MAP * ~NOTFOUND"):  # fmt: skip
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(_DRIVER))
    driver.set_script_timeout(PATIENCE_S)
    yield driver
    with contextlib.suppress(Exception):
        driver.quit()


@pytest.fixture
def browser(chromium: webdriver.Chrome, page: Path) -> Browser:
    found = Browser(chromium)
    found.scheme("light")
    found.resize(1300, 900)
    found.load(page)
    return found


@pytest.fixture(autouse=True)
def _clean_console(browser: Browser) -> Iterator[None]:
    yield
    assert browser.problems() == []


def test_page_loads_from_disk_and_draws(browser: Browser) -> None:
    assert browser.driver.current_url.startswith("file://")
    plots = {e.get_attribute("id") for e in browser.all(".plot")}
    assert {"plot-rd", "plot-landing", "plot-bd", "plot-clip-rd", "plot-frames"} <= plots
    for name in plots:
        assert browser.js(f"return document.querySelectorAll('#{name} svg .trace, #{name} svg .bars"
                          " .point').length") > 0, name  # fmt: skip
    browser.js("document.querySelectorAll('img').forEach(i => { i.loading = 'eager' })")
    assert len(browser.all("img")) == 3
    browser.until(lambda: browser.js(
        "return [...document.querySelectorAll('img')].every(i => i.naturalWidth > 0)"
    ))  # fmt: skip
    # Names stay text, whatever is in them.
    assert BETA in [e.text for e in browser.all("[data-open]")]
    browser.one("[data-open='1']").click()
    assert browser.one("#clip-title").text.startswith(BETA)
    assert browser.js("return window.hacked") is None
    # Nothing was asked of a network.
    names = browser.js("return performance.getEntriesByType('resource').map(e => e.name)")
    assert all(name.startswith(("file:", "data:")) for name in names)


def rows(browser: Browser) -> list[str]:
    return [e.text for e in browser.all("#clips-table tbody tr:not([hidden]) [data-open]")]


def test_table_sorts_and_filters(browser: Browser) -> None:
    assert rows(browser) == [ALPHA, BETA, GAMMA]
    browser.one("[data-sort='name']").click()
    browser.one("[data-sort='name']").click()
    assert rows(browser) == [GAMMA, BETA, ALPHA]
    data = browser.js("return report.data")
    for metric in ("psnr_avg", "psnr_y"):
        Select(browser.one("#metric")).select_by_value(metric)
        percents = {
            clip["name"]: next(b["percent"] for b in clip["bd"]
                               if (b["method"], b["metric"]) == ("proposal", metric))
            for clip in data["clips"]
        }  # fmt: skip
        assert all(p is not None for p in percents.values())
        head = browser.one("[data-sort='proposal']")
        if metric == "psnr_avg":
            head.click()
        assert rows(browser) == sorted(percents, key=percents.__getitem__)
        sign = "ascending"
        assert browser.one("th:has([data-sort='proposal'])").get_attribute("aria-sort") == sign
        shown = browser.one("tr[data-clip-row='0'] [data-bd='proposal']").text
        assert shown.startswith(f"{percents[ALPHA]:+.2f}%".replace("-", "−"))
    # The keyboard does it too.
    head.send_keys(Keys.ENTER)
    assert rows(browser) == sorted(percents, key=percents.__getitem__, reverse=True)

    browser.one("#filter").send_keys("ET a")
    assert rows(browser) == [BETA]
    assert browser.one("#count").text == "1 of 3 clips"
    browser.one("#filter").clear()
    browser.one("#filter").send_keys(" ")
    assert browser.one("#count").text == "3 clips"
    kinds = {}
    for kind in ("better", "worse", "undefined"):
        Select(browser.one("#filter-kind")).select_by_value(kind)
        kinds[kind] = rows(browser)
    assert sorted(sum(kinds.values(), [])) == sorted([ALPHA, BETA, GAMMA])
    lead = data["lead"]
    for name in kinds["better"]:
        clip = next(c for c in data["clips"] if c["name"] == name)
        bd = [b for b in clip["bd"] if (b["method"], b["metric"]) == (lead, "psnr_y")]
        assert bd[0]["percent"] < 0


def test_the_player_begins_with_the_nearest_sizes(browser: Browser) -> None:
    encode = browser.player()["encode"]
    assert (encode["a"]["method"], encode["b"]["method"]) == ("vbr", "cq:20")
    sizes = encode["a"]["bytes"], encode["b"]["bytes"]
    text = browser.one("#balance").text
    assert f"({100 * (sizes[1] / sizes[0] - 1):+.1f}%)".replace("-", "−") in text
    Select(browser.one("#pick-b")).select_by_index(1)
    browser.until(browser.still)
    assert browser.player()["encode"]["b"] != encode["b"]
    assert "muzero-rc encode" in browser.one("#command-a").get_attribute("textContent")


def test_frames_are_stepped_exactly(browser: Browser) -> None:
    for frame in (0, 1, 17, 38, 39):
        found = browser.wait_for(
            f"await report.player.seek({frame}); return ['a', 'b'].map(s =>"
            " document.getElementById(`video-${s}`).currentTime * 25);"
        )
        assert all(frame < at < frame + 1 for at in found)
        assert browser.one("#where").text == f"{frame} / 39"
    browser.wait_for("await report.player.seek(10)")
    forward, back = browser.one("#forward"), browser.one("#back")
    for button, frame in ((forward, 11), (forward, 12), (back, 11)):
        button.click()
        browser.until(lambda f=frame: (s := browser.player())["a"] == s["b"] == f)
    # The trace of the same frame is told.
    trace = browser.player()["encode"]["a"]["trace"]  # with its structure put back
    frames = list(zip(trace["show_index"], trace["shown"], strict=True))
    index = frames.index((11, 1))
    assert f"{trace['psnr'][index]:.2f} dB" in browser.one("#readout-a").text
    assert browser.one("#cursor").is_displayed()


def test_both_sides_stay_in_step(browser: Browser) -> None:
    found = browser.wait_for(
        """
        const rate = document.getElementById('rate');
        rate.value = '0.25';  // on a busy machine pictures are late, by less than one of these
        rate.dispatchEvent(new Event('change'));
        await report.player.seek(0);
        await report.player.play();
        const seen = [];
        await new Promise(resolve => {
          const look = () => {
            const s = report.player.state();
            seen.push([s.a, s.b]);
            if (s.a >= s.last - 1) resolve(); else requestAnimationFrame(look);
          };
          look();
        });
        report.player.pause();
        return seen;
        """
    )
    assert len({a for a, _ in found}) > 10, "it did not play"
    # Right at the start a side may not have presented its first picture yet.
    assert max(abs(a - b) for a, b in found[3:]) <= 1
    browser.until(lambda: browser.still() and (s := browser.player())["a"] == s["b"])
    assert not browser.player()["playing"]


def test_the_slowest_speed_waits_for_a_side_that_is_ahead(browser: Browser) -> None:
    seen = browser.wait_for(
        """
        const rate = document.getElementById('rate');
        rate.value = '0.1';
        rate.dispatchEvent(new Event('change'));
        await report.player.seek(5);
        await report.player.play();
        const b = document.getElementById('video-b');
        b.currentTime += 2 / 25;
        let slowest = 1;
        await new Promise(resolve => {
          const look = () => {
            slowest = Math.min(slowest, b.playbackRate);
            if (report.player.state().a >= 9) resolve(); else requestAnimationFrame(look);
          };
          look();
        });
        report.player.pause();
        return slowest;
        """
    )
    assert seen < 0.09, "the right side did not wait"


def test_it_goes_round(browser: Browser) -> None:
    browser.wait_for("await report.player.seek(36); await report.player.play()")
    browser.until(lambda: 2 <= browser.player()["a"] < 30)
    assert browser.player()["playing"]
    browser.one("#play").click()
    assert not browser.player()["playing"]


def test_divider_drags(browser: Browser) -> None:
    stage, divider = browser.one("#stage"), browser.one("#divider")
    browser.js("arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", stage)
    before = browser.picture("#stage")
    width = stage.size["width"]
    ActionChains(browser.driver).move_to_element(divider).click_and_hold().move_by_offset(
        width // 4, 30
    ).release().perform()
    assert browser.player()["split"] == pytest.approx(75, abs=1)
    assert divider.get_attribute("aria-valuenow") == "75"
    after = browser.picture("#stage")
    quarter = before.shape[1] // 4
    # Left of the old place nothing changes; between the places the left side shows now.
    assert np.abs(before - after)[60:, : 2 * quarter - 40].mean() < 0.5
    ActionChains(browser.driver).move_to_element_with_offset(
        stage, -width // 4, 0
    ).click().perform()
    assert browser.player()["split"] == pytest.approx(25, abs=1)


def test_views_show_what_they_say(browser: Browser) -> None:
    """Left and right are other pictures, the split has half of each, the difference neither."""
    for side, index in (("a", 0), ("b", -1)):  # the smallest file and the largest
        pick = Select(browser.one(f"#pick-{side}"))
        pick.select_by_index(index % len(pick.options))
    browser.wait_for("await report.player.seek(20)")
    seen = {}
    for view in ("a", "b", "split", "difference"):
        browser.js("document.querySelector(`[name=view][value=${arguments[0]}]`).click()", view)
        browser.until(browser.still)
        seen[view] = browser.picture("#stage")
        assert browser.player()["view"] == view
    half = seen["a"].shape[1] // 2
    left, right = np.s_[60:, : half - 40], np.s_[60:, half + 40 :]
    assert np.abs(seen["a"] - seen["b"])[60:].mean() > 0.2
    assert np.abs(seen["split"] - seen["a"])[left].mean() < 0.05
    assert np.abs(seen["split"] - seen["b"])[right].mean() < 0.05
    gap = np.abs(seen["a"] - seen["b"])[60:]
    shown = seen["difference"][60:]
    assert shown.mean() == pytest.approx(np.minimum(8 * gap, 255).mean(), rel=0.5)
    Select(browser.one("#gain")).select_by_value("16")
    assert browser.picture("#stage")[60:].mean() > 1.2 * shown.mean()


def test_keyboard_alone_is_enough(browser: Browser) -> None:
    browser.wait_for("await report.player.seek(10)")
    divider = browser.one("#divider")
    divider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.PAGE_DOWN)
    assert browser.player()["split"] == 44
    divider.send_keys(Keys.HOME)
    assert browser.player()["split"] == 0
    divider.send_keys(".")
    browser.until(lambda: browser.player()["a"] == browser.player()["b"] == 11)
    divider.send_keys("d")
    assert browser.player()["view"] == "difference"
    browser.one("#seek").send_keys(Keys.ARROW_RIGHT)
    browser.until(lambda: browser.player()["a"] == 12)
    browser.one("#seek").send_keys(" ")
    browser.until(lambda: browser.player()["playing"])
    browser.one("#play").send_keys(" ")
    browser.until(lambda: not browser.player()["playing"])
    browser.one("#play").send_keys("d")
    assert browser.player()["view"] == "split"
    # From the top, Tab comes to everything, and where it is can be seen.
    browser.js("document.querySelector('.skip').focus()")
    seen: list[str | None] = []
    for _ in range(60):
        active = browser.driver.switch_to.active_element
        seen.append(active.get_attribute("id") or active.get_attribute("data-open")
                    or active.get_attribute("data-sort"))  # fmt: skip
        if active.get_attribute("id") == "frames-target":
            break
        active.send_keys(Keys.TAB)
    assert {"metric", "filter", "name", "0", "1", "2", "pick-a", "divider", "play", "seek",
            "frames-target"} <= set(seen)  # fmt: skip
    outline = browser.js("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_a_frame_in_the_picture_is_the_frame_in_the_player(browser: Browser) -> None:
    browser.js("document.getElementById('plot-frames').emit('plotly_click', {points: [{x: 23}]})")
    browser.until(lambda: (s := browser.player())["a"] == s["b"] == 23)
    place = browser.js(
        "const box = document.getElementById('plot-frames'); const axis = box._fullLayout.xaxis;"
        " return [parseFloat(document.getElementById('cursor').style.left),"
        " axis._offset + axis.l2p(23)]"
    )
    assert place[0] == pytest.approx(place[1])


def test_another_clip_is_opened_everywhere(browser: Browser) -> None:
    browser.one("[data-open='2']").click()
    browser.until(browser.still)
    assert browser.one("#clip-title").text.startswith(GAMMA)
    assert {Select(e).first_selected_option.text for e in browser.all("[data-clip]")} == {GAMMA}
    assert all(
        browser.one(f"#video-{s}").get_attribute("src").rsplit("/", 1)[1].startswith("3-")
        for s in "ab"
    )
    assert browser.one("tr.chosen [data-open]").text == GAMMA
    assert browser.js("return document.activeElement.id") == "clip-title"


def test_difference_of_rates_is_drawn(browser: Browser) -> None:
    Select(browser.all("[data-rd]")[0]).select_by_value("saving")
    assert [Select(e).first_selected_option.text for e in browser.all("[data-rd]")] == [
        "difference"
    ] * 2
    title = browser.js("return document.getElementById('plot-rd')._fullLayout.yaxis.title.text")
    assert title == "bitrate against two-pass VBR"
    shown = browser.js("return document.querySelectorAll('#plot-rd svg .trace').length")
    assert shown >= 2


def overflowing(browser: Browser) -> list[str]:
    """Elements that stick out of the page, but for those in a box of their own to scroll."""
    return browser.js(
        """
        return [...document.querySelectorAll('body *')].filter(e => {
          const box = e.getBoundingClientRect();
          return box.width > 1 && (box.right > innerWidth + 0.5 || box.left < -0.5)
            && !e.closest('.scroll, .skip, svg, [hidden]');
        }).map(e => e.outerHTML.slice(0, 90));
        """
    )


@pytest.mark.parametrize("width", [360, 768, 1300, 2200])
def test_nothing_sticks_out(browser: Browser, page: Path, width: int) -> None:
    browser.resize(width, 800)
    browser.load(page)
    assert browser.js("return document.documentElement.scrollWidth") <= width
    assert overflowing(browser) == []
    smallest = browser.js(
        "return Math.min(...[...document.querySelectorAll('main *')].filter(e => e.innerText"
        " && !e.closest('svg, .sr, kbd')).map(e => parseFloat(getComputedStyle(e).fontSize)))"
    )
    assert smallest >= 12.5
    if width == 360:
        # The table is a list there, with its labels and a way to sort.
        Select(browser.one("#sort")).select_by_value("name")
        label = browser.js(
            "return getComputedStyle(document.querySelector('[data-bd]'), '::before').content"
        )
        assert "BD-rate of" in label
        assert all(e.size["height"] >= 24 for e in browser.all("button, select") if e.is_displayed()
                   and "link" not in (e.get_attribute("class") or ""))  # fmt: skip


def luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance, WCAG 2.1; channels 0..255."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (v / 255 for v in colour[:3])
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_schemes(browser: Browser, scheme: str) -> None:
    """At least 4.5 to 1 (WCAG 2.1, AA), for text as it is painted on what is behind it."""
    browser.scheme(scheme)
    browser.painted()
    background = browser.picture("header")[2, 2]
    assert (luminance(tuple(background)) < 0.1) == (scheme == "dark")
    found = browser.js(
        """
        const canvas = document.createElement('canvas');
        const context = canvas.getContext('2d', {willReadFrequently: true});
        const rgba = (colour) => {
          context.clearRect(0, 0, 1, 1);
          context.fillStyle = colour;
          context.fillRect(0, 0, 1, 1);
          return [...context.getImageData(0, 0, 1, 1).data];
        };
        const over = (top, under) =>
          [0, 1, 2].map(i => top[i] * top[3] / 255 + under[i] * (1 - top[3] / 255));
        const behind = (element) => {
          const layers = [];
          for (let e = element; e; e = e.parentElement) {
            layers.unshift(rgba(getComputedStyle(e).backgroundColor));
          }
          return layers.reduce((under, top) => over(top, under), [255, 255, 255]);
        };
        const skip = '.stage, [hidden], option, script, style, svg';
        const pair = (name, colour, on) => [name, over(rgba(colour), behind(on)), behind(on)];
        const texts = [...document.querySelectorAll('body *')]
          .filter(e => !e.closest(skip))
          .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()));
        const labels = [...document.querySelectorAll('.plot svg text')]
          .filter(e => e.textContent.trim());
        return [
          ...texts.map(e => pair(e.outerHTML.slice(0, 80), getComputedStyle(e).color, e)),
          ...labels.map(
            e => pair(`plot: ${e.textContent}`, getComputedStyle(e).fill, e.closest('.plot'))),
        ];
        """
    )
    assert len(found) > 100
    low = []
    for what, text, under in found:
        light, dark = sorted((luminance(tuple(text)), luminance(tuple(under))), reverse=True)
        ratio = (light + 0.05) / (dark + 0.05)
        if ratio < 4.5:
            low.append((round(ratio, 2), what))
    assert low == []


def test_a_missing_stream_is_told(browser: Browser, page: Path, tmp_path: Path) -> None:
    copy = tmp_path / "report"
    shutil.copytree(page.parent, copy, ignore=shutil.ignore_patterns("*.webm"))
    browser.driver.get((copy / "index.html").as_uri())
    browser.until(lambda: browser.one("#stage-error").is_displayed())
    assert "does not play: the file is missing" in browser.one("#stage-error").text
    browser.driver.get_log("browser")  # the browser's own words on the missing file
