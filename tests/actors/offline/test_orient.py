"""Yaw correction by the category's consensus, seen through the actor."""

import numpy as np
import pytest
import trimesh

from actors.base import run_actors
from actors.offline.orient import ConsensusOrient, JointOrient
from sc3d.config import RunConfig
from sc3d.config_file import parse_config
from sc3d.geometry.camera import yaw_rotation
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.orientation.compass import Compass
from sc3d.geometry.yaw import YAWS, render_yaw_views


def animal(seed):
    """A body along z with a head high up in front (+z): one clear front; proportions vary with the seed."""
    generator = np.random.default_rng(seed)
    body = trimesh.creation.box((0.3, 0.3, 0.9 * generator.uniform(0.9, 1.1)))
    head = trimesh.creation.box((0.2, 0.4, 0.2))
    head.apply_translation((0, 0.3, 0.4 * generator.uniform(0.9, 1.1)))
    both = trimesh.util.concatenate([body, head]).subdivide().subdivide()
    return Mesh(both.vertices, both.faces)


@pytest.fixture(scope="module")
def references():
    return np.stack([render_yaw_views(animal(seed)) for seed in range(5)])


def run(mesh, reference_views, config=None):
    row = {"image_id": "a", "vertices": mesh.vertices, "faces": mesh.faces, "reference_views": reference_views}
    return run_actors([ConsensusOrient(config or RunConfig())], [row], "image_id", "orient")[0]


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_injected_turn_is_undone(references, turn):
    mesh = animal(9)
    turned = Mesh(mesh.vertices @ yaw_rotation(turn).T, mesh.faces)
    result = run(turned, references).row
    assert result["turn"] == -turn % 360
    assert not result["uncertain"]
    assert len(result["votes"]) == len(YAWS)


def test_without_references_the_mesh_is_left_alone():
    for nothing in ([], np.zeros((0, 8, 64, 64), np.float32)):
        result = run(animal(9), nothing).row
        assert result["turn"] == 0
        assert result["uncertain"]
        assert (result["votes"] == -1).all()


def test_more_votes_can_be_asked_for_than_there_are(references):
    result = run(animal(9), references, parse_config({"orient": {"min_votes": 9}})).row
    assert result["uncertain"]
    assert result["turn"] == 0


def test_references_that_do_not_fit_are_a_reject(references):
    assert run(animal(9), references[:, :, :32]).reject.error_type == "InputError"


def test_the_recipe_follows_the_options():
    for option in ("views", "min_votes", "references"):
        assert ConsensusOrient.made_of(parse_config({"orient": {option: 3}})) != ConsensusOrient.made_of(RunConfig())


def compass_row(scores, numbering="", anchored=None):
    """A mesh of which a compass says so: the score of each turn is that of the view that it brings to the front."""
    descriptor = np.repeat(np.asarray(scores, np.float32), 2)[:, None]
    weights = np.zeros((8, 1), np.float32)
    weights[0] = 1
    return {
        "image_id": "a",
        "descriptor": descriptor,
        "numbering": numbering,
        "compass": Compass(weights, sharpness=10, prior=0.94),
        "anchored": anchored,
    }


@pytest.mark.parametrize(
    ("row", "turn", "uncertain"),
    [
        (compass_row([1, 0, 0, 0]), 0, False),
        (compass_row([0, 1, 0, 0]), 90, False),
        (compass_row([0, 0, 0, 1]), 270, False),
        (compass_row([0, 0, 0, 0]), 0, False),
        (compass_row([0, 0, 0.45, 0]), 180, True),
        (compass_row([0, 0, 0.3, 0.3]), 0, True),
        (compass_row([0, 1, 0, 0], numbering="template"), 0, False),
        (compass_row([0, 1, 0, 0], anchored=np.array([0, 0, 1, 0])), 180, False),
        (compass_row([0, 1, 0, 0], anchored=np.array([0.2, 0.4, 0.4, 0])), 0, True),
    ],
)
def test_a_compass_turns_what_is_likely_and_doubts_what_is_not(row, turn, uncertain):
    result = run_actors([JointOrient(RunConfig())], [row], "image_id", "orient")[0].row
    assert (result["turn"], result["uncertain"]) == (turn, uncertain)
    assert result["posterior"].sum() == pytest.approx(1)
    every = run_actors([JointOrient(parse_config({"orient": {"min_certainty": 0.0}}))], [row], "image_id", "orient")[0].row
    assert not every["uncertain"]


def test_what_a_compass_was_not_made_of_is_a_reject():
    row = {**compass_row([0, 0, 0, 0]), "descriptor": np.zeros((8, 2))}
    assert run_actors([JointOrient(RunConfig())], [row], "image_id", "orient")[0].reject.error_type == "InputError"
