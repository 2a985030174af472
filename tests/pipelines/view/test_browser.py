"""The lists in a real browser: by keyboard alone, as a screen reader has them, without scripts, on a narrow screen, dark and light."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import report_browser as browser
from report_run import Made
from run_server import Served, serving

from pipelines.view.listings import PAIRS

pytestmark = [pytest.mark.slow, pytest.mark.skipif(browser.EXECUTABLE is None, reason="no Chromium is installed")]

GROWN = "document.querySelector('[role=status].grown')"
FOCUSED = "(e => [e.tagName, (e.textContent || e.name || '').trim()])(document.activeElement)"


@pytest.fixture
def tab(served: Served, tmp_path: Path) -> Iterator[browser.Browser]:
    """A tab on the list of pairs, in which nothing goes wrong and nothing is asked of anybody else."""
    with browser.Browser(tmp_path / "profile") as found:
        found.view(1280)
        found.visit(served.address)
        yield found
        assert found.problems == []
        assert {urlsplit(url).netloc for url in found.requests if not url.startswith("data:")} == {urlsplit(served.address).netloc}


def press(tab: browser.Browser, key: str) -> None:
    """Press a key as a person does."""
    text = {"Enter": "\r", " ": " "}.get(key, key if len(key) == 1 else "")
    values: dict[str, Any] = {"key": key, "code": key if len(key) > 1 else "", "text": text}
    values["windowsVirtualKeyCode"] = {"Tab": 9, "Enter": 13, " ": 32}.get(key, ord(key[0].upper()))
    tab.call("Input.dispatchKeyEvent", type="keyDown", **values)
    tab.call("Input.dispatchKeyEvent", type="keyUp", **{**values, "text": ""})


def walk(tab: browser.Browser, wanted: str, most: int = 120) -> list[list[str]]:
    """Press Tab until what is focused has the wanted text; returns what was passed."""
    passed = []
    for _ in range(most):
        press(tab, "Tab")
        passed.append(tab.run(FOCUSED))
        outlined = tab.run(
            "(s => s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 1)(getComputedStyle(document.activeElement))"
        )
        assert outlined or tab.run("document.activeElement === document.body"), f"the focus on {passed[-1]} is not seen"
        if passed[-1][1] == wanted:
            return passed
    raise AssertionError(f"{wanted} cannot be reached: {passed}")


def rows(tab: browser.Browser) -> list[str]:
    found: list[str] = tab.run("[...document.querySelectorAll('tbody th')].map(h => h.textContent.trim())")
    return found


def test_a_pair_is_reached_by_keyboard_alone(tab: browser.Browser) -> None:
    """From the first page: open the filters, choose, sort, open a pair, go to an image, and back to the same list."""
    assert len(rows(tab)) == 8
    assert walk(tab, "Skip to the list", 1) == [["A", "Skip to the list"]]
    walk(tab, "Filter and sort")
    press(tab, "Enter")
    assert tab.run("document.querySelector('details').open")
    while tab.run("document.activeElement.name") != "category":
        press(tab, "Tab")
    press(tab, "b")
    chosen = tab.run("document.activeElement.value")
    walk(tab, "Show")
    tab.follow(lambda: press(tab, "Enter"))
    assert chosen in ("blob", "bump")
    assert rows(tab)
    assert all(row.startswith(chosen) for row in rows(tab))
    assert tab.run("document.querySelector('details').open"), "what is set is seen"
    # A head sorts, and says so.
    walk(tab, tab.run("document.querySelectorAll('thead a')[4].textContent.trim()"))
    tab.follow(lambda: press(tab, "Enter"))
    assert tab.run("document.querySelector('[aria-sort=descending] span').textContent") == "kept"
    kept = tab.run(
        "[...document.querySelectorAll('tbody tr')].map(r => r.cells[4].textContent.trim()).filter(t => t !== '–').map(Number)"
    )
    assert kept == sorted(kept, reverse=True)
    before, first = tab.run("location.href"), rows(tab)[0]
    walk(tab, first)
    tab.follow(lambda: press(tab, "Enter"))
    assert tab.run("document.querySelectorAll('#marks > g').length") > 0
    pair = tab.run("location.href")
    walk(tab, f"Image {first.partition(' → ')[0]}")
    tab.follow(lambda: press(tab, "Enter"))
    assert tab.run("document.querySelectorAll('.triple img').length") == 3
    tab.visit(pair)
    walk(tab, "Back to the list")
    tab.follow(lambda: press(tab, "Enter"))
    assert (tab.run("location.href"), rows(tab)[0]) == (before, first)


def test_a_screen_reader_is_told_what_is_what(tab: browser.Browser) -> None:
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    named = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node.get("ignored")]
    roles = [role for role, _ in named]
    assert roles.count("table") == 1
    assert roles.count("columnheader") == 9
    assert roles.count("rowheader") == 8
    assert ("region", "Pairs") in named
    assert {("navigation", "Lists"), ("navigation", "Pages"), ("link", "Skip to the list")} <= set(named)
    assert next(name for role, name in named if role == "table").startswith("Pairs: 1 to 8 of 8")
    tab.run("document.querySelector('details').open = true")
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    fields = [node for node in nodes if node["role"]["value"] in ("textbox", "combobox") and not node.get("ignored")]
    assert len(fields) == len(PAIRS.filters) + 2
    assert all(node.get("name", {}).get("value") for node in fields), "each field has a label"
    assert tab.run("document.querySelectorAll('img:not([alt])').length") == 0
    assert tab.run(
        "[...document.querySelectorAll('[id]')].length === new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size"
    )
    assert tab.run("document.querySelectorAll('[aria-sort]:not([aria-sort=none])').length") == 1


@pytest.mark.parametrize(
    "place", ["pairs", "images", "rejects", "image/blob-1", "pair/blob-0~blob-1?at=0", "pair/nobody", "pairs?kept_min=x"]
)
def test_every_page_fits_a_narrow_screen(served: Served, viewed: Made, tmp_path: Path, place: str) -> None:
    grounds = set()
    with browser.Browser(tmp_path / "profile") as tab:
        for width, dark in ((1280, False), (400, False), (400, True), (320, False)):
            tab.view(width, dark=dark)
            tab.visit(served.address + place)
            tab.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
            assert tab.run("document.documentElement.scrollWidth") == width, place
            grounds.add(tab.run("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


def test_lists_need_no_script(served: Served, tmp_path: Path) -> None:
    with browser.Browser(tmp_path / "profile") as tab:
        tab.view(1280, script=False)
        tab.visit(f"{served.address}pairs?category=bump")
        assert len(rows(tab)) == 3
        walk(tab, "pair")
        tab.follow(lambda: press(tab, "Enter"))
        assert rows(tab) == sorted(rows(tab), reverse=True)
        walk(tab, "All of them")
        tab.follow(lambda: press(tab, "Enter"))
        assert len(rows(tab)) == 8


def test_growth_is_announced_and_moves_nothing(tmp_path: Path) -> None:
    """The reader is in the middle of the list, on a narrow screen too; the counts follow, the rows wait until they are asked for."""
    made = Made(tmp_path)
    made.manifest()
    made.reconstruct()
    with serving(made.config) as growing, browser.Browser(tmp_path / "profile") as found:
        for width in (1280, 400):
            found.view(width, 500)
            found.visit(growing.address)
            found.run("document.querySelectorAll('tbody a')[3].focus()")
            found.run("scrollTo(0, 300)")
            place = "[scrollY, document.activeElement.href, document.querySelector('tbody tr').getBoundingClientRect().top]"
            before = found.run(place)
            found.run("ask()")
            assert not found.run("document.querySelector('.grown').textContent")
            if width == 1280:
                made.describe()
                made.match()
                made.label()
            growing.server.pages.read_again()
            found.run("ask()")
            assert found.run(f"{GROWN}.textContent") == "The run has grown. Show what is new"
            assert found.run("document.querySelector('[data-count=rejects]').textContent") == "1"
            assert found.run(place) == before
            assert found.run("document.documentElement.scrollWidth") <= width
            assert found.run(
                f"(r => r.top >= 0 && r.bottom <= innerHeight && r.left >= 0 && r.right <= innerWidth)({GROWN}.getBoundingClientRect())"
            )
            found.run("ask()")
            assert found.run(f"{GROWN}.childNodes.length") == 2, "it is said once"
            found.follow(lambda: found.run(f"{GROWN}.querySelector('a').click()"))
            assert not found.run("document.querySelector('.grown').textContent")
        assert "labelled" in found.run("document.querySelector('tbody').textContent")
        assert found.problems == []
