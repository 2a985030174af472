"""Which meshes the others of each category are registered to: chosen once, when a category's meshes are there, and kept."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.stages.orient import shuffled
from pipelines.stages.register import RegisterStage
from sc3d.errors import GeometryError
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.registration.reference import choose_references
from sc3d.geometry.registration.registrable import registrable

SAMPLE = 20
"""Meshes of a category that its references are chosen among."""


def assign_references(stage: RegisterStage, items: pa.Table) -> None:
    """Choose the references of those categories of ``items`` (:data:`~sc3d.shards.ITEMS`) that have none."""
    chosen = {}
    for category in pc.unique(items["category"]).to_pylist():
        if stage.book.get(category) is None:
            ids = items.filter(pc.equal(items["category"], category))["id"].to_pylist()
            chosen[category] = _choose(stage, sorted(ids, key=shuffled)[:SAMPLE])
    if chosen:
        stage.book.store(chosen)


def _choose(stage: RegisterStage, image_ids: Sequence[str]) -> dict[str, Mesh]:
    meshes = stage.meshes(image_ids)
    chosen = choose_references(meshes)
    while unfit := [image_id for image_id in chosen if not _is_registrable(meshes[image_id])]:
        meshes = {image_id: mesh for image_id, mesh in meshes.items() if image_id not in unfit}
        chosen = choose_references(meshes)
    return {image_id: meshes[image_id] for image_id in chosen}


def _is_registrable(mesh: Mesh) -> bool:
    try:
        registrable(mesh)
    except GeometryError:
        return False
    return True
