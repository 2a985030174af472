"""The site is built without a warning, loads nothing from other hosts, and a link that leads nowhere ends the build."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import sc3d

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
LOADED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "srcset"}
"""Tag -> the attribute whose address a browser loads by itself."""


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """What ``make docs`` does, with another source and another place."""
    (recipe,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if "sphinx-build" in line]
    options = recipe.partition("sphinx-build ")[2].split()
    places = {
        "docs/site": str(DOCS / "site"),
        "build/site-work": str(out / "work"),
        ".": str(source),
        "build/site": str(out / "site"),
    }
    command = [sys.executable, "-m", "sphinx", *(places.get(word, word) for word in options)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)


class Page(HTMLParser):
    """What a page has the browser load, what it links to, and the places in it that links may name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.places = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.places.add(found.get("id", ""))
        if tag in LOADED and LOADED[tag] in found:
            self.loaded.append(found[LOADED[tag]])
        if tag == "a" and "href" in found:
            self.links.append(found["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as ``make docs`` builds it."""
    out = tmp_path_factory.mktemp("docs")
    done = build(ROOT, out)
    assert done.returncode == 0, done.stderr
    return out / "site"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


@pytest.mark.slow
def test_every_page_is_there(pages: dict[Path, Page], site: Path) -> None:
    sources = [*DOCS.glob("*.md"), *(DOCS / "notebooks").glob("*.ipynb"), ROOT / "README.md"]
    assert {path.relative_to(ROOT).with_suffix(".html") for path in sources} <= {path.relative_to(site) for path in pages}
    assert site / "index.html" in pages


@pytest.mark.slow
def test_nothing_is_loaded_from_other_hosts(pages: dict[Path, Page], site: Path) -> None:
    assert sum(len(page.loaded) for page in pages.values()) > 100
    assert {address for page in pages.values() for address in page.loaded if re.match(r"(\w+:)?//", address)} == set()
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert any("url(" in style for style in styles)
    assert [found for style in styles for found in re.findall(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')]*)", style)] == []


@pytest.mark.slow
def test_every_link_leads_to_a_place_that_is_there(pages: dict[Path, Page]) -> None:
    wrong = []
    for path, page in pages.items():
        for link in page.links:
            if re.match(r"\w+:", link):
                continue
            target, _, place = link.partition("#")
            there = (path.parent / target).resolve() if target else path
            if not there.is_file() or (there in pages and place not in pages[there].places):
                wrong.append(f"{path.name}: {link}")
    assert wrong == []


@pytest.mark.slow
def test_the_api_has_what_import_offers(pages: dict[Path, Page], site: Path) -> None:
    places = pages[site / "docs" / "api.html"].places
    assert {f"sc3d.{name}" for name in sc3d.__all__} - {"sc3d.Sc3dError"} <= places
    assert {"sc3d.errors.Sc3dError", "sc3d.matching.pixels.PixelMatches.keep"} <= places


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[a](other.md#here)", ""),
        ("[a](nowhere.md)", "cross-reference target not found: 'nowhere.md'"),
        ("[a](other.md#nowhere)", "'nowhere'"),
        ("![a](nowhere.png)", "nowhere.png"),
    ],
)
def test_a_link_that_leads_nowhere_ends_the_build(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# T\n\n{text}\n\n## Pages\n\n- [Other](other.md)\n")
    (tmp_path / "docs" / "other.md").write_text("# Other\n\n## Here\n")
    done = build(tmp_path, tmp_path / "out")
    assert (done.returncode == 0) is (reason == ""), done.stderr
    assert reason in done.stderr


def test_the_api_page_names_what_import_offers() -> None:
    named = set(re.findall(r"auto(?:function|class):: sc3d\.(\w+)$", (DOCS / "api.md").read_text(), re.MULTILINE))
    assert named == set(sc3d.__all__) - {"Sc3dError"}
    assert "automodule:: sc3d.errors" in (DOCS / "api.md").read_text()


def test_pictures_are_small_and_shown() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *DOCS.glob("*.md"), *DOCS.glob("notebooks/*.ipynb"))]
    for picture in (DOCS / "pictures").iterdir():
        assert picture.stat().st_size < 200_000, picture.name
        assert any(f"pictures/{picture.name}" in text for text in texts), picture.name
