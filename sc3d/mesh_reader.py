"""The posed meshes of a run for other programs, as :func:`~sc3d.matching.pixels.verify` takes them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from typing_extensions import NotRequired, TypedDict

from sc3d.artefacts import Artefacts, Catalogue
from sc3d.errors import InputError
from sc3d.geometry.camera import Camera, Pose, yaw_rotation
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.posed_mesh import PosedMesh
from sc3d.images import decode_mask
from sc3d.manifests import IMAGES, read_inputs
from sc3d.near_names import did_you_mean, near_names
from sc3d.parsed import Recipe, read_parsed
from sc3d.records import LOW_CONFIDENCE, MeshViews, Orientation, Reconstruction
from sc3d.schema import Record
from sc3d.shards import COUNTED
from sc3d.store import RunFolder

_TIMING = "timings/orient.json"
_STAGES: dict[str, tuple[str, type[Record], bool]] = {
    "reconstruct": ("reconstructions", Reconstruction, False),
    "render": ("renders", MeshViews, True),
    "orient": ("orientations", Orientation, True),
}
"""What a posed mesh goes through, in order: stage -> its folder, its record, and whether that has folders of categories."""


class _Finished(TypedDict):
    """What is read of ``timings/orient.json``."""

    recipe: NotRequired[Recipe]
    upstream: NotRequired[dict[str, Recipe]]


def meshes(run: str | Path | RunFolder, unsure: bool = False) -> MeshReader:
    """The meshes of a run folder where its photos show them: those that were turned to their fronts last.

    Args:
        run: a local path, ``s3://bucket/prefix``, or what a job returned.
        unsure: also those of which it is not sure which way they face, from which a run makes no labels.

    Raises:
        InputError: there are no such meshes yet, or nobody knows which were made last.
        SchemaError: the folder was written by another version of sc3d, or is damaged.
        StoreError: it cannot be read.
    """
    return MeshReader(run if isinstance(run, RunFolder) else RunFolder(run), unsure)


class MeshReader:
    """Image id -> its posed mesh; see :func:`meshes`. What was made of photos that were replaced since does not count."""

    def __init__(self, run: RunFolder, unsure: bool = False) -> None:
        self.run, self._unsure = run, unsure
        recipes = _last_recipes(run)
        self._artefacts = {
            stage: Artefacts(run, stage, folder, recipes[stage], record, "image_id", by_category)
            for stage, (folder, record, by_category) in _STAGES.items()
            if stage in recipes
        }

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._catalogues["reconstruct"] and image_id in self._catalogues["orient"]

    def __getitem__(self, image_id: str) -> PosedMesh:
        """The mesh of an image in the canonical frame, with the pose, the camera and the mask of its photo.

        Raises:
            InputError: the run has no such image; it was rejected, for the reason that is told; it is not through with it yet; or it is not
                sure which way the mesh faces.
            SchemaError, StoreError: a file cannot be read.
        """
        if image_id not in self:
            raise InputError(self._why_not(image_id))
        found, turned = (self._catalogues[stage].read([image_id])[image_id] for stage in ("reconstruct", "orient"))
        if not self._unsure and (LOW_CONFIDENCE in found.flags or not turned.counts):
            raise InputError(
                f"{self.run.uri} is not sure which way the mesh of {image_id!r} faces, and meshes that face different ways verify nothing: "
                f"say it with sc3d orient {self.run.uri}, or take it as it is with sc3d.meshes(..., unsure=True)"
            )
        return posed_mesh_of(found, turned)

    @cached_property
    def _inputs(self) -> pa.Table:
        return read_inputs(self.run).select(COUNTED.names)

    @cached_property
    def _catalogues(self) -> dict[str, Catalogue]:
        found = {stage: self._artefacts[stage].catalogue(self._inputs) for stage in ("reconstruct", "orient")}
        for catalogue in found.values():
            catalogue.refuse_damaged()
        return found

    def _why_not(self, image_id: str) -> str:
        known = self._inputs["id"].to_pylist()
        if image_id not in known:
            return f"{self.run.uri} has no image {image_id!r}{did_you_mean(map(repr, near_names(image_id, known)))}; {IMAGES} lists them"
        for stage, artefacts in self._artefacts.items():
            for reject in artefacts.rejects(self._inputs):
                if reject.id == image_id:
                    return (
                        f"{self.run.uri} has no mesh of {image_id!r}: {stage} rejected it ({reject.error_type}: {reject.message})"
                    )
        return f"{self.run.uri} has no mesh of {image_id!r} yet: the same sc3d label on it goes on where it stopped"


def posed_mesh_of(found: Reconstruction, turned: Orientation) -> PosedMesh:
    """A reconstruction in the canonical frame, where its photo shows it."""
    pose = Pose(found.rotation, found.translation, found.scale).turned(turned.turn)
    return PosedMesh(turned_mesh(found, turned), pose, Camera(found.intrinsics, found.width, found.height), decode_mask(found.mask))


def turned_mesh(found: Reconstruction, turned: Orientation) -> Mesh:
    """The mesh of an image in the canonical frame, after the yaw correction."""
    return Mesh((found.vertices @ yaw_rotation(turned.turn).T).astype(np.float32), found.faces)


def _last_recipes(run: RunFolder) -> dict[str, str]:
    """Stage -> recipe, of the orientations that were made last and of what they were made from."""
    last = read_parsed(run, _TIMING, _Finished) if run.exists(_TIMING) else _Finished()
    if (recipe := last.get("recipe")) and (upstream := last.get("upstream")):
        return {**upstream, "orient": recipe}
    recipes = {}
    for stage, (folder, _, _) in _STAGES.items():
        found = sorted({name.split("/")[1] for name in run.names(folder, ".parquet")})
        if len(found) > 1:
            raise InputError(
                f"{run.uri} holds {folder} of {len(found)} recipes, and nobody noted which were made last: "
                "the same sc3d label on it notes it"
            )
        if found:
            recipes[stage] = found[0]
    if not {"reconstruct", "orient"} <= recipes.keys():
        raise InputError(f"{run.uri} holds no meshes that were turned to their fronts; sc3d label makes them")
    return recipes
