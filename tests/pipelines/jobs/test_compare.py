"""Labels by other labellings: an adapter of each is trained and evaluated by name, and labellings are judged beside the filters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.base import run_actors
from pipelines.folder.configuration import stored_values
from pipelines.folder.images import IMAGES
from pipelines.folder.inputs import with_inputs
from pipelines.folder.manifest import read_images, read_pairs
from pipelines.jobs import compare, evaluate
from pipelines.report.metrics import METRICS_FILE
from pipelines.stages.compare import CompareStage, labelled_by
from pipelines.stages.label import LabelStage
from pipelines.stages.registry import columns_read
from sc3d.config import RunConfig
from sc3d.config_file import load_config, to_values
from sc3d.errors import ConfigError, UpstreamError
from sc3d.evaluation.labellings import LABELLINGS
from sc3d.evaluation.pck import common_keypoints
from sc3d.records import ImageRecord
from sc3d.store import RunFolder


def changed(config: RunConfig, *overrides: str) -> RunConfig:
    return load_config(None, overrides, to_values(config))


@pytest.fixture(scope="module")
def copy(finished: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    folder = tmp_path_factory.mktemp("compare") / "run"
    shutil.copytree(finished.run, folder)
    return changed(finished, f"run={json.dumps(str(folder))}")


def spheres(config: RunConfig, folder: Path) -> Path:
    """Maps on which everything lies on one spot, but for the images of chairs, whose halves are apart."""
    folder.mkdir()
    pairs = [p for labelled in (True, False) for p in read_pairs(RunFolder(config.run), labelled=labelled)]
    for image in {i for p in pairs for i in (p.source_id, p.target_id)}:
        directions = np.tile(np.array([1.0, 0.0, 0.0]), (60, 60, 1))
        if image.startswith("chair"):
            directions[:, 30:] = [-1, 0, 0]
        np.save(folder / f"{image}.npy", directions)
    return folder


@pytest.mark.parametrize("name", [name for name, labelling in LABELLINGS.items() if not labelling.carried])
def test_every_labelling_labels_a_pair_from_what_it_declares(name: str, finished: RunConfig) -> None:
    """Those that ask class shapes do so in test_represent.py, where there are some."""
    stage = CompareStage(labelled_by(finished, name))
    (actor,) = (kind(stage.whole) for kind in stage.actors())
    rows = list(stage.load(stage.cut(stage.items())[0]))
    assert rows
    assert [row["error"] for row in rows if "error" in row] == []
    (outcome,) = run_actors([actor], rows[:1], "pair_id", stage.name)
    assert outcome.reject is None


def test_a_pair_without_class_shapes_says_what_makes_them(finished: RunConfig) -> None:
    stage = CompareStage(labelled_by(finished, "3d-cycle-class-shape"))
    (row, *_) = stage.load(stage.cut(stage.items())[0])
    assert isinstance(row["error"], UpstreamError)
    assert "run sc3d represent if they were never run" in str(row["error"])


def test_annotated_keypoints_are_labels_as_they_are_annotated(finished: RunConfig) -> None:
    stage = CompareStage(labelled_by(finished, "keypoints"))
    (actor,) = (kind(stage.whole) for kind in stage.actors())
    rows = list(stage.load(stage.cut(stage.items())[0]))
    for row, outcome in zip(rows, run_actors([actor], rows, "pair_id", stage.name), strict=True):
        source, target = row["annotations"]
        ids, wanted, there = common_keypoints(source, target)
        label = outcome.row["record"]
        found = {tuple(xy): tuple(other) for xy, other in zip(label.source_xy.tolist(), label.target_xy.tolist(), strict=True)}
        truth = {tuple(xy): tuple(other) for xy, other in zip(wanted.tolist(), there.tolist(), strict=True)}
        assert found.items() <= truth.items()
        assert len(ids) - 3 <= len(found)
        assert np.isnan(label.geodesic_error).all()
    assert stage.catalogue().counted.equals(LabelStage(finished).catalogue().counted), "training looks labels up by photos alone"


def test_what_a_person_marks_anew_makes_these_labels_anew(copy: RunConfig) -> None:
    run, before = RunFolder(copy.run), CompareStage(labelled_by(copy, "keypoints")).recipe
    other = CompareStage(labelled_by(copy, "2d")).recipe
    first, *rest = read_images(run)
    moved = first.replace(keypoint_xy=np.asarray(first.keypoint_xy) + 1)
    run.write_records(ImageRecord, IMAGES, with_inputs(run, [moved, *rest], columns_read(copy)))
    assert CompareStage(labelled_by(copy, "keypoints")).recipe != before
    assert CompareStage(labelled_by(copy, "2d")).recipe == other


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_labellings_are_labelled_trained_and_evaluated_by_name(copy: RunConfig) -> None:
    names = ("2d", "2d-cycle", "3d-cycle-geodesic", "diy-sc", "keypoints")
    for name in names:
        compare.run(copy, name)
    kept = {name: sum(x.n_kept for x in CompareStage(labelled_by(copy, name)).catalogue().read_all()) for name in names}
    assert kept["2d"] > kept["2d-cycle"] > 0
    assert kept["2d"] > kept["diy-sc"] > 0
    assert len({CompareStage(labelled_by(copy, name)).recipe for name in LABELLINGS}) == len(LABELLINGS)
    # The project's own labelling by this way keeps the labels of the label stage.
    own = {x.pair_id: x for x in LabelStage(copy).catalogue().read_all()}
    for label in CompareStage(labelled_by(copy, "3d-cycle-geodesic")).catalogue().read_all():
        np.testing.assert_array_equal(label.source_xy, own[label.pair_id].source_xy)
        np.testing.assert_array_equal(label.target_xy, own[label.pair_id].target_xy)
    metrics = evaluate.run(
        changed(copy, f"evaluate.methods={json.dumps([f'labels-{n}' for n in names])}", "evaluate.filter_pairs=0")
    ).read_json(METRICS_FILE)
    values = {r["method"]: r["value"] for r in metrics["pck"] if (r["subset"], r["alpha"], r["average"]) == ("all", 0.1, "image")}
    assert {f"labels-{name} nearest" for name in names[:-1]} | {"labels-keypoints (supervised) nearest"} <= set(values)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_labellings_are_judged_beside_the_filters(copy: RunConfig, tmp_path: Path) -> None:
    def rows(*overrides: str) -> dict[tuple[str, str], dict[str, Any]]:
        chosen = changed(copy, "evaluate.methods=[dino]", "evaluate.labellings=[2d-cycle, 3d-cycle-geodesic, diy-sc]", *overrides)
        return {(row["filter"], row["descriptors"]): row for row in evaluate.run(chosen).read_json(METRICS_FILE)["filters"]}

    free = rows()
    for labelling, same in (("2d-cycle", ("cycle", "2D")), ("3d-cycle-geodesic", ("cycle + geodesic", "2D + 3D"))):
        mine = free[labelling, same[1]]
        assert (mine["kept"], mine["fpr"], mine["pairs"]) == tuple(free[same][key] for key in ("kept", "fpr", "pairs"))
    assert 0 < free["diy-sc", "2D"]["kept"] < free["none", "2D"]["kept"]
    filtered = rows(f"compare.spheres={json.dumps(str(spheres(copy, tmp_path / 'spheres')))}")
    assert 0 < filtered["diy-sc", "2D"]["kept"] < free["diy-sc", "2D"]["kept"]


def test_unknown_labellings_are_refused(finished: RunConfig) -> None:
    with pytest.raises(ConfigError, match=r"no labelling named '4d'.*there are 2d, "):
        compare.run(finished, "4d")
    with pytest.raises(ConfigError, match="no labelling named '4d'"):
        evaluate.run(changed(finished, "evaluate.labellings=[4d]"))
    # The next command does not take over what was refused.
    assert stored_values(finished.run)["evaluate"]["labellings"] == []
