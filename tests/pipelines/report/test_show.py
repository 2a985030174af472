"""``sc3d show``: the evidence of a pair against its explanation, the page and the picture, ids that are wrong, and a real browser."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import report_browser as browser
import report_run
from PIL import Image

from pipelines import cli
from pipelines.report import opening, show
from pipelines.report.view import RunView
from pipelines.stages.describe import DescribeStage
from sc3d.config import LabelConfig, MatchConfig
from sc3d.console import PlainConsole
from sc3d.errors import ConfigError, GeometryError, InputError, StoreError, UpstreamError
from sc3d.matching.described import Described
from sc3d.matching.explain import AFTER_GEODESIC, explain_pair
from sc3d.report.evidence import PairEvidence, Shown, evidence_page, gather_evidence
from sc3d.report.evidence_picture import evidence_figure
from sc3d.report.pairs import FATES

EVIL = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run with two categories of three images, matched and labelled, and an annotated pair."""
    made = report_run.Made(tmp_path_factory.mktemp("show"))
    made.manifest(held_out=True)
    made.reconstruct()
    made.describe()
    made.match()
    made.label()
    return made


def evidence_of(made: Any, pair_id: str, **label: float) -> PairEvidence:
    config = dataclasses.replace(made.config, label=dataclasses.replace(made.config.label, **label))
    view = RunView(config)
    return show.gather(view, next(p for p in made.pairs if p.pair_id == pair_id))


@pytest.fixture(scope="module")
def evidence(made: Any) -> PairEvidence:
    """A pair whose tight thresholds reject by cycle and by the geodesic test, and keep some."""
    found = evidence_of(made, "blob-0~blob-1", tau_geo=0.03)
    assert min(found.counts[name] for name in ("kept", "cycle", "geodesic")) > 20
    return found


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return dict(json.loads(found.group(1), parse_constant=lambda name: pytest.fail(f"{name} is no JSON")))


def test_evidence_is_the_explanation(made: Any, evidence: PairEvidence) -> None:
    source, target = (shown.described for shown in evidence.shown)
    config = dataclasses.replace(made.config.label, tau_geo=0.03)
    expected = explain_pair(source, target, config)
    assert evidence.counts == {name: int((expected.rejected_by == name.replace("kept", "")).sum()) for name in FATES}
    known = np.isfinite(expected.geodesic_error)
    np.testing.assert_allclose(evidence.terms[known].mean(axis=1), expected.geodesic_error[known], rtol=1e-5, atol=1e-7)
    assert not np.isfinite(evidence.terms[~known].sum(axis=1)).any()
    there_and_back = source.letterbox.centres(evidence.returned) - expected.source_xy
    np.testing.assert_allclose(np.linalg.norm(there_and_back, axis=1), expected.cycle_error, rtol=1e-5, atol=1e-4)
    limits = evidence.limits
    assert limits.cycle == pytest.approx(max(0.05 * source.extent, source.letterbox.cell_pixels))
    assert limits.cycle_extents == pytest.approx(limits.cycle / source.extent)
    assert limits.geodesic == 0.03
    assert (expected.cycle_error[evidence.fate == FATES.index("kept")] <= limits.cycle * (1 + 1e-6)).all()
    for code in range(len(FATES)):
        assert (evidence.drawn & (evidence.fate == code)).any() == (evidence.fate == code).any()


