"""The page: what it shows, as plain values, and the template that turns them into one self-contained HTML file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sc3d.durations import duration
from sc3d.report.alignment import AlignmentCard, YawCard
from sc3d.report.certainty import CertaintyRow, LeastSure
from sc3d.report.class_shapes import ShapeCard
from sc3d.report.colours import TURNS
from sc3d.report.feature_maps import FeatureCard
from sc3d.report.keypoints import KeypointFigure
from sc3d.report.metrics import CategoryTable, FilterTable, PckTable, points_name
from sc3d.report.pairs import PairFigure
from sc3d.report.rejects import RejectGroup

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Tile:
    """A number of the header, what it counts, and a remark. ``link``: section that tells more."""

    value: str
    label: str
    note: str = ""
    link: str = ""
    warning: bool = False


@dataclass(frozen=True)
class Missing:
    """Why a section is empty, and the command that fills it (empty: none does)."""

    text: str
    command: str = ""


@dataclass(frozen=True)
class FunnelStep:
    """How many matches are left after a step: ``name``, what it asks, ``count``, and the share of the first step's count."""

    name: str
    meaning: str
    count: int
    share: float


@dataclass(frozen=True)
class Timing:
    """One stage's time. ``share`` of the slowest stage's; ``rate`` in words."""

    stage: str
    seconds: float
    items: int
    rejects: int
    rate: str
    share: float


@dataclass(frozen=True)
class Link:
    """A file or folder of the run, relative to the page."""

    name: str
    href: str
    meaning: str


@dataclass(frozen=True)
class Page:
    """Everything on the page. ``missing`` and ``notes`` are keyed by section: pairs, filters, alignment, yaw, certainty,
    features, shapes, evaluation, training, timings, rejects. A section that is missing shows only that."""

    run: str
    facts: tuple[tuple[str, str], ...]
    tiles: tuple[Tile, ...]
    config_yaml: str
    links: tuple[Link, ...] = ()
    pairs: tuple[PairFigure, ...] = ()
    funnel: tuple[FunnelStep, ...] = ()
    geodesic_chart: Markup | None = None
    iou_chart: Markup | None = None
    doubtful: tuple[AlignmentCard, ...] = ()
    worst: tuple[AlignmentCard, ...] = ()
    best: tuple[AlignmentCard, ...] = ()
    features: tuple[FeatureCard, ...] = ()
    shapes: tuple[ShapeCard, ...] = ()
    yaw: tuple[YawCard, ...] = ()
    certainty: tuple[CertaintyRow, ...] = ()
    least_sure: tuple[LeastSure, ...] = ()
    filters: FilterTable | None = None
    published_filters: FilterTable | None = None
    pck: tuple[PckTable, ...] = ()
    categories: tuple[CategoryTable, ...] = ()
    category_chart: Markup | None = None
    charted: tuple[str, ...] = ()
    worst_keypoints: tuple[KeypointFigure, ...] = ()
    loss_chart: Markup | None = None
    timings: tuple[Timing, ...] = ()
    rejects: tuple[RejectGroup, ...] = ()
    missing: Mapping[str, Missing] = field(default_factory=dict)
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def render(page: Page) -> str:
    """The page as HTML: no request leaves it, everything that comes from outside is escaped, and only its own script may run."""
    return render_template("template.html", ("turning.js", "cloud_view.js", "script.js"), ("style.css",), page=page, colours=TURNS)


def render_template(name: str, scripts: tuple[str, ...], styles: tuple[str, ...], **values: object) -> str:
    """A template of this folder as HTML, with its scripts and styles inside and ``values`` escaped.

    The template gets ``script``, ``style``, and ``script_hash`` for its content security policy: no other script may run. With the value
    ``served``, pictures and forms of where the page comes from are allowed too.
    """
    # Files of this package, not text from outside.
    parts = {"script": Markup(_joined(scripts)), "style": Markup(_joined(styles)), "script_hash": script_hash(scripts)}  # noqa: S704
    return _environment().get_template(name).render(**parts, **values)


def script_hash(scripts: tuple[str, ...]) -> str:
    """What a content security policy calls some scripts of this folder, one after the other."""
    return base64.b64encode(hashlib.sha256(_joined(scripts).encode()).digest()).decode()


@lru_cache(maxsize=16)
def _joined(files: tuple[str, ...]) -> str:
    return "".join((_FOLDER / file).read_text(encoding="utf-8") for file in files)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"count": _count, "percent": _percent, "seconds": duration, "points": points_name}
    return environment


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}"
