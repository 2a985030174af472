"""reconstructions + orientations -> meshes warped onto the references of their category -> ``registrations/``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import pyarrow as pa

from actors.base import Row
from actors.registry import is_rehearsal
from pipelines.folder.references import CategoryReferences, ReferenceBook
from pipelines.runner.stage import Stage
from pipelines.stages.orient import OrientStage
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.config import RunConfig
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.registration.registrable import Registrable, registrable
from sc3d.mesh_reader import turned_mesh
from sc3d.records import Registration
from sc3d.shards import Shard


class RegisterStage(Stage):
    """Each mesh under the references of its category, which :mod:`pipelines.jobs.references` chooses before.

    A row is made from its own image and from the references, so that a category is never registered to some and to others. Matches that
    were verified by registrations stay, as they do where other meshes of the category would turn one round today.
    """

    name = "register"
    folder = "registrations"
    record = Registration
    by_category = True
    slots = ("register",)
    upstream = (ReconstructStage, OrientStage)
    given = {
        "image_id": "image id",
        "category": "object category",
        "vertices": "canonical mesh, after the yaw correction",
        "faces": "triangles",
        "references": "the references, prepared",
    }

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self._prepared: tuple[CategoryReferences | None, list[Registrable]] = (None, [])

    def needs_whole_category(self) -> bool:
        return True

    @property
    def counted(self) -> pa.Table:
        return self.wanted(self._manifest_inputs["id"].combine_chunks())

    def inputs_of(self, ids: pa.Array) -> pa.Array:
        return self.inputs_with_category(ids, self._key_of)

    def _key_of(self, category: str) -> str:
        chosen = self.book.get(category)
        return chosen.key if chosen is not None else ""

    @cached_property
    def book(self) -> ReferenceBook:
        """The references that were chosen."""
        return ReferenceBook(self.run, self.recipe)

    def load(self, shard: Shard) -> list[Row]:
        reconstructions, orientations = self.made_from(ReconstructStage, shard), self.made_from(OrientStage, shard)
        references = self._references(shard.category)
        rows: list[Row] = []
        for image_id in shard.ids:
            mesh = turned_mesh(reconstructions[image_id], orientations[image_id])
            rows.append(
                {
                    "image_id": image_id,
                    "category": shard.category,
                    "vertices": mesh.vertices,
                    "faces": mesh.faces,
                    "references": references,
                }
            )
        return rows

    def _references(self, category: str) -> list[Registrable]:
        """The references of a category, prepared. Those of one are kept: its shards follow each other."""
        chosen = self.book.get(category)
        if self._prepared[0] is not chosen or chosen is None:
            self._prepared = chosen, [registrable(mesh) for mesh in chosen.meshes] if chosen is not None else []
        return self._prepared[1]

    def meshes(self, image_ids: Sequence[str]) -> dict[str, Mesh]:
        """Image id -> its mesh in the canonical frame, of those that have one."""
        reconstructions, orientations = (self.other(kind).known.read(image_ids) for kind in (ReconstructStage, OrientStage))
        there = reconstructions.keys() & orientations.keys()
        return {i: turned_mesh(reconstructions[i], orientations[i]) for i in image_ids if i in there}

    def finish(self, row: Row, seconds: float) -> Registration:
        return Registration(row["image_id"], row["category"], len(row["references"]), row["places"], seconds)


def is_registered(config: RunConfig) -> bool:
    """Whether matches are verified by registrations."""
    return config.match.transfer == "registration" and not is_rehearsal(config)
