"""A depth as monocular networks give it, made of a toy's own: for trials without weights, beside the posed meshes' depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from scipy.ndimage import gaussian_filter

from actors.base import Actor, Row
from actors.offline.disturb import seeded_generator
from sc3d.class_shapes.observation import depth_of_nearness, depth_raster
from sc3d.datasets.toys import toy_truth
from sc3d.errors import InputError
from sc3d.geometry.raster import Raster

_BLUR, _NOISE = 2.0, 0.02
"""Pixels of the raster that a network's edges are soft over, and its unsteadiness in ranges of nearness."""
_BACKGROUND = 0.6
"""Range of the distance behind the object, in the object's distance."""


class ToyDepth(Actor):
    """The toy's depth as nearness of unknown scale and shift, blurred, with noise, and read as that of a network is."""

    requires: ClassVar[Mapping[str, str]] = {
        "image_id": "image id",
        "width": "width of the upright image in pixels",
        "height": "height of the upright image in pixels",
        "truth_path": "known mesh and camera (.npz)",
    }
    provides: ClassVar[Mapping[str, str]] = {"depth": "(h, w) float16 over the whole image, in a unit of its own"}
    version: ClassVar[str] = "toy-depth-1"
    options: ClassVar[tuple[str, ...]] = ("seed",)

    def process(self, row: Row) -> Row:
        """The depth of one image.

        Raises:
            InputError: it has no truth file, or one of another size.
        """
        if not row["truth_path"]:
            raise InputError(
                f"{row['image_id']}: represent.depth = toys needs a known mesh, and this image has none; use another depth"
            )
        truth = toy_truth(row["truth_path"])
        if truth.mask.shape != (row["height"], row["width"]):
            raise InputError(f"{row['image_id']}: the truth is of an image of another size; generate the toys again")
        width, height = depth_raster(row["width"], row["height"])
        maps = Raster(truth.mesh).render(truth.pose, truth.camera.resized(width, height), width, height)
        middle = float(np.median(maps.depth[maps.mask])) if maps.mask.any() else 1.0
        # Behind the object, a ground that rises to the horizon.
        ground = middle * (1 + _BACKGROUND * np.linspace(1, 0, height)[:, None] ** 2) + np.zeros((height, width))
        nearness = 1 / np.where(maps.mask, maps.depth, np.maximum(ground, middle))
        rng = seeded_generator(self.config.seed, row["image_id"])
        scale, shift = rng.uniform(0.5, 2), rng.uniform(0, 0.5) / middle
        soft = gaussian_filter(scale * (nearness + shift), _BLUR)
        noise = gaussian_filter(rng.normal(size=soft.shape), _BLUR) * 2 * _BLUR * np.sqrt(np.pi)
        return {"depth": depth_of_nearness(soft + _NOISE * np.ptp(soft) * noise)}
