"""A template mesh, and the bytes that it travels in: the same numbering of vertices wherever it is used."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sc3d.errors import GeometryError
from sc3d.geometry.mesh import Mesh

GREY = 0.75
"""The albedo of a template without colours."""

_DIGITS = 16


@dataclass(frozen=True, eq=False)
class Template:
    """A category's shape: ``mesh`` in the canonical frame (y up, front +z, box centred, longest side 1), ``colours`` (F, 3) float32 linear
    RGB in 0 to 1, the albedo of each face.

    Raises:
        GeometryError: the colours do not fit the mesh.
    """

    mesh: Mesh
    colours: np.ndarray

    def __post_init__(self) -> None:
        colours = np.ascontiguousarray(self.colours, np.float32)
        if colours.shape != self.mesh.faces.shape or not np.isfinite(colours).all():
            raise GeometryError(f"{len(self.mesh.faces)} faces need as many finite colours, got {colours.shape}")
        object.__setattr__(self, "colours", colours)

    @cached_property
    def digest(self) -> str:
        """Hash of its content: two templates with one digest are the same mesh with the same numbering."""
        return hashlib.sha256(self.encode()).hexdigest()[:_DIGITS]

    def encode(self) -> bytes:
        """The template as safetensors; the same template gives the same bytes."""
        return save(
            {
                "vertices": self.mesh.vertices.astype(np.float32),
                "faces": self.mesh.faces.astype(np.int32),
                "colours": self.colours,
            }
        )


def decode_template(data: bytes, where: str = "template") -> Template:
    """Inverse of :meth:`Template.encode`.

    Raises:
        GeometryError: damaged, or not a template.
    """
    try:
        arrays = load(data)
        return Template(Mesh(arrays["vertices"], arrays["faces"]), arrays["colours"])
    except (SafetensorError, KeyError, ValueError, GeometryError) as error:
        raise GeometryError(f"{where}: not a readable template ({error}); delete it and run again") from None
