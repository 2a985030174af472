"""A template's bytes."""

import numpy as np
import pytest

from sc3d.datasets.toys.template import toy_template
from sc3d.errors import GeometryError
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.templates.template import Template, decode_template


@pytest.fixture(scope="module")
def chair():
    return toy_template("chair")


def test_bytes_keep_numbering_colours_and_digest(chair):
    again = decode_template(chair.encode())
    assert again.digest == chair.digest
    np.testing.assert_array_equal(again.mesh.faces, chair.mesh.faces)
    np.testing.assert_array_equal(again.mesh.vertices, chair.mesh.vertices)
    np.testing.assert_array_equal(again.colours, chair.colours)


@pytest.mark.parametrize("cut", [0, 7, 100, -1])
def test_damaged_bytes_are_a_geometry_error(chair, cut):
    with pytest.raises(GeometryError, match="not a readable template"):
        decode_template(chair.encode()[:cut])


def test_colours_must_fit(chair):
    with pytest.raises(GeometryError, match="colours"):
        Template(chair.mesh, chair.colours[1:])


def test_instances_differ_and_unknown_categories_have_none(chair):
    assert toy_template("chair").digest == chair.digest != toy_template("chair", 1).digest
    assert toy_template("zebra") is None
    assert isinstance(chair.mesh, Mesh)
