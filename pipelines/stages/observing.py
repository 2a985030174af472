"""What an image of a run tells a class shape: its features by a method, and its depth, of its posed mesh or of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from pipelines.runner.stage import Stage
from pipelines.stages.depth import MESH, DepthStage, depth_of
from pipelines.stages.describe import DescribeStage
from pipelines.stages.methods import adapter_identity, method_images
from pipelines.stages.orient import OrientStage
from pipelines.stages.pairs import PreparedImages
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.class_shapes.observation import Depth, Observation, depth_raster, observe
from sc3d.config import RunConfig
from sc3d.evaluation.methods import METHODS, Method
from sc3d.features import Features
from sc3d.geometry.camera import Camera, Pose, yaw_rotation
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.raster import Raster
from sc3d.images import decode_mask
from sc3d.records import DepthMap, Orientation, Reconstruction


class Observed(NamedTuple):
    """An image as a class shape sees it, with its depth, its mask (H, W) bool, the flat features (side * side, C) of all cells, and the
    reconstruction that the depth is of."""

    observation: Observation
    depth: Depth
    mask: np.ndarray
    features: np.ndarray
    reconstruction: Reconstruction

    @property
    def n_bytes(self) -> int:
        """Memory of the arrays."""
        return sum(a.nbytes for a in (self.observation.features, self.depth.values, self.mask, self.features))


class ObservingStage(Stage):
    """A stage that reads images as a class shape sees them."""

    upstream: tuple[type[Stage], ...] = (ReconstructStage, OrientStage, DescribeStage)
    command = "represent"

    def reads(self) -> tuple[str, ...]:
        fused = ("match.alpha", "match.beta") if self.method.is_zero_shot else ()
        return *self.options, "represent.features", "represent.poses", *fused

    def identities(self) -> dict[str, str | None]:
        return {"adapter": adapter_identity(self.method, self.whole)}

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        if config.represent.depth != MESH:
            self.upstream = (*self.upstream, DepthStage)
        self._reconstructions: Mapping[str, Reconstruction] = {}
        self._orientations: Mapping[str, Orientation] = {}
        self._depths: Mapping[str, DepthMap] = {}

    @property
    def method(self) -> Method:
        """The method of evaluation whose features it reads."""
        return features_method(self.whole)

    @cached_property
    def observed(self) -> PreparedImages[Observed]:
        """The images, of those that were read ahead."""
        described, reconstructions = self.other(DescribeStage), self.other(ReconstructStage)
        prepare = method_images(self.method, self.whole, described, 0).prepare

        def observed(features: Features) -> Observed:
            one = self._reconstructions[features.image_id]
            flat = prepare(features).descriptors.flat()
            depth = self._depth(one)
            seen = observe(features.image_id, features.letterbox, features.foreground, depth, flat)
            if self.whole.represent.poses:
                seen = replace(seen, pose=self._pose(one))
            return Observed(seen, depth, decode_mask(one.mask), flat, one)

        # Each image is asked for once.
        needed = [reconstructions, *([self.other(DepthStage)] if DepthStage in self.upstream else [])]
        return PreparedImages(described, observed, 0, needed=needed)

    def _depth(self, one: Reconstruction) -> Depth:
        return depth_of(self._depths[one.image_id]) if DepthStage in self.upstream else mesh_depth(one)

    def _pose(self, one: Reconstruction) -> np.ndarray | None:
        """From the frame that the category's meshes share to the camera's; ``None`` where it is open which way the mesh faces."""
        found = self._orientations[one.image_id]
        return one.rotation @ yaw_rotation(found.turn).T if found.counts else None

    def read_ahead(self, image_ids: Sequence[str]) -> None:
        """Read the reconstructions and depths of the images that are asked for next, each of their files once."""
        self._reconstructions = self.other(ReconstructStage).known.read(image_ids)
        self._orientations = self.other(OrientStage).known.read(image_ids)
        self._depths = self.other(DepthStage).known.read(image_ids) if DepthStage in self.upstream else {}


def features_method(config: RunConfig) -> Method:
    """The method of evaluation whose features class shapes are made of."""
    return METHODS[config.represent.features]


def mesh_depth(reconstruction: Reconstruction) -> Depth:
    """The depth of a posed mesh, on a coarse raster over the whole image, and the focal length that it is posed with."""
    width, height = reconstruction.width, reconstruction.height
    small = depth_raster(width, height)
    camera = Camera(reconstruction.intrinsics, width, height).resized(*small)
    pose = Pose(reconstruction.rotation, reconstruction.translation, reconstruction.scale)
    maps = Raster(Mesh(reconstruction.vertices, reconstruction.faces)).render(pose, camera, *small)
    return Depth(np.where(maps.mask, maps.depth, np.nan), max(width, height) / float(reconstruction.intrinsics[0, 0]))
