"""Where a point of one photo lies in another by their template alone, and the prior that matching makes of it.

Two images of one template share the numbering of their meshes. The surface point that a cell of the source sees is a place on the target's
mesh too, and the target's pose says where in the photo that is. A similarity with that prior is the cosine less a weight times the squared
distance from there, in boxes of the target's object: features decide among what the pose leaves open.

The prior comes from the same poses that verify labels. What was matched with it passes the geodesic filter more easily whether or not the
poses are right: geometry is no independent witness of such labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from sc3d.config import RunConfig
from sc3d.errors import GeometryError
from sc3d.features import Features
from sc3d.geometry.camera import resect
from sc3d.grid import Letterbox

NO_WITNESS = (
    "matches were looked for where the template's pose puts them (match.template_prior), and the same pose verified them: "
    "where a pose is wrong, such labels are wrong and pass"
)
"""What has to be said of labels that were made with the prior."""


def uses_prior(config: RunConfig) -> bool:
    """Whether candidates of a run are found with the prior, where its photos share a template."""
    return config.reconstruct.mesh == "template" and config.match.template_prior > 0


@dataclass(frozen=True, eq=False)
class PosedTemplate:
    """A template's mesh as an image shows it, and where the image would show any place of the template.

    Attributes:
        numbering: hash of the template; two images with the same one share the numbering of vertices.
        letterbox: the image's grid of N = side * side cells.
        extent: longer side of the box around the image's mask, in pixels: the unit of distances.
        corners: (N, 3) int32 vertices of the triangle behind each cell; of a cell that the mesh does not cover, behind the nearest
            covered one.
        barycentric: (N, 3) float32 weights of the corners.
        projected: (V, 2) float64 pixels of all vertices, of hidden ones too; NaN behind the camera.
        on_object: (N,) int64 the foreground cell that is nearest to each cell.
    """

    numbering: str
    letterbox: Letterbox
    extent: float
    corners: np.ndarray
    barycentric: np.ndarray
    projected: np.ndarray
    on_object: np.ndarray

    @classmethod
    def of_features(cls, features: Features) -> PosedTemplate | None:
        """The template of a described image; ``None`` without one, where its pose is not sure, or where the photo shows too little of it
        to tell the camera.

        The camera is found again from the cells whose rays met the mesh, so that features say all that is needed.
        """
        surface = features.surface
        if surface is None or not surface.numbering or not surface.is_sure or not features.foreground.any():
            return None
        hit = np.flatnonzero(surface.fill_distance == 0)
        weights = surface.barycentric.astype(np.float64)
        points = np.einsum("nk,nkd->nd", weights[hit], surface.vertices[surface.corners[hit]].astype(np.float64))
        try:
            projection = resect(points, features.letterbox.centres(surface.cells[hit]))
        except GeometryError:
            return None
        row = np.zeros(features.foreground.size, np.int64)
        row[surface.cells[hit]] = hit
        covered = np.zeros(features.foreground.shape, bool)
        covered.reshape(-1)[surface.cells[hit]] = True
        behind = row[_nearest(covered)]
        return cls(
            numbering=surface.numbering,
            letterbox=features.letterbox,
            extent=features.extent,
            corners=surface.corners[behind].astype(np.int32),
            barycentric=surface.barycentric[behind].astype(np.float32),
            projected=_projected(surface.vertices, projection),
            on_object=_nearest(features.foreground),
        )

    @property
    def n_bytes(self) -> int:
        """Memory of the arrays, for byte-bounded caches."""
        return sum(a.nbytes for a in (self.corners, self.barycentric, self.projected, self.on_object))


def _nearest(inside: np.ndarray) -> np.ndarray:
    """Flat index (N,) of the cell ``inside`` (side, side) that is nearest to each cell; there must be one."""
    _, at = distance_transform_edt(~inside, return_indices=True)
    return np.asarray((at[0] * inside.shape[1] + at[1]).reshape(-1), np.int64)


def _projected(vertices: np.ndarray, projection: np.ndarray) -> np.ndarray:
    seen = vertices.astype(np.float64) @ projection[:, :3].T + projection[:, 3]
    seen[seen[:, 2] <= 0] = np.nan
    return np.asarray(seen[:, :2] / seen[:, 2:])


def share_pose(source: PosedTemplate | None, target: PosedTemplate | None) -> tuple[PosedTemplate, PosedTemplate] | None:
    """Both, if both photos show one template in poses that count; else nothing is known of the pair."""
    if source is None or target is None or source.numbering != target.numbering:
        return None
    return source, target


def places_of(cells: np.ndarray, source: PosedTemplate, target: PosedTemplate) -> np.ndarray:
    """Where the target shows what the flat ``cells`` (K,) of the source see: pixels (K, 2); NaN behind the camera.

    What the target's pose hides is where it would be seen, since the pose errs more than that often: the nearest visible vertex along the
    surface was worse. A place off the target's object is the nearest foreground cell, since the point is on the object.
    """
    seen = np.einsum("kc,kcd->kd", source.barycentric[cells], target.projected[source.corners[cells]])
    known = np.isfinite(seen).all(axis=1)
    at = target.letterbox.cells_of(np.where(known[:, None], seen, 0.0))
    off = known & (target.on_object[at] != at)
    seen[off] = target.letterbox.centres(target.on_object[at[off]])
    return np.asarray(seen)


def reprojection_errors(
    source_cells: np.ndarray, source: PosedTemplate, target_cells: np.ndarray, target: PosedTemplate
) -> np.ndarray:
    """How far matches (N,) between flat cells are from where the template puts their points, (N,) float32: in each photo in object extents,
    the mean of both; ``inf`` behind a camera.

    A geodesic error is in diagonals of the mesh, however small the photo shows it: where an object is seen end on, one that passes can be
    half the object's width.
    """
    errors = np.zeros(len(source_cells))
    for here, cells, there, others in ((source, source_cells, target, target_cells), (target, target_cells, source, source_cells)):
        away = there.letterbox.centres(others) - places_of(cells, here, there)
        errors += np.linalg.norm(away, axis=1) / there.extent / 2
    return np.nan_to_num(errors, nan=np.inf).astype(np.float32)


def squared_distances(
    source_cells: np.ndarray,
    source: PosedTemplate,
    target_cells: np.ndarray,
    target: PosedTemplate,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Squared distances (K, M) float32, in the target's boxes, of its flat cells (M,) from the places of the source's cells (K,); a row of
    zeros where the place is behind the camera."""
    centres = target.letterbox.centres(target_cells)
    places = places_of(source_cells, source, target)
    # From the middle of the object, so that float32 keeps what matters.
    middle = centres.mean(axis=0) if len(centres) else np.zeros(2)
    ends = [torch.from_numpy(((xy - middle) / target.extent).astype(np.float32)).to(device) for xy in (places, centres)]
    across, down = (ends[0][:, None, axis] - ends[1][None, :, axis] for axis in (0, 1))
    return across.square_().add_(down.square_()).nan_to_num_(nan=0.0)
