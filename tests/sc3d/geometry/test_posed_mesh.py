"""A posed mesh says what its photo shows, whatever it was made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sc3d.errors import GeometryError, InputError
from sc3d.geometry.camera import Camera, Pose, camera_azimuth
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.posed_mesh import PosedMesh
from tests.posed_toys import posed_toy


@pytest.fixture(scope="module")
def toy() -> PosedMesh:
    return posed_toy(0, 40)


def test_without_a_mask_the_silhouette_is_the_object(toy: PosedMesh) -> None:
    rendered = toy.raster.render(toy.pose, toy.camera, toy.camera.width, toy.camera.height).mask
    np.testing.assert_array_equal(toy.object_mask, rendered)
    mask = ~rendered
    np.testing.assert_array_equal(PosedMesh(toy.mesh, toy.pose, toy.camera, mask).object_mask, mask)


@pytest.mark.parametrize("azimuth", [0, 90, 200])
def test_an_inflated_mask_is_seen_as_it_was_from_the_side_that_was_named(toy: PosedMesh, azimuth: float) -> None:
    found = PosedMesh.inflated(torch.tensor(toy.object_mask), azimuth)
    rendered = PosedMesh(found.mesh, found.pose, found.camera).object_mask
    assert (rendered & toy.object_mask).sum() / (rendered | toy.object_mask).sum() > 0.95
    np.testing.assert_array_equal(found.object_mask, toy.object_mask)
    turned = (camera_azimuth(found.pose.R, found.pose.t) - azimuth + 180) % 360 - 180
    assert abs(turned) < 20


def test_tensors_are_taken_for_everything(toy: PosedMesh) -> None:
    vertices = torch.tensor(toy.mesh.vertices, requires_grad=True)
    mesh = Mesh(vertices, torch.tensor(toy.mesh.faces))  # type: ignore[arg-type]
    pose = Pose(torch.tensor(toy.pose.R), torch.tensor(toy.pose.t, requires_grad=True), toy.pose.scale)  # type: ignore[arg-type]
    camera = Camera(torch.tensor(toy.camera.K), toy.camera.width, toy.camera.height)  # type: ignore[arg-type]
    found = PosedMesh(mesh, pose, camera, torch.tensor(toy.object_mask))  # type: ignore[arg-type]
    xy = np.array([[80.5, 60.5], [70.0, 66.0]])
    np.testing.assert_array_equal(found.raster.cast(pose, camera, xy).depth, toy.raster.cast(toy.pose, toy.camera, xy).depth)


def test_masks_and_descriptors_of_another_size_are_refused(toy: PosedMesh) -> None:
    with pytest.raises(InputError, match=r"the mask of a posed mesh must have the shape \(120, 160\), got \(160, 120\)"):
        PosedMesh(toy.mesh, toy.pose, toy.camera, toy.object_mask.T)
    with pytest.raises(InputError, match=r"the mask of a posed mesh must hold truth values, got uint8"):
        PosedMesh(toy.mesh, toy.pose, toy.camera, toy.object_mask.astype(np.uint8))
    n = len(toy.mesh.vertices)
    with pytest.raises(InputError, match=rf"the descriptors of a posed mesh must have the shape \({n}, D\), got \({n - 1}, 3\)"):
        PosedMesh(toy.mesh, toy.pose, toy.camera, descriptors=np.zeros((n - 1, 3)))


def test_a_mesh_out_of_sight_is_told(toy: PosedMesh) -> None:
    behind = toy.pose.replace(t=-toy.pose.t)
    with pytest.raises(GeometryError, match="the camera sees nothing of the mesh"):
        _ = PosedMesh(toy.mesh, behind, toy.camera).object_mask
