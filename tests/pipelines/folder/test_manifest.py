"""The manifests follow the data set: who is in them, what they keep of an earlier plan, and what is refused before anything is written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.folder import manifest
from pipelines.folder.images import IMAGES
from pipelines.folder.manifest import (
    PAIRS,
    planned_by,
    prepare,
    read_image_items,
    read_images,
    read_pair_items,
    read_pair_table,
    read_pairs,
    store_plan,
)
from pipelines.stages.registry import columns_read
from sc3d.config import RunConfig
from sc3d.config_file import load_config, to_values
from sc3d.datasets.content import AnnotatedSet, left_out
from sc3d.errors import InputError, StoreError
from sc3d.matching.pairs import plan_pairs_table
from sc3d.records import ImageRecord, Pair
from sc3d.schema import to_table
from sc3d.store import RunFolder


def made(config: RunConfig) -> RunFolder:
    prepare(config, columns_read(config))
    return RunFolder(config.run)


def changed(config: RunConfig, *overrides: str) -> RunConfig:
    return load_config(None, overrides, to_values(config))


@pytest.fixture
def annotated(tmp_path: Path, toys: Path, configure: Callable[..., RunConfig]) -> RunConfig:
    """Two categories of four images to label, and two each of val and test."""
    return configure(tmp_path / "run", toys)


@pytest.fixture
def photos(tmp_path: Path) -> RunConfig:
    """Three photos a category, and nothing else."""
    for category in ("bus", "cup"):
        for number in range(3):
            add_photo(tmp_path / "photos", category, number)
    values = {"run": str(tmp_path / "run"), "dataset": {"root": str(tmp_path / "photos")}, "pairs": {"strategy": "all"}}
    return load_config(None, (), values)


def add_photo(root: Path, category: str, number: int) -> Path:
    path = root / category / f"{number}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    return path


def test_images_lie_in_the_order_of_their_ids_with_what_they_are_made_of(
    annotated: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "ROWS_A_GROUP", 5)
    looked: list[int] = []
    returned = prepare(annotated, columns_read(annotated), looked.append)
    run = RunFolder(annotated.run)
    images = read_images(run)
    ids = [image.image_id for image in images]
    assert ids == sorted(image.image_id for image in returned)
    assert len(ids) == 16
    assert all(image.photo and image.inputs and image.annotation for image in images)
    assert len({image.photo for image in images}) == len({image.inputs for image in images}) == 16
    assert sum(looked) >= 16, "each photo was looked at"
    file = pq.ParquetFile(pa.BufferReader(run.read_bytes(IMAGES)))
    assert [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)] == [5, 5, 5, 1]
    items = read_image_items(run)
    assert items["id"].to_pylist() == ids
    assert items["category"].to_pylist() == [image.category for image in images]


def test_pairs_to_label_are_of_images_to_label_and_annotated_ones_of_the_others(annotated: RunConfig) -> None:
    run = made(annotated)
    split = {image.image_id: image.split for image in read_images(run)}
    for labelled, splits in ((True, {"trn"}), (False, {"val", "test"})):
        pairs = read_pairs(run, labelled)
        assert {pair.split for pair in pairs} == splits
        assert all({split[pair.source_id], split[pair.target_id]} == {pair.split} for pair in pairs)
        assert read_pair_table(run, labelled).num_rows == len(pairs)
        items = read_pair_items(run, labelled)
        assert [*zip(items["category"].to_pylist(), items["id"].to_pylist(), strict=True)] == [
            (p.category, p.pair_id) for p in pairs
        ]
    counts = {"images": 16, "pairs": len(read_pairs(run, True)) + len(read_pairs(run, False))}
    assert run.read_json("run.json")["counts"] == counts
    # Two targets for each of the eight images.
    assert len(read_pairs(run, True)) == 16


def test_at_most_so_many_annotated_pairs_of_each_category_and_split(annotated: RunConfig) -> None:
    run = made(changed(annotated, "evaluate.max_pairs_per_category=1"))
    pairs = read_pairs(run, labelled=False)
    assert sorted((pair.category, pair.split) for pair in pairs) == [
        (category, split) for category in ("car", "chair") for split in ("test", "val")
    ]
    everything = read_pairs(made(changed(annotated, "evaluate.max_pairs_per_category=100")), labelled=False)
    assert len(everything) > len(pairs)


def test_photos_that_come_and_go_are_in_the_manifests_of_their_day(photos: RunConfig) -> None:
    run = made(photos)
    before = {pair.pair_id for pair in read_pairs(run, labelled=True)}
    assert len(before) == 2 * 3 * 2
    gone = Path(photos.dataset.root) / "bus" / "0.png"
    gone.unlink()
    add_photo(Path(photos.dataset.root), "cup", 7)
    made(photos)
    names = {Path(image.path).relative_to(photos.dataset.root).as_posix() for image in read_images(run)}
    assert names == {"bus/1.png", "bus/2.png", *(f"cup/{number}.png" for number in (0, 1, 2, 7))}
    known = {image.image_id for image in read_images(run)}
    pairs = read_pairs(run, labelled=True)
    assert len(pairs) == 2 + 4 * 3
    assert {end for pair in pairs for end in (pair.source_id, pair.target_id)} == known


def test_a_photo_with_other_content_is_made_of_something_else(photos: RunConfig) -> None:
    run = made(photos)
    before = {image.image_id: image.inputs for image in read_images(run)}
    changed_photo = Path(photos.dataset.root) / "cup" / "1.png"
    Image.new("RGB", (9, 9)).save(changed_photo)
    made(photos)
    after = {image.image_id: image for image in read_images(run)}
    assert [after[i].path for i in before if after[i].inputs != before[i]] == [str(changed_photo)]


def test_a_plan_that_the_stages_made_stays_as_far_as_its_images_do(photos: RunConfig) -> None:
    config = changed(photos, "pairs.strategy=nearest")
    run = made(config)
    assert read_pair_table(run, labelled=True).num_rows == 0, "nothing is known of the images yet"
    images = read_images(run)
    planned = plan_pairs_table(images, photos.pairs, 0)
    store_plan(config, planned, {"bus": "key of buses", "cup": "key of cups"})
    (Path(config.dataset.root) / "bus" / "0.png").unlink()
    made(config)
    kept = read_pairs(run, labelled=True)
    known = {image.image_id for image in read_images(run)}
    assert {pair.pair_id for pair in kept} == {
        pair
        for pair, *ends in zip(*(planned[n].to_pylist() for n in ("pair_id", "source_id", "target_id")), strict=True)
        if set(ends) <= known
    }
    assert planned_by(run) == {"bus": "key of buses", "cup": "key of cups"}
    # Another strategy needs no cues, and plans anew.
    made(photos)
    assert planned_by(run) == {}
    assert len(read_pairs(run, labelled=True)) == 2 + 3 * 2


def test_a_plan_replaces_those_of_its_categories_alone(annotated: RunConfig) -> None:
    run = made(annotated)
    before, held_out = read_pairs(run, labelled=True), read_pair_table(run, labelled=False)
    cars = [image for image in read_images(run) if (image.category, image.split) == ("car", "trn")]
    store_plan(annotated, to_table(Pair, [Pair.of(cars[0], cars[1])]), {"car": "a"})
    after = read_pairs(run, labelled=True)
    assert [pair.pair_id for pair in after if pair.category == "car"] == [Pair.of(cars[0], cars[1]).pair_id]
    assert [pair for pair in after if pair.category == "chair"] != []
    assert {p.pair_id for p in after if p.category == "chair"} == {p.pair_id for p in before if p.category == "chair"}
    assert read_pair_table(run, labelled=False).equals(held_out)
    assert run.read_json("run.json")["counts"] == {"images": 16, "pairs": len(after) + held_out.num_rows}
    store_plan(annotated, to_table(Pair, []), {"chair": "b"})
    assert {pair.category for pair in read_pairs(run, labelled=True)} == {"car"}
    assert planned_by(run) == {"car": "a", "chair": "b"}


def test_what_gave_the_pairs_is_unknown_without_a_plan_or_with_an_unreadable_one(annotated: RunConfig) -> None:
    run = RunFolder(annotated.run)
    assert planned_by(run) == {}
    run.write_bytes(PAIRS, b"PAR1 cut short")
    assert planned_by(run) == {}
    run.write_records(ImageRecord, PAIRS, [])
    assert planned_by(run) == {}


def test_what_cannot_be_used_is_refused_before_anything_is_written(
    annotated: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = ImageRecord("a", str(tmp_path / "a.png"), "car")
    answers: dict[str, Any] = {
        "holds no images of the wanted categories": AnnotatedSet([], []),
        r"other/a\.png and .*a\.png have the same id 'a'; rename one": AnnotatedSet([one, one.replace(path="other/a.png")], []),
    }
    for message, answer in answers.items():
        monkeypatch.setattr(manifest.registry, "read_dataset", lambda *_, answer=answer: answer)
        with pytest.raises(InputError, match=message):
            made(annotated)
    assert not Path(annotated.run).exists()


def test_another_data_set_is_refused_and_leaves_everything_as_it_was(annotated: RunConfig, photos: RunConfig) -> None:
    run = made(annotated)
    before = {name: run.read_bytes(name) for name in (IMAGES, PAIRS, "run.json")}
    with pytest.raises(StoreError, match="choose another run folder"):
        made(dataclasses.replace(photos, run=annotated.run))
    assert {name: run.read_bytes(name) for name in before} == before


def test_what_the_protocol_leaves_out_is_counted(annotated: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    read = manifest.registry.read_dataset

    def with_two_left_out(*arguments: Any) -> AnnotatedSet:
        return dataclasses.replace(read(*arguments), left_out=(left_out("x", "too small"), left_out("y", "too small")))

    monkeypatch.setattr(manifest.registry, "read_dataset", with_two_left_out)
    assert json.loads(made(annotated).read_bytes("run.json"))["counts"]["left_out"] == 2


def test_a_photo_in_a_bucket_is_looked_at_where_the_configuration_says(
    tmp_path: Path, bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that is in the bucket itself, and its photos."""
    client, name = boto3.client("s3", endpoint_url=s3_server), bucket.removeprefix("s3://")
    for key, body in {
        "photos.csv": b"path,category,image_id\na.png,bus,a\nb.png,bus,b\n",
        "a.png": b"a",
        "b.png": b"other",
    }.items():
        client.put_object(Bucket=name, Key=key, Body=body)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    listed = f"{bucket}?scheme=http&endpoint_override={s3_server.removeprefix('http://')}&region=us-east-1"
    dataset = {"kind": "table", "root": f"{bucket}/photos.csv", "download": {"buckets": [listed]}}
    config = load_config(None, (), {"run": str(tmp_path / "run"), "dataset": dataset})
    a, b = prepare(config, columns_read(config))
    assert a.path == f"{bucket}/a.png"
    assert a.photo != b.photo, "both were seen"
