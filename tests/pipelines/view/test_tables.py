"""The rows that are listed are what the run's records say, of what the plan names alone."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from commit_rows import commit_rows
from report_run import Made

from pipelines.folder.manifest import IMAGES, PAIRS
from pipelines.report.rejects import read_rejects
from pipelines.stages.label import LabelStage
from pipelines.stages.match import MatchStage
from pipelines.stages.reconstruct import ReconstructStage
from pipelines.stages.registry import stages_of
from pipelines.view.listings import LISTINGS, Query, count_rows
from pipelines.view.lists import make_list_page
from pipelines.view.tables import RunTables
from sc3d.artefacts import Catalogue
from sc3d.errors import ConfigError, StoreError
from sc3d.geometry.camera import camera_azimuth
from sc3d.matching.thresholds import apply_thresholds
from sc3d.records import ImageRecord, Pair, Reject


@pytest.fixture(scope="module")
def tables(viewed: Made) -> RunTables:
    found = RunTables(viewed.config)
    found.read_errors()
    return found


def test_pairs_are_those_of_the_plan_with_their_counts_and_errors(viewed: Made, tables: RunTables) -> None:
    rows = {row["id"]: row for row in tables.rows("SELECT * FROM pairs")}
    assert len(rows) == len(viewed.pairs) + 2
    for matches in viewed.matches:
        labels, row = apply_thresholds(matches, viewed.config.label), rows[matches.pair_id]
        assert (row["state"], row["candidates"], row["cycle"], row["kept"]) == (
            "labelled",
            labels.n_candidates,
            labels.n_cycle,
            labels.n_kept,
        )
        assert row["error"] == pytest.approx(np.median(labels.geodesic_error), rel=1e-6)
        assert (row["source"], row["target"], row["reason"]) == (matches.source_id, matches.target_id, None)
    assert {row["state"] for row in rows.values() if row["split"] == "test"} == {"annotated"}
    unlike = rows[viewed.unlike.pair_id]
    assert (unlike["state"], unlike["kept"], unlike["error"]) == ("rejected", None, None)
    assert "was not liked" in unlike["reason"]


def test_yaw_and_fit_of_images_and_pairs(viewed: Made, tables: RunTables) -> None:
    images = {row["id"]: row for row in tables.rows("SELECT * FROM images")}
    assert set(images) == set(viewed.scenes)
    for image_id, scene in viewed.scenes.items():
        one, row = scene.reconstruction, images[image_id]
        assert (row["iou_before"], row["iou"]) == (one.iou_before, one.iou_after)
        azimuth = (float(camera_azimuth(one.rotation, one.translation)) + scene.orientation.turn) % 360
        assert row["azimuth"] == pytest.approx(azimuth)
        assert row["turn"] == scene.orientation.turn
        assert ("front_unsure" in row["flags"]) == scene.orientation.uncertain
        mine = [m for m in viewed.matches if image_id in (m.source_id, m.target_id)]
        assert row["kept"] == sum(apply_thresholds(m, viewed.config.label).n_kept for m in mine)
    for row in tables.rows("SELECT * FROM pairs"):
        source, target = images[row["source"]], images[row["target"]]
        gap = abs(source["azimuth"] - target["azimuth"]) % 360
        assert row["apart"] == pytest.approx(min(gap, 360 - gap))
        assert row["iou"] == min(source["iou"], target["iou"])


def test_rejects_are_those_that_the_report_counts(viewed: Made, tables: RunTables) -> None:
    expected = [one for stage in stages_of(viewed.config) for one in read_rejects(stage)]
    rows = tables.rows("SELECT * FROM rejects ORDER BY number")
    assert expected
    assert [(row["id"], row["stage"], row["message"], row["kind"]) for row in rows] == [
        (one.id, one.stage, one.message, "pair") for one in expected
    ]


def test_what_the_plan_does_not_name_is_not_listed(tmp_path: Path) -> None:
    made = Made.labelled(tmp_path)
    made.run.write_records(Pair, PAIRS, made.pairs[:2])
    gone = made.images[-1]
    made.run.write_records(ImageRecord, IMAGES, made.images[:-1])
    tables = RunTables(made.config)
    assert {row["id"] for row in tables.rows("SELECT id FROM pairs")} == {pair.pair_id for pair in made.pairs[:2]}
    assert gone.image_id not in {row["id"] for row in tables.rows("SELECT id FROM images")}
    replaced = [
        dataclasses.replace(one, inputs="another photo") if one.image_id == made.pairs[0].source_id else one for one in made.images
    ]
    made.run.write_records(ImageRecord, IMAGES, replaced)
    states = {row["id"]: row["state"] for row in RunTables(made.config).rows("SELECT id, state FROM pairs")}
    assert set(states.values()) == {"not matched"}, "both pairs have the image whose photo was replaced"


def test_pairs_are_explained_by_their_images(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.manifest()
    commit_rows(ReconstructStage(made.config), "blob", [], [Reject("blob-1", "reconstruct", "InputError", "no object was found")])
    rows = {row["id"]: row for row in RunTables(made.config).rows("SELECT * FROM pairs")}
    assert rows["blob-0~blob-1"]["reason"] == "target: no object was found"
    assert rows["blob-1~blob-2"]["reason"] == "source: no object was found"
    assert rows["blob-0~blob-1"]["state"] == "rejected"
    assert (rows["blob-0~blob-2"]["state"], rows["blob-0~blob-2"]["reason"]) == ("not matched", None)


def test_matches_stand_in_for_labels_that_are_not_there_yet(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.manifest()
    made.reconstruct()
    made.describe()
    made.match()
    tables = RunTables(made.config)
    tables.read_errors()
    rows = {row["id"]: row for row in tables.rows("SELECT * FROM pairs WHERE state = 'matched'")}
    assert set(rows) == {pair.pair_id for pair in made.pairs}
    first = made.matches[0]
    assert (rows[first.pair_id]["candidates"], rows[first.pair_id]["kept"]) == (first.n_candidates, None)
    assert rows[first.pair_id]["error"] == pytest.approx(np.median(first.geodesic_error), rel=1e-6)
    labels = [apply_thresholds(first, made.config.label)]
    made.commit(LabelStage, labels)
    states = [row["state"] for row in RunTables(made.config).rows("SELECT state FROM pairs")]
    assert sorted(states) == ["labelled", *["matched"] * (len(made.pairs) - 1), "not matched"]


def test_a_run_that_has_only_begun_has_empty_tables(tmp_path: Path) -> None:
    tables = RunTables(Made(tmp_path).config)
    tables.read_errors()
    assert [count_rows(tables, Query(listing, {}, "id")) for listing in LISTINGS.values()] == [0, 0, 0]
    assert tables.errors_known


def test_evidence_is_not_read_before_the_first_page(viewed: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[str]] = []
    real = type(viewed.run).read_table

    def read_table(self, record, name, columns=None):  # type: ignore[no-untyped-def]
        asked.append({"all"} if columns is None else set(columns))
        return real(self, record, name, columns)

    monkeypatch.setattr(type(viewed.run), "read_table", read_table)
    monkeypatch.setattr(MatchStage, "artefacts", property(lambda self: pytest.fail("files of matches are large")))
    RunTables(viewed.config)
    big = {"all", "vertices", "faces", "mask", "source_xy", "target_xy", "cosine", "cycle_error", "geodesic_error"}
    assert asked
    # Rejects and the seal are records that have no large columns.
    assert all(not columns & (big - {"all"}) for columns in asked)


def test_errors_that_cannot_be_read_are_told(viewed: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise StoreError("the store is away")

    tables = RunTables(viewed.config)
    monkeypatch.setattr(Catalogue, "tables", away)
    tables.read_errors()
    assert not tables.errors_known
    page = make_list_page("run", tables, "pairs", "", 1)
    assert page.notes == ("Errors could not be read: the store is away",)
    assert page.place == "1 to 8 of 8"


def test_reading_errors_can_be_ended(viewed: Made) -> None:
    tables = RunTables(viewed.config)
    tables.stop()
    tables.read_errors()
    assert not tables.errors_known
    assert tables.errors_missing == ""


def test_without_duckdb_it_says_what_to_install(viewed: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ConfigError, match="pip install"):
        RunTables(viewed.config)


def test_the_database_reaches_no_files(tables: RunTables) -> None:
    with pytest.raises(Exception, match="disabled"):
        tables.rows("SELECT * FROM read_text('/etc/hostname')")
