"""Annotation files of others become labels that training reads, or an error that says which annotation and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from label_run import SIZES, annotation_files, cells, contents, make_run, stored

from pipelines.folder.images import IMAGES
from pipelines.jobs.export import export_labels
from pipelines.jobs.import_labels import import_labels
from pipelines.stages.label import label_catalogue
from sc3d.config import RunConfig
from sc3d.datasets.label_export.options import ExportOptions
from sc3d.errors import ConfigError, InputError
from sc3d.grid import Letterbox
from sc3d.records import ImageRecord
from sc3d.store import RunFolder
from training.data import LabelledPairs


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    return make_run(str(tmp_path / "run"), tmp_path / "photos")


def test_training_reads_imported_labels(run: RunConfig, tmp_path: Path) -> None:
    export_labels(run, str(tmp_path / "anns"), ExportOptions("diy-sc"))
    found = import_labels(run, str(tmp_path / "anns"))
    rows = label_catalogue(run, found.recipe).read_all()

    class Described:
        def __init__(self, image_id: str) -> None:
            self.letterbox = Letterbox(*SIZES[int(image_id.rpartition("-")[2]) % 4])

    pairs = LabelledPairs(rows, Described)  # type: ignore[arg-type]
    pairs.features = Described  # type: ignore[assignment,method-assign]
    assert len(pairs) == found.pairs
    sample = pairs.sample(0, 0, ["bus-0~bus-2"], 50)[0]
    assert set(zip(sample.source_cells.tolist(), sample.target_cells.tolist(), strict=True)) == cells(
        run, stored(run)["bus-0~bus-2"]
    )


def test_import_twice_is_one_import_and_exports_again(run: RunConfig, tmp_path: Path) -> None:
    export_labels(run, str(tmp_path / "anns"), ExportOptions("diy-sc"))
    found = import_labels(run, str(tmp_path / "anns"))
    before = contents(Path(found.uri))
    assert import_labels(run, str(tmp_path / "anns")) == found
    assert contents(Path(found.uri)) == before
    export_labels(run, str(tmp_path / "again"), ExportOptions("diy-sc", labels=found.recipe))
    once, twice = (annotation_files(tmp_path / name) for name in ("anns", "again"))
    for category, items in once.items():
        for item, other in zip(
            *(sorted(i, key=lambda a: (a["src_imname"], a["trg_imname"])) for i in (items, twice[category])), strict=True
        ):
            assert {(*s, *t) for s, t in zip(item["source_kps"], item["target_kps"], strict=True)} == {
                (*s, *t) for s, t in zip(other["source_kps"], other["target_kps"], strict=True)
            }
    card = (tmp_path / "again" / "README.md").read_text()
    assert "imported from 2 annotation files" in card
    assert "GrabCut" not in card
    with pytest.raises(ConfigError, match="no evidence"):
        export_labels(run, str(tmp_path / "narrow"), ExportOptions(labels=found.recipe, tau_geo=0.01))


def write_annotations(folder: Path, items: object, name: str = "trn/bus_anns.pt") -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    torch.save(items, folder / name)
    return str(folder)


def annotation(**changes: object) -> dict[str, object]:
    item = {"src_imname": "photo 0.jpg", "trg_imname": "photo 1.jpg", "source_kps": [[14.0, 28.0]], "target_kps": [[0.0, 826.0]]}
    return {**item, **changes}


def test_repeated_pairs_become_one_and_mirrored_ones_are_left_out(run: RunConfig, tmp_path: Path) -> None:
    second = annotation(source_kps=[[14.0, 28.0], [28.0, 28.0]], target_kps=[[0.0, 826.0], [14.0, 0.0]])
    folder = write_annotations(tmp_path / "anns", [annotation(), second, annotation(flip=True), annotation(flip=False)])
    found = import_labels(run, folder)
    assert (found.pairs, found.labels, found.annotations, found.mirrored) == (1, 2, 4, 1)
    row = stored(run, found.recipe)["bus-0~bus-1"]
    assert cells(run, row) == {(2 * 60 + 1, 59 * 60), (2 * 60 + 2, 1)}
    assert np.isnan([row.cosine[0], row.cycle_error[0], row.geodesic_error[0], row.tau_cc, row.tau_geo]).all()


def test_unknown_images(run: RunConfig, tmp_path: Path) -> None:
    folder = write_annotations(tmp_path / "anns", [annotation(), annotation(trg_imname="../../etc/passwd")])
    with pytest.raises(InputError, match=r"bus_anns\.pt: .*'bus' has no image \.\./\.\./etc/passwd"):
        import_labels(run, folder)
    assert import_labels(run, folder, skip_unknown=True).unknown == 1
    other = write_annotations(tmp_path / "other", [annotation()], "trn/zebra_anns.pt")
    with pytest.raises(InputError, match="'zebra' has no image"):
        import_labels(run, other)
    with pytest.raises(InputError, match="without a label"):
        import_labels(run, other, skip_unknown=True)


def kept(config: RunConfig) -> dict[str, bytes]:
    """What is in a run folder but for the traces of whoever had it last."""
    return {name: data for name, data in contents(Path(config.run)).items() if name != "status.json" and "lease" not in name}


def test_nothing_is_written_when_one_file_is_bad(run: RunConfig, tmp_path: Path) -> None:
    folder = write_annotations(tmp_path / "anns", [annotation()])
    write_annotations(tmp_path / "anns", [annotation(source_kps=[[840.0, 0.0]])], "trn/dining table_anns.pt")
    before = kept(run)
    with pytest.raises(InputError, match=r"dining table_anns\.pt: annotation 0 .*outside the frame"):
        import_labels(run, folder)
    assert kept(run) == before


def test_import_refuses_another_version_of_an_image(run: RunConfig, tmp_path: Path) -> None:
    folder = write_annotations(tmp_path / "anns", [annotation(src_imsize=(120, 200))])
    with pytest.raises(InputError, match="120 x 200 pixels, the run's has 200 x 120"):
        import_labels(run, folder)


def test_imported_labels_count_as_long_as_their_photos_stay(run: RunConfig, tmp_path: Path) -> None:
    found = import_labels(run, write_annotations(tmp_path / "anns", [annotation(), annotation(trg_imname="photo 2.jpg")]))
    folder = RunFolder(run.run)
    images = folder.read_records(ImageRecord, IMAGES)

    def counted(**changes: str) -> list[str]:
        changed = [image.replace(**changes) if image.image_id == "bus-2" else image for image in images]
        folder.write_records(ImageRecord, IMAGES, changed)
        return sorted(label_catalogue(run, found.recipe).ids.to_pylist())

    assert counted() == ["bus-0~bus-1", "bus-0~bus-2"]
    assert counted(inputs="another mask") == ["bus-0~bus-1", "bus-0~bus-2"], "labels of others have nothing to do with masks"
    assert counted(photo="another photo") == ["bus-0~bus-1"]
    assert counted(split="test") == ["bus-0~bus-1"], "what is held out is not trained on"
    assert counted() == ["bus-0~bus-1", "bus-0~bus-2"]
