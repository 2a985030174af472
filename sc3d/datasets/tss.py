"""TSS (Taniai et al., 2016): pairs of photos with dense flow on the object, made into keypoint pairs.

Expected below the root, or below ``TSS_CVPR2016`` in it::

    {FG3DCar,JODS,PASCAL}/<pair>/image{1,2}.png
    {FG3DCar,JODS,PASCAL}/<pair>/flow{1,2}.flo    Middlebury's format: where each pixel of image 1 (2) is in image 2 (1), relative to it
    {FG3DCar,JODS,PASCAL}/<pair>/mask{1,2}.png    the object, more than half of the largest value inside
    {FG3DCar,JODS,PASCAL}/<pair>/flip_gt.txt      1: the flow is to the mirrored other image
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from sc3d.datasets.content import AnnotatedSet, PairKeypoints, check_categories, check_splits, left_out, require_files, safe_id
from sc3d.datasets.dataset import Dataset, Protocol, Source
from sc3d.errors import InputError, SchemaError
from sc3d.grid import Letterbox
from sc3d.local_files import read_local
from sc3d.mask_files import load_mask
from sc3d.pair_ids import pair_id_of
from sc3d.records import SPLITS, ImageRecord, Pair, Reject, check_category

GROUPS = ("FG3DCar", "JODS", "PASCAL")
SAMPLES = 30
"""Points are sampled on a grid of so many cells a side, over the square around the image."""

_CAR_GROUP = "FG3DCar"
_FILES = ("image1.png", "image2.png", "flow1.flo", "flow2.flo", "mask1.png", "mask2.png")
_MAGIC = np.float32(202021.25)
_MOST_PIXELS = 2**26


def read_tss(root: str | Path, splits: Sequence[str] = SPLITS, categories: Collection[str] = ()) -> AnnotatedSet:
    """Read images and pairs, all of which are for test; each folder gives an image pair in both directions.

    Keypoints are the pixels at the cell centres of a grid of :data:`SAMPLES` cells a side that the mask holds, and where the flow takes
    them; those that it takes out of the other image are dropped. Both directions have the points of both flows, since images have
    keypoints, not directions; TSS itself judges every pixel of the mask by the flow of one direction.

    A folder whose flow is to the mirrored image is left out: as photos, its objects show different sides, so its flow joins, say, left
    wheels to right ones.

    Args:
        root: the folder that holds FG3DCar, JODS and PASCAL, or the one above it.
        splits: which of trn, val and test; without test there is nothing.
        categories: only these categories of images (``car``, ..); empty: all.

    Returns:
        Images sorted by id, ``<group>-<folder>-<1 or 2>``, and pairs sorted by folder. An image's category is ``car`` in FG3DCar, else the
        beginning of its folder's name; a pair's is the group, which the protocol averages over. The published threshold is a share of the
        image's longer side; ``bbox`` is the mask's.

    Raises:
        InputError: missing or damaged files, files of one folder that do not fit each other, or an unknown category.
    """
    check_splits(splits)
    base = next(
        (folder for folder in (Path(root), Path(root) / "TSS_CVPR2016") if any((folder / g).is_dir() for g in GROUPS)), None
    )
    if base is None:
        raise InputError(f"{root}: none of the folders {', '.join(GROUPS)} in it; name the folder that holds them")
    folders = sorted(f for group in GROUPS if (base / group).is_dir() for f in (base / group).iterdir() if f.is_dir())
    folders = [folder for folder in folders if not folder.name.startswith(".")]
    category_of = {folder: _category(folder) for folder in folders}
    check_categories(base, categories, category_of.values())
    chosen = [f for f in folders if "test" in splits and (not categories or category_of[f] in categories)]
    require_files((f / name for f in chosen for name in _FILES), "files of TSS", "unpack TSS_CVPR2016.zip again")
    images: list[ImageRecord] = []
    pairs: list[Pair] = []
    unused: list[Reject] = []
    for folder in chosen:
        if _is_mirrored(folder):
            unused.append(left_out(f"{folder.parent.name}/{folder.name}", "its flow is to the mirrored image"))
            continue
        sides = _read_folder(folder, category_of[folder])
        images += sides
        for source, target in (sides, sides[::-1]):
            name = pair_id_of(source.image_id, target.image_id)
            pairs.append(Pair(name, source.image_id, target.image_id, folder.parent.name, "test"))
    return AnnotatedSet(sorted(images, key=lambda i: i.image_id), pairs, Counter({"test": 2 * len(chosen)}), tuple(unused))


def read_flow(path: Path) -> np.ndarray:
    """A .flo file of Middlebury's format: (H, W, 2) float32, x and y.

    Raises:
        InputError: it cannot be read, begins with another number, or is cut short.
    """
    data = read_local(path, 12 + 8 * _MOST_PIXELS)
    if len(data) < 12 or np.frombuffer(data, "<f4", 1)[0] != _MAGIC:
        raise InputError(f"{path}: not a .flo file (it does not begin with {_MAGIC}); unpack it again")
    width, height = (int(n) for n in np.frombuffer(data, "<i4", 2, offset=4))
    if not (width > 0 and height > 0 and width * height <= _MOST_PIXELS):
        raise InputError(f"{path}: flow of {width} x {height} pixels; unpack it again")
    if len(data) != 12 + 8 * width * height:
        raise InputError(
            f"{path}: {len(data):,} bytes, but {width} x {height} pixels take {12 + 8 * width * height:,}; unpack it again"
        )
    return np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2)


def sample_flow(flow: np.ndarray, mask: np.ndarray, other: tuple[int, int]) -> np.ndarray:
    """Keypoint pairs (K, 4) of a flow: x, y in its image and in the other one, pixel centres at +0.5.

    Args:
        flow: (H, W, 2) pixels; unknown where a value is NaN or exceeds 1e9.
        mask: (H, W) bool, where the flow counts.
        other: width and height of the other image; points that the flow takes out of it are dropped.
    """
    height, width = mask.shape
    pixels = np.floor(Letterbox(width, height, SAMPLES, 1).centres()).astype(np.int64)
    inside = (pixels >= 0).all(axis=1) & (pixels[:, 0] < width) & (pixels[:, 1] < height)
    # An image smaller than the grid has several cells a pixel.
    pixels = np.unique(pixels[inside], axis=0)
    pixels = pixels[mask[pixels[:, 1], pixels[:, 0]]]
    step = flow[pixels[:, 1], pixels[:, 0]].astype(np.float64)
    points = np.concatenate([pixels + 0.5, pixels + 0.5 + step], axis=1)
    # Unknown flow, which is NaN or more than 1e9 pixels, is nowhere within the other image.
    reached = points[:, 2:]
    return points[(reached >= 0).all(axis=1) & (reached[:, 0] <= other[0]) & (reached[:, 1] <= other[1])]


def _category(folder: Path) -> str:
    if folder.parent.name == _CAR_GROUP:
        return "car"
    category = re.split(r"[_0-9]", folder.name, maxsplit=1)[0].lower()
    try:
        return check_category(category)
    except SchemaError:
        raise InputError(f"{folder}: its name does not begin with a category, such as car_001; unpack TSS again") from None


def _is_mirrored(folder: Path) -> bool:
    path = folder / "flip_gt.txt"
    if not path.is_file():
        return False
    text = read_local(path, 1000).strip()
    if text not in (b"0", b"1"):
        raise InputError(f"{path}: expected 0 or 1, got {text[:20]!r}; unpack it again")
    return text == b"1"


def _read_folder(folder: Path, category: str) -> tuple[ImageRecord, ImageRecord]:
    sides = (1, 2)
    flows = [read_flow(folder / f"flow{side}.flo") for side in sides]
    sizes = [(flow.shape[1], flow.shape[0]) for flow in flows]
    masks = [load_mask(str(folder / f"mask{side}.png"), size) for side, size in zip(sides, sizes, strict=True)]
    ids = [safe_id(folder.parent.name, folder.name, str(side)) for side in sides]
    there, back = (sample_flow(flows[a], masks[a], sizes[1 - a]) for a in (0, 1))
    points = np.unique(np.concatenate([there, back[:, [2, 3, 0, 1]]]), axis=0)
    if len(points) == 0:
        raise InputError(f"{folder}: the flow is known nowhere on the masks; unpack it again")
    keypoints = PairKeypoints()
    keypoints.add((ids[0], ids[1]), points, str(folder))
    first, second = (
        ImageRecord(
            image_id=image,
            path=str(folder / f"image{side}.png"),
            category=category,
            split="test",
            bbox=_box(mask),
            mask_path=str(folder / f"mask{side}.png"),
            keypoint_ids=keypoints.of(image)[0],
            keypoint_xy=keypoints.of(image)[1],
        )
        for image, side, mask in zip(ids, sides, masks, strict=True)
    )
    return first, second


def _box(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


TSS = Dataset(
    lambda root, dataset, subset, paired: read_tss(root, categories=dataset.categories),
    protocol=Protocol("TSS", "image", (0.10, 0.05)),
    source=Source(
        "TSS",
        (
            "download http://www.hci.iis.u-tokyo.ac.jp/datasets/data/JointCorrCoseg/TSS_CVPR2016.zip and unpack it",
            "give the folder TSS_CVPR2016, which holds FG3DCar, JODS and PASCAL, as --root",
        ),
        {"": {"test": 800}},
    ),
)
