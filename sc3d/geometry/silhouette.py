"""A differentiable soft silhouette as a function of log scale and translation, at a fixed rotation.

The reference is PyTorch3D's SoftSilhouetteShader (Ravi et al. 2020; after Liu et al., Soft Rasterizer, ICCV 2019): a pixel's alpha falls
off with the logistic of its squared distance to the triangles. That renderer multiplies over all triangles near a pixel.
:class:`OutlineRenderer` takes the distance to the outline of their union instead, which is what a silhouette loss responds to, and
differentiates it through the motion of the nearest outline point. Its cost follows the outline's length.

Every loss here is a function of a few weighted areas of the silhouette, so :meth:`Silhouette.areas` is the whole differentiable interface,
and another renderer (:mod:`sc3d.geometry.silhouette_pytorch3d`) fits behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sc3d.errors import GeometryError
from sc3d.geometry import contour
from sc3d.geometry.camera import Camera
from sc3d.geometry.mesh import Mesh

# The shader's defaults: sigma in squared normalised units (the image's short side is 2), and the alpha at which its blur is cut off.
SIGMA = 1e-4
CUT_OFF = 1e-4
# Least depth in camera units at which a vertex can be projected.
NEAR = 1e-6


# Log scale and translation (3,): what a silhouette is a function of.
Parameters = tuple[float, np.ndarray]


class Silhouette(Protocol):
    """A rendered silhouette on a canvas of H x W pixels."""

    @property
    def alpha(self) -> np.ndarray:
        """Soft silhouette (H, W) float32 in [0, 1]."""

    @property
    def coverage(self) -> np.ndarray:
        """Hard silhouette (H, W) bool: pixel centres that a triangle covers."""

    def areas(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weighted areas of the soft silhouette and their derivatives.

        Args:
            weights: (C, H, W) float32 maps.

        Returns:
            ``sum_p weights[c, p] * alpha[p]`` (C,) and its derivative (C, 4) by log scale and the three numbers of t.
        """


class SilhouetteRenderer(Protocol):
    """Renders one mesh at one rotation into one camera."""

    def render(self, log_scale: float, translation: np.ndarray) -> Silhouette:
        """The silhouette of the mesh at ``X_cam = exp(log_scale) * R @ X + t``, t (3,).

        Raises:
            GeometryError: part of the mesh is at or behind the camera, or a parameter is not finite.
        """


def check_pose(log_scale: float, translation: np.ndarray, nearest: float) -> None:
    """Refuse a pose that cannot be rendered; ``nearest`` is the least z of the mesh after rotation, ``R @ X``.

    Raises:
        GeometryError: part of the mesh is at or behind the camera, or a parameter is not finite.
    """
    scale = float(np.exp(log_scale))
    if not (np.isfinite(translation).all() and np.isfinite(scale)):
        raise GeometryError(f"cannot render at log scale {log_scale} and translation {translation.tolist()}: not finite")
    least = scale * nearest + float(translation[2])
    if not least > NEAR:
        raise GeometryError(f"the mesh reaches behind the camera (least depth {least:.3g}); move it along +z or make it smaller")


def canvas_intrinsics(camera: Camera, margin: int) -> np.ndarray:
    """K (3, 3) of the image with ``margin`` pixels more on each side."""
    K = camera.K.copy()
    K[:2, 2] += margin
    return K


@dataclass(frozen=True, eq=False)
class OutlineSilhouette:
    """A hard silhouette with a soft band of M pixels along its outline.

    ``coverage`` (H, W) bool; ``pixels`` (M,) flat indices of the band; ``band`` (M,) its alpha; ``jacobian`` (M, 4) derivative of that
    alpha by log scale and t.
    """

    coverage: np.ndarray
    pixels: np.ndarray
    band: np.ndarray
    jacobian: np.ndarray

    @property
    def alpha(self) -> np.ndarray:
        """Soft silhouette (H, W) float32 in [0, 1]."""
        result = self.coverage.astype(np.float32)
        result.reshape(-1)[self.pixels] = self.band
        return result

    def areas(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weighted areas (C,) for ``weights`` (C, H, W), and their derivatives (C, 4) by log scale and t."""
        flat = np.ascontiguousarray(weights, np.float32).reshape(len(weights), -1)
        values, derivatives = np.empty(len(flat)), np.empty((len(flat), 4))
        contour.weighted_areas(self.coverage.reshape(-1), self.pixels, self.band, self.jacobian, flat, values, derivatives)
        return values, derivatives


class OutlineRenderer:
    """Soft silhouettes of one mesh at one rotation, from the outline of its projection.

    Args:
        mesh: any triangle mesh; it may be open, and its winding does not matter.
        rotation: R (3, 3).
        camera: intrinsics and size of the image.
        margin: pixels that the canvas is larger than the image on each side, so that what leaves the image can be measured.
        sigma: sharpness in squared normalised units, where the image's short side is 2 (PyTorch3D's unit).
        overlap: n in ``alpha = 1 - (1 - logistic)^n``. With 1 the soft outline (alpha 1/2) lies on the hard one. The reference
            multiplies over all triangles whose blur overlaps there, which widens its silhouette by about ``1.3 sqrt(sigma)``; 4
            reproduces that.

    One renderer keeps scratch images and must not be used by two threads at once.
    """

    def __init__(
        self, mesh: Mesh, rotation: np.ndarray, camera: Camera, margin: int = 0, sigma: float = SIGMA, overlap: float = 1.0
    ) -> None:
        self.rotated = np.ascontiguousarray(mesh.vertices @ np.asarray(rotation, np.float64).T)
        self.faces = mesh.faces
        self.edges, self.offsets, self.opposites = contour.edge_opposites(mesh.faces)
        self.nearest = float(self.rotated[:, 2].min())
        self.K = canvas_intrinsics(camera, margin)
        self.margin = margin
        self.overlap = overlap
        self.sigma = sigma * (min(camera.width, camera.height) / 2) ** 2
        self.radius = float(np.sqrt(self.sigma * np.log(1 / CUT_OFF - 1)))
        shape = (camera.height + 2 * margin, camera.width + 2 * margin)
        self._nearest = np.full(shape, np.inf, np.float32)
        self._owner = np.zeros(shape, np.int32)
        self._pixels = np.zeros(shape[0] * shape[1], np.int32)

    def render(self, log_scale: float, translation: np.ndarray) -> OutlineSilhouette:
        """The silhouette at ``X_cam = exp(log_scale) * R @ X + t`` on the canvas (image plus margin).

        Raises:
            GeometryError: part of the mesh is at or behind the camera, or a parameter is not finite.
        """
        t = np.ascontiguousarray(translation, np.float64)
        check_pose(log_scale, t, self.nearest)
        xyz, uv = np.empty_like(self.rotated), np.empty((len(self.rotated), 2))
        contour.project_points(self.rotated, float(np.exp(log_scale)), t, self.K, NEAR, xyz, uv)
        coverage = np.empty(self._nearest.shape, np.uint8)
        contour.fill_triangles(uv, self.faces, coverage)
        count = contour.outline_band(
            uv, self.edges, self.offsets, self.opposites, coverage, self.radius, self._nearest, self._owner, self._pixels
        )
        pixels = self._pixels[:count].copy()
        band, jacobian = np.empty(count), np.empty((count, 4))
        contour.soft_band(pixels, self._owner, self.edges, xyz, uv, t, self.K, coverage, self.sigma, self.overlap, band, jacobian)
        self._nearest.reshape(-1)[pixels] = np.inf
        return OutlineSilhouette(coverage.view(bool), pixels, band, jacobian)
