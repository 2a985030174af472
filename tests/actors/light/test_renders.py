"""Learned features of renders tell which way things face."""

from __future__ import annotations

import numpy as np
import pytest

from actors.light.renders import Lite0Renders
from actors.light.weights import SHA256
from actors.offline.renders import NormalRenders
from actors.registry import actor_of
from sc3d.config import RunConfig
from sc3d.config_file import load_config
from sc3d.datasets.toys.template import toy_template
from sc3d.geometry.camera import yaw_rotation
from sc3d.geometry.orientation.joint import solve_joint
from sc3d.geometry.orientation.pooling import turned


def test_the_estimator_chooses_what_describes() -> None:
    assert actor_of(load_config(None, ["orient.estimator=joint"]), "render") is Lite0Renders
    assert actor_of(load_config(None, ["orient.estimator=joint_normals"]), "render") is NormalRenders
    assert SHA256 in str(Lite0Renders.made_of(RunConfig()))


@pytest.mark.slow
def test_a_turned_car_is_told_and_its_descriptor_rolls() -> None:
    actor, turn = Lite0Renders(RunConfig()), [0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    meshes = [template.mesh for i in range(len(turn)) if (template := toy_template("car", 100 + i)) is not None]
    found = []
    for mesh, quarters in zip(meshes, turn, strict=True):
        row = {"vertices": mesh.vertices @ yaw_rotation(90 * quarters).T, "faces": mesh.faces}
        found.append(actor.process(row)["descriptor"])
    assert {(one.shape, one.dtype) for one in found} == {((8, 6080), np.dtype(np.float16))}
    straight = actor.process({"vertices": meshes[2].vertices, "faces": meshes[2].faces})["descriptor"]
    assert np.vdot(turned(straight, 2).astype(float), found[2].astype(float)) > 0.999
    settled, _ = solve_joint(np.stack(found).astype(np.float32), actor.sharpness)
    assert (settled.posteriors.argmax(axis=1) == -np.array(turn) % 4).all()
