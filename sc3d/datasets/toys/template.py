"""The toys' own parametric shapes as templates: an instance of a category that is in no benchmark."""

from __future__ import annotations

import zlib

import numpy as np

from sc3d.datasets.toys.catalogue import CATALOGUE
from sc3d.datasets.toys.meshing import mesh_toy
from sc3d.datasets.toys.paint import Paintwork
from sc3d.geometry.templates.load import make_template
from sc3d.geometry.templates.template import Template

# Benchmarks are drawn from [seed, split, category, index]; a list of another length is another stream.
_STREAM = 7_041_776


def toy_template(category: str, instance: int = 0) -> Template | None:
    """A shape of a category, or ``None`` where the toys have none of that name. Each ``instance`` is another one."""
    if category not in CATALOGUE:
        return None
    toy = CATALOGUE[category].build(np.random.default_rng([_STREAM, zlib.crc32(category.encode()), instance]))
    mesh = mesh_toy(toy)
    middles = mesh.vertices[mesh.faces].mean(axis=1)
    colours = Paintwork(toy).colours(mesh.own(middles))
    return make_template(mesh.vertices, mesh.faces, colours)
