"""Labels leave a run whole and come back as they were; a folder that is not an export's own is never touched."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_run import SIZES, annotation_files, cells, contents, make_run, stored
from PIL import Image
from PIL.ExifTags import Base as ExifTag

from pipelines.cli import main
from pipelines.folder.manifest import IMAGES
from pipelines.jobs.export import ExportOptions, export_labels
from pipelines.jobs.import_labels import import_labels
from pipelines.jobs.label_card import models_used
from pipelines.stages.label import label_artefacts
from sc3d.config import RunConfig
from sc3d.config_file import load_config
from sc3d.datasets.label_export import writers
from sc3d.datasets.label_export.labels import ExportedLabels, LabelPart
from sc3d.errors import ConfigError, InputError, SchemaError, StoreError
from sc3d.images import load_image
from sc3d.records import ImageRecord
from sc3d.store import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    return make_run(str(tmp_path / "run"), tmp_path / "photos")


def load(folder: Path, tmp_path: Path, name: str = "labels") -> Any:
    datasets = pytest.importorskip("datasets")
    return datasets.load_dataset(str(folder), name, cache_dir=str(tmp_path / "cache"))


def test_labels_go_to_diy_sc_and_back(run: RunConfig, tmp_path: Path) -> None:
    summary = export_labels(run, str(tmp_path / "anns"), ExportOptions("diy-sc"))
    found = import_labels(run, str(tmp_path / "anns"))
    before = {k: v for k, v in stored(run).items() if len(v)}
    after = stored(run, found.recipe)
    assert set(after) == set(before), "pairs without labels are left out, no other"
    for pair_id, row in after.items():
        assert cells(run, row) == cells(run, before[pair_id])
        order = [np.lexsort(np.concatenate([r.source_xy.T, r.target_xy.T])) for r in (before[pair_id], row)]
        for side in ("source_xy", "target_xy"):
            np.testing.assert_array_equal(getattr(row, side)[order[1]], getattr(before[pair_id], side)[order[0]])
        assert row.source_cell == pytest.approx(before[pair_id].source_cell)
    total = sum(len(row) for row in before.values())
    assert summary.pairs == {"trn": len(before)}
    assert found.labels == summary.labels == total
    assert summary.left_out == 2, "the first pair of each category has no label"


def test_diy_sc_file_holds_what_its_loader_reads(run: RunConfig, tmp_path: Path) -> None:
    export_labels(run, str(tmp_path / "anns"), ExportOptions("diy-sc"))
    found = annotation_files(tmp_path / "anns")
    assert list(found) == ["bus", "dining table"]
    item = next(a for a in found["bus"] if (a["src_imname"], a["trg_imname"]) == ("photo 0.jpg", "photo 2.jpg"))
    assert item.keys() == {
        "src_imname", "trg_imname", "src_imsize", "tgt_imsize", "num_kps", "source_kps", "target_kps", "img_size_kps",
    }  # fmt: skip
    assert (item["src_imsize"], item["tgt_imsize"], item["img_size_kps"]) == ((200, 120), (150, 150), 840)
    label = stored(run)["bus-0~bus-2"]
    assert item["num_kps"] == len(label) == 7
    # By hand: 200 x 120 becomes 840 x 504, with (840 - 504) / 2 = 168 pixels above and below; 150 x 150 fills the frame.
    np.testing.assert_allclose(item["source_kps"], label.source_xy * 4.2 + [0, 168] - 7, atol=1e-3)
    np.testing.assert_allclose(item["target_kps"], label.target_xy * 5.6 - 7, atol=1e-3)
    assert all(type(v) is float and v % 14 == 0 for xy in item["source_kps"] for v in xy)


def test_category_without_labels_gets_an_empty_file(tmp_path: Path) -> None:
    config = make_run(str(tmp_path / "run"), tmp_path / "photos", categories=("bus", "cat"))
    shutil.rmtree(next((tmp_path / "run" / "labels").glob("*/category=cat")))
    export_labels(config, str(tmp_path / "anns"), ExportOptions("diy-sc", val_fraction=0.3))
    assert annotation_files(tmp_path / "anns")["cat"] == annotation_files(tmp_path / "anns", "val")["cat"] == []


def test_huggingface_folder_loads(run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "_CHUNK_BYTES", 10_000)
    export_labels(run, str(tmp_path / "hub"), ExportOptions(licence="cc-by-4.0"))
    assert len(list((tmp_path / "hub" / "data").iterdir())) > 1
    train = load(tmp_path / "hub", tmp_path)["train"]
    kept = {k: v for k, v in stored(run).items() if len(v)}
    assert set(train["pair_id"]) == set(kept)
    for row in train:
        for side in ("source_xy", "target_xy"):
            np.testing.assert_array_equal(np.float32(row[side]), getattr(kept[row["pair_id"]], side))
        np.testing.assert_array_equal(np.float32(row["geodesic_error"]), kept[row["pair_id"]].geodesic_error)
    images = {row["image_id"]: row for row in load(tmp_path / "hub", tmp_path, "images")["train"]}
    assert len(images) == 8, "the held-out photos are in no pair"
    expected = {"image_id": "bus-1", "file": "bus/photo 1.jpg", "category": "bus", "split": "trn", "width": 90, "height": 160}
    assert images["bus-1"] == expected
    assert 'license: "cc-by-4.0"' in (tmp_path / "hub" / "README.md").read_text()


@pytest.mark.parametrize("format_", ["huggingface", "diy-sc"])
def test_held_out_pairs_are_disjoint_and_go_with_their_reverse(run: RunConfig, tmp_path: Path, format_: Any) -> None:
    summary = export_labels(run, str(tmp_path / "out"), ExportOptions(format_, val_fraction=0.4))
    if format_ == "diy-sc":
        pairs = {
            s: {(c, a["src_imname"], a["trg_imname"]) for c, items in annotation_files(tmp_path / "out", s).items() for a in items}
            for s in ("trn", "val")
        }
    else:
        data = load(tmp_path / "out", tmp_path)
        pairs = {
            s: {(r["category"], r["source_id"], r["target_id"]) for r in data[n]}
            for s, n in (("trn", "train"), ("val", "validation"))
        }
    assert {s: len(p) for s, p in pairs.items()} == summary.pairs
    assert pairs["trn"]
    assert pairs["val"]
    assert not {(c, *sorted(p)) for c, *p in pairs["trn"]} & {(c, *sorted(p)) for c, *p in pairs["val"]}


@pytest.mark.parametrize("format_", ["huggingface", "diy-sc"])
def test_interrupted_export_goes_on(run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: Any) -> None:
    monkeypatch.setattr(writers, "_CHUNK_BYTES", 10_000)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    export_labels(run, str(whole), ExportOptions(format_))
    read: list[str] = []
    original = ExportedLabels.part

    def part(self: ExportedLabels, name: str) -> LabelPart:
        read.append(name)
        if len(read) == 5:
            raise KeyboardInterrupt
        return original(self, name)

    monkeypatch.setattr(ExportedLabels, "part", part)
    with pytest.raises(KeyboardInterrupt):
        export_labels(run, str(cut), ExportOptions(format_))
    assert not (cut / "README.md").exists()
    assert not list(cut.rglob(".writing-*"))
    done = json.loads((cut / "export.json").read_text())["position"]
    assert done > 0
    (cut / ".writing-left-by-kill").write_bytes(b"0" * 100)
    export_labels(run, str(cut), ExportOptions(format_))
    assert not set(read[:done]) & set(read[5:]), "what was done is not read again"
    assert contents(cut) == contents(whole)
    read.clear()
    export_labels(run, str(cut), ExportOptions(format_))
    assert not read, "a complete export is left alone"


def test_other_folders_are_left_alone(run: RunConfig, tmp_path: Path) -> None:
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "README.md").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(StoreError, match="not empty"):
            export_labels(run, str(foreign), ExportOptions(overwrite=overwrite))
    assert contents(foreign) == {"README.md": b"years of work"}
    with pytest.raises(StoreError, match="not empty"):
        export_labels(run, run.run, ExportOptions())


def test_another_export_is_replaced_on_demand(run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "_CHUNK_BYTES", 10_000)
    out = tmp_path / "out"
    export_labels(run, str(out), ExportOptions())
    (out / "notes.txt").write_text("mine")
    before = contents(out)
    with pytest.raises(StoreError, match="--overwrite"):
        export_labels(run, str(out), ExportOptions(min_labels=60))
    assert contents(out) == before
    export_labels(run, str(out), ExportOptions("diy-sc", min_labels=60, overwrite=True))
    assert {"notes.txt", "README.md", "export.json", "trn/bus_anns.pt", "trn/dining table_anns.pt"} == set(contents(out))


def test_narrower_thresholds(run: RunConfig, tmp_path: Path) -> None:
    export_labels(run, str(tmp_path / "out"), ExportOptions(tau_geo=0.02))
    rows = load(tmp_path / "out", tmp_path)["train"]
    labels = stored(run)
    for row in rows:
        expected = np.sort(labels[row["pair_id"]].geodesic_error[labels[row["pair_id"]].geodesic_error <= np.float32(0.02)])
        np.testing.assert_array_equal(np.sort(np.float32(row["geodesic_error"])), expected)
        assert row["tau_geo"] == 0.02
        assert row["n_kept"] == len(expected)
    with pytest.raises(ConfigError, match=r"sc3d relabel --tau-geo 0\.1"):
        export_labels(run, str(tmp_path / "wide"), ExportOptions(tau_geo=0.1))


def positions(xy: np.ndarray) -> list[tuple[float, float]]:
    return [tuple(np.round(point, 2).tolist()) for point in np.asarray(xy, np.float64).reshape(-1, 2)]


def expected_matches(run: RunConfig) -> dict[str, list[tuple[Any, ...]]]:
    """Pair id -> its matches, as pixels of both images, each once."""
    return {
        pair_id: sorted({(*a, *b) for a, b in zip(positions(row.source_xy), positions(row.target_xy), strict=True)})
        for pair_id, row in stored(run).items()
        if len(row)
    }


def test_photos_go_along_where_that_is_wanted(run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upright, in several files, and without what a camera wrote beside the pixels."""
    manifest = {image.image_id: image for image in RunFolder(run.run).read_records(ImageRecord, IMAGES)}
    exif = Image.Exif()
    exif[ExifTag.Orientation], exif[ExifTag.Make] = 6, "a camera at home"
    path = manifest["bus-1"].path
    Image.effect_noise((160, 90), 90).convert("RGB").save(path, exif=exif)
    shown_upright = load_image(path)
    monkeypatch.setattr(writers, "_CHUNK_PIXELS", 40_000)
    export_labels(run, str(tmp_path / "hub"), ExportOptions(with_images=True))
    assert len(list((tmp_path / "hub" / "images").iterdir())) > 1
    assert not any(b"a camera at home" in data for data in contents(tmp_path / "hub").values())
    images = {row["image_id"]: row for row in load(tmp_path / "hub", tmp_path, "images")["train"]}
    assert len(images) == 8
    for row in images.values():
        assert row["image"].size == (row["width"], row["height"])
    assert np.abs(np.asarray(images["bus-1"]["image"]).astype(int) - shown_upright).mean() < 6
    export_labels(run, str(tmp_path / "hub"), ExportOptions(overwrite=True))
    assert [path.name for path in (tmp_path / "hub" / "images").iterdir()] == ["images.parquet"]
    with pytest.raises(ConfigError, match="huggingface alone"):
        ExportOptions("coco", with_images=True)


