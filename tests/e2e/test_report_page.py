"""The report in a browser: it opens, nothing in it executes, tabs and filters work by click and by
keyboard, nothing overflows."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlkd.cli import main
from tests.browser import Browser, find
from tests.made_runs import NASTY, make

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        find() is None and not os.environ.get("RLKD_NEED_BROWSER"),
        reason="no Chromium on this machine (Debian: apt-get install chromium)",
    ),
]
TABS = ["overview", "curves", "length", "difficulty", "rollouts", "config"]


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """Of two seeds and another run."""
    folder = tmp_path_factory.mktemp("runs")
    runs = [make(folder / "a-0"), make(folder / "a-1", seed=1), make(folder / "b", alpha=0.3)]
    out = folder / "report.html"
    assert main(["report", *map(str, runs), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def page(chromium, report) -> Iterator[Browser]:
    """The report, freshly opened; at the end nothing may have complained."""
    chromium.complaints.clear()
    chromium.open(report)
    yield chromium
    assert chromium.run("window.hacked") is None
    assert chromium.complaints == []


def texts(page: Browser, selector: str) -> list[str]:
    return page.run(f"[...document.querySelectorAll({selector!r})].map((e) => e.textContent)")


def number(page: Browser, selector: str) -> int:
    return page.run(f"document.querySelectorAll({selector!r}).length")


def shown(page: Browser) -> list[str]:
    return page.run("[...document.querySelectorAll('[role=tabpanel]')].filter((p) => !p.hidden)"
                    ".map((p) => p.id)")  # fmt: skip


def choose(page: Browser, label: str, value: str) -> None:
    """An option of a select, with the arrow keys from the first one on."""
    select = (
        f"[...document.querySelectorAll('label')].find((l) => l.firstChild.data === {label!r})"
        ".querySelector('select')"
    )
    page.run(f"{select}.focus()")
    page.press("Home")
    for _ in range(page.run(f"{select}.options.length")):
        if page.run(f"{select}.selectedOptions[0].textContent") == value:
            return
        page.press("ArrowDown")
    raise AssertionError(f"{label} has no option {value}")


def band_of(head: str) -> str:
    return head.partition("band ")[2].partition("accuracy")[0]


def test_every_tab_opens_by_click(page):
    for tab in TABS:
        page.click(f"#tab-{tab}")
        assert shown(page) == [f"part-{tab}"]
        assert page.run(f"document.getElementById('tab-{tab}').ariaSelected") == "true"
        assert page.run(f"document.getElementById('part-{tab}').textContent.length") > 50


def test_tabs_are_tabs_for_the_keyboard(page):
    page.press("Tab")  # the link that skips to the report
    page.press("Tab")
    assert page.run("document.activeElement.id") == "tab-overview"
    assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press("ArrowRight")
    assert (page.run("document.activeElement.id"), shown(page)) == ("tab-curves", ["part-curves"])
    page.press("End")
    assert shown(page) == ["part-config"]
    page.press("ArrowRight")
    assert shown(page) == ["part-overview"]
    page.press("ArrowLeft")
    page.press("Home")
    assert shown(page) == ["part-overview"]
    page.press("Tab")
    assert page.run("document.activeElement.id") == "part-overview"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_nothing_overflows_and_text_stands_out(page, report, width, dark):
    page.open(report, width=width, dark=dark)
    for tab in TABS:
        page.click(f"#tab-{tab}")
        wide = page.run(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )
        assert wide, tab
        # Elements that do not scroll themselves stay within the page too.
        outside = page.run(
            "[...document.querySelectorAll('[role=tabpanel]:not([hidden]) *')].filter((e) =>"
            " !e.closest('.scroll, .answer, pre, .tip, svg') && e.getBoundingClientRect().right >"
            " document.documentElement.clientWidth + 1).map((e) => e.outerHTML.slice(0, 120))"
        )
        assert outside == [], tab
    luminance = page.run(
        "((parts) => parts.map((c) => c.match(/\\d+/g).slice(0, 3).map((v) => (v /= 255) <= 0.04045"
        " ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)).map(([r, g, b]) => 0.2126 * r + 0.7152 * g +"
        " 0.0722 * b))([...['.card', 'body'].map((s) => getComputedStyle(document.querySelector(s))"
        ".backgroundColor), getComputedStyle(document.body).color,"
        " getComputedStyle(document.querySelector('#subtitle')).color])"
    )
    card, ground, ink, soft = luminance
    assert (ink > ground) == dark
    for text in (ink, soft):
        for behind in (card, ground):
            high, low = max(text, behind), min(text, behind)
            assert (high + 0.05) / (low + 0.05) >= 4.5


def test_what_models_write_is_text(page):
    page.click("#tab-rollouts")
    assert number(page, "img, iframe, object, embed") == 0
    assert number(page, "script") == 2
    everything = "".join(texts(page, "#part-rollouts .answer, #part-rollouts pre"))
    assert NASTY[0] in everything
    assert NASTY[1] in everything


def test_filters_narrow_the_rollouts_by_keyboard(page):
    page.click("#tab-rollouts")
    count = "#part-rollouts .count"
    (before,) = texts(page, count)
    choose(page, "Result", "wrong")
    assert set(texts(page, ".rollout .badge.wrong, .rollout .badge.correct")) == {"✗ wrong"}
    choose(page, "Step", "12")
    assert all("step 12" in text for text in texts(page, ".rollout .head"))
    choose(page, "Run", "b")
    assert all("step 12b" in text for text in texts(page, ".rollout .head"))
    (after,) = texts(page, count)
    assert int(after.split()[0]) < int(before.split()[0])
    choose(page, "Result", "truncated")
    assert "✂ truncated" in texts(page, ".rollout .badge")
    choose(page, "Result", "all")
    assert len({band_of(text) for text in texts(page, ".rollout .head")}) > 2
    choose(page, "Band", "middle")
    assert {band_of(text) for text in texts(page, ".rollout .head")} == {"middle"}


def test_search_finds_text_and_says_when_there_is_none(page):
    page.click("#tab-rollouts")
    page.click("#part-rollouts input[type=search]")
    for letter in "what is 7 +":
        page.press(letter)
    assert all("What is 7 +" in text for text in texts(page, ".rollout pre"))
    assert number(page, ".rollout") > 3
    page.press("q")
    assert number(page, ".rollout") == 0
    assert texts(page, "#part-rollouts .count")[0].startswith("0 of the ")


def test_more_rollouts_are_shown_on_request(page):
    page.click("#tab-rollouts")
    assert number(page, ".rollout") == 15
    page.click("#part-rollouts button.plain")
    assert number(page, ".rollout") == 30


def test_tokens_tell_the_teachers_opinion_by_keyboard_and_pointer(page):
    page.click("#tab-rollouts")
    answer = "#part-rollouts .answer[tabindex]"
    page.run(f"document.querySelector({answer!r}).focus()")
    page.press("ArrowRight")
    read = "document.querySelector('.answer[tabindex] + .readout').textContent"
    assert "log π_T − log π_S −∞ nats" in page.run(read)
    page.press("ArrowRight")
    assert "token 2 of" in page.run(read)
    assert '"\\n"' in page.run(read)
    page.press("End")
    assert '"<eos>"' in page.run(read)
    page.click(f"{answer} span:nth-child(3)")
    assert "token 3 of" in page.run(read)
    assert "entropy" in page.run(read)


def test_colours_say_which_way_and_how_far(page):
    page.click("#tab-rollouts")
    found = page.run(
        "(() => { const row = data => data; const raw = JSON.parse(document.getElementById('data')"
        ".textContent).runs[0].rollouts.filter((r) => r.step === 12)[0]; const spans ="
        " [...document.querySelector('.answer[tabindex]').children]; return raw.opinion.map((v, i)"
        " => [v, spans[i].style.backgroundColor]); })()"
    )
    assert found[0] == [-99, "rgba(var(--dislikes), 0.62)"]
    for opinion, colour in found:
        if abs(opinion) < 0.1:
            assert colour == ""
        elif opinion > 0.2:
            assert colour.startswith("rgba(var(--likes)")
        elif opinion < -0.2:
            assert colour.startswith("rgba(var(--dislikes)")
    choose(page, "Colour", "none")
    assert number(page, ".answer span[style*=rgba]") == 0


def test_seeds_come_together_and_apart(page):
    assert len(texts(page, "#part-overview tbody th")) == 2
    assert "mean of 2 seeds" in texts(page, "#part-overview tbody th")[0]
    page.click("#part-overview input[type=checkbox]")
    assert texts(page, "#part-overview tbody th") == ["a-0", "a-1", "b"]


def test_a_run_can_be_hidden(page):
    page.click("#tab-curves")
    lines = "#part-curves .chart path.line"
    before = number(page, lines)
    page.click("#part-curves button.key:last-child")
    assert number(page, lines) < before
    assert (
        page.run("document.querySelectorAll('#part-curves button.key')[1].ariaPressed") == "false"
    )


def test_charts_are_read_by_keyboard_and_explained(page):
    page.click("#tab-curves")
    chart = "#part-curves .chart svg"
    page.run(f"document.querySelector({chart!r}).focus()")
    page.press("Home")
    assert texts(page, "#part-curves .chart .readout")[0].startswith("step 0")
    page.press("ArrowRight")
    assert texts(page, "#part-curves .chart .readout")[0].startswith("step 3")
    tip = "document.querySelector('#part-curves .tip span').checkVisibility()"
    assert page.run(tip) is False
    page.run("document.querySelector('#part-curves .tip button').focus()")
    assert page.run(tip) is True
    assert "share of rows whose greedy answer" in texts(page, "#part-curves .tip span")[0]


def test_time_per_phase_and_memory_have_a_chart_for_each_run(page):
    page.click("#tab-curves")
    titles = texts(page, "#part-curves .chart h3")
    for title in ("seconds per step by phase", "memory (GiB)"):
        assert [text for text in titles if text.startswith(title)] == [
            f"{title}: a (mean of 2 seeds ± sd)", f"{title}: b",
        ]  # fmt: skip
    place = titles.index("seconds per step by phase: b")
    figure = f"document.querySelectorAll('#part-curves .chart')[{place}]"
    assert page.run(f"{figure}.querySelectorAll('path.line').length") == 4
    page.run(f"{figure}.querySelector('svg').focus()")
    page.press("End")
    read = page.run(f"{figure}.querySelector('.readout').textContent")
    assert read == "step 120.750 generate0.500 backward0.125 forward0.125 other"
    tip = page.run(f"{figure}.querySelector('.tip span').textContent")
    assert "generate: of that: sampling, tools and decoding included" in tip
    assert "step: a whole" not in tip


def test_no_two_ticks_of_an_axis_read_alike(page):
    page.click("#tab-curves")
    axes = page.run(
        "[...document.querySelectorAll('#part-curves .chart svg')].map((s) =>"
        " [...s.querySelectorAll('text[text-anchor=end]')].map((t) => t.textContent))"
    )
    assert len(axes) > 10
    for texts_of in axes:
        assert len(texts_of) == len(set(texts_of)) >= 2


def test_the_configs_differences_are_told(page):
    page.click("#tab-config")
    assert texts(page, "#part-config .card:first-of-type tbody th")[:2] == [
        "algorithm.alpha", "run.seed",
    ]  # fmt: skip
