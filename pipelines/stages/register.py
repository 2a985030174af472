"""reconstructions + orientations -> meshes warped onto the references of their category -> ``registrations/``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.base import Row
from actors.registry import is_rehearsal
from pipelines.folder.references import ReferenceBook
from pipelines.runner.stage import Stage
from pipelines.stages.orient import OrientStage
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.config import RunConfig
from sc3d.errors import UpstreamError
from sc3d.geometry.camera import yaw_rotation
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.registration.registrable import Registrable, registrable
from sc3d.records import Orientation, Reconstruction, References, Registration
from sc3d.shards import Shard, shard_name


class RegisterStage(Stage):
    """Each mesh under the references of its category, which :mod:`pipelines.jobs.references` chooses before.

    A row is made from its own image and from those of the references: other references make a category's rows anew, and what is made
    of them.
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
        "reference_ids": "images of the references",
        "references": "the references, prepared",
    }

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self._prepared: tuple[References | None, list[Registrable]] = (None, [])

    def needs_whole_category(self) -> bool:
        return True

    @property
    def counted(self) -> pa.Table:
        return self.wanted(self.named()["id"].combine_chunks())

    def inputs_of(self, ids: pa.Array) -> pa.Array:
        return pc.binary_join_element_wise(self.image_inputs(ids, "inputs"), self.reference_inputs(ids), " ")

    def reference_inputs(self, image_ids: pa.Array) -> pa.Array:
        """What the references of some images are made from; an empty text where none were chosen."""
        rows = pc.index_in(image_ids, value_set=self._categories["id"].combine_chunks())
        categories = pc.dictionary_encode(self._categories["category"].combine_chunks().take(rows))
        keys = pa.array([self._key(category) for category in categories.dictionary.to_pylist()], pa.string())
        return pc.fill_null(keys.take(categories.indices), "")

    def _key(self, category: str) -> str:
        chosen = self.book.get(category)
        if chosen is None:
            return ""
        made = self.image_inputs(pa.array(chosen.image_ids, pa.string()), "inputs").to_pylist()
        return shard_name(f"{i} {m}" for i, m in zip(chosen.image_ids, made, strict=True))

    @cached_property
    def _categories(self) -> pa.Table:
        return self.named()

    @cached_property
    def book(self) -> ReferenceBook:
        """The references that were chosen."""
        return ReferenceBook(self.run)

    def load(self, shard: Shard) -> list[Row]:
        reconstructions, orientations = self.made_from(ReconstructStage, shard), self.made_from(OrientStage, shard)
        chosen, references = self._references(shard.category)
        rows: list[Row] = []
        for image_id in shard.ids:
            mesh = turned_mesh(reconstructions[image_id], orientations[image_id])
            rows.append(
                {
                    "image_id": image_id,
                    "category": shard.category,
                    "vertices": mesh.vertices,
                    "faces": mesh.faces,
                    "reference_ids": chosen.image_ids,
                    "references": references,
                }
            )
        return rows

    def _references(self, category: str) -> tuple[References, list[Registrable]]:
        """The references of a category. Those of one are kept: its shards follow each other."""
        chosen = self.book.get(category)
        if chosen is None:
            raise UpstreamError(f"no references of {category} were chosen; run sc3d label again")
        if self._prepared[0] is not chosen:
            meshes = self.meshes(chosen.image_ids)
            lost = [image_id for image_id in chosen.image_ids if image_id not in meshes]
            if lost:
                raise UpstreamError(f"{lost[0]}, a reference of {category}, has no mesh any more; run sc3d label again")
            self._prepared = chosen, [registrable(meshes[image_id]) for image_id in chosen.image_ids]
        return chosen, self._prepared[1]

    def meshes(self, image_ids: Sequence[str]) -> dict[str, Mesh]:
        """Image id -> its mesh in the canonical frame, of those that have one."""
        reconstructions, orientations = (self.other(kind).known.read(image_ids) for kind in (ReconstructStage, OrientStage))
        there = reconstructions.keys() & orientations.keys()
        return {i: turned_mesh(reconstructions[i], orientations[i]) for i in image_ids if i in there}

    def finish(self, row: Row, seconds: float) -> Registration:
        return Registration(row["image_id"], row["category"], row["reference_ids"], row["places"], seconds)


def is_registered(config: RunConfig) -> bool:
    """Whether matches are verified by registrations."""
    return config.match.transfer == "registration" and not is_rehearsal(config)


def turned_mesh(reconstruction: Reconstruction, orientation: Orientation) -> Mesh:
    """The mesh of an image in the canonical frame, after the yaw correction."""
    return Mesh((reconstruction.vertices @ yaw_rotation(orientation.turn).T).astype(np.float32), reconstruction.faces)