def test_coco_s_layout_holds_every_match_once(run: RunConfig, tmp_path: Path) -> None:
    """By COCO's own rules: ids are unique, what they refer to is there, keypoints are triples as many as are counted."""
    summary = export_labels(run, str(tmp_path / "out"), ExportOptions("coco", val_fraction=0.3))
    expected, found, splits = expected_matches(run), {}, {}
    for path in sorted((tmp_path / "out" / "annotations").rglob("*.json")):
        data = json.loads(path.read_text())
        images = {image["id"]: image for image in data["images"]}
        by_id = {one["id"]: one for one in data["annotations"]}
        assert (len(images), len(by_id)) == (len(data["images"]), len(data["annotations"]))
        assert [kind["name"] for kind in data["categories"]] == [path.stem]
        for one in data["annotations"]:
            assert {"image_id", "category_id", "bbox", "area", "iscrowd"} <= one.keys()
            assert one["image_id"] in images
            points = np.array(one["keypoints"]).reshape(-1, 3)
            assert len(points) == one["num_keypoints"] > 0
            assert (points[:, 2] == 2).all()
            np.testing.assert_allclose(one["bbox"][:2], points[:, :2].min(axis=0))
            other = by_id[one["partner_id"]]
            assert (other["partner_id"], other["pair_id"]) == (one["id"], one["pair_id"])
            if one["side"] == "source":
                there = np.array(other["keypoints"]).reshape(-1, 3)
                found[one["pair_id"]] = sorted(
                    {(*a, *b) for a, b in zip(positions(points[:, :2]), positions(there[:, :2]), strict=True)}
                )
                splits[path.parent.name] = splits.get(path.parent.name, 0) + 1
    assert {k: np.allclose(v, expected[k], atol=0.02) for k, v in found.items()} == dict.fromkeys(expected, True)
    assert splits == summary.pairs
    assert (Path(run.dataset.root) / data["images"][0]["file_name"]).is_file()


