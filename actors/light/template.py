"""The mesh of a category's template, stretched and posed in a photo by its silhouette and by EfficientNet-Lite0's features."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

from actors.base import Actor, Row
from actors.light.frames import frame_describer
from actors.light.network import Lite0
from actors.light.weights import SHA256
from actors.offline.reconstruct import OfflineReconstruct, reconstructed
from sc3d.config import RunConfig
from sc3d.geometry.inflate import inflate
from sc3d.geometry.mesh import clean_mesh
from sc3d.geometry.templates.decide import pose_template
from sc3d.geometry.templates.pose import frame_photo
from sc3d.geometry.templates.template import decode_template
from sc3d.geometry.templates.views import TemplateViews
from sc3d.store import RunFolder

# Templates whose views a process keeps, at 60 MB each: shards of one category follow each other.
_KEPT = 3


class TemplateReconstruct(Actor):
    """The reconstruction model's slot: the template of the photo's category, where one fits, else the inflated silhouette.

    The mesh has the template's numbering of vertices, in every photo. Which template that is stands in the manifest
    (:mod:`pipelines.jobs.templates`), so another one makes the photo's artefacts anew.
    """

    requires: ClassVar[Mapping[str, str]] = {
        "image": "upright RGB, (H, W, 3) uint8",
        "mask": "object mask, (H, W) bool",
        "width": "width of the upright image in pixels",
        "height": "height of the upright image in pixels",
        "facing": "degrees from the object's front to the camera, towards its left, if a person said so",
        "template": "file of the run folder with the template mesh that is posed in it, if one fits its category",
    }
    provides: ClassVar[Mapping[str, str]] = OfflineReconstruct.provides
    version: ClassVar[str] = "template-3 inflate-1"
    options: ClassVar[tuple[str, ...]] = ("reconstruct.max_vertices",)

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self._describe = frame_describer(Lite0.from_package())
        self._views = lru_cache(maxsize=_KEPT)(self._rendered)

    @classmethod
    def made_of(cls, config: RunConfig) -> dict[str, Any]:
        """As every actor's, with the network's weights."""
        return {**super().made_of(config), "weights": {"efficientnet_lite0": SHA256}}

    def process(self, row: Row) -> Row:
        """Reconstruct one image.

        Raises:
            InputError: the mask is empty or cannot be inflated.
            GeometryError: the template of the run folder is damaged.
        """
        if row["template"] is None:
            vertices, faces, camera, pose = inflate(row["mask"])
            mesh = clean_mesh(vertices, faces, self.config.reconstruct.max_vertices)
            return reconstructed(mesh.vertices, mesh.faces, camera, pose)
        views = self._views(row["template"])
        photo = frame_photo(row["image"], row["mask"], self._describe)
        found = pose_template(views, photo, (row["width"], row["height"]), row["facing"])
        fitted, numbering = found.fitted, views.template.digest
        mesh = fitted.mesh
        return reconstructed(
            mesh.vertices, mesh.faces, fitted.camera, fitted.pose, numbering=numbering, confidence=found.confidence
        )

    def _rendered(self, name: str) -> TemplateViews:
        return TemplateViews(decode_template(RunFolder(self.config.run).read_bytes(name), name), self._describe)
