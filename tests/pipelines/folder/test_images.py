"""Images are found in a manifest without decoding more of it than the stretch that they are in."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.folder.images import IMAGES, ImageManifest
from sc3d.errors import SchemaError, StoreError
from sc3d.manifests import labelled_images, read_inputs
from sc3d.records import ImageRecord, Pair
from sc3d.schema import to_table
from sc3d.store import RunFolder

IDS = [f"i{number:02}" for number in range(10)]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path)
    images = [
        ImageRecord(
            i, f"{i}.png", "car" if n < 4 else "bus", "test" if n == 3 else "trn", photo=f"p{n}", inputs=f"m{n}", annotation=f"a{n}"
        )
        for n, i in enumerate(IDS)
    ]
    run.write_table(IMAGES, to_table(ImageRecord, images), rows_a_group=3)
    return run


def test_every_image_is_found_and_no_other(run: RunFolder) -> None:
    images = ImageManifest(run)
    assert len(images) == 10
    assert list(images) == IDS
    assert [images[i].path for i in reversed(IDS)] == [f"{i}.png" for i in reversed(IDS)]
    for other in ("a", "i035", "z"):
        assert other not in images
    assert images.ids_of("car") == set(IDS[:4])
    assert images.ids_of("boat") == set()


def test_one_image_takes_one_stretch(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    images, decoded = ImageManifest(run), []
    read = images._file.read
    monkeypatch.setattr(
        images, "_file", type("Watched", (), {"read": lambda _, group: (decoded.append(group), read(group=group))[1]})()
    )
    assert [images[i].image_id for i in ("i04", "i05", "i03")] == ["i04", "i05", "i03"]
    assert decoded == [1]


def test_what_rows_are_made_of_is_there_by_column_also_without_a_manifest(run: RunFolder, tmp_path: Path) -> None:
    found = read_inputs(run).to_pylist()
    assert found[3] == {"id": "i03", "inputs": "m3", "annotation": "a3", "photo": "p3"}
    assert [row["id"] for row in found] == IDS
    assert labelled_images(run).to_pylist() == [i for i in IDS if i != "i03"]
    assert read_inputs(RunFolder(tmp_path / "none")).to_pylist() == []


def test_a_manifest_that_is_none_is_refused(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(StoreError):
        ImageManifest(run)
    run.write_records(Pair, IMAGES, [])
    with pytest.raises(SchemaError):
        ImageManifest(run)