CAMERAS = "SELECT image_id, width, height, model, params FROM images JOIN cameras USING (camera_id)"


def test_colmap_s_database_holds_every_match_once(run: RunConfig, tmp_path: Path) -> None:
    """Read as COLMAP's scripts/python/database.py reads it: float32 keypoints, uint32 matches, and the ids of pairs by its formula."""
    export_labels(run, str(tmp_path / "out"), ExportOptions("colmap"))
    with contextlib.closing(sqlite3.connect(tmp_path / "out" / "database.db")) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert {"cameras", "images", "keypoints", "descriptors", "matches", "two_view_geometries"} <= tables
        names = dict(database.execute("SELECT image_id, name FROM images").fetchall())
        cameras = {row[0]: row[1:] for row in database.execute(CAMERAS)}
        keypoints = {
            image_id: np.frombuffer(data, np.float32).reshape(rows, cols)
            for image_id, rows, cols, data in database.execute("SELECT image_id, rows, cols, data FROM keypoints")
        }
        found = {}
        for pair_id, rows, cols, data in database.execute("SELECT pair_id, rows, cols, data FROM matches"):
            second = pair_id % 2147483647
            first = (pair_id - second) // 2147483647
            assert first < second
            matches = np.frombuffer(data, np.uint32).reshape(rows, cols)
            assert cols == 2
            found[first, second] = np.column_stack([keypoints[first][matches[:, 0]], keypoints[second][matches[:, 1]]])
        assert database.execute("SELECT count(*) FROM two_view_geometries").fetchone() == (0,)
    photos = Path(run.dataset.root)
    for image_id, name in names.items():
        with Image.open(photos / name) as photo:
            assert photo.size == cameras[image_id][:2]
        assert (cameras[image_id][2], len(cameras[image_id][3])) == (2, 4 * 8)
        assert keypoints[image_id].shape[1] == 2
    ids = {f"{name.partition('/')[0].replace(' ', '-')}-{name[-5]}": image_id for image_id, name in names.items()}
    expected: dict[tuple[int, int], set[tuple[float, ...]]] = {}
    for pair_id, rows in expected_matches(run).items():
        source, target = (ids[end] for end in pair_id.split("~"))
        for row in rows:
            straight = row if source < target else (*row[2:], *row[:2])
            expected.setdefault((min(source, target), max(source, target)), set()).add(straight)
    assert found.keys() == expected.keys()
    for pair, rows in found.items():
        assert len(rows) == len(expected[pair])
        np.testing.assert_allclose(
            np.array(sorted(map(tuple, np.round(rows, 2).tolist()))), np.array(sorted(expected[pair])), atol=0.02
        )


