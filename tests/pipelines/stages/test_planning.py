"""Pairs that go by described images: planned after them, stored, the same when a run is resumed, and without rejected images."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from commit_rows import commit_rows

from pipelines.folder.manifest import planned_by, prepare, read_images, read_pair_table, read_pairs
from pipelines.jobs import label
from pipelines.stages.azimuths import read_azimuths
from pipelines.stages.describe import DescribeStage
from pipelines.stages.embed import EmbedStage
from pipelines.stages.label import LabelStage
from pipelines.stages.match import MatchStage
from pipelines.stages.orient import OrientStage
from pipelines.stages.registry import columns_read
from sc3d.config import PairsConfig, RunConfig
from sc3d.geometry.camera import camera_azimuth
from sc3d.matching.pairs import plan_pairs_table
from sc3d.records import FeatureIndex, Reject
from sc3d.store import RunFolder


def with_pairs(config: RunConfig, folder: Path, strategy: str, targets: int = 1) -> RunConfig:
    """The finished run in a folder of its own, with other pairs."""
    shutil.copytree(config.run, folder)
    return dataclasses.replace(config, run=str(folder), pairs=PairsConfig(strategy=strategy, targets=targets))  # type: ignore[arg-type]


def labelled_pairs(config: RunConfig) -> list[str]:
    catalogue = LabelStage(config).catalogue()
    planned = read_pair_table(RunFolder(config.run), labelled=True)["pair_id"].to_pylist()
    assert all(pair_id in catalogue for pair_id in planned)
    return planned


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(("strategy", "count"), [("all", 24), ("random", 8), ("nearest", 8), ("azimuth", 8)])
def test_a_run_labels_the_pairs_of_each_strategy(finished: RunConfig, tmp_path: Path, strategy: str, count: int) -> None:
    """Two categories of four images to label: 12 ordered pairs each, or one target an image."""
    config = with_pairs(finished, tmp_path / "run", strategy)
    annotated = read_pair_table(RunFolder(config.run), labelled=False)
    label.run(config)
    planned = labelled_pairs(config)
    assert len(planned) == len(set(planned)) == count
    run = RunFolder(config.run)
    assert read_pair_table(run, labelled=False).equals(annotated)
    assert run.read_json("run.json")["counts"] == {"images": 16, "pairs": count + annotated.num_rows}
    assert [p.pair_id for p in read_pairs(run, labelled=True)] == planned
    assert {p.pair_id for p in read_pairs(run, labelled=False)} == set(annotated["pair_id"].to_pylist())


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("strategy", ["nearest", "azimuth"])
def test_a_resumed_run_goes_on_with_the_pairs_that_were_planned(
    finished: RunConfig, tmp_path: Path, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_pairs(finished, tmp_path / "run", strategy)
    label.run(config)
    planned = read_pair_table(RunFolder(config.run), labelled=True)
    for name in [*MatchStage(config).artefacts.files()[-2:], *LabelStage(config).artefacts.files()[-2:]]:
        (Path(config.run) / name).unlink()
    # A run that stops early must not lose the plan, and the plan must not be made again.
    prepare(config, columns_read(config))
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.stages.planning.plan_pairs_table", lambda *_: pytest.fail("planned again"))
        label.run(config)
    assert read_pair_table(RunFolder(config.run), labelled=True).equals(planned)
    assert len(labelled_pairs(config)) == planned.num_rows
    # Made anew from the same artefacts, it is the same.
    (Path(config.run) / "pairs.parquet").unlink()
    label.run(config)
    assert read_pair_table(RunFolder(config.run), labelled=True).equals(planned)
    # Other options are another plan; a strategy that needs no cues leaves no trace of it.
    key = planned_by(RunFolder(config.run))
    label.run(dataclasses.replace(config, pairs=dataclasses.replace(config.pairs, targets=2)))
    assert planned_by(RunFolder(config.run)) not in ({}, key)
    assert read_pair_table(RunFolder(config.run), labelled=True).num_rows > planned.num_rows
    random = dataclasses.replace(config, pairs=PairsConfig(targets=1))
    prepare(random, columns_read(random))
    assert planned_by(RunFolder(config.run)) == {}
    expected = plan_pairs_table([i for i in read_images(RunFolder(config.run)) if i.split == "trn"], random.pairs, random.seed)
    assert read_pair_table(RunFolder(config.run), labelled=True).equals(expected)


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("strategy", ["nearest", "azimuth"])
def test_images_without_features_are_left_out_and_counted(
    finished: RunConfig, tmp_path: Path, strategy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = with_pairs(finished, tmp_path / "run", strategy, targets=3)
    stage = DescribeStage(config)
    victim = next(i.image_id for i in read_images(RunFolder(config.run)) if (i.split, i.category) == ("trn", "car"))
    found = stage.catalogue()
    file = found.files[found.file_of[found.located[victim]]]
    described = stage.run.read_records(FeatureIndex, file)
    reject = Reject(victim, "describe", "InputError", "of a test")
    stage.run.delete(file)
    commit_rows(stage, "car", [one for one in described if one.image_id != victim], [reject])
    label.run(config)
    pairs = read_pairs(RunFolder(config.run), labelled=True)
    others = {i.image_id for i in read_images(RunFolder(config.run)) if i.split == "trn"} - {victim}
    assert {pair.source_id for pair in pairs} == {pair.target_id for pair in pairs} == others
    # Three cars and four chairs. Chairs seen from four sides are not paired with those of the opposite side.
    assert len(pairs) == 3 * 2 + 4 * 3 or (strategy == "azimuth" and len(pairs) == 3 * 2 + 4 * 2)
    assert "1 of 8 images are left out" in capsys.readouterr().err
    assert len(labelled_pairs(config)) == len(pairs)


@pytest.mark.usefixtures("ray_session")
def test_a_lost_feature_file_is_a_reject_of_its_image_alone(
    finished: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = with_pairs(finished, tmp_path / "run", "nearest", targets=3)
    files = sorted(p for p in (tmp_path / "run" / "features").rglob("*.safetensors") if "car" in p.name and "trn" in p.name)
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:1000])
    label.run(config)
    rejects = EmbedStage(config).rejects()
    # A feature file's name is the image's id and what it was made from.
    assert {r.id for r in rejects} == {file.stem.rpartition(".")[0] for file in files[:2]}
    planned = read_pair_table(RunFolder(config.run), labelled=True)
    assert planned.num_rows == 2 + 12
    assert "2 of 8 images are left out" in capsys.readouterr().err


def test_azimuths_are_those_of_the_true_cameras(finished: RunConfig) -> None:
    """The disturbed and partly turned reconstructions of the toys, against the cameras they were generated with."""
    read = read_azimuths(finished)
    gaps = []
    turned = {o.image_id: o for o in OrientStage(finished).catalogue().read_all()}
    for category in ("car", "chair"):
        cues = read(category)
        of = dict(zip(cues.image_ids, cues.values.tolist(), strict=True))
        for image in read_images(RunFolder(finished.run)):
            if image.category == category and image.truth_path and not turned[image.image_id].uncertain:
                truth = np.load(image.truth_path)
                gaps.append(abs((of[image.image_id] - camera_azimuth(truth["R"], truth["t"]) + 180) % 360 - 180))
    assert len(gaps) >= 8
    assert np.median(gaps) < 15
