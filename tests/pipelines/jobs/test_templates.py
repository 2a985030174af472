"""Templates of a run: found, compared with its photos, refused where they do not fit, and part of what artefacts are made from."""

from __future__ import annotations

import dataclasses
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import trimesh

from pipelines.folder.manifest import prepare, read_dataset
from pipelines.jobs import evaluate, label
from pipelines.jobs.templates import assign_templates, find_templates
from pipelines.report import page as report
from pipelines.report.metrics import METRICS_FILE
from pipelines.report.summary import print_labels
from pipelines.stages.evaluate import evaluate_stages
from pipelines.stages.match import MatchStage
from pipelines.stages.reconstruct import ReconstructStage
from pipelines.stages.registry import columns_read
from sc3d.config import RunConfig
from sc3d.config_file import load_config
from sc3d.console import PlainConsole
from sc3d.datasets.toys import ToysConfig, generate_toys
from sc3d.datasets.toys.template import toy_template
from sc3d.errors import ConfigError, GeometryError, InputError
from sc3d.geometry.templates.template import Template, decode_template
from sc3d.report.terminal import print_metrics
from sc3d.store import RunFolder

CATEGORIES = ("bottle", "car")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("templates") / "toys"
    images = {"trn": 2, "val": 0, "test": 0}
    generate_toys(root, ToysConfig(CATEGORIES, images, occlusion=0.0, truncation=0.0, workers=1, seed=60, held_out_seed=61))
    return root


def save(template: Template, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.concatenate([255 * template.colours ** (1 / 2.2), np.full((len(template.colours), 1), 255)], axis=1)
    mesh = trimesh.Trimesh(template.mesh.vertices, template.mesh.faces, face_colors=colours.astype(np.uint8), process=False)
    path.write_bytes(mesh.export(file_type="ply"))
    return path


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a car's template, and nothing for bottles."""
    root = tmp_path_factory.mktemp("shapes")
    for instance in (0, 1):
        template = toy_template("car", instance)
        assert template is not None
        save(template, root / "car" / f"{instance}.ply")
    return root


def configured(run: Path, photos: Path, template: Path | str, *options: str) -> RunConfig:
    places = [f"run={run}", f"dataset.root={photos}", "dataset.kind=toys", f"reconstruct.template={template}"]
    return load_config(None, [*places, "reconstruct.mesh=template", *options])


def recipes(config: RunConfig) -> dict[str, str]:
    """Image id -> the inputs that its reconstruction has to be made from."""
    images = prepare(config, columns_read(config), amend=lambda images: assign_templates(config, images))
    return {image.image_id: image.inputs for image in images}


def test_a_category_has_its_file_or_its_folder_or_nothing(tmp_path: Path, photos: Path, shapes: Path) -> None:
    config = configured(tmp_path / "run", photos, shapes)
    assert list(find_templates(config, "car")) == ["0.ply", "1.ply"]
    assert find_templates(config, "bottle") == {}
    one_file = configured(tmp_path / "run", photos, shapes / "car" / "0.ply")
    assert list(find_templates(one_file, "bottle")) == ["0.ply"]
    assert len(find_templates(configured(tmp_path / "run", photos, "toys"), "car")) == 2
    assert find_templates(configured(tmp_path / "run", photos, "toys"), "zebra") == {}
    with pytest.raises(InputError, match="no such file or folder"):
        find_templates(configured(tmp_path / "run", photos, tmp_path / "missing"), "car")


@pytest.mark.slow
def test_the_chosen_template_is_in_the_run_folder_and_stays(tmp_path: Path, photos: Path, shapes: Path) -> None:
    config, told = configured(tmp_path / "run", photos, shapes, "reconstruct.min_template_fit=-2"), []
    images = assign_templates(config, read_dataset(config)[0], told.append)
    names = {image.category: image.template for image in images}
    assert names["bottle"] is None
    assert any("bottle: there is no template" in line for line in told)
    template = decode_template(RunFolder(config.run).read_bytes(str(names["car"])))
    assert template.digest in [one.digest for one in find_templates(config, "car").values()]
    assert str(names["car"]) == f"templates/{template.digest}.safetensors"
    # A photo that is not there any more would change what was found, if it were looked at again.
    again = assign_templates(config, [images[-1]])
    assert again[0].template == names["car"]


@pytest.mark.slow
def test_another_content_of_the_file_makes_its_images_anew_and_a_copy_does_not(tmp_path: Path, photos: Path, shapes: Path) -> None:
    mine = tmp_path / "shapes"
    shutil.copytree(shapes / "car", mine / "car")
    (mine / "car" / "1.ply").unlink()
    config = configured(tmp_path / "run", photos, mine, "reconstruct.min_template_fit=-2")
    before, recipe = recipes(config), ReconstructStage(config).recipe
    assert recipes(config) == before
    shutil.move(mine, tmp_path / "moved")
    moved = configured(tmp_path / "run", photos, tmp_path / "moved", "reconstruct.min_template_fit=-2")
    assert recipes(moved) == before
    other = toy_template("car", 1)
    assert other is not None
    save(other, tmp_path / "moved" / "car" / "0.ply")
    after = recipes(moved)
    changed = {image_id for image_id in before if before[image_id] != after[image_id]}
    assert changed == {image_id for image_id in before if image_id.startswith("car")}
    assert ReconstructStage(moved).recipe == recipe


def test_a_template_that_does_not_fit_is_refused(tmp_path: Path, photos: Path, shapes: Path) -> None:
    """The car's template for bottles: inflated, or stopped with what to do."""
    foreign = shapes / "car" / "0.ply"
    config, told = configured(tmp_path / "run", photos, foreign), []
    bottles = [image for image in read_dataset(config)[0] if image.category == "bottle"]
    images = assign_templates(config, bottles, told.append)
    assert [image.template for image in images] == [None] * len(bottles)
    assert any(line.strip().startswith("bottle: no template fits") for line in told)
    stopping = dataclasses.replace(config, reconstruct=dataclasses.replace(config.reconstruct, template_misfit="stop"))
    with pytest.raises(InputError, match=r"bottle: no template fits.*0\.ply"):
        assign_templates(stopping, bottles)


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory, shapes: Path, ray_session: None) -> RunConfig:
    """A run up to features: cars in poses of a template that all count, and bottles, for which there is none."""
    root = tmp_path_factory.mktemp("annotated")
    images = {"trn": 2, "val": 0, "test": 2}
    generate_toys(
        root / "toys", ToysConfig(CATEGORIES, images, occlusion=0.0, truncation=0.0, workers=1, seed=70, held_out_seed=71)
    )
    options = ("reconstruct.min_template_fit=-2", "reconstruct.min_confidence=0", "evaluate.filter_pairs=0")
    config = configured(root / "run", root / "toys", shapes, *options)
    label.run(config, until="describe")
    return config


