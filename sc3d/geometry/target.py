"""The object mask that a silhouette is fitted to, at the working resolution, and what is measured against it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sc3d.arrays import as_numpy
from sc3d.errors import InputError
from sc3d.geometry.camera import Camera


@dataclass(frozen=True, eq=False)
class MaskTarget:
    """A mask (H, W) bool and the camera of its size, inside a canvas with ``margin`` pixels more on each side."""

    mask: np.ndarray
    camera: Camera
    margin: int

    @classmethod
    def at_resolution(cls, mask: np.ndarray, camera: Camera, resolution: int, margin: float) -> MaskTarget:
        """The mask, shrunk if its long side exceeds ``resolution``; ``margin`` in long sides of the result.

        Raises:
            InputError: the mask is not a boolean image of the camera's size, or it is empty (also if only at the working resolution).
        """
        mask = as_numpy(mask)
        if mask.shape != (camera.height, camera.width) or mask.dtype != bool:
            raise InputError(
                f"the mask must be boolean and of the camera's size {camera.width} x {camera.height}, got {mask.dtype} {mask.shape}"
            )
        if not mask.any():
            raise InputError("the mask is empty; there is nothing to align to")
        factor = min(1.0, resolution / max(mask.shape))
        if factor < 1:
            width, height = (max(round(n * factor), 1) for n in (camera.width, camera.height))
            mask = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) >= 0.5
            camera = camera.resized(width, height)
            if not mask.any():
                raise InputError(
                    f"the mask vanishes at the working resolution of {resolution} pixels; the object is too thin or small"
                )
        return cls(np.ascontiguousarray(mask), camera, max(round(margin * max(mask.shape)), 1))

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(np.count_nonzero(self.mask))

    @property
    def window(self) -> tuple[slice, slice]:
        """The image's rows and columns on the canvas."""
        height, width = self.mask.shape
        return slice(self.margin, self.margin + height), slice(self.margin, self.margin + width)

    def on_canvas(self, image: np.ndarray) -> np.ndarray:
        """An image (H, W) on the canvas, zero outside, float32."""
        return np.pad(image.astype(np.float32), self.margin)

    def iou(self, coverage: np.ndarray) -> float:
        """Intersection over union, inside the image, with a hard silhouette ``coverage`` on the canvas."""
        inside = coverage[self.window]
        intersection = np.count_nonzero(inside & self.mask)
        return float(intersection / (np.count_nonzero(inside) + self.area - intersection))

    def outside_share(self, coverage: np.ndarray) -> float:
        """Share of the silhouette on the canvas that lies outside the image; 1 if there is no silhouette."""
        total = np.count_nonzero(coverage)
        return 1.0 - float(np.count_nonzero(coverage[self.window]) / total) if total else 1.0

    def free_sides(self) -> tuple[np.ndarray, np.ndarray]:
        """The mask's box ``(left, top, right, bottom)`` in pixels, and which of these sides do not touch the image's border (4,) bool."""
        height, width = self.mask.shape
        columns, rows = np.flatnonzero(self.mask.any(axis=0)), np.flatnonzero(self.mask.any(axis=1))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        return box.astype(np.float64), np.array([box[0] > 0, box[1] > 0, box[2] < width, box[3] < height])

    def distance_weights(self, dilation: int, interior_weight: float) -> tuple[np.ndarray, float]:
        """The distance-transform loss as weights of the silhouette's pixels (3D-SC, stage 1).

        ``L = 1/(HW) sum_p alpha_p D_out(p) + D_in(p) (1 - lambda alpha_p)`` is ``constant + sum_p weights_p alpha_p``. Distances are
        squared, to the mask dilated by ``dilation`` pixels, and divided by the image's diagonal.

        Returns:
            ``weights`` (H, W) float64, and the loss's scale: ``1/(HW) sum_p D_out + lambda D_in``.
        """
        height, width = self.mask.shape
        grown = depth_inside(~self.mask) <= dilation
        outer = depth_inside(~grown)
        # A mask that fills the image has no outside in it; then the outside begins at the border.
        inner = depth_inside(grown) if not grown.all() else depth_inside(np.pad(grown, 1))[1:-1, 1:-1]
        unit = height * width * np.hypot(height, width)
        outer, inner = outer**2 / unit, interior_weight * inner**2 / unit
        return outer - inner, float(outer.sum() + inner.sum())


def depth_inside(foreground: np.ndarray) -> np.ndarray:
    """Distance of each foreground pixel to the nearest background pixel (H, W), in pixels."""
    rough = cv2.distanceTransform(foreground.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE).astype(np.float64)
    # Its last bits depend on where its arrays lie in memory. Squared distances on a grid are whole numbers, so rounding makes them exact.
    return np.sqrt(np.rint(rough**2))
