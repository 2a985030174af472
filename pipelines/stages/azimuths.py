"""From which side each photo was taken, by its aligned and yaw-corrected mesh."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipelines.stages.orient import OrientStage
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.config import RunConfig
from sc3d.geometry.camera import camera_azimuth
from sc3d.matching.pairs import CueReader, ImageCues


def read_azimuths(config: RunConfig) -> CueReader:
    """Azimuths of the cameras around the yaw-corrected meshes, by the aligned poses; all categories are read at once."""
    poses = ReconstructStage(config).catalogue().columns(["image_id", "rotation", "translation"])
    turns = OrientStage(config).catalogue().columns(["image_id", "category", "turn"])
    of = dict(zip(poses.column("image_id").to_pylist(), posed_azimuths(poses).tolist(), strict=True))
    known: dict[str, tuple[list[str], list[float]]] = {}
    for image_id, category, turn in zip(*(turns.column(n).to_pylist() for n in ("image_id", "category", "turn")), strict=True):
        ids, values = known.setdefault(category, ([], []))
        ids.append(image_id)
        values.append((of.get(image_id, np.nan) + turn) % 360)
    return lambda category: ImageCues(known[category][0], np.array(known[category][1]))


def posed_azimuths(poses: pa.Table) -> np.ndarray:
    """Azimuths (N,) in degrees of the cameras of N reconstructions, by their columns ``rotation`` and ``translation``, before the yaw of
    their meshes is corrected; NaN where a pose is not finite."""
    return camera_azimuth(_stacked(poses.column("rotation"), 3, 3), _stacked(poses.column("translation"), 3))


def _stacked(column: pa.ChunkedArray, *shape: int) -> np.ndarray:
    """A column of lists as an array of arrays of a shape; of an empty column, too."""
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(values.reshape(-1, *shape))
