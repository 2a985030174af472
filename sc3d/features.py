"""Everything that is known about one image when pairs are matched: 2D features, 3D descriptors, surface hits, geodesic balls.

Written once an image as safetensors, read by every pair that the image is in. Sources are stored at their native grid and never fused,
with the background, since the adapter's convolutions and group norm see it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from sc3d.errors import FeatureError, SchemaError
from sc3d.grid import Letterbox

FEATURES_VERSION = 1


@dataclass(frozen=True, eq=False)
class GeodesicBalls:
    """For each centre vertex, the vertices within ``radius`` and their geodesic distances (compressed rows).

    ``centres`` (B,) ascending vertex indices; ``offsets`` (B + 1,); ``members`` (M,) vertex indices, ascending inside a row;
    ``distances`` (M,) uint16 in steps of ``radius`` / 65,535; ``radius`` in mesh units. A vertex that is not in a row is farther than
    ``radius``. :func:`sc3d.geometry.geodesic.lookup` reads them.
    """

    centres: np.ndarray
    offsets: np.ndarray
    members: np.ndarray
    distances: np.ndarray
    radius: float


@dataclass(frozen=True, eq=False)
class Surface:
    """The posed mesh as the image's foreground cells see it.

    ``cells`` (N,) ascending flat cells with a surface point; ``corners`` (N, 3) vertices of the hit triangle; ``barycentric`` (N, 3);
    ``dominant`` (N,) the corner with the largest weight; ``fill_distance`` (N,) float16, 0 where the cell's own ray met the mesh, else the
    distance in cells to the nearest covered cell, whose hit was taken;
    ``vertices`` (V, 3) canonical positions; ``diagonal`` of the mesh's box; ``balls`` around all dominant vertices.
    """

    cells: np.ndarray
    corners: np.ndarray
    barycentric: np.ndarray
    dominant: np.ndarray
    fill_distance: np.ndarray
    vertices: np.ndarray
    diagonal: float
    balls: GeodesicBalls


@dataclass(frozen=True, eq=False)
class Features:
    """One described image.

    ``sources``: name -> (C, h, w) float16. A name is ``group`` or ``group.layer`` (``dino``, ``sd.s3``, ``sd.s4``, ``sd.s5``); the layers
    of a group are resized to the working grid and concatenated before the group is normalised.
    ``shape``: (V, D) float16 descriptor per vertex, or ``None`` without a mesh. ``foreground``: (side, side) bool.
    ``extent``: max(height, width) of the object's box in image pixels.
    """

    image_id: str
    letterbox: Letterbox
    foreground: np.ndarray
    extent: float
    sources: dict[str, np.ndarray]
    shape: np.ndarray | None = None
    surface: Surface | None = None

    def __post_init__(self) -> None:
        side = self.letterbox.side
        if self.foreground.shape != (side, side):
            raise FeatureError(f"{self.image_id}: foreground {self.foreground.shape} on a grid of side {side}")
        for name, value in self.sources.items():
            if value.ndim != 3:
                raise FeatureError(f"{self.image_id}: source '{name}' must be (C, h, w), got {value.shape}")
            if not np.isfinite(value).all():
                raise FeatureError(f"{self.image_id}: source '{name}' holds values that are not finite")
        if (self.shape is None) != (self.surface is None):
            raise FeatureError(f"{self.image_id}: 3D descriptors and surface come together")
        if self.surface is not None and self.shape is not None:
            if len(self.shape) != len(self.surface.vertices):
                raise FeatureError(f"{self.image_id}: {len(self.shape)} descriptors for {len(self.surface.vertices)} vertices")
            if not np.isfinite(self.shape).all():
                raise FeatureError(f"{self.image_id}: the 3D descriptors hold values that are not finite")

    @property
    def n_bytes(self) -> int:
        """Memory of all arrays, for byte-bounded caches."""
        return sum(a.nbytes for a in _flatten(self).values())


_SURFACE = ("cells", "corners", "barycentric", "dominant", "fill_distance", "vertices")
_BALLS = ("centres", "offsets", "members", "distances")


def _flatten(features: Features) -> dict[str, np.ndarray]:
    arrays = {f"source/{name}": value for name, value in features.sources.items()}
    arrays["foreground"] = features.foreground
    if features.surface is not None and features.shape is not None:
        arrays["shape"] = features.shape
        arrays |= {f"surface/{n}": getattr(features.surface, n) for n in _SURFACE}
        arrays |= {f"balls/{n}": getattr(features.surface.balls, n) for n in _BALLS}
    return arrays


def encode_features(features: Features) -> bytes:
    """Serialise as safetensors with the scalars and the format version in the metadata."""
    box, surface = features.letterbox, features.surface
    scalars = {
        "image_id": features.image_id,
        "extent": features.extent,
        "letterbox": [box.width, box.height, box.side, box.cell_size],
        "diagonal": surface.diagonal if surface else None,
        "radius": surface.balls.radius if surface else None,
    }
    metadata = {"sc3d.record": "Features", "sc3d.schema_version": str(FEATURES_VERSION), "scalars": json.dumps(scalars)}
    return save_safetensors({k: np.ascontiguousarray(v) for k, v in _flatten(features).items()}, metadata)


def decode_features(data: bytes, where: str = "features") -> Features:
    """Inverse of :func:`encode_features`.

    Raises:
        SchemaError: not a feature file of sc3d, damaged, or of another version.
        FeatureError: values that are not finite or do not fit each other.
    """
    try:
        arrays = load_safetensors(data)
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    except (SafetensorError, ValueError) as error:
        raise SchemaError(f"{where}: not a readable safetensors file ({error}); delete it and describe again") from None
    if metadata.get("sc3d.record") != "Features":
        raise SchemaError(f"{where}: not a feature file of sc3d")
    if int(metadata.get("sc3d.schema_version", 0)) != FEATURES_VERSION:
        raise SchemaError(
            f"{where}: feature format {metadata.get('sc3d.schema_version')}, this sc3d reads {FEATURES_VERSION}; describe again"
        )
    scalars = json.loads(metadata["scalars"])
    surface = None
    if "shape" in arrays:
        balls = GeodesicBalls(**{n: arrays[f"balls/{n}"] for n in _BALLS}, radius=scalars["radius"])
        surface = Surface(**{n: arrays[f"surface/{n}"] for n in _SURFACE}, diagonal=scalars["diagonal"], balls=balls)
    return Features(
        image_id=scalars["image_id"],
        letterbox=Letterbox(*scalars["letterbox"]),
        foreground=arrays["foreground"].astype(bool),
        extent=scalars["extent"],
        sources={k.removeprefix("source/"): v for k, v in arrays.items() if k.startswith("source/")},
        shape=arrays.get("shape"),
        surface=surface,
    )