def test_page_holds_every_candidate(evidence: PairEvidence) -> None:
    page = evidence_page(evidence)
    data, x = data_of(page), evidence.explanation
    candidates, n = data["candidates"], len(x)
    assert {name: candidates["fate"].count(code) for code, name in enumerate(data["fates"])} == evidence.counts
    assert {len(candidates[name]) for name in ("cosine", "cycle", "extents", "geodesic", "drawn", "colour")} == {n}
    np.testing.assert_allclose(candidates["cosine"], x.cosine, atol=1e-4)
    np.testing.assert_allclose(candidates["cycle"], x.cycle_error, atol=0.01)
    np.testing.assert_allclose(candidates["extents"], x.cycle_error / evidence.shown[0].described.extent, atol=1e-4)
    geodesic = [np.inf if v is None else v for v in candidates["geodesic"]]
    np.testing.assert_allclose(geodesic, x.geodesic_error, atol=1e-5)
    assert candidates["predicted"][1] == x.predicted_target.tolist()
    assert candidates["dominant"][0] == x.source_vertex.tolist()
    for name, count in evidence.counts.items():
        # What only a template can reject is named where it did.
        wanted = count or name not in AFTER_GEODESIC
        assert bool(re.search(rf">{name} {count:,}</label>", page)) == bool(wanted), name
    assert "at most max(tau_cc" in page
    assert "0.03 mesh diagonals" in page


def test_a_pair_that_disagrees_keeps_nothing_and_says_so(made: Any, evidence: PairEvidence) -> None:
    """Codes on the page are places in the list of fates, whichever of them are shown."""
    strict = evidence_of(made, "blob-0~blob-1", tau_geo=0.03, min_agreement=1.0)
    assert strict.counts["kept"] == 0
    assert strict.counts["agreement"] == evidence.counts["kept"]
    page = evidence_page(strict)
    assert f'value="{FATES.index("agreement")}"' in page
    assert f'value="{FATES.index("reprojection")}"' not in page
    assert "rejected by the agreement" in page
    labels = [text.get_text() for text in evidence_figure(strict).axes[1].get_legend().get_texts()]
    assert labels[-1] == f"agreement {strict.counts['agreement']:,}"


def test_page_carries_both_meshes(evidence: PairEvidence) -> None:
    x = evidence.explanation
    for shown, sent, positions, dominant in zip(
        evidence.shown,
        data_of(evidence_page(evidence))["meshes"],
        (x.source_position, x.target_position),
        (x.source_vertex, x.target_vertex),
        strict=True,
    ):
        mesh = shown.mesh()
        assert mesh is not None
        vertices = np.frombuffer(base64.b64decode(sent["vertices"]), "<i2").reshape(-1, 3) / sent["steps"]
        faces = np.frombuffer(base64.b64decode(sent["faces"]), "<i4").reshape(-1, 3)
        np.testing.assert_array_equal(faces, mesh.faces)
        centre = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
        np.testing.assert_allclose(vertices, (mesh.vertices - centre) / mesh.diagonal, atol=1 / sent["steps"])
        # Lifted points are in the same frame: each in a triangle with its dominant vertex.
        lifted = dominant >= 0
        longest = np.linalg.norm(vertices[mesh.edges[:, 0]] - vertices[mesh.edges[:, 1]], axis=1).max()
        assert lifted.any()
        assert np.linalg.norm(positions[lifted] - vertices[dominant[lifted]], axis=1).max() < longest
        np.testing.assert_allclose(np.reshape(sent["rotation"], (3, 3)), shown.rotation, atol=1e-6)


def test_picture_draws_what_was_counted(evidence: PairEvidence) -> None:
    figure = evidence_figure(evidence)
    kept, rejected, meshes = figure.axes
    counts = evidence.counts
    assert [len(marks.get_offsets()) for marks in kept.collections] == [counts["kept"]] * 2
    drawn = [len(line.get_xdata()) for line in rejected.lines]
    assert drawn == [counts[name] for name in ("cycle", "surface", "geodesic") for _ in range(2)]
    labels = [text.get_text() for text in rejected.get_legend().get_texts()]
    assert labels == [f"{name} {counts[name]:,}" for name in ("cycle", "surface", "geodesic")]
    head = " ".join(text.get_text() for text in figure.texts)
    assert f"{len(evidence.explanation):,} candidates: kept {counts['kept']:,}" in head
    assert "blob-0 → blob-1" in head
    shown = int((evidence.drawn & (evidence.fate == FATES.index("geodesic"))).sum())
    assert len(meshes.lines) == 2 * shown
    assert len(meshes.images) == 2


