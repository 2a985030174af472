"""``references/<recipe>.parquet``: the meshes that the others of each category are registered to.

They are kept whole: what becomes of the photos that they are of makes no registration anew.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sc3d.geometry.mesh import Mesh
from sc3d.records import Reference
from sc3d.store import RunFolder


@dataclass(frozen=True, eq=False)
class CategoryReferences:
    """The references of a category, and a ``key`` that stands for their content."""

    meshes: tuple[Mesh, ...]
    key: str


class ReferenceBook:
    """Category -> its references, of one recipe; each is looked up when it is first asked for, and then kept."""

    def __init__(self, run: RunFolder, recipe: str) -> None:
        self._run, self._file = run, f"references/{recipe}.parquet"
        self._known: dict[str, CategoryReferences] = {}

    def get(self, category: str) -> CategoryReferences | None:
        """The references of a category, ``None`` where none were chosen yet."""
        if category not in self._known and (rows := [one for one in self._rows() if one.category == category]):
            rows.sort(key=lambda one: one.number)
            self._known[category] = CategoryReferences(tuple(Mesh(one.vertices, one.faces) for one in rows), _key(rows))
        return self._known.get(category)

    def store(self, chosen: Mapping[str, Mapping[str, Mesh]]) -> None:
        """Add the references of some categories, as meshes by image id, the most central first."""
        rows = [one for one in self._rows() if one.category not in chosen]
        for category, meshes in chosen.items():
            for number, (image_id, mesh) in enumerate(meshes.items()):
                rows.append(Reference(category, number, image_id, mesh.vertices.astype(np.float32), mesh.faces))
        self._run.write_records(Reference, self._file, rows)

    def _rows(self) -> list[Reference]:
        return self._run.read_records(Reference, self._file) if self._run.exists(self._file) else []


def _key(rows: Sequence[Reference]) -> str:
    found = 0
    for one in rows:
        found = zlib.crc32(one.faces.tobytes(), zlib.crc32(one.vertices.tobytes(), found))
    return f"{found:08x}"