def test_hloc_s_files_hold_every_match(run: RunConfig, tmp_path: Path) -> None:
    """Read as hloc/utils/io.py reads them: get_keypoints, find_pair and get_matches. Its pixels begin half a pixel later."""
    h5py = pytest.importorskip("h5py")
    with pytest.raises(InputError, match=r"has a space in its name.*--names id"):
        export_labels(run, str(tmp_path / "spaces"), ExportOptions("hloc"))
    export_labels(run, str(tmp_path / "out"), ExportOptions("hloc", names="id"))
    pairs = [line.split() for line in (tmp_path / "out" / "pairs.txt").read_text().splitlines()]
    expected = expected_matches(run)
    assert {tuple(Path(name).stem for name in pair) for pair in pairs} == {tuple(pair.split("~")) for pair in expected}
    with h5py.File(tmp_path / "out" / "features.h5") as features, h5py.File(tmp_path / "out" / "matches.h5") as matches:
        for first, second in pairs:
            group = matches["/".join((first.replace("/", "-"), second.replace("/", "-")))]
            best, scores = group["matches0"][()], group["matching_scores0"][()]
            source, target = (features[name]["keypoints"][()] for name in (first, second))
            assert best.shape == scores.shape == (len(source),)
            at = np.flatnonzero(best != -1)
            assert (scores[best == -1] == 0).all()
            found = np.column_stack([source[at] + 0.5, target[best[at]] + 0.5])
            labels = expected[f"{Path(first).stem}~{Path(second).stem}"]
            # A cell of the source with several labels keeps the surest one.
            assert {row[:2] for row in labels} == {tuple(row) for row in np.round(found[:, :2].astype(np.float64), 2).tolist()}
            near = np.abs(found[:, None] - np.array(labels)[None]).max(axis=2).min(axis=1)
            assert (near < 0.02).all()
        width, height = features[pairs[0][0]]["image_size"][()]
        assert (width, height) == SIZES[int(Path(pairs[0][0]).stem[-1]) % 4]


