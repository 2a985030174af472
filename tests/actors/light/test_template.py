"""Templates posed in toys by the network: numbering, pose, abstention, and what makes a recipe another one."""

import numpy as np
import pytest

from actors.align import JudgeTemplate
from actors.base import check_actors, run_actors
from actors.light.template import TemplateReconstruct
from actors.registry import actor_of
from sc3d.config_file import load_config
from sc3d.datasets.toys import ToysConfig, generate_toys, toy_truth
from sc3d.datasets.toys.template import toy_template
from sc3d.geometry.camera import camera_azimuth
from sc3d.images import load_image
from sc3d.records import LOW_CONFIDENCE
from sc3d.store import RunFolder

NAME = "templates/car.safetensors"


@pytest.fixture(scope="module")
def cars(tmp_path_factory):
    """Three whole cars as rows, and a run folder with another instance as their template."""
    root = tmp_path_factory.mktemp("cars")
    images = {"trn": 0, "val": 0, "test": 3}
    generate_toys(root / "toys", ToysConfig(("car",), images, occlusion=0.0, truncation=0.0, workers=1, seed=50, held_out_seed=51))
    RunFolder(root / "run").write_bytes(NAME, toy_template("car").encode())
    rows = []
    for path in sorted((root / "toys/truth/car").iterdir()):
        truth = toy_truth(path)
        image = load_image(str(root / f"toys/JPEGImages/car/{path.stem}.jpg"))
        height, width = truth.mask.shape
        rows.append(
            {
                "image_id": path.stem,
                "image": image,
                "mask": truth.mask,
                "width": width,
                "height": height,
                "template": NAME,
                "facing": None,
                "truth": truth,
            }
        )
    return root / "run", rows


def configured(run, *options):
    return load_config(None, [f"run={run}", "reconstruct.mesh=template", "reconstruct.template=toys", *options])


def reconstruct(config, rows):
    outcomes = run_actors([TemplateReconstruct(config), JudgeTemplate(config)], rows, "image_id", "reconstruct")
    assert [outcome.reject for outcome in outcomes] == [None] * len(rows)
    return [outcome.row for outcome in outcomes]


@pytest.fixture(scope="module")
def posed(cars):
    run, rows = cars
    return reconstruct(configured(run), rows)


def test_contracts_fit():
    given = ["image_id", "image", "mask", "width", "height", "facing", "template"]
    check_actors([TemplateReconstruct, JudgeTemplate], given)


def test_toys_are_posed_by_another_instance_facing_the_right_way(posed):
    for one in posed:
        truth = one["truth"].pose
        gap = camera_azimuth(one["rotation"], one["translation"]) - camera_azimuth(truth.R, truth.t)
        assert abs((gap + 180) % 360 - 180) <= 30
        assert one["iou_after"] > 0.75
        assert one["iou_before"] == one["iou_after"]


def test_all_photos_share_the_templates_numbering(posed):
    template = toy_template("car")
    for one in posed:
        assert one["numbering"] == template.digest
        np.testing.assert_array_equal(one["faces"], template.mesh.faces)
        # Only stretched: each axis by one factor.
        for axis in range(3):
            ratio = one["vertices"][:, axis] / np.where(
                np.abs(template.mesh.vertices[:, axis]) > 0.05, template.mesh.vertices[:, axis], np.nan
            )
            assert np.nanstd(ratio) < 1e-5


def test_a_photo_that_is_unsure_is_flagged_and_stands(cars, posed):
    run, rows = cars
    strict = reconstruct(configured(run, "reconstruct.min_confidence=1000"), rows[:1])[0]
    assert LOW_CONFIDENCE in strict["flags"]
    np.testing.assert_array_equal(strict["vertices"], posed[0]["vertices"])
    lenient = reconstruct(configured(run, "reconstruct.min_confidence=0"), rows[:1])[0]
    assert (LOW_CONFIDENCE in lenient["flags"]) == (lenient["confidence"] < 0)


def test_without_a_template_the_mask_is_inflated_and_aligned(cars):
    run, rows = cars
    one = reconstruct(configured(run), [{**rows[0], "template": None}])[0]
    assert one["numbering"] == ""
    assert LOW_CONFIDENCE not in one["flags"]
    assert one["iou_after"] > 0.9


def test_a_photo_without_the_object_and_a_damaged_template_are_rejects(cars):
    run, rows = cars
    RunFolder(run).write_bytes("templates/broken.safetensors", b"no template")
    bad = [{**rows[0], "mask": np.zeros_like(rows[0]["mask"])}, {**rows[1], "template": "templates/broken.safetensors"}]
    config = configured(run)
    outcomes = run_actors([TemplateReconstruct(config)], bad, "image_id", "reconstruct")
    assert [outcome.reject.error_type for outcome in outcomes] == ["InputError", "GeometryError"]


def test_a_template_is_chosen_with_its_align_and_its_orientation(tmp_path):
    config = configured(tmp_path)
    assert actor_of(config, "reconstruct.mesh") is TemplateReconstruct
    assert actor_of(config, "align") is JudgeTemplate
    assert (config.match.tau_reprojection, config.label.min_agreement) == (0.06, 0.15)
    assert configured(tmp_path, "label.min_agreement=0").label.min_agreement == 0
    assert load_config(None, ["reconstruct.mesh=inflate"]).label.min_agreement == 0
    assert config.orient.estimator == "none"
    assert load_config(None, ["reconstruct.mesh=inflate"]).orient.estimator == "joint"
    asked = configured(tmp_path, "orient.estimator=consensus")
    assert asked.orient.estimator == "consensus"


def test_the_recipe_holds_the_weights_and_not_where_the_template_lies(tmp_path):
    one = TemplateReconstruct.made_of(configured(tmp_path))
    assert one == TemplateReconstruct.made_of(configured(tmp_path / "other"))
    assert len(one["weights"]["efficientnet_lite0"]) == 64
