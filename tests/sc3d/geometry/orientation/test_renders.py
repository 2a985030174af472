"""Grey renders: what is seen where, and how bright."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from sc3d.errors import GeometryError
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.orientation.renders import SIDE, render_grey_views
from sc3d.geometry.templates.paint import BACKGROUND


def test_each_view_is_cropped_to_what_is_seen() -> None:
    box = trimesh.creation.box((0.2, 0.3, 1.0))
    pictures, masks = render_grey_views(Mesh(box.vertices + np.array([3.0, 0, 0]), box.faces))
    assert pictures.shape == masks.shape == (2, 8, SIDE, SIDE)
    assert (pictures[~masks] == BACKGROUND).all()
    for mask in masks.reshape(-1, SIDE, SIDE):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert max(height, width) == pytest.approx(SIDE / 1.1, abs=2)
        assert rows.mean() == pytest.approx(SIDE / 2, abs=2)
        assert columns.mean() == pytest.approx(SIDE / 2, abs=2)


def test_faces_are_lit_from_above_whichever_way_they_are_wound() -> None:
    box = trimesh.creation.box((1.0, 1.0, 1.0))
    mesh = Mesh(box.vertices, box.faces)
    flipped = Mesh(box.vertices, box.faces[:, ::-1])
    pictures, masks = render_grey_views(mesh)
    np.testing.assert_array_equal(render_grey_views(flipped)[0], pictures)
    front, mask = pictures[1, 0], masks[1, 0]
    column = front[:, SIDE // 2][mask[:, SIDE // 2]]
    assert column[5] > column[-5] + 20, "the top is brighter than the front"
    # Ambient light, sky and lamp on an albedo of 0.75, for the front from 40 degrees: its normal in the camera's frame is (0, sin, -cos).
    lamp = np.array([-0.5, -0.7, -0.6]) / np.linalg.norm([-0.5, -0.7, -0.6])
    normal = np.array([0, np.sin(np.deg2rad(40)), -np.cos(np.deg2rad(40))])
    light = 0.25 + 0.25 / 2 + 0.55 * max(normal @ lamp, 0)
    assert column[-5] == pytest.approx(255 * (0.75 * light) ** (1 / 2.2), abs=1)


def test_the_right_side_comes_to_the_front_with_the_yaw() -> None:
    """A thing on the front of the mesh is seen in the right half of the view at 45 degrees, and to the left at 315."""
    body = trimesh.creation.box((0.6, 0.6, 0.6))
    nose = trimesh.creation.box((0.1, 0.1, 0.6))
    nose.apply_translation((0, 0, 0.5))
    both = trimesh.util.concatenate([body, nose])
    masks = render_grey_views(Mesh(both.vertices, both.faces))[1]
    plain = trimesh.creation.box((0.6, 0.6, 0.6))
    assert render_grey_views(Mesh(plain.vertices, plain.faces))[1].shape == masks.shape
    right, left = (masks[0, view] for view in (2, 6))
    # The nose is the thin end.
    assert right[:, -SIDE // 3 :].sum() < right[:, : SIDE // 3].sum()
    assert left[:, -SIDE // 3 :].sum() > left[:, : SIDE // 3].sum()


def test_a_mesh_without_extent_is_refused() -> None:
    with pytest.raises(GeometryError, match="one point"):
        render_grey_views(Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]] * 4)))
