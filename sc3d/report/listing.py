"""Pages of a list that is too long for one page: a table that is sorted and narrowed by links and a form, without a script.

A script only says when there is more to see.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sc3d.report.alignment import AlignmentCard, YawCard
from sc3d.report.page import render_template

_STYLES = ("style.css", "listing.css")
SCRIPTS = ("listing.js",)
"""Of a list: it says when the run has grown, and works without."""


@dataclass(frozen=True)
class Tab:
    """One of the lists: its name, where it is, how many rows it has in all, and whether it is the one that is shown."""

    title: str
    href: str
    count: int
    current: bool


@dataclass(frozen=True)
class Heading:
    """The head of a column. ``href``: the list in the order of it; ``sorted``: ascending, descending, or empty."""

    key: str
    title: str
    unit: str
    number: bool
    href: str
    sorted: str


@dataclass(frozen=True)
class Cell:
    """A value of a row. ``pictures``: addresses of small photos before it."""

    text: str
    href: str = ""
    pictures: tuple[str, ...] = ()
    number: bool = False
    warning: bool = False


@dataclass(frozen=True)
class Entry:
    """A field of the form: a choice among ``options``, a text, or a number."""

    name: str
    label: str
    kind: str
    value: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class ListPage:
    """The page. ``place``: which rows of how many it shows, in words; ``reset``: the list without filters; ``action``: where the form
    leads; ``since``: when the run was read; ``version``: how often it was; ``previous`` and ``next`` are empty where there is none.
    """

    run: str
    title: str
    tabs: tuple[Tab, ...]
    entries: tuple[Entry, ...]
    headings: tuple[Heading, ...]
    rows: tuple[tuple[Cell, ...], ...]
    place: str
    action: str
    reset: str
    since: str
    version: int
    previous: str = ""
    next: str = ""
    notes: tuple[str, ...] = ()

    @property
    def narrowed(self) -> bool:
        """Whether a filter is set."""
        return any(entry.value for entry in self.entries)

    @property
    def order(self) -> tuple[str, str]:
        """Column and direction of the order."""
        return next(((one.key, one.sorted) for one in self.headings if one.sorted), ("", "ascending"))


@dataclass(frozen=True)
class Link:
    """A way from a page of the run to another."""

    text: str
    href: str


@dataclass(frozen=True)
class ImagePage:
    """One image: ``photo`` a data URI, or empty where it is gone; ``facts`` by name; ``rejects`` as (stage, error, reason)."""

    run: str
    image_id: str
    category: str
    links: tuple[Link, ...]
    photo: str
    facts: tuple[tuple[str, str], ...]
    rejects: tuple[tuple[str, str, str], ...] = ()
    alignment: AlignmentCard | None = None
    yaw: YawCard | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MessagePage:
    """A page that says why there is nothing else to see."""

    run: str
    title: str
    texts: tuple[str, ...]
    links: tuple[Link, ...] = field(default=())


def list_page(page: ListPage) -> str:
    """The page as HTML. It loads the small photos that it names, and asks ``version`` beside it whether the run has grown: a JSON with
    ``version`` and, as texts by the address of each tab, ``counts``."""
    return render_template("listing.html", SCRIPTS, _STYLES, page=page, served=True)


def image_page(page: ImagePage) -> str:
    """The page as HTML."""
    return render_template("image.html", (), _STYLES, page=page, served=True)


def message_page(page: MessagePage) -> str:
    """The page as HTML."""
    return render_template("message.html", (), _STYLES, page=page, served=True)
