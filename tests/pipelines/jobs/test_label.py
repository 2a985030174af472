"""The main job on real processes: what it leaves behind, what it does again, and what it never does again."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import sc3d
from pipelines.cli import main
from pipelines.jobs import label
from pipelines.report.metrics import METRICS_FILE
from pipelines.stages.describe import DescribeStage
from pipelines.stages.label import LabelStage
from pipelines.stages.match import MatchStage
from pipelines.stages.orient import OrientStage
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.config import DatasetConfig, LabelConfig, RunConfig
from sc3d.config_file import to_values
from sc3d.errors import InputError, RejectBudgetError, StoreError
from sc3d.records import ImageRecord
from sc3d.store import RunFolder


def label_rows(config: RunConfig) -> pa.Table:
    """All labels of a run, in a fixed order, without the times."""
    stage = LabelStage(config)
    tables = [stage.run.read_table(stage.record, name) for name in stage.artefacts.files()]
    return pa.concat_tables(tables).sort_by("pair_id")


def assert_same_labels(found: pa.Table, expected: pa.Table) -> None:
    """The same pairs, each once, with the same labels and evidence to the last bit."""
    assert len(set(found["pair_id"].to_pylist())) == found.num_rows
    assert found.equals(expected.select(found.column_names))


def files_of(run: Path) -> dict[Path, int]:
    """The artefacts of a run and when they were written."""
    files = [path for path in run.rglob("*") if path.suffix in (".parquet", ".safetensors") and path.parent != run]
    return {path: path.stat().st_mtime_ns for path in files}


def copied(config: RunConfig, folder: Path) -> RunConfig:
    shutil.copytree(config.run, folder)
    return dataclasses.replace(config, run=str(folder))


def test_a_finished_run_holds_every_artefact(finished: RunConfig) -> None:
    run = RunFolder(finished.run)
    n_images, n_pairs = 16, 16
    assert len(ReconstructStage(finished).catalogue().located) == n_images
    assert len(OrientStage(finished).catalogue().located) == n_images
    assert len(run.names(DescribeStage(finished).artefacts.prefix, ".safetensors")) == n_images
    labels = label_rows(finished)
    assert labels.num_rows == n_pairs
    assert len(set(labels["pair_id"].to_pylist())) == n_pairs
    assert sum(labels["n_kept"].to_pylist()) > 0
    for row in labels.to_pylist():
        assert len(row["cosine"]) == row["n_kept"] == len(row["geodesic_error"]) == len(row["source_xy"]) / 2
        assert row["n_kept"] <= row["n_cycle"] <= row["n_candidates"]
        assert all(error <= 0.05 + 1e-6 for error in row["geodesic_error"])
    values = run.read_json("run.json")
    assert values["counts"] == {"images": n_images, "pairs": n_pairs + 6 * 2 - 4}
    assert values["config"] == json.loads(json.dumps(to_values(finished)))
    assert sc3d.labels(run).recipe == LabelStage(finished).recipe
    assert len(sc3d.labels(run)) == n_pairs
    page = run.read_bytes("report/index.html").decode()
    assert "car" in page


def test_labels_point_into_both_objects(finished: RunConfig) -> None:
    from pipelines.folder.images import ImageManifest
    from sc3d.mask_files import load_mask

    images = ImageManifest(RunFolder(finished.run))
    for row in label_rows(finished).to_pylist():
        for side in ("source", "target"):
            image = images[row[f"{side}_id"]]
            with Image.open(image.path) as photo:
                mask = load_mask(image.mask_path or "", photo.size)
            xy = np.array(row[f"{side}_xy"]).reshape(-1, 2)
            inside = mask[xy[:, 1].astype(int), xy[:, 0].astype(int)]
            assert inside.all()


def test_metrics_have_the_promised_form(finished: RunConfig) -> None:
    metrics = RunFolder(finished.run).read_json(METRICS_FILE)
    assert {"filter", "descriptors", "fpr", "kept", "pairs"} <= set(metrics["filters"][0])
    assert {"method", "dataset", "subset", "alpha", "average", "value", "pairs"} <= set(metrics["pck"][0])
    assert {row["subset"] for row in metrics["pck"]} >= {"all", "geo-aware"}
    assert {row["method"].split()[0] for row in metrics["pck"]} == {"copy-position", "zero-shot", "adapter"}
    assert metrics["alignment"]["n"] == 16
    assert metrics["alignment"]["iou_after"] > metrics["alignment"]["iou_before"]
    assert {"turned", "undone", "uncertain"} <= set(metrics["yaw"])
    names = [row["stage"] for row in metrics["stages"]]
    assert names == ["reconstruct", "render", "orient", "register", "describe", "match", "label", "train", "evaluate"]


@pytest.mark.usefixtures("ray_session")
def test_a_second_run_writes_nothing(finished: RunConfig) -> None:
    before = files_of(Path(finished.run))
    label.run(finished)
    assert files_of(Path(finished.run)) == before


@pytest.mark.usefixtures("ray_session")
def test_another_threshold_rewrites_labels_only(finished: RunConfig, tmp_path: Path) -> None:
    config = copied(finished, tmp_path / "run")
    before = {p.relative_to(config.run) for p in Path(config.run).rglob("*") if p.is_file()}
    tighter = dataclasses.replace(config, label=LabelConfig(tau_cc=0.05, tau_geo=0.02))
    label.run(tighter)
    new = {p.relative_to(config.run) for p in Path(config.run).rglob("*") if p.is_file()} - before
    assert new
    assert {p.parts[0] for p in new} - {"lease"} == {"labels"}
    kept = sum(label_rows(tighter)["n_kept"].to_pylist())
    assert 0 < kept < sum(label_rows(config)["n_kept"].to_pylist())


@pytest.mark.usefixtures("ray_session")
def test_a_run_folder_of_another_data_set_is_refused(finished: RunConfig, tmp_path: Path, shared: Path) -> None:
    before = files_of(Path(finished.run))
    other = dataclasses.replace(finished, dataset=DatasetConfig(root=str(photos(tmp_path / "photos", shared)), category="bus"))
    with pytest.raises(StoreError, match=r"holds a run on toys .* few of its 16 images are in folder .* choose another run folder"):
        label.run(other)
    assert files_of(Path(finished.run)) == before


@pytest.mark.usefixtures("ray_session")
def test_a_lost_feature_shard_is_made_again_and_the_labels_are_the_same(finished: RunConfig, tmp_path: Path) -> None:
    config = copied(finished, tmp_path / "run")
    expected = label_rows(config)
    victims = [*MatchStage(config).artefacts.files()[:1], *LabelStage(config).artefacts.files()[:2]]
    for name in victims:
        (Path(config.run) / name).unlink()
    label.run(config)
    assert label_rows(config).equals(expected)


def photos(folder: Path, shared: Path) -> Path:
    shutil.copytree(shared / "data" / "photos", folder)
    return folder


@pytest.mark.usefixtures("ray_session")
def test_a_folder_of_photos_becomes_labels_and_a_report(tmp_path: Path, shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos(tmp_path / "my phötos of buses", shared)
    with pytest.raises(SystemExit) as done:
        main(["label", "--images", str(root), "--category", "bus", "--run", str(tmp_path / "run")])
    assert done.value.code == 0
    run = RunFolder(tmp_path / "run")
    tables = [pq.read_table(run.path(name)) for name in run.names("labels", ".parquet")]
    rows = pa.concat_tables(tables)
    assert rows.num_rows == 2
    assert min(rows["n_kept"].to_pylist()) > 0
    page = run.read_bytes("report/index.html").decode()
    assert "bus" in page
    assert "index.html" in capsys.readouterr().out


@pytest.mark.usefixtures("ray_session")
def test_bad_photos_are_rejected_with_reasons_and_take_nobody_along(tmp_path: Path, shared: Path) -> None:
    root = photos(tmp_path / "photos", shared)
    good = Image.open(root / "bus_1.jpg").convert("RGB")
    (root / "truncated.jpg").write_bytes((root / "bus_1.jpg").read_bytes()[:2000])
    (root / "text.jpg").write_text("this is no image")
    (root / "empty.png").write_bytes(b"")
    Image.new("RGB", (1, 1)).save(root / "pixel.png")
    small = good.resize((200, 150))
    small.convert("CMYK").save(root / "cmyk.jpg")
    Image.fromarray(np.asarray(small.convert("L")).astype(np.uint16) * 257).save(root / "deep.png")
    alpha = small.convert("RGBA")
    alpha.putalpha(200)
    alpha.save(root / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    small.save(root / "turned.jpg", exif=exif)
    shutil.copy(root / "bus_1.jpg", root / "bus_1.jpeg")
    config = small_config_for_photos(tmp_path / "run", root)
    label.run(config)
    stage = ReconstructStage(config)
    kept, rejects = stage.catalogue().located, stage.rejects()
    assert len(kept) + len(rejects) == 11
    assert {r.id.split("-")[0] for r in rejects} >= {"truncated", "text", "empty", "pixel"}
    assert all(r.error_type == "InputError" and len(r.message) > 20 for r in rejects)
    turned = next(r for r in stage.catalogue().read_all() if r.image_id.startswith("turned"))
    assert (turned.width, turned.height) == (150, 200)


def small_config_for_photos(run: Path, root: Path, *overrides: str) -> RunConfig:
    from sc3d.config_file import load_config

    values = {
        "run": str(run),
        "dataset": {"root": str(root), "category": "bus"},
        "max_reject_fraction": 0.9,
        "pairs": {"targets": 1},
    }
    return load_config(None, overrides, values)


@pytest.mark.usefixtures("ray_session")
def test_one_image_is_described_though_it_can_have_no_labels(tmp_path: Path, shared: Path) -> None:
    root = photos(tmp_path / "photos", shared)
    (root / "bus_2.jpg").unlink()
    config = small_config_for_photos(tmp_path / "run", root)
    with pytest.raises(InputError, match="give at least two"):
        label.run(config)
    label.run(config, until="describe")
    assert len(DescribeStage(config).catalogue().located) == 1
    assert LabelStage(config).artefacts.files() == []


@pytest.mark.usefixtures("ray_session")
def test_too_many_bad_photos_stop_the_run(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    for n in range(4):
        (root / f"text{n}.jpg").write_text("this is no image")
    with pytest.raises(RejectBudgetError, match=r"[234] of 4 records were rejected"):
        label.run(small_config_for_photos(tmp_path / "run", root, "max_reject_fraction=0.05"))


def test_an_empty_folder_and_an_unwritable_run_folder_are_clear_errors(
    tmp_path: Path, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError):
        label.run(small_config_for_photos(tmp_path / "run", tmp_path / "nothing"))
    root = photos(tmp_path / "photos", shared)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SystemExit) as done:
        main(["label", "--images", str(root), "--category", "bus", "--run", str(tmp_path / "file")])
    assert done.value.code == 1
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.usefixtures("ray_session")
@pytest.mark.slow
def test_a_run_on_s3_gives_the_labels_of_a_run_on_disk(finished: RunConfig, toys: Path, bucket: str) -> None:
    config = dataclasses.replace(finished, run=f"{bucket}/runs/small")
    label.run(config)
    assert_same_labels(label_rows(config), label_rows(finished))


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_labels_of_an_undisturbed_one(finished: RunConfig, toys: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(finished, run=str(tmp_path / "run"))
    settings = tmp_path / "run.yaml"
    settings.write_text(json.dumps(to_values(config)))
    command = [sys.executable, "-m", "pipelines.label", "--config", str(settings)]
    for wanted in ("reconstructions", "features", "matches"):
        process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 240
        while not list((tmp_path / "run").glob(f"{wanted}/*/**/*.parquet")) and process.poll() is None:
            assert time.monotonic() < deadline, f"no {wanted} after 240 s"
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").glob("reconstructions/*/*.parquet")}
    subprocess.run(command, check=True, timeout=280, stdout=subprocess.DEVNULL)
    assert {p: p.stat().st_mtime_ns for p in done} == done
    assert_same_labels(label_rows(config), label_rows(finished))


def images_of(**counts: int) -> list[ImageRecord]:
    return [ImageRecord(f"{name}-{i}", f"{name}-{i}.jpg", name) for name, count in counts.items() for i in range(count)]


def test_one_photo_alone_is_refused_with_what_is_needed(tmp_path: Path, shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    shutil.copy(shared / "data" / "photos" / "bus_1.jpg", root / "a.jpg")
    with pytest.raises(SystemExit) as done:
        main(["label", "--images", str(root), "--category", "bus", "--run", str(tmp_path / "run")])
    assert done.value.code == 1
    said = capsys.readouterr().err
    assert "there is one photo alone of bus, and a label links two photos of one category: give at least two" in said
    assert not (tmp_path / "run" / "images.parquet").exists()


def test_photos_without_a_partner_are_told_and_the_others_go_on() -> None:
    said: list[str] = []
    label.check_partners(images_of(bus=1, car=2, cat=1), said.append)
    assert said == ["  photos: there is one alone of bus, cat; it has no partner, and gives no labels"]
    label.check_partners(images_of(car=2, bus=3), said.append)
    assert len(said) == 1
    with pytest.raises(InputError, match="one photo alone of a, b, c, d, e and 1 more"):
        label.check_partners(images_of(a=1, b=1, c=1, d=1, e=1, f=1), said.append)
    annotated = [dataclasses.replace(image, split="test") for image in images_of(dog=2)]
    label.check_partners([*images_of(bus=1), *annotated], said.append)
    assert said[-1].startswith("  photos: there is one alone of bus;")
