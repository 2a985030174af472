"""Everything that is known about one image when pairs are matched: 2D features, 3D descriptors, surface hits, geodesic balls.

Written once an image as safetensors, read by every pair that the image is in. Sources are stored at their native grid and never fused,
with the background, since the adapter's convolutions and group norm see it.

A wrong index in such a file would not fail but give another label. So all values are checked when they are read, and the file bears a
checksum of them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as schema
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from sc3d.errors import FeatureError, SchemaError
from sc3d.grid import Letterbox
from sc3d.misfits import first_misfit

FEATURES_VERSION = 2

_BARYCENTRIC_TOLERANCE = 1e-3
# The bits of an infinite float16, and of its sign.
_INFINITE_16, _SIGN_16 = 0x7C00, 0x8000


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

    def check(self, n_vertices: int) -> None:
        """Raise :class:`FeatureError` unless these can be balls on a mesh of ``n_vertices`` vertices."""
        _check_indices("ball centres", self.centres, (-1,), n_vertices)
        _check_indices("ball members", self.members, (-1,), n_vertices)
        _check_indices("ball offsets", self.offsets, (len(self.centres) + 1,), len(self.members) + 1)
        _check_array("ball distances", self.distances, (len(self.members),), "u")
        if self.distances.dtype != np.uint16 or not 0 < self.radius < np.inf:
            raise FeatureError(f"ball distances of {self.distances.dtype} in steps of a radius of {self.radius}")
        if not (self.centres[1:] > self.centres[:-1]).all():
            raise FeatureError("the ball centres do not ascend")
        offsets = self.offsets.astype(np.int64)
        if offsets[0] != 0 or offsets[-1] != len(self.members) or not (offsets[1:] > offsets[:-1]).all():
            raise FeatureError(f"the ball offsets do not divide {len(self.members)} members")
        ascends = self.members[1:] > self.members[:-1]
        ascends[offsets[1:-1] - 1] = True
        if not ascends.all():
            raise FeatureError("the members of a ball do not ascend")


@dataclass(frozen=True, eq=False)
class Surface:
    """The posed mesh as the image's foreground cells see it.

    ``cells`` (N,) ascending flat cells with a surface point; ``corners`` (N, 3) vertices of the hit triangle; ``barycentric`` (N, 3);
    ``dominant`` (N,) the corner with the largest weight; ``fill_distance`` (N,) float16, 0 where the cell's own ray met the mesh, else the
    distance in cells to the nearest covered cell, whose hit was taken;
    ``vertices`` (V, 3) canonical positions; ``diagonal`` of the mesh's box; ``balls`` around all dominant vertices.
    ``numbering``: hash of the template that the mesh is numbered as; empty for a mesh of its own. ``is_sure``: its pose counts; else
    nothing is verified by it.
    """

    cells: np.ndarray
    corners: np.ndarray
    barycentric: np.ndarray
    dominant: np.ndarray
    fill_distance: np.ndarray
    vertices: np.ndarray
    diagonal: float
    balls: GeodesicBalls
    numbering: str = ""
    is_sure: bool = True

    def check(self, n_cells: int) -> None:
        """Raise :class:`FeatureError` unless this can be a surface that ``n_cells`` cells see."""
        n, n_vertices = len(self.cells), len(self.vertices)
        _check_array("vertices", self.vertices, (n_vertices, 3), "f")
        _check_indices("surface cells", self.cells, (n,), n_cells)
        _check_indices("hit corners", self.corners, (n, 3), n_vertices)
        _check_indices("dominant vertices", self.dominant, (n,), n_vertices)
        _check_array("barycentric weights", self.barycentric, (n, 3), "f")
        _check_array("fill distances", self.fill_distance, (n,), "f")
        if not (self.cells[1:] > self.cells[:-1]).all():
            raise FeatureError("the surface cells do not ascend")
        if (self.barycentric < 0).any() or (np.abs(self.barycentric.sum(axis=1) - 1) > _BARYCENTRIC_TOLERANCE).any():
            raise FeatureError("barycentric weights are negative, or do not sum to 1")
        largest = self.barycentric >= self.barycentric.max(axis=1, initial=0)[:, None] - _BARYCENTRIC_TOLERANCE
        if not (largest & (self.corners == self.dominant[:, None])).any(axis=1).all():
            raise FeatureError("a dominant vertex is not the corner with the largest weight")
        if (self.fill_distance < 0).any() or not 0 < self.diagonal < np.inf:
            raise FeatureError(f"fill distances below 0, or a diagonal of {self.diagonal}")
        self.balls.check(n_vertices)
        found = np.searchsorted(self.balls.centres, self.dominant)
        if n and (found.max() == len(self.balls.centres) or (self.balls.centres[found] != self.dominant).any()):
            raise FeatureError("a dominant vertex has no ball")


def _check_array(name: str, values: np.ndarray, shape: tuple[int, ...], kinds: str) -> None:
    if (
        values.dtype.kind not in kinds
        or values.ndim != len(shape)
        or any(w not in (-1, h) for w, h in zip(shape, values.shape, strict=False))
    ):
        raise FeatureError(f"{name} are {values.dtype} {values.shape}, expected {shape} of kind '{kinds}'")
    if kinds == "f" and not _is_finite(values):
        raise FeatureError(f"{name} hold values that are not finite")


def _check_indices(name: str, values: np.ndarray, shape: tuple[int, ...], n: int) -> None:
    _check_array(name, values, shape, "iu")
    if values.size and not (values.min() >= 0 and values.max() < n):
        raise FeatureError(f"{name} reach from {values.min()} to {values.max()}, beyond 0 to {n - 1}")


def _check_descriptors(name: str, values: np.ndarray, shape: tuple[int, ...]) -> None:
    _check_array(name, values, shape, "f")
    # They are computed with as float32, in which larger numbers are infinite.
    if values.size == 0 or values.dtype.itemsize > 4:
        raise FeatureError(f"{name} are {values.dtype} {values.shape}, expected float16 or float32, and some of them")


def _is_finite(values: np.ndarray) -> bool:
    if values.dtype != np.float16 or values.size == 0:
        return bool(np.isfinite(values).all())
    # Ten times as fast as asking for each value: as integers, the largest of each sign are infinity and what is no number.
    return bool(values.view(np.int16).max() < _INFINITE_16 and values.view(np.uint16).max() < _SIGN_16 + _INFINITE_16)


@dataclass(frozen=True, eq=False)
class Features:
    """One described image.

    ``sources``: name -> (C, h, w) float16. A name is ``group`` or ``group.layer`` (``dino``, ``sd.s3``, ``sd.s4``, ``sd.s5``); the layers
    of a group are resized to the working grid and concatenated before the group is normalised.
    ``shape``: (V, D) float16 descriptor per vertex, or ``None`` without a mesh. ``foreground``: (side, side) bool.
    ``extent``: max(height, width) of the object's box in image pixels. ``mask_signs``: how many signs of a bad mask there are
    (:mod:`sc3d.mask_signs`).
    """

    image_id: str
    letterbox: Letterbox
    foreground: np.ndarray
    extent: float
    sources: dict[str, np.ndarray]
    shape: np.ndarray | None = None
    surface: Surface | None = None
    mask_signs: int = 0

    def __post_init__(self) -> None:
        try:
            self._check()
        except FeatureError as error:
            raise FeatureError(f"{self.image_id}: {error}; describe the image again") from None

    def _check(self) -> None:
        side = self.letterbox.side
        _check_array("foreground cells", self.foreground, (side, side), "b")
        if not 0 < self.extent < np.inf:
            raise FeatureError(f"an object of {self.extent} pixels")
        for name, value in self.sources.items():
            _check_descriptors(f"the values of '{name}'", value, (-1, -1, -1))
        if (self.shape is None) != (self.surface is None):
            raise FeatureError("3D descriptors and surface come together")
        if self.surface is not None and self.shape is not None:
            _check_descriptors("3D descriptors", self.shape, (len(self.surface.vertices), -1))
            self.surface.check(side * side)

    @property
    def n_bytes(self) -> int:
        """Memory of all arrays, for byte-bounded caches."""
        return sum(a.nbytes for a in _flatten(self).values())


# Sides in pixels or cells; no image or grid is larger.
_Side = Annotated[int, Field(ge=1, le=10_000_000)]

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
    """Serialise as safetensors with the scalars, the format version and a checksum in the metadata."""
    box, surface = features.letterbox, features.surface
    scalars = json.dumps(
        {
            "image_id": features.image_id,
            "extent": features.extent,
            "letterbox": [box.width, box.height, box.side, box.cell_size],
            "diagonal": surface.diagonal if surface else None,
            "radius": surface.balls.radius if surface else None,
            "numbering": surface.numbering if surface else "",
            "is_sure": surface.is_sure if surface else True,
            "mask_signs": features.mask_signs,
        }
    )
    arrays = {name: np.ascontiguousarray(values) for name, values in _flatten(features).items()}
    metadata = {
        "sc3d.record": "Features",
        "sc3d.schema_version": str(FEATURES_VERSION),
        "sc3d.crc32": checksum(scalars, arrays),
        "scalars": scalars,
    }
    return save_safetensors(arrays, metadata)


def checksum(scalars: str, arrays: Mapping[str, np.ndarray]) -> str:
    """CRC-32 of a feature file's scalars and of the names, types, shapes and values of its (contiguous) arrays."""
    found = zlib.crc32(scalars.encode())
    for name, values in sorted(arrays.items()):
        found = zlib.crc32(f"{name} {values.dtype.str} {values.shape}".encode(), found)
        found = zlib.crc32(values.data, found)
    return f"{found:08x}"