def test_nothing_from_outside_is_markup(evidence: PairEvidence) -> None:
    # No such id passes a manifest's checks; the page does not rely on that.
    pair = SimpleNamespace(pair_id=f"{EVIL}~$x^2$", source_id=EVIL, target_id="$x^2$", category=EVIL)
    evil = dataclasses.replace(evidence, pair=pair)
    page = evidence_page(evil)
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page
    assert page.count("<script") == 2
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page)
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    head = " ".join(text.get_text() for text in evidence_figure(evil).texts)
    assert "$x^2$" in head


def test_pair_without_candidates_has_a_page_and_a_picture(evidence: PairEvidence) -> None:
    source, target = evidence.shown
    features = dataclasses.replace(report_run.load_scene().scene_image("blob-0", 0).features, foreground=np.zeros((60, 60), bool))
    nothing = dataclasses.replace(source, described=Described(features, MatchConfig()))
    empty = gather_evidence(evidence.pair, nothing, target, LabelConfig())
    assert sum(empty.counts.values()) == 0
    assert data_of(evidence_page(empty))["candidates"]["fate"] == []
    assert evidence_figure(empty).axes


def test_faces_of_another_mesh_are_refused(evidence: PairEvidence) -> None:
    source, target = evidence.shown
    wrong = dataclasses.replace(source, faces=np.full((10, 3), 10**6, np.int32))
    with pytest.raises(GeometryError, match=r"blob-0: faces refer to .* describe the image again"):
        evidence_page(dataclasses.replace(evidence, shown=(wrong, target)))


def test_image_without_a_mesh_is_shown_without(evidence: PairEvidence) -> None:
    bare = Shown(evidence.shown[0].described, evidence.shown[0].photo, evidence.shown[0].mask, None, None)
    without = dataclasses.replace(evidence, shown=(bare, evidence.shown[1]))
    page = evidence_page(without)
    assert data_of(page)["meshes"][0] is None
    assert page.count("<canvas") == 1
    assert "There is no mesh of this image." in page