def test_names_that_stand_for_two_photos_are_refused(tmp_path: Path) -> None:
    """hloc writes a-b for a/b."""
    pytest.importorskip("h5py")
    config = make_run(str(tmp_path / "run"), tmp_path / "photos", categories=("bus",))
    run = RunFolder(config.run)
    images = run.read_records(ImageRecord, IMAGES)
    root = tmp_path / "photos"
    moved = []
    for number, image in enumerate(images):
        path = root / (("x/a.jpg", "x-a.jpg")[number] if number < 2 else f"{number}.jpg")
        path.parent.mkdir(exist_ok=True)
        shutil.copy(image.path, path)
        moved.append(image.replace(path=str(path)))
    run.write_records(ImageRecord, IMAGES, moved)
    with pytest.raises(InputError, match=r"have one name, 'x-a\.jpg'.*--names id"):
        export_labels(config, str(tmp_path / "hloc"), ExportOptions("hloc"))
    export_labels(config, str(tmp_path / "colmap"), ExportOptions("colmap"))
    export_labels(config, str(tmp_path / "ids"), ExportOptions("hloc", names="id"))


def test_hloc_s_format_names_what_is_missing(run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sc3d.datasets.label_export.hloc.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install h5py"):
        export_labels(run, str(tmp_path / "out"), ExportOptions("hloc", names="id"))


@pytest.mark.parametrize("format_", ["coco", "colmap", "hloc"])
def test_another_format_replaces_an_export_and_goes_on(
    run: RunConfig, tmp_path: Path, format_: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if format_ == "hloc":
        pytest.importorskip("h5py")
    options = ExportOptions(format_, names="id", overwrite=True)
    export_labels(run, str(tmp_path / "out"), ExportOptions("diy-sc"))
    original = ExportedLabels.part

    def part(self: ExportedLabels, name: str) -> LabelPart:
        if name == self.files[-1]:
            raise KeyboardInterrupt
        return original(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(ExportedLabels, "part", part)
        with pytest.raises(KeyboardInterrupt):
            export_labels(run, str(tmp_path / "out"), options)
    export_labels(run, str(tmp_path / "out"), options)
    export_labels(run, str(tmp_path / "whole"), options)
    found, whole = contents(tmp_path / "out"), contents(tmp_path / "whole")
    assert found.keys() == whole.keys()
    assert "README.md" in found
    assert not any(name.endswith("_anns.pt") for name in found)


def test_card_counts(run: RunConfig, tmp_path: Path) -> None:
    export_labels(run, str(tmp_path / "out"), ExportOptions(val_fraction=0.4))
    card = (tmp_path / "out" / "README.md").read_text()
    labels = stored(run)
    bus = [len(row) for row in labels.values() if row.category == "bus"]
    state = json.loads((tmp_path / "out" / "export.json").read_text())["counts"]["bus"]
    assert sum(part["labels"] for part in state.values()) == sum(bus)
    pairs = [state[split]["pairs"] for split in ("trn", "val")]
    assert f"| bus | 4 | {pairs[0]} | {pairs[1]} | {sum(bus):,} |" in card
    assert f"| 30 to 99 | {2 * sum(30 <= n < 100 for n in bus)} |" in card
    kept = [row for row in labels.values() if len(row)]
    candidates, total = sum(row.n_candidates for row in kept), sum(map(len, kept))
    assert f"of {candidates:,} candidates" in card
    assert f"{1 - total / candidates:.1%} were rejected" in card
    assert "pairs that were planned: 24; left out for too few labels: 2" in card
    assert "| reconstruct | InputError | 2 |" in card
    assert "at most 0.05 of the mesh diagonal" in card
    assert "- features: ImageNet features of EfficientNet-Lite0" in card
    assert "- 3D descriptors: spectral descriptors and position, from the mesh alone" in card
    assert label_artefacts(run).recipe in card
    assert "No licence of the labels was chosen" in card


def test_the_card_says_what_verified_labels_with_a_prior(tmp_path: Path) -> None:
    for name, options, says in (("plain", (), False), ("guided", ("reconstruct.mesh=template", "match.template_prior=10"), True)):
        guided = make_run(str(tmp_path / name / "run"), tmp_path / name / "photos", *options)
        export_labels(guided, str(tmp_path / name / "out"), ExportOptions())
        assert ("not verified independently" in (tmp_path / name / "out" / "README.md").read_text()) == says


def test_card_names_models_and_what_binds(run: RunConfig) -> None:
    values = ["profile=foundation", "models.variant=tiny", "describe.shape=partfield", "describe.dino=dinov2"]
    used = models_used(load_config(None, values))
    assert {m.name: m.commercial for m in used}["PartField"] == "no"
    assert "tiny" in {m.name: m.weights for m in used}["DINOv2 ViT-B/14"]


def test_missing_things_are_named(run: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no files"):
        import_labels(run, str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="no labels of the recipe abc"):
        export_labels(run, str(tmp_path / "out"), ExportOptions(labels="abc"))
    with pytest.raises(InputError, match="nothing to export"):
        export_labels(run, str(tmp_path / "out"), ExportOptions(min_labels=10_000))
    with pytest.raises(ConfigError, match="val_fraction"):
        ExportOptions(val_fraction=1.0)
    name = label_artefacts(run).files()[0]
    path = Path(run.run, name)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(SchemaError, match=f"{path.name} is damaged"):
        export_labels(run, str(tmp_path / "damaged"), ExportOptions())


def test_images_of_one_name_are_exported_by_id(tmp_path: Path) -> None:
    config = make_run(str(tmp_path / "run"), tmp_path / "photos")
    run = RunFolder(config.run)
    images = [
        image.replace(path=str(Path(image.path).parent / image.image_id / "photo.jpg"))
        for image in run.read_records(ImageRecord, IMAGES)
    ]
    run.write_records(ImageRecord, IMAGES, images)
    with pytest.raises(InputError, match="--names id"):
        export_labels(config, str(tmp_path / "out"), ExportOptions("diy-sc"))
    export_labels(config, str(tmp_path / "out"), ExportOptions("diy-sc", names="id", overwrite=True))
    assert {one["src_imname"] for one in annotation_files(tmp_path / "out")["bus"]} == {f"bus-{i}.jpg" for i in range(4)}
    found = import_labels(config, str(tmp_path / "out"))
    assert found.labels == sum(map(len, stored(config).values()))


def test_on_s3_through_the_command_line(bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = make_run(f"{bucket}/run", tmp_path / "photos")
    main_quietly("export", "labels", f"{bucket}/anns", "--format", "diy-sc", "--run", config.run)
    main_quietly("import", "labels", f"{bucket}/anns", "--run", config.run)
    printed = capsys.readouterr().out
    recipe = printed.split("recipe: ")[1].split()[0]
    before = {k: v for k, v in stored(config).items() if len(v)}
    assert {k: cells(config, v) for k, v in stored(config, recipe).items()} == {k: cells(config, v) for k, v in before.items()}
    main_quietly("export", "labels", f"{bucket}/hub", "--run", config.run)
    names = RunFolder(f"{bucket}/hub").names("data", ".parquet")
    assert names == ["data/train-00000.parquet"]
    with pytest.raises(StoreError, match="not empty"):
        export_labels(config, config.run, ExportOptions())


def main_quietly(*arguments: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert not stop.value.code, arguments


def test_a_finished_run_is_exported_and_trained_on_what_comes_back(finished: RunConfig, tmp_path: Path) -> None:
    from pipelines.jobs import train

    summary = export_labels(finished, str(tmp_path / "anns"), ExportOptions("diy-sc"))
    rows = stored(finished)
    assert summary.labels == sum(map(len, rows.values())) > 0
    shutil.copytree(finished.run, tmp_path / "copy")
    copy = dataclasses.replace(finished, run=str(tmp_path / "copy"))
    found = import_labels(copy, str(tmp_path / "anns"))
    for pair_id, row in stored(copy, found.recipe).items():
        xy = {(*s, *t) for s, t in zip(row.source_xy.tolist(), row.target_xy.tolist(), strict=True)}
        assert xy == {(*s, *t) for s, t in zip(rows[pair_id].source_xy.tolist(), rows[pair_id].target_xy.tolist(), strict=True)}
    before = set((tmp_path / "copy" / "adapters").iterdir())
    train.run(dataclasses.replace(copy, train=dataclasses.replace(copy.train, labels=found.recipe)))
    assert len(set((tmp_path / "copy" / "adapters").iterdir()) - before) == 1
