"""Surface normals all around, without a network."""

from __future__ import annotations

import numpy as np
import pytest

from actors.base import run_actors
from actors.offline.renders import NormalRenders
from sc3d.config import RunConfig
from tests.sc3d.geometry.orientation.test_pooling import animal


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_a_mesh_is_described_and_one_without_extent_is_a_reject(scale: float) -> None:
    mesh = animal()
    row = {"image_id": "a", "vertices": scale * mesh.vertices, "faces": mesh.faces}
    (found,) = run_actors([NormalRenders(RunConfig())], [row], "image_id", "render")
    if scale:
        assert found.row["descriptor"].shape == (8, 1024)
        assert found.row["descriptor"].dtype == np.float16
        assert found.row["sharpness"] == NormalRenders.sharpness
    else:
        assert found.reject is not None
        assert found.reject.error_type == "GeometryError"