@pytest.mark.slow
def test_evaluate_takes_the_templates_prior_where_there_is_one_and_counts_the_others(annotated: RunConfig) -> None:
    """sc3d evaluate --method light-template: cars are found near their places; bottles as without it, and that is said."""
    names = ("copy-position", "zero-shot", "template", "light-template")
    config = dataclasses.replace(annotated, evaluate=dataclasses.replace(annotated.evaluate, methods=names))
    metrics = evaluate.run(config).read_json(METRICS_FILE)
    found = {stage.label: {score.pair_id: score for score in stage.catalogue().read_all()} for stage in evaluate_stages(config)}
    pairs = found["zero-shot"].values()
    bottles = {score.pair_id for score in pairs if score.category == "bottle"}
    cars = {score.pair_id for score in pairs} - bottles
    assert bottles
    assert cars
    for name, fallback in {"light-template": "zero-shot", "template": "copy-position"}.items():
        assert {pair_id for pair_id, score in found[name].items() if score.without_prior} == bottles
        for pair_id in bottles:
            np.testing.assert_array_equal(found[name][pair_id].predicted_xy, found[fallback][pair_id].predicted_xy)
        assert all((found[name][pair_id].predicted_xy != found[fallback][pair_id].predicted_xy).any() for pair_id in cars)
    counts = {count["method"]: count["without_prior"] for count in metrics["counts"]}
    assert counts == {"copy-position": 0, "zero-shot": 0, "template": len(bottles), "light-template": len(bottles)}
    console = PlainConsole(file=io.StringIO(), width=200)
    print_metrics(metrics, console)
    said = f"light-template: {len(bottles)} of {len(found['zero-shot'])} pairs were predicted without the template's prior"
    assert said in console.file.getvalue()  # type: ignore[attr-defined]
    page = Path(report.run(config)).read_text("utf-8")
    assert f"{len(bottles)} were predicted without the template" in page


@pytest.mark.slow
def test_labels_with_the_prior_say_what_verified_them(annotated: RunConfig, tmp_path: Path) -> None:
    shutil.copytree(annotated.run, tmp_path / "run")
    plain = dataclasses.replace(annotated, run=str(tmp_path / "run"))
    config = dataclasses.replace(plain, match=dataclasses.replace(plain.match, template_prior=10.0))
    for one in (plain, config):
        label.run(one)
    before, after = (MatchStage(one).catalogue().read_all() for one in (plain, config))
    cosines = [np.concatenate([one.cosine for one in found if one.category == "car"]).mean() for found in (before, after)]
    kept = [sum(len(one.cosine) for one in found if one.category == "car") for found in (before, after)]
    assert kept[1] > kept[0] > 0
    # The cosine stays that of the features, which the prior has not chosen by alone.
    assert cosines[1] < cosines[0]
    for one, says in ((plain, False), (config, True)):
        console = PlainConsole(file=io.StringIO(), width=200)
        page = report.run(one)
        print_labels(one, page, console)
        printed = console.file.getvalue()  # type: ignore[attr-defined]
        assert ("Not verified independently" in printed) == says
        assert "meshes: template, posed in each photo" in printed
        assert ("Not verified independently" in Path(page).read_text("utf-8")) == says


def test_nothing_is_looked_at_without_templates(tmp_path: Path, photos: Path) -> None:
    config = configured(tmp_path / "run", photos, "toys", "reconstruct.mesh=inflate")
    images = read_dataset(config)[0]
    assert assign_templates(config, images) == images
    rehearsal = configured(tmp_path / "run", photos, "toys", "models.variant=none")
    assert assign_templates(rehearsal, images) == images


def test_bad_options_and_files_are_said(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs reconstruct\.template"):
        find_templates(load_config(None, ["reconstruct.mesh=template"]), "car")
    with pytest.raises(ConfigError, match="lie on one line"):
        configured(tmp_path, photos, "toys", "reconstruct.template_up=-z")
    (tmp_path / "car.glb").write_bytes(b"nothing")
    config = configured(tmp_path / "run", photos, tmp_path / "car.glb")
    with pytest.raises(GeometryError, match=r"car\.glb"):
        assign_templates(config, read_dataset(config)[0])
