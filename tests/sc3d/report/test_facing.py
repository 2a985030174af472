"""The sides of a mesh, and their names."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from sc3d.datasets.facing import SIDES
from sc3d.datasets.toys.template import toy_template
from sc3d.report.facing import FacingCategory, FacingPage, FacingPhoto, SidePicture, facing_page, nearest_side, side_pictures


def covered(side: SidePicture) -> np.ndarray:
    """Columns of the picture that the mesh covers."""
    data = base64.b64decode(side.picture.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)))[..., 3].any(axis=0)


def test_a_long_object_is_narrow_from_the_front_and_the_rear_and_wide_from_its_sides() -> None:
    sides = {side.name: covered(side).sum() for side in side_pictures(toy_template("bus").mesh)}
    assert list(sides) == list(SIDES)
    assert max(sides["front"], sides["rear"]) < min(sides[name] for name in SIDES if name not in ("front", "rear"))


@pytest.mark.parametrize(
    ("azimuth", "name"), [(0, "front"), (22, "front"), (23, "front-left"), (350, "front"), (-90, "right"), (202, "rear")]
)
def test_the_nearest_side(azimuth: float, name: str) -> None:
    assert nearest_side(azimuth) == name


def test_names_of_others_are_escaped() -> None:
    evil = "<script>alert(1)</script>"
    photo = FacingPhoto("a", evil, "data:,", "", "")
    page = facing_page(FacingPage(evil, (FacingCategory(evil, (), (photo,)),), 1, evil))
    assert evil not in page
