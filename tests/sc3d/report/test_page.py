"""The page: self-contained, escaped, complete without this or that; and the choices, charts and tables behind it."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc3d.config import RunConfig
from sc3d.geometry.sampling import scattered
from sc3d.records import Reject
from sc3d.report.charts import Series, curve, histogram, nice_ticks
from sc3d.report.metrics import FilterCell, category_tables, filter_table, pck_tables, published_filter_table
from sc3d.report.overview import funnel, image_tiles, label_tiles, metric_tiles, reject_tile, timing_rows
from sc3d.report.page import Link, Missing, Page, Tile, render
from sc3d.report.rejects import group_rejects, reason_of
from sc3d.report.selection import choose_pairs, choose_ranked, spread, worst_and_best

EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
SECTIONS = ("pairs", "filters", "alignment", "yaw", "features", "evaluation", "training", "timings", "rejects")


class Elements(HTMLParser):
    """All start tags with their attributes, the text, and whether tags are balanced."""

    VOID = ("meta", "link", "img", "br", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def empty_page(**changes: object) -> Page:
    missing = {name: Missing(f"no {name}", f"sc3d make-{name}") for name in SECTIONS}
    values: dict[str, object] = {"run": "runs/x", "facts": (), "tiles": (), "config_yaml": "seed: 0\n", "missing": missing}
    return Page(**(values | changes))  # type: ignore[arg-type]


def test_page_with_nothing_says_what_is_missing_and_how_to_make_it() -> None:
    page = Elements(render(empty_page()))
    for name in SECTIONS:
        assert f"no {name}" in page.text
        assert f"sc3d make-{name}" in page.text
    anchors = [a["href"] for tag, a in page.tags if tag == "a"]
    ids = {a.get("id") for _, a in page.tags}
    assert anchors
    assert all(str(href)[1:] in ids for href in anchors if str(href).startswith("#"))


def test_nothing_from_outside_becomes_markup() -> None:
    rejects = group_rejects([Reject(EVIL, EVIL, EVIL, EVIL)])
    metrics = {
        "filters": [{"filter": EVIL, "descriptors": EVIL, "fpr": 0.1, "kept": 3, "pairs": 2}],
        "pck": [{"method": EVIL, "dataset": EVIL, "subset": EVIL, "alpha": 0.1, "average": EVIL, "value": 0.5, "pairs": 2}],
    }
    chart = histogram([Series(EVIL, np.arange(5.0), "series-a")], (0, 5), 5, EVIL, EVIL, (1.0, EVIL))
    text = render(
        Page(
            run=EVIL,
            facts=((EVIL, EVIL),),
            tiles=(Tile(EVIL, EVIL, EVIL),),
            config_yaml=EVIL,
            links=(Link(EVIL, "../x", EVIL),),
            rejects=tuple(rejects),
            filters=filter_table(metrics),
            pck=tuple(pck_tables(metrics)),
            categories=tuple(category_tables({"pck": [{**metrics["pck"][0], "subset": f"category:{EVIL}"}]})),
            iou_chart=chart,
            missing={"pairs": Missing(EVIL, EVIL), "training": Missing("none")},
            notes={"yaw": (EVIL,)},
        )
    )
    page = Elements(text)
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert not [tag for tag, a in page.tags if tag == "img" or any(name.startswith("on") for name in a)]
    assert page.text.count(EVIL) >= 15


def test_page_asks_for_nothing_and_runs_only_its_own_script() -> None:
    text = render(empty_page())
    page = Elements(text)
    policy = next(str(a["content"]) for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script.group(1).encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#", "../")), (tag, name, value)
    assert "@import" not in text
    assert "url(http" not in text
    assert "prefers-color-scheme: dark" in text


def test_histogram_counts_every_value_once() -> None:
    values = np.array([0.0, 0.01, 0.06, 0.2, 0.2, 7.0, -1.0])
    svg = histogram([Series("m", values, "series-a")], (0.0, 0.2), 4, "error", "matches", (0.05, "kept"))
    root = ElementTree.fromstring(svg)  # noqa: S314  (own output)
    titles = [t.text or "" for t in root.iter("title")]
    assert sum(int(t.split(": ")[1].split(" ")[0]) for t in titles) == len(values)
    (line,) = [e for e in root.iter("line") if e.get("class") == "threshold"]
    assert float(line.attrib["x1"]) == pytest.approx(52 + 0.25 * (560 - 52 - 14))


@pytest.mark.parametrize("values", [np.zeros(0), np.zeros(1), np.full(9, 3.0)])
def test_histogram_of_little(values: np.ndarray) -> None:
    ElementTree.fromstring(histogram([Series("m", values, "series-a")], (0.0, 0.2), 4, "x", "y"))  # noqa: S314


@pytest.mark.parametrize("values", [np.array([2.0]), np.array([1.0, np.nan, 0.5, np.inf]), np.linspace(9, 1, 5000)])
def test_curve_stays_inside_its_frame(values: np.ndarray) -> None:
    root = ElementTree.fromstring(curve(np.arange(1, len(values) + 1), values, "step", "loss", 20))  # noqa: S314
    lines = list(root.iter("polyline"))
    assert [line.get("class") for line in lines] == ["curve raw", "curve mean"]
    for line in lines:
        points = np.array([[float(v) for v in p.split(",")] for p in line.attrib["points"].split()])
        assert (points >= 0).all()
        assert (points <= [560, 240]).all()
        assert len(points) <= 1000


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 8))
def test_ticks_enclose_the_range(low: float, size: float, count: int) -> None:
    ticks = nice_ticks(low, low + size, count)
    tolerance = 1e-6 * (abs(low) + size)
    assert ticks[0] <= low + tolerance
    assert ticks[-1] >= low + size - tolerance
    assert 2 <= len(ticks) <= 2 * count + 2


@given(st.integers(0, 300), st.integers(0, 30))
def test_spread_takes_different_positions_and_both_ends(n: int, count: int) -> None:
    chosen = spread(n, count)
    assert len(chosen) == len(set(chosen)) == min(n, count)
    assert chosen == sorted(chosen)
    assert all(0 <= i < n for i in chosen)
    if n and count > 1:
        assert {0, n - 1} <= set(chosen)


@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.lists(st.floats(0, 1), max_size=9), max_size=30),
    st.integers(1, 14),
    st.integers(1, 4),
)
def test_chosen_pairs_cover_categories(shares: dict[str, list[float]], total: int, most: int) -> None:
    kept = {c: [(f"{c}{i}", share) for i, share in enumerate(values)] for c, values in shares.items()}
    chosen = choose_pairs(kept, total, most)
    filled = [c for c, pairs in kept.items() if pairs]
    assert len(chosen) == len(set(chosen)) <= total
    shown = {c for c in filled if any(p in chosen for p, _ in kept[c])}
    assert len(shown) == min(len(filled), total)
    assert all(sum(p in chosen for p, _ in kept[c]) <= most for c in shown)


def test_chosen_pairs_are_the_largest_middle_and_smallest() -> None:
    kept = {"cup": [("a", 0.1), ("b", 0.9), ("c", 0.5), ("d", 0.4), ("e", 0.8)]}
    assert choose_pairs(kept, 12, 3) == ["b", "c", "a"]
    assert choose_pairs({"cup": []}, 12, 3) == choose_pairs({}, 12, 3) == []


@given(st.dictionaries(st.text("xyz", min_size=1), st.floats(0, 1), max_size=20), st.integers(1, 8))
def test_worst_and_best_do_not_overlap(values: dict[str, float], each: int) -> None:
    worst, best = worst_and_best(values, each)
    assert not set(worst) & set(best)
    assert max([values[n] for n in worst] + [0]) <= min([values[n] for n in best] + [1])
    assert len(worst) + len(best) == min(len(values), 2 * each)


@given(st.dictionaries(st.text("xyz", min_size=1), st.integers(0, 3), max_size=60), st.integers(1, 16))
def test_ranked_choice_prefers_low_ranks_but_shows_others(ranks: dict[str, int], total: int) -> None:
    chosen = choose_ranked(ranks, total)
    assert len(chosen) == len(set(chosen)) <= total
    order = [ranks[name] for name in chosen]
    assert order == sorted(order)
    if ranks:
        assert min(ranks.values()) in order
    if total >= 4 and ranks:
        first = sum(r == min(ranks.values()) for r in ranks.values())
        assert order.count(min(ranks.values())) >= min(first, total // 2)


def test_scattered_points_lie_farther_apart_than_the_first_ones() -> None:
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 100, (400, 2))
    chosen = scattered(xy, 20)
    assert len(set(chosen.tolist())) == 20

    def closest(points: np.ndarray) -> float:
        d = np.linalg.norm(points[:, None] - points[None], axis=2)
        return float(d[~np.eye(len(points), dtype=bool)].min())

    assert closest(xy[chosen]) > 3 * closest(xy[:20])
    assert scattered(xy[:3], 20).tolist() == [0, 1, 2]
    assert scattered(np.zeros((0, 2)), 5).tolist() == []


def test_rejects_are_grouped_by_what_they_have_in_common() -> None:
    rejects = [
        Reject(f"cup-{i}", "reconstruct", "InputError", f"LoadImage: /data/cup-{i}.jpg: too small ({i} pixels)") for i in range(11)
    ]
    rejects += [
        Reject("cup-1~cup-2", "match", "UpstreamError", "image cup-1 was rejected by an earlier stage"),
        Reject("cup-9", "reconstruct", "GeometryError", "no mesh"),
    ]
    groups = group_rejects(rejects, examples=3)
    assert [(g.stage, g.error_type, g.count, g.consequence) for g in groups] == [
        ("reconstruct", "InputError", 11, False),
        ("reconstruct", "GeometryError", 1, False),
        ("match", "UpstreamError", 1, True),
    ]
    assert groups[0].examples[0] == ("cup-0", "LoadImage: /data/cup-0.jpg: too small (0 pixels)")
    assert len(groups[0].examples) == 3
    assert reason_of(rejects[0]) == "LoadImage: …: too small (… pixels)"
    assert groups[2].reason == "image … was rejected by an earlier stage"


def metrics() -> dict[str, object]:
    rows = [
        {"method": method, "dataset": "spair", "subset": subset, "alpha": alpha, "average": "image", "value": value, "pairs": 40}
        for method, value in (("zero-shot", 0.5), ("adapter", 0.7))
        for subset in ("all", "geo-aware", "category:cup")
        for alpha in (0.1, 0.05)
    ]
    filters = [
        {"filter": "none", "descriptors": "2D", "fpr": 0.3, "kept": 900.0, "pairs": 40},
        {"filter": "cycle + geodesic", "descriptors": "2D", "fpr": 0.02, "kept": 400.0, "pairs": 40},
        {"filter": "cycle", "descriptors": "2D", "fpr": None, "kept": 0.0, "pairs": 40},
    ]
    return {"pck": rows, "filters": filters}


def test_pck_tables_put_methods_beside_each_other_and_mark_the_best() -> None:
    tables = pck_tables(metrics())
    assert [t.subset for t in tables] == ["all", "geo-aware"]
    mine = [row for row in tables[0].rows if not row.published]
    assert [(row.method, row.values, row.best) for row in mine] == [
        ("zero-shot", (0.5, 0.5), (False, False)),
        ("adapter", (0.7, 0.7), (True, True)),
    ]
    assert tables[0].alphas == (0.1, 0.05)


def test_category_tables_have_a_column_a_category() -> None:
    rows = [
        *metrics()["pck"],
        {"method": "adapter", "dataset": "spair", "subset": "category:tin", "alpha": 0.1, "average": "image", "value": 0.4},
    ]  # type: ignore[misc]
    (table,) = category_tables({"pck": rows})
    assert (table.dataset, table.average, table.alpha, table.categories) == ("SPair-71k", "image", 0.1, ("cup", "tin"))
    assert [(row.method, row.values) for row in table.rows] == [("zero-shot", (0.5, None)), ("adapter", (0.7, 0.4))]
    assert [row.best for row in table.rows] == [(False, False), (True, True)]


def test_published_rows_stand_beside_the_same_data_set_only() -> None:
    tables = pck_tables(metrics())
    assert any(row.published and row.method == "3D-SC" and row.values[0] == pytest.approx(0.73) for row in tables[0].rows)
    toys = {"pck": [{**row, "dataset": "toys"} for row in metrics()["pck"]]}  # type: ignore[attr-defined]
    assert not any(row.published for table in pck_tables(toys) for row in table.rows)


def test_filter_table_marks_the_fewest_wrong() -> None:
    rows = [*metrics()["filters"], {"filter": "cycle", "descriptors": "2D + 3D", "fpr": 0.2, "kept": 30.0, "pairs": 40}]  # type: ignore[misc]
    table = filter_table({"filters": rows})
    assert table.descriptors == ("2D", "2D + 3D")
    assert table.pairs == 40
    cells = {row.filter: row.cells for row in table.rows}
    assert cells["none"] == (FilterCell(0.3, 900.0, False), None)
    assert cells["cycle + geodesic"] == (FilterCell(0.02, 400.0, True), None)
    assert cells["cycle"] == (FilterCell(None, 0.0, False), FilterCell(0.2, 30.0, False))
    published = published_filter_table()
    assert published.descriptors == ("SD+DINO", "SD+DINO+3D")
    assert all(None not in row.cells for row in published.rows)


@pytest.mark.parametrize(
    "broken", [{}, {"filters": None, "pck": None}, {"filters": ["x"], "pck": [3]}, {"pck": [{}], "filters": [{}]}]
)
def test_odd_metrics_do_not_break_the_page(broken: dict[str, object]) -> None:
    filters, pck = filter_table(broken), pck_tables(broken)
    Elements(render(empty_page(filters=filters, pck=tuple(pck), missing={n: Missing("-") for n in SECTIONS if n != "evaluation"})))
    metric_tiles(broken)


def test_tiles_and_funnel() -> None:
    assert [t.value for t in image_tiles(1200, 1, np.array([0.5, 0.7]), np.array([0.9, 0.9]))] == ["1,200", "0.90"]
    assert [t.value for t in image_tiles(3, 1, np.zeros(0), np.zeros(0))] == ["3"]
    tiles = label_tiles(3, np.array([100, 100, 50]), np.array([50, 0, 25]))
    assert [t.value for t in tiles] == ["3", "250", "75", "25"]
    assert tiles[2].note == "30 % of the candidates"
    assert tiles[3].note == "1 pair has none"
    assert [t.value for t in label_tiles(2, np.array([2_500_000]), None)] == ["2", "2.5 M"]
    assert label_tiles(1, np.zeros(1), np.zeros(1))[2].warning
    assert (reject_tile(0, 0, 0).warning, reject_tile(1, 2, 9).warning) == (False, True)
    assert metric_tiles(metrics())[0].value == "70.0 %"
    assert [s.share for s in funnel(RunConfig(), 0, 0, 0)] == [1.0, 0.0, 0.0]
    assert [s.count for s in funnel(RunConfig(), 10, 5, None)] == [10, 5]


def test_timing_rows_compare_with_the_slowest() -> None:
    rows = timing_rows(
        [
            {"stage": "reconstruct", "seconds": 20.0, "items": 5, "rejects": 1},
            {"stage": "match", "seconds": 10.0, "items": 40, "rejects": 0},
            {"stage": "label", "seconds": 0.0, "items": 0, "rejects": 0},
        ]
    )
    assert [(r.share, r.rate) for r in rows] == [(1.0, "4.0 s each"), (0.5, "4.0/s"), (0.0, "")]
    assert timing_rows([]) == []
    counted = {"stage": "match", "seconds": 2.0, "items": 4, "rejects": 0, "counters": {"image_reads": 3}, "counted": 4}
    assert timing_rows([counted])[0].rate == "2.0/s, 0.75 image reads each"
