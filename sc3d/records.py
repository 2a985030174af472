"""The nouns of sc3d: what flows between the stages and what a run folder holds.

Vocabulary (used everywhere): **source** and **target** are the two sides of a pair. ``xy`` are pixels of the original, upright image,
x first, pixel centres at +0.5. ``cell`` is a flat index into the working grid. ``vertex`` is an index into a welded mesh.
Poses follow the OpenCV camera (x right, y down, z forward): ``X_cam = scale * R @ X + t``. -1 means unmatched.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from sc3d.display import without_secrets
from sc3d.errors import SchemaError
from sc3d.pair_ids import pair_id_of
from sc3d.schema import Record, array, column

SPLITS = ("trn", "val", "test")
"""In the order in which they are held out: an image of several splits belongs to the last of them."""

LABELLED_SPLIT = SPLITS[0]
"""Pairs to label are made of its images; those of the others are annotated and held out."""

HELD_OUT_SPLITS = SPLITS[1:]

VALIDATION_SPLIT = SPLITS[1]
"""Settings are searched and adapters validated on its pairs; numbers are told of the last one."""

LOW_CONFIDENCE = "low_confidence"
"""Flag of a reconstruction whose pose does not count."""

# Of float32 sums over thousands of channels.
_LARGEST_COSINE = 1.01

# With "category=" in front and the name of a file's kind behind, a name on a disk has at most 255 bytes.
_CATEGORY_SIGNS, _CATEGORY_BYTES = 81, 200
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,180}")


def check_id(value: str) -> str:
    """Return ``value`` if it can be an image id and so a file name: letters, digits, dot, dash, underscore; no path parts."""
    if not _ID.fullmatch(value) or ".." in value:
        raise SchemaError(f"'{value}' cannot be an id: use letters, digits, '.', '-' and '_' only, at most 181 characters")
    return value


@dataclass(frozen=True, eq=False)
class ImageRecord(Record, name="ImageRecord"):
    """One image of the manifest, before anything was computed."""

    SCHEMA_VERSION: ClassVar[int] = 3

    image_id: str = column("unique id, safe as a file name")
    path: str = column("where the image is: a local path or a URI")
    category: str = column("object category, also the text prompt of the segmenter")
    split: str = column("trn (labelled), val (thresholds), test (held out)", "trn")
    bbox: np.ndarray | None = array("float32", 4, doc="annotated box x1, y1, x2, y2 in pixels", optional=True)
    mask_path: str | None = column("mask file of the dataset, if it has one", None)
    truth_path: str | None = column("known mesh and camera (.npz), for synthetic data only", None)
    keypoint_ids: np.ndarray | None = array("int32", -1, doc="ids of the visible annotated keypoints", optional=True)
    keypoint_xy: np.ndarray | None = array("float32", -1, 2, doc="their pixels", optional=True)
    facing: float | None = column("degrees from the object's front to the camera, towards its left, if a person said so", None)
    template: str | None = column(
        "file of the run folder with the template mesh that is posed in it, if one fits its category", None
    )
    photo: str = column("hash of the photo's content", "")
    inputs: str = column("hash of what its artefacts are made of: photo, mask file, box, category", "")
    annotation: str = column("hash of its keypoints and box", "")

    def validate(self) -> None:
        check_id(self.image_id)
        check_category(self.category)
        if self.facing is not None and not 0 <= self.facing < 360:
            raise SchemaError(f"image {self.image_id}: facing {self.facing} is not from 0 to 360 degrees")
        if (self.keypoint_ids is None) != (self.keypoint_xy is None):
            raise SchemaError(f"image {self.image_id}: keypoint_ids and keypoint_xy come together")
        if self.keypoint_ids is not None and len(self.keypoint_ids) != len(self.keypoint_xy):  # type: ignore[arg-type]
            raise SchemaError(f"image {self.image_id}: {len(self.keypoint_ids)} keypoint ids but another number of points")
        if self.keypoint_xy is not None:
            _check_finite(f"image {self.image_id}", keypoint_xy=self.keypoint_xy)
        if self.bbox is not None:
            _check_finite(f"image {self.image_id}", bbox=self.bbox)


def _check_finite(where: str, **values: np.ndarray | float) -> None:
    """Raise :class:`SchemaError` unless all ``values`` are finite numbers."""
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise SchemaError(f"{where}: {name} is not finite")


@lru_cache(maxsize=4096)
def check_category(value: str) -> str:
    """Return ``value`` if it can be a category and so a folder name: letters and digits of any script, spaces inside, ``.``, ``-``, ``_``.

    Raises:
        SchemaError: it cannot, or is not in Unicode's form NFC, in which the same letters are the same bytes on every machine.
    """
    signs = {sign for sign in value if unicodedata.category(sign)[0] not in "LMN"}
    fits = 0 < len(value) <= _CATEGORY_SIGNS and len(value.encode(errors="replace")) <= _CATEGORY_BYTES
    if not fits or not value[0].isalnum() or signs - set(" ._-") or ".." in value or value != value.strip():
        raise SchemaError(f"'{value}' cannot be a category: use letters, digits, spaces, '.', '-' and '_'")
    if not unicodedata.is_normalized("NFC", value):
        raise SchemaError(f"'{value}' cannot be a category: it is not in the Unicode form NFC")
    return value


def as_category(value: str) -> str:
    """A name from outside as a category, whichever Unicode form a file system or an editor gave it. Raises as :func:`check_category`."""
    return check_category(unicodedata.normalize("NFC", value))


@dataclass(frozen=True, eq=False)
class Pair(Record, name="Pair"):
    """An ordered pair of images of one category."""

    pair_id: str = column("source id ~ target id")
    source_id: str = column("image id of the source")
    target_id: str = column("image id of the target")
    category: str = column("the category of both")
    split: str = column("trn (labelled), val (thresholds), test (held out)", "trn")

    def validate(self) -> None:
        check_id(self.source_id)
        check_id(self.target_id)
        check_category(self.category)
        if self.pair_id != pair_id_of(self.source_id, self.target_id):
            raise SchemaError(f"pair id '{self.pair_id}' is not '{pair_id_of(self.source_id, self.target_id)}'")

    @classmethod
    def of(cls, source: ImageRecord, target: ImageRecord) -> Pair:
        """The pair of two manifest rows; raises :class:`SchemaError` if their categories differ."""
        if source.category != target.category:
            raise SchemaError(
                f"pair {source.image_id}, {target.image_id}: categories '{source.category}' and '{target.category}' differ"
            )
        pair_id = pair_id_of(source.image_id, target.image_id)
        return cls(pair_id, source.image_id, target.image_id, source.category, source.split)


@dataclass(frozen=True, eq=False)
class Reconstruction(Record, name="Reconstruction"):
    """Stage 1 of one image, before its yaw is fixed: mask, mesh, camera, and the pose before and after alignment."""

    SCHEMA_VERSION: ClassVar[int] = 2

    image_id: str = column("image id")
    category: str = column("object category")
    width: int = column("width of the upright image in pixels")
    height: int = column("height of the upright image in pixels")
    mask: bytes = column("object mask, 8-bit PNG of the image's size, 255 inside")
    vertices: np.ndarray = array("float32", -1, 3, doc="welded mesh, canonical frame: y up, front towards +z, unit box")
    faces: np.ndarray = array("int32", -1, 3, doc="triangles, vertex indices")
    intrinsics: np.ndarray = array("float64", 3, 3, doc="K of the OpenCV camera, in pixels of the upright image")
    rotation: np.ndarray = array("float64", 3, 3, doc="R of X_cam = scale * R @ X + t")
    scale_initial: float = column("scale as reconstructed")
    translation_initial: np.ndarray = array("float64", 3, doc="t as reconstructed")
    scale: float = column("scale after alignment")
    translation: np.ndarray = array("float64", 3, doc="t after alignment")
    iou_before: float = column("silhouette IoU with the mask as reconstructed")
    iou_after: float = column("silhouette IoU with the mask after alignment")
    flags: tuple[str, ...] = column(
        "warnings: not_improved, mostly_outside, low_iou, occluded, low_confidence; mask_all_round, mask_in_pieces, mask_low_contrast",
        (),
    )
    injected_turn: int = column("degrees that a simulated reconstruction was turned by on purpose; -1 when not simulated", -1)
    numbering: str = column("hash of the template whose numbering of vertices the mesh has; empty for a mesh of its own", "")
    confidence: float = column(
        "how far the score of the template's pose is above that of the best one on another side; -1 without one", -1.0
    )
    seconds: float = column("time spent on this image", 0.0)

    def validate(self) -> None:
        where = f"reconstruction of {self.image_id}"
        if self.width < 1 or self.height < 1:
            raise SchemaError(f"{where}: an image of {self.width} x {self.height} pixels")
        if self.faces.size and not (self.faces.min() >= 0 and self.faces.max() < len(self.vertices)):
            raise SchemaError(f"{where}: faces refer to vertices beyond the mesh's {len(self.vertices)}")
        names = ("vertices", "intrinsics", "rotation", "translation_initial", "translation", "scale_initial", "scale")
        _check_finite(where, **{name: getattr(self, name) for name in names})
        if not (0 <= self.iou_before <= 1 and 0 <= self.iou_after <= 1):
            raise SchemaError(f"{where}: IoUs of {self.iou_before} and {self.iou_after}")


@dataclass(frozen=True, eq=False)
class MeshViews(Record, name="MeshViews"):
    """What one reconstruction looks like all around, before its yaw is fixed."""

    image_id: str = column("image id")
    category: str = column("object category")
    descriptor: np.ndarray = array("float16", 8, -1, doc="descriptor of the views, a row a yaw: 0, 45 .. 315 degrees")
    sharpness: float = column("how much a difference of scores says with such descriptors in most categories")
    numbering: str = column("hash of the template whose numbering of vertices the mesh has; empty for a mesh of its own", "")
    seconds: float = column("time spent on this image", 0.0)

    def validate(self) -> None:
        _check_finite(f"views of {self.image_id}", descriptor=self.descriptor, sharpness=self.sharpness)


@dataclass(frozen=True, eq=False)
class Orientation(Record, name="Orientation"):
    """The yaw correction of one reconstruction (3D-SC, stage 1)."""

    SCHEMA_VERSION: ClassVar[int] = 2

    image_id: str = column("image id")
    category: str = column("object category")
    turn: int = column("degrees the mesh is to be turned by about its y axis: 0, 90, 180 or 270")
    votes: np.ndarray = array("int32", -1, doc="the correction that each rendered view asks for; -1 abstains")
    uncertain: bool = column("tie or too few agreeing votes, so that the mesh was left alone; or no turn is likely enough")
    symmetric: bool = column("no view has a front at all", False)
    seconds: float = column("time spent on this image", 0.0)
    posterior: np.ndarray | None = array(
        "float32", 4, doc="probability of each turn: 0, 90, 180, 270; none where views voted or nobody looked", optional=True
    )

    def validate(self) -> None:
        if self.turn not in (0, 90, 180, 270):
            raise SchemaError(f"orientation of {self.image_id}: turn {self.turn} is not a quarter turn")
        if not np.isin(self.votes, (-1, 0, 90, 180, 270)).all():
            raise SchemaError(f"orientation of {self.image_id}: a vote is neither a quarter turn nor -1")
        if self.posterior is not None and not (self.posterior.min() >= 0 and abs(float(self.posterior.sum()) - 1) < 1e-3):
            raise SchemaError(f"orientation of {self.image_id}: {self.posterior.tolist()} are no probabilities of four turns")

    @property
    def counts(self) -> bool:
        """Whether labels may be made with it. A mesh that views voted on counts either way, as the paper has it."""
        return not self.uncertain or self.posterior is None


@dataclass(frozen=True, eq=False)
class Registration(Record, name="Registration"):
    """One mesh, warped onto the references of its category: where each of them puts its vertices."""

    image_id: str = column("image id")
    category: str = column("object category")
    references: int = column("how many references there are")
    places: np.ndarray = array(
        "float32", -1, 6, doc="place and a twentieth of the normal of each vertex, in diagonals; one reference after the other"
    )
    seconds: float = column("time spent on this image", 0.0)

    def validate(self) -> None:
        where = f"registration of {self.image_id}"
        if self.references < 1 or len(self.places) % self.references:
            raise SchemaError(f"{where}: {len(self.places)} places under {self.references} references")
        _check_finite(where, places=self.places)

    @property
    def by_reference(self) -> np.ndarray:
        """The places (R, V, 6) under each of the R references."""
        return self.places.reshape(self.references, -1, 6)


@dataclass(frozen=True, eq=False)
class Reference(Record, name="Reference"):
    """A mesh that the others of its category are registered to."""

    category: str = column("object category")
    number: int = column("which of the category's references, from 0, the most central first")
    image_id: str = column("image that it was reconstructed from; what becomes of that does not matter any more")
    vertices: np.ndarray = array("float32", -1, 3, doc="canonical mesh, after the yaw correction")
    faces: np.ndarray = array("int32", -1, 3, doc="triangles, vertex indices")


@dataclass(frozen=True, eq=False)
class FeatureIndex(Record, name="FeatureIndex"):
    """One line about the feature file of an image; the arrays are in ``<image_id>.safetensors`` beside it."""

    image_id: str = column("image id")
    category: str = column("object category")
    n_foreground: int = column("foreground cells of the working grid")
    n_covered: int = column("foreground cells that the posed mesh covers")
    n_vertices: int = column("vertices of the mesh")
    n_bytes: int = column("size of the feature file")
    seconds: float = column("time spent on this image", 0.0)


@dataclass(frozen=True, eq=False)
class ClassShapeIndex(Record, name="ClassShapeIndex"):
    """One line about the class shape of a category; what it holds is in a ``.safetensors`` file beside it."""

    category: str = column("object category")
    images: int = column("annotated images that it was built from")
    keypoints: int = column("keypoints that have a place in it")
    points: int = column("points of its dense cloud, keypoints included")
    mirror_gap: float = column("what the mirrored shape has more geometric energy; near 0, nothing in it tells left from right")
    n_bytes: int = column("size of the file")
    seconds: float = column("time spent on this category", 0.0)


@dataclass(frozen=True, eq=False)
class DepthMap(Record, name="DepthMap"):
    """The depth of an image, by a network or made of what is known."""

    image_id: str = column("image id")
    category: str = column("object category")
    width: int = column("width of the raster, which covers the whole image")
    height: int = column("its height")
    values: np.ndarray = array("float16", -1, doc="depths along the camera's axis in a unit of their own, row by row")
    seconds: float = column("time spent on this image", 0.0)

    def validate(self) -> None:
        where = f"depth of {self.image_id}"
        if self.width < 1 or self.height < 1 or len(self.values) != self.width * self.height:
            raise SchemaError(f"{where}: {len(self.values)} values for a raster of {self.width} x {self.height}")
        _check_finite(where, values=self.values)


@dataclass(frozen=True, eq=False)
class ShapeFit(Record, name="ShapeFit"):
    """A class shape, fitted to an image."""

    image_id: str = column("image id")
    category: str = column("object category")
    keypoints: np.ndarray = array("float32", -1, 3, doc="the class shape's keypoints in the camera's frame, in the unit of depth")
    inverse_focal: float = column("longer sides of the image a focal length")
    rotation: np.ndarray = array("float32", 3, 3, doc="from the class shape's frame to the camera's, of the best similarity")
    terms: np.ndarray = array("float32", 5, doc="weighted energies of reconstruction, geometry, background, depth and pose")
    margin: float = column(
        "what the best pose that is turned by more than 30 degrees has more energy; near 0 it is open which way the object faces"
    )
    history: np.ndarray = array("float32", -1, 5, doc="the five terms at each step")
    others: np.ndarray = array("float32", -1, 2, doc="energy of each pose that lost, and its turn from this one in degrees")
    seconds: float = column("time spent on this image", 0.0)

    def validate(self) -> None:
        where = f"class shape fitted to {self.image_id}"
        _check_finite(where, keypoints=self.keypoints, rotation=self.rotation, inverse_focal=self.inverse_focal)
        if len(self.keypoints) < 4 or not self.inverse_focal > 0:
            raise SchemaError(f"{where}: {len(self.keypoints)} keypoints, inverse focal length {self.inverse_focal}")


@dataclass(frozen=True, eq=False)
class Embedding(Record, name="Embedding"):
    """One image as a whole: its global descriptor, a unit vector a slot, for finding the images that are most alike."""

    image_id: str = column("image id")
    category: str = column("object category")
    groups: tuple[str, ...] = column("slots that the image has: sd, dino, shape")
    channels: np.ndarray = array("int32", -1, doc="channels of each slot")
    values: np.ndarray = array("float32", -1, doc="the slots' vectors, one after the other")
    seconds: float = column("time spent on this image", 0.0)

    def validate(self) -> None:
        if len(self.channels) != len(self.groups) or self.channels.sum() != len(self.values):
            raise SchemaError(
                f"embedding of {self.image_id}: slots {self.groups} of {self.channels} channels, {len(self.values)} values"
            )
        _check_finite(f"embedding of {self.image_id}", values=self.values)


@dataclass(frozen=True, eq=False)
class Matches(Record, name="Matches"):
    """The candidates of a pair with their evidence, up to the wide thresholds. All list columns have one length N."""

    SCHEMA_VERSION: ClassVar[int] = 2

    pair_id: str = column("source id ~ target id")
    source_id: str = column("image id of the source")
    target_id: str = column("image id of the target")
    category: str = column("object category")
    source_xy: np.ndarray = array("float32", -1, 2, doc="source pixels of the original image, cell centres")
    target_xy: np.ndarray = array("float32", -1, 2, doc="target pixels of the original image, cell centres")
    cosine: np.ndarray = array("float32", -1, doc="fused cosine similarity")
    cycle_error: np.ndarray = array("float32", -1, doc="distance in source pixels after going there and back")
    geodesic_error: np.ndarray = array(
        "float32", -1, doc="bicyclic geodesic error, in mesh diagonals; of registered meshes with the gaps that they leave"
    )
    source_extent: float = column("max(height, width) of the source object's box, in pixels: the unit of tau_cc")
    source_cell: float = column("side of one grid cell in source pixels: the least cycle tolerance")
    n_candidates: int = column("foreground source cells that were matched at all")
    n_cycle: int = column("candidates that pass the relaxed cycle at the stage's tau_cc")
    mask_signs: int = column("signs of a bad mask, of that of the two images which has more", 0)

    def validate(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in ("source_xy", "target_xy", "cosine", "cycle_error", "geodesic_error")}
        if len(set(lengths.values())) != 1:
            raise SchemaError(f"pair {self.pair_id}: list columns of different lengths {lengths}")
        _check_finite(f"pair {self.pair_id}", source_xy=self.source_xy, target_xy=self.target_xy)
        # Of imported labels errors are not known: NaN.
        if (self.cycle_error < 0).any() or (self.geodesic_error < 0).any() or (np.abs(self.cosine) > _LARGEST_COSINE).any():
            raise SchemaError(f"pair {self.pair_id}: errors below 0, or cosines beyond 1")
        if not 0 <= self.n_cycle <= self.n_candidates:
            raise SchemaError(f"pair {self.pair_id}: {self.n_cycle} of {self.n_candidates} candidates pass the cycle")

    def __len__(self) -> int:
        return len(self.cosine)


@dataclass(frozen=True, eq=False)
class Labels(Matches, name="Labels"):
    """Matches after the thresholds: what training and other people read."""

    n_kept: int = column("labels of this pair", 0)
    tau_cc: float = column("cycle threshold that was applied, in object extents", 0.0)
    tau_geo: float = column("geodesic threshold that was applied, in mesh diagonals", 0.0)


@dataclass(frozen=True, eq=False)
class Reject(Record, name="Reject"):
    """A record that a stage could not process, and why. The message may be anybody's; addresses in it lose what may be a secret."""

    SCHEMA_VERSION: ClassVar[int] = 2

    id: str = column("image id, pair id or category")
    stage: str = column("stage that rejected it")
    error_type: str = column("class of the error")
    message: str = column("what was wrong, where, and what to do")
    attempts: int = column("how often it was tried", 1)
    inputs: str = column("hash of what was to be processed", "")

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", without_secrets(self.message))
        super().__post_init__()
