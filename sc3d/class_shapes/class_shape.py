"""The 3D shape of a category: what it holds, and its file."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from sc3d.class_shapes.pose_prior import PosePrior
from sc3d.class_shapes.prototypes import Prototypes
from sc3d.class_shapes.statistics import GeometryStatistics
from sc3d.errors import SchemaError

VERSION = 2
_FORMAT = "sc3d class shape"
_OWN = ("ids", "keypoints", "matrix", "twins")


@dataclass(frozen=True, eq=False)
class ClassShape:
    """A category's shape of K keypoints and N points, in a frame of its own.

    Attributes:
        category: its name.
        ids: (K,) int64 keypoint ids, ascending.
        keypoints: (K, 3) float64, centred, the farthest two 1 apart.
        statistics: of their geometry.
        matrix: (N, K) float32, rows that sum to 1: the points are ``matrix @ keypoints``; the last K are the keypoints themselves.
        prototypes: of the N points.
        twins: (K,) int64 the keypoint that each becomes in a mirror, by its row here: its own row where it is neutral.
        inverse_focal: median of the annotated images, in 1 / longer sides.
        mirror_gap: what the mirrored shape has more geometric energy: near 0, nothing tells left from right.
        images: how many it was built from.
        poses: what the poses of meshes say of its own.
    """

    category: str
    ids: np.ndarray
    keypoints: np.ndarray
    statistics: GeometryStatistics
    matrix: np.ndarray
    prototypes: Prototypes
    twins: np.ndarray
    inverse_focal: float
    mirror_gap: float
    images: int
    poses: PosePrior

    @property
    def points(self) -> np.ndarray:
        """The dense cloud (N, 3) float64."""
        return np.asarray(self.matrix.astype(np.float64) @ self.keypoints)

    def encode(self) -> bytes:
        """The file: safetensors, with what is no array in its metadata as ``json``."""
        facts = {
            "format": _FORMAT,
            "version": VERSION,
            "category": self.category,
            "inverse_focal": self.inverse_focal,
            "mirror_gap": self.mirror_gap,
            "images": self.images,
            "pose_trust": self.poses.trust,
        }
        arrays = {name: np.ascontiguousarray(value) for name, value in self._arrays().items()}
        return save_safetensors(arrays, {"json": json.dumps(facts)})

    def _arrays(self) -> dict[str, np.ndarray]:
        own = {name: getattr(self, name) for name in _OWN}
        statistics = {f"statistics.{one.name}": getattr(self.statistics, one.name) for one in fields(self.statistics)}
        return {
            **own,
            "poses.rotation": self.poses.rotation,
            **statistics,
            **{f"prototypes.{one.name}": getattr(self.prototypes, one.name) for one in fields(self.prototypes)},
        }


def decode_class_shape(data: bytes, where: str) -> ClassShape:
    """Read a file.

    Raises:
        SchemaError: it is no class shape, of another version, damaged, or its arrays do not fit each other.
    """
    try:
        facts = json.loads(_metadata(data)["json"])
        arrays = load_safetensors(data)
        if (facts["format"], facts["version"]) != (_FORMAT, VERSION):
            raise SchemaError(f"{where}: a {facts['format']} of version {facts['version']}; make it again")
        shape = ClassShape(
            category=str(facts["category"]),
            statistics=GeometryStatistics(*(arrays[f"statistics.{one.name}"] for one in fields(GeometryStatistics))),
            prototypes=Prototypes(*(arrays[f"prototypes.{one.name}"] for one in fields(Prototypes))),
            inverse_focal=float(facts["inverse_focal"]),
            mirror_gap=float(facts["mirror_gap"]),
            images=int(facts["images"]),
            poses=PosePrior(arrays["poses.rotation"], float(facts["pose_trust"])),
            **{name: arrays[name] for name in _OWN},
        )
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise SchemaError(f"{where}: no class shape that can be read ({error})") from None
    _check(shape, where)
    return shape


def _metadata(data: bytes) -> dict[str, str]:
    length = int.from_bytes(data[:8], "little")
    return dict(json.loads(data[8 : 8 + length])["__metadata__"])


def _check(shape: ClassShape, where: str) -> None:
    k, n = len(shape.ids), len(shape.matrix)
    statistics, prototypes = shape.statistics, shape.prototypes
    fits = {
        "ids": shape.ids.shape == (k,) and k >= 4,
        "keypoints": shape.keypoints.shape == (k, 3),
        "matrix": shape.matrix.shape == (n, k) and n >= k,
        "twins": shape.twins.shape == (k,) and ((shape.twins >= 0) & (shape.twins < k)).all(),
        "prototypes": prototypes.features.ndim == 2 and len(prototypes.features) == n,
        "cosines": prototypes.mean.shape == prototypes.deviation.shape == (n,) and (prototypes.deviation > 0).all(),
        "pairs": statistics.pairs.shape[1:] == (4,) and statistics.pair_ab.shape == (len(statistics.pairs), 2, 2),
        "corners": statistics.corners.shape[1:] == (4,) and statistics.corner_ab.shape == (len(statistics.corners), 3, 2),
        "indices": all(_indices(of, k) for of in (statistics.pairs, statistics.corners)),
        "numbers": all(np.isfinite(value).all() for value in shape._arrays().values()),
        "focal length": 0 < shape.inverse_focal < np.inf,
        "poses": shape.poses.rotation.shape == (3, 3) and 0 <= shape.poses.trust < 1,
    }
    wrong = [name for name, right in fits.items() if not right]
    if wrong:
        raise SchemaError(f"{where}: a class shape whose {', '.join(wrong)} do not fit; make it again")


def _indices(values: np.ndarray, count: int) -> bool:
    return values.dtype.kind == "i" and bool(((values >= 0) & (values < count)).all())
