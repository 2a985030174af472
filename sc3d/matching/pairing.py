"""Two posed meshes that were made outside a run: how a place of one is found on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from sc3d.config import TransferName
from sc3d.errors import ConfigError, GeometryError
from sc3d.features import Surface
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.posed_mesh import PosedMesh
from sc3d.geometry.registration.reference import COUNT, choose_references
from sc3d.geometry.registration.registrable import Registrable, registrable
from sc3d.geometry.registration.warp import registered
from sc3d.matching.transfer import Transfer, transfer_of

TEMPLATE: Literal["template"] = "template"
PairTransfer = TransferName | Literal["template"]
"""How a place is found on another mesh: those of a configuration, or "template", where equal vertex numbers are equal places."""

_KEPT = 32
BALL_RADIUS = 0.4
"""Radius of geodesic balls in mesh diagonals, as in a run by default: a half error beyond it is infinite."""


@dataclass(frozen=True, eq=False)
class Pairing:
    """How a place of one of two meshes is found on the other.

    Args:
        source, target: welded meshes, posed.
        name: see :data:`PairTransfer`.
        references: meshes of the category, for "registration": both are warped onto the three most central of them
            (:func:`~sc3d.geometry.registration.reference.choose_references`). Without any, onto each other.

    Raises:
        ConfigError: an unknown name, or its library is not installed.
        GeometryError: a mesh is not welded, or the two cannot be of one template.
    """

    source: PosedMesh
    target: PosedMesh
    name: PairTransfer = "registration"
    references: Sequence[Mesh] = ()

    def __post_init__(self) -> None:
        names = (*get_args(TransferName), TEMPLATE)
        if self.name not in names:
            raise ConfigError(f"there is no transfer '{self.name}'; choose one of {', '.join(names)}")
        for side, one in (("source", self.source), ("target", self.target)):
            _refuse_seams(one.mesh, side)
        if self.name == TEMPLATE and not np.array_equal(self.source.mesh.faces, self.target.mesh.faces):
            raise GeometryError("the two meshes have different faces, so they are not of one template; choose another transfer")

    @property
    def asks_descriptors(self) -> bool:
        """Whether the descriptors of the vertices have a say."""
        return self.name not in ("registration", TEMPLATE)

    @property
    def transfer(self) -> Transfer:
        """What is asked where the meshes share no template."""
        return transfer_of("nearest" if self.name == TEMPLATE else self.name)

    def numbered(self, surface: Surface) -> Surface:
        """A surface of either mesh that says whether the two are of one template."""
        return replace(surface, numbering=TEMPLATE if self.name == TEMPLATE else "")

    def places(self, posed: PosedMesh) -> np.ndarray | None:
        """Where the references put the vertices of one of the two meshes, (R, V, 6); ``None`` where nobody asks."""
        if self.name != "registration":
            return None
        return _places(posed.mesh, self._chosen)

    @property
    def _chosen(self) -> tuple[Mesh, ...]:
        if not self.references:
            both = self.source.mesh, self.target.mesh
            return both[:1] if both[0] is both[1] else both
        by_name = {f"{number:06d}": mesh for number, mesh in enumerate(self.references)}
        return tuple(by_name[name] for name in choose_references(by_name, COUNT))


@lru_cache(maxsize=_KEPT)
def _registrable(mesh: Mesh) -> Registrable:
    return registrable(mesh)


@lru_cache(maxsize=_KEPT)
def _places(mesh: Mesh, references: tuple[Mesh, ...]) -> np.ndarray:
    return registered(_registrable(mesh), [_registrable(one) for one in references])


@lru_cache(maxsize=_KEPT)
def _refuse_seams(mesh: Mesh, side: str) -> None:
    doubled = len(mesh.vertices) - len(np.unique(mesh.vertices, axis=0))
    if doubled:
        raise GeometryError(
            f"the {side}'s mesh has {doubled} vertices that lie on others, so distances along it stop at seams; weld it with "
            "sc3d.clean_mesh(mesh.vertices, mesh.faces)"
        )
