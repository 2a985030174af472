"""Render and compare with a stretch: a template's silhouette is fitted to a photo's mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from sc3d.geometry.camera import Camera, Pose, looking_from
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.templates.pose import FramedPhoto
from sc3d.geometry.templates.template import Template
from sc3d.geometry.templates.views import SilhouetteMaker, distance_of, framed_camera, stretched

EVALUATIONS = 260
# First steps of azimuth, elevation and roll in degrees, log height, log length, log scale, and of dx and dy in sides of the frame.
_STEPS = np.array([10, 6, 4, 0.1, 0.12, 0.05, 0.03, 0.03])
_PENALTY = 0.002
_STRETCH_SPREAD = 0.15
_FREE_AZIMUTH = 25.0
_ELEVATIONS = (-10.0, 45.0)


@dataclass(frozen=True, eq=False)
class FittedTemplate:
    """A template stretched and posed in a photo.

    ``mesh``: stretched, in its unit box, with the template's numbering of vertices and faces; ``camera`` of the photo; ``pose`` in it;
    ``iou`` of the soft silhouette with the mask at 64 x 64; ``azimuth`` and ``elevation`` in degrees, ``height`` and ``length`` the
    stretches before the mesh was scaled to its box.
    """

    mesh: Mesh
    camera: Camera
    pose: Pose
    iou: float
    azimuth: float
    elevation: float
    height: float
    length: float


def fit_template(
    template: Template, photo: FramedPhoto, start: tuple[float, float, float, float], size: tuple[int, int]
) -> FittedTemplate:
    """Fit azimuth, elevation, roll, height, length, scale and place of a template to a mask: Nelder and Mead's simplex, 260 evaluations.

    Args:
        template: as it is, not stretched.
        photo: the framed photo.
        start: azimuth and elevation in degrees, height and length, as
            :meth:`~sc3d.geometry.templates.pose.PoseEstimate.start` has them.
        size: width and height of the photo.
    """
    search = _Search(template.mesh, photo, start)
    simplex = np.concatenate([search.start[None], search.start + np.diag(_STEPS)])
    options = {"initial_simplex": simplex, "maxfev": EVALUATIONS, "xatol": 1e-4, "fatol": 1e-5}
    found = minimize(search.loss, search.start, method="Nelder-Mead", options=options).x
    seen, K = search.posed(found)
    azimuth, elevation, roll = (float(value) for value in found[:3])
    height, length = (float(value) for value in np.exp(found[3:5]))
    shape = stretched(template.mesh, height, length)
    # The canonical frame is the unit box: what the stretch made longer is undone in the mesh and goes into the pose's scale.
    side = float(np.ptp(shape.vertices, axis=0).max())
    return FittedTemplate(
        mesh=Mesh(shape.vertices / side, shape.faces),
        camera=Camera(photo.frame.restored(K, 1), *size),
        pose=Pose(looking_from(azimuth, elevation, roll), np.array([0, 0, search.distance]), side),
        iou=search.iou(seen, K),
        azimuth=azimuth % 360.0 % 360.0,
        elevation=elevation,
        height=height,
        length=length,
    )


class _Search:
    """The loss of a fit. Parameters (8,): azimuth, elevation, roll, log height, log length, log scale, dx, dy."""

    def __init__(self, mesh: Mesh, photo: FramedPhoto, start: tuple[float, float, float, float]) -> None:
        azimuth, elevation, height, length = start
        self.distance = distance_of(mesh)
        self.start = np.array([azimuth, elevation, 0, np.log(height), np.log(length), 0, 0, 0])
        self._vertices, self._maker = mesh.vertices, SilhouetteMaker(mesh.faces, fine=1)
        # What is drawn is 0 or 1, so its share in the photo, and that of it in the mask, are sums of these.
        self._shares = np.stack([photo.seen, np.minimum(photo.seen, photo.mask)]).reshape(2, -1).astype(np.float64)
        self._area = float(photo.mask.sum(dtype=np.float64))
        first = stretched(mesh, height, length).vertices
        self._K = framed_camera(first, looking_from(azimuth, elevation, 0), self.distance)

    def posed(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Vertices (V, 3) in the camera's frame, and K (3, 3) in sides of the photo's frame."""
        azimuth, elevation, roll, height, length, scale, dx, dy = parameters
        R = looking_from(azimuth, elevation, roll)
        seen = self._vertices @ (R * np.exp([0.0, height, length])).T
        seen[:, 2] += self.distance
        K = self._K.copy()
        K[0, 0] *= np.exp(scale)
        K[1, 1] *= np.exp(scale)
        # Scaling keeps the middle of the frame where it is.
        K[:2, 2] = 0.5 + (K[:2, 2] - 0.5) * np.exp(scale) + (dx, dy)
        return seen, K

    def iou(self, seen: np.ndarray, K: np.ndarray) -> float:
        """Soft IoU with the mask, of what lies in the photo: beyond its border nobody knows where the object ends."""
        drawn, intersection = self._shares @ self._maker.cover(seen, K).reshape(-1)
        return float(intersection / max(drawn + self._area - intersection, 1e-9))

    def loss(self, parameters: np.ndarray) -> float:
        """1 - IoU, and what is unlikely: a roll, large stretches, another side, and a camera below or far above."""
        azimuth, elevation, roll, height, length = parameters[:5]
        seen, K = self.posed(parameters)
        if seen[:, 2].min() <= 0.05 * self.distance:
            return 2.0
        beyond = max(abs(azimuth - self.start[0]) - _FREE_AZIMUTH, 0.0)
        low, high = _ELEVATIONS
        off = max(low - elevation, elevation - high, 0.0)
        unlikely = roll**2 / 4 + (height**2 + length**2) / (4 * _STRETCH_SPREAD**2) + beyond**2 + off**2
        return 1 - self.iou(seen, K) + _PENALTY * unlikely