def test_files_are_written_where_they_were_asked_for(made: Any, tmp_path: Path) -> None:
    before = set(made.run.names("report")) if (Path(made.config.run) / "report").exists() else set()
    for name in ("pair.html", "pair.PNG"):
        assert show.run(made.config, "bump-0~bump-2", tmp_path / name) == str(tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pair.PNG", "pair.html"]
    assert set(made.run.names("report")) == before
    picture = Image.open(io.BytesIO((tmp_path / "pair.PNG").read_bytes()))
    assert picture.format == "PNG"
    assert picture.width == 1600
    written = show.run(made.config, "bump-0~bump-2")
    assert written == f"{made.config.run}/report/pairs/bump-0~bump-2.html"
    assert Path(written).read_text(encoding="utf-8") == (tmp_path / "pair.html").read_text(encoding="utf-8")


def test_annotated_pairs_can_be_shown(made: Any, tmp_path: Path) -> None:
    assert Path(show.run(made.config, "blob-1~blob-0", tmp_path / "a.html")).exists()


@pytest.mark.parametrize(
    ("out", "error", "text"),
    [
        ("a.pdf", ConfigError, r"ends in \.html or \.png"),
        ("none/a.png", StoreError, "the folder .*none is not there"),
        ("a.html", StoreError, "is a folder"),
    ],
)
def test_places_that_cannot_be_written_are_refused(made: Any, tmp_path: Path, out: str, error: type, text: str) -> None:
    (tmp_path / "a.html").mkdir()
    with pytest.raises(error, match=text):
        show.run(made.config, "bump-0~bump-2", tmp_path / out)


@pytest.mark.parametrize(
    ("wrong", "close"),
    [
        ("bump-0~bump-3", "'bump-0~bump-2'"),
        ("bump-2~bump-0", "'bump-0~bump-2'"),
        ("bmp-1~bump-2", "'bump-1~bump-2'"),
        ("bump-1", "'bump-0~bump-1'"),
    ],
)
def test_wrong_id_is_answered_with_close_ones(made: Any, wrong: str, close: str) -> None:
    with pytest.raises(InputError, match=r"has no pair .*; close ones are ") as caught:
        show.run(made.config, wrong)
    assert close in str(caught.value)
    assert str(caught.value).count("~") <= 1 + show._CLOSE


@pytest.mark.parametrize("wrong", ["", "~", "zzzz~qqqq", "../../etc/passwd"])
def test_id_like_no_other_is_answered_with_the_list(made: Any, wrong: str) -> None:
    with pytest.raises(InputError, match=r"none comes close; some are listed by: sc3d show --run "):
        show.run(made.config, wrong)


def test_image_that_was_not_described_is_named(made: Any, tmp_path: Path) -> None:
    run = report_run.Made(tmp_path)
    run.manifest()
    run.reconstruct()
    with pytest.raises(UpstreamError, match="image blob-0 was rejected"):
        show.run(run.config, "blob-0~blob-1")


def test_damaged_features_are_named(made: Any) -> None:
    name = DescribeStage(made.config).feature_file("bump-1")
    data = made.run.read_bytes(name)
    try:
        made.run.write_bytes(name, data[:100])
        with pytest.raises(Exception, match=re.escape(name)):
            show.run(made.config, "bump-0~bump-1")
    finally:
        made.run.write_bytes(name, data)


def printed(config: Any) -> str:
    console = PlainConsole(file=io.StringIO(), width=100)
    show.print_pairs(config, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_listed_pairs_have_their_counts(made: Any) -> None:
    text = printed(made.config)
    counts = RunView(made.config).counts
    for i, pair_id in enumerate(counts["pair_id"]):
        candidates, kept = int(counts["n_candidates"][i]), int(counts["n_kept"][i])
        line = re.search(rf"^ +{pair_id} +([\d,]+) +([\d,]+) +([\d,]+)", text, re.MULTILINE)
        assert line is not None, pair_id
        assert line.groups() == (f"{candidates:,}", f"{candidates - kept:,}", f"{kept:,}")
    assert "6 pairs in all" in text
    assert f"--run {made.config.run} --open" in text


def test_listed_pairs_are_the_best_the_worst_and_the_most_rejected() -> None:
    candidates, kept = np.array([100, 100, 0, 1000, 50]), np.array([90, 0, 0, 500, 50])
    assert [rows for _, rows in show.choose_listed(candidates, kept, 2)] == [[4, 0], [1, 2], [3, 1]]


def test_runs_without_pairs_say_what_to_do(made: Any, tmp_path: Path) -> None:
    run = report_run.Made(tmp_path)
    run.manifest()
    assert f"sc3d label --run {run.config.run}" in printed(run.config)
    with pytest.raises(StoreError, match="holds no run; make one with: sc3d label"):
        show.print_pairs(dataclasses.replace(run.config, run=str(tmp_path / "none")))


def test_command_line(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    opened: list[str] = []
    monkeypatch.setattr(opening.webbrowser, "open", opened.append)
    out = tmp_path / "one & two.html"
    arguments = ["show", "bump-0~bump-2", "--run", made.config.run, "--out", str(out)]

    def code(*extra: str, begin: list[str] = arguments) -> Any:
        with pytest.raises(SystemExit) as caught:
            cli.main([*begin, *extra])
        return caught.value.code

    assert not code("--set", "label.tau_geo=0.01")
    assert data_of(out.read_text(encoding="utf-8"))["limits"]["geodesic"] == 0.01
    assert f"pair: {out}" in capsys.readouterr().out
    assert opened == []
    assert not code("--open")
    assert opened == [out.as_uri()]
    assert code(begin=["show", "bump", "--run", made.config.run]) == 1
    assert "InputError" in capsys.readouterr().err
    assert code("--out", str(tmp_path / "a.pdf")) == 2
    assert code(begin=["show", "--run", made.config.run, "--open"]) == 2
    assert not code(begin=["show", "--run", made.config.run])
    assert "bump-0~bump-2" in capsys.readouterr().out


def pixels(tab: Any, side: int) -> str:
    """What a mesh's canvas shows, as a data URI."""
    return str(tab.run(f"document.querySelectorAll('.meshes canvas')[{side}].toDataURL()"))


HIGHLIGHTED = (
    "[document.querySelector('#probe').hasAttribute('hidden') ? -1 : 1,"
    " [...document.querySelectorAll('tr.current')].map(r => Number(r.cells[0].textContent) - 1)]"
)


@pytest.mark.slow
@pytest.mark.skipif(browser.EXECUTABLE is None, reason="no Chromium is installed")
def test_page_in_a_browser(evidence: PairEvidence, tmp_path: Path) -> None:
    """No console error, no request; hovering and the keyboard highlight on photos, meshes and in the list; toggles and sorting."""
    file = tmp_path / "pair.html"
    file.write_text(evidence_page(evidence), encoding="utf-8")
    n, counts = len(evidence.explanation), evidence.counts
    with browser.Browser(tmp_path / "profile") as tab:
        tab.view(1600, 1300)
        tab.open(file)
        tab.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
        assert tab.run("document.querySelectorAll('#marks > g').length") == n
        assert tab.run("document.querySelectorAll('#list tbody tr').length") == n
        plain = [pixels(tab, side) for side in (0, 1)]
        painted = "(c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;"
        painted += " for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n / (c.width * c.height); })"
        shares = [tab.run(f"{painted}(document.querySelectorAll('.meshes canvas')[{side}])") for side in (0, 1)]
        assert min(shares) > 0.2

        # On the source photo: the end of a match that the geodesic test rejected.
        i = int(np.flatnonzero((evidence.fate == FATES.index("geodesic")) & (evidence.explanation.predicted_source >= 0))[0])
        end = f"document.querySelector('#marks [data-i=\"{i}\"] path').getBoundingClientRect()"
        x, y = tab.run(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({end})")
        tab.point(x, y)
        assert tab.run(HIGHLIGHTED) == [1, [i]]
        rings = tab.run(
            "[...document.querySelectorAll('#probe circle')].map(c => [c.getAttribute('cx'), c.getAttribute('cy')].map(Number))"
        )
        ends = data_of(file.read_text(encoding="utf-8"))["candidates"]["ends"]
        np.testing.assert_allclose(rings, [e[2 * i : 2 * i + 2] for e in ends], atol=0.01)
        said = tab.run("document.querySelector('#verdict').textContent")
        assert said.startswith(f"Candidate {i + 1}, cosine {evidence.explanation.cosine[i]:.3f}. Rejected by the geodesic test")
        assert [pixels(tab, side) != plain[side] for side in (0, 1)] == [True, True]
        captions = tab.run("[...document.querySelectorAll('.said')].map(s => s.textContent)")
        for caption, term in zip(captions, evidence.terms[i], strict=True):
            assert caption.startswith(f"{term:.3f} diagonals" if np.isfinite(term) else "> ")
        tab.point(2, 2)
        assert tab.run(HIGHLIGHTED) == [-1, []]
        assert [pixels(tab, side) for side in (0, 1)] == plain

        # In the list, and on a mesh.
        row = "(b => [b.x + 20, b.y + b.height / 2])(document.querySelector('#list tbody tr:not(.fate-1)').getBoundingClientRect())"
        tab.run("list.parentElement.scrollTop = 0")
        tab.point(*tab.run(row))
        first = tab.run("Number(document.querySelector('#list tbody tr:not(.fate-1)').cells[0].textContent) - 1")
        assert tab.run(HIGHLIGHTED) == [1, [first]]
        at = "(m => { const i = m.marks.map(k => k.index).find(k => m.visible(m.point(k)));"
        at += " const b = m.canvas.getBoundingClientRect(), p = m.point(i);"
        at += " return [b.x + p[0] / m.ratio, b.y + p[1] / m.ratio]; })(meshes[1])"
        tab.point(*tab.run(at))
        shown, rows = tab.run(HIGHLIGHTED)
        assert (shown, len(rows)) == (1, 1)
        tab.point(2, 2)

        # Keyboard: into the list, down, hold, let go; and turning a mesh.
        key = "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {{key: '{}', bubbles: true, cancelable: true}}))"
        tab.run("document.querySelector('#list tbody tr[tabindex=\"0\"]').focus()")
        held = [tab.run("held")]
        for name in ("ArrowDown", "ArrowDown", "ArrowUp", "End", "Home"):
            tab.run(key.format(name))
            held.append(tab.run("held"))
        assert held[0] == held[5] == tab.run("order.filter(shown)[0]")
        assert held[1] == held[3] != held[2]
        assert held[4] == tab.run("order.filter(shown).pop()")
        tab.run(key.format("Escape"))
        assert tab.run(HIGHLIGHTED) == [-1, []]
        tab.run("document.querySelector('.meshes canvas').focus()")
        tab.run(key.format("ArrowLeft"))
        assert pixels(tab, 0) != plain[0]
        tab.run("document.querySelector('[data-view=photo]').click()")
        assert pixels(tab, 0) == plain[0]

        # Toggles hide on photos and in the list; columns sort.
        visible = "[...document.querySelectorAll('{}')].filter(e => getComputedStyle(e).display !== 'none').length"
        for code, name in enumerate(FATES):
            if not counts[name]:
                # What only a template can reject is named where it did.
                box = f"document.querySelector('.show-fate[value=\"{code}\"]')"
                assert tab.run(f"{box} === null" if name in AFTER_GEODESIC else f"{box}.disabled")
                continue
            wanted = [counts[name], 0]
            box = f"document.querySelector('.show-fate[value=\"{code}\"]')"
            if not tab.run(f"{box}.checked"):
                tab.run(f"{box}.click()")
            for count in wanted:
                assert tab.run(visible.format(f"#marks > .fate-{code}")) == count
                assert tab.run(visible.format(f"#list tbody .fate-{code}")) == count
                tab.run(f"{box}.click()")
            assert tab.run(f"{box}.checked")
        for column, values, down in (
            ("cosine", evidence.explanation.cosine, True),
            ("cycle", evidence.explanation.cycle_error, False),
        ):
            tab.run(f"document.querySelector('[data-key={column}]').click()")
            rows = tab.run("[...document.querySelectorAll('#list tbody tr')].map(r => Number(r.cells[0].textContent) - 1)")
            assert sorted(rows) == list(range(n))
            assert (np.diff(np.round(values[rows], 4).astype(float) * (-1 if down else 1)) >= -2e-2).all()
            assert tab.run(f"document.querySelector('[data-key={column}]').parentElement.getAttribute('aria-sort')").startswith(
                "desc" if down else "asc"
            )
        tab.run("(s => { s.value = 'error'; s.dispatchEvent(new Event('change')); })(document.querySelector('#colour'))")
        assert tab.run("new Set([...document.querySelectorAll('#marks > g')].map(g => g.style.color)).size") <= 6

        grounds = set()
        for width, dark in ((1600, False), (1600, True), (1000, False), (390, False)):
            tab.view(width, dark=dark)
            assert tab.run("document.documentElement.scrollWidth") == width
            grounds.add(tab.run("getComputedStyle(document.body).backgroundColor"))
        assert len(grounds) == 2
        assert tab.problems == []
        assert {url.partition(":")[0] for url in tab.requests} == {"file", "data"}
        assert len({url for url in tab.requests if url.startswith("file:")}) == 1