@schema(config=ConfigDict(strict=True))
class _Scalars:
    image_id: str
    extent: float
    letterbox: tuple[_Side, _Side, _Side, _Side]
    diagonal: float | None
    radius: float | None
    numbering: str = ""
    is_sure: bool = True
    mask_signs: Annotated[int, Field(ge=0, le=100)] = 0


def decode_features(data: bytes, where: str = "features") -> Features:
    """Inverse of :func:`encode_features`.

    Raises:
        SchemaError: not a feature file of sc3d, damaged, or of another version.
        FeatureError: values that are not finite, out of range, or do not fit each other.
    """
    try:
        arrays = load_safetensors(data)
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    except (SafetensorError, ValueError) as error:
        raise SchemaError(f"{where}: not a readable safetensors file ({error}); delete it and describe again") from None
    if metadata.get("sc3d.record") != "Features":
        raise SchemaError(f"{where}: not a feature file of sc3d")
    version = metadata.get("sc3d.schema_version")
    if version != str(FEATURES_VERSION):
        raise SchemaError(f"{where}: feature format {version}, this sc3d reads {FEATURES_VERSION}; describe again")
    try:
        scalars = metadata["scalars"]
        if checksum(scalars, arrays) != metadata["sc3d.crc32"]:
            raise SchemaError(f"{where}: its content was changed after it was written; delete it and describe again")
        return _features(arrays, TypeAdapter(_Scalars).validate_json(scalars))
    except KeyError as error:
        raise SchemaError(f"{where}: {error} is missing; delete it and describe again") from None
    except ValidationError as error:
        raise SchemaError(f"{where}: {first_misfit(error)}; delete it and describe again") from None


def _features(arrays: dict[str, np.ndarray], scalars: _Scalars) -> Features:
    surface = None
    if "shape" in arrays:
        if scalars.radius is None or scalars.diagonal is None:
            raise KeyError("radius" if scalars.radius is None else "diagonal")
        balls = GeodesicBalls(**{n: arrays[f"balls/{n}"] for n in _BALLS}, radius=scalars.radius)
        surface = Surface(
            **{n: arrays[f"surface/{n}"] for n in _SURFACE},
            diagonal=scalars.diagonal,
            balls=balls,
            numbering=scalars.numbering,
            is_sure=scalars.is_sure,
        )
    return Features(
        image_id=scalars.image_id,
        letterbox=Letterbox(*scalars.letterbox),
        foreground=arrays["foreground"],
        extent=scalars.extent,
        sources={k.removeprefix("source/"): v for k, v in arrays.items() if k.startswith("source/")},
        shape=arrays.get("shape"),
        surface=surface,
        mask_signs=scalars.mask_signs,
    )
