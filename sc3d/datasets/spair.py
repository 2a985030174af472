"""SPair-71k, and what is written in its layout (the toys, SPair-U).

Expected below the root::

    ImageAnnotation/<category>/<stem>.json    keypoints, box
    PairAnnotation/<split>/<id>-<source stem>-<target stem>:<category>.json
    Layout/{large,small}/<split>.txt          names of the pairs, a line each; without it all of PairAnnotation counts
    JPEGImages/<category>/<stem>.jpg          not opened here
    Segmentation/<category>/<stem>.png        optional
    truth/<category>/<stem>.npz               toys only

Pairs are read by their names alone: the keypoints of a pair are those that both of its images show.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from sc3d.errors import InputError, SchemaError
from sc3d.records import ImageRecord, Pair, check_category

SPLITS = ("trn", "val", "test")
SIZES = ("large", "small")
# Of the 20 classes of PASCAL VOC, in the order of their indices in segmentation maps, which start at 1.
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse", "motorbike",
    "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

_PAIR = re.compile(r"\d+-(?P<source>[^-:]+)-(?P<target>[^-:]+):(?P<category>.+)")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True)
class SpairData:
    """Images and ordered pairs; every image is in a pair, and every pair's images are listed."""

    images: list[ImageRecord]
    pairs: list[Pair]


@dataclass(frozen=True)
class _Names:
    split: str
    category: str
    source: str
    target: str
    where: str


def read_spair(
    root: str | Path, splits: Sequence[str] = SPLITS, categories: Collection[str] = (), size: str = "large"
) -> SpairData:
    """Read images and pairs.

    Args:
        root: folder that holds ImageAnnotation and the others.
        splits: which of trn, val and test.
        categories: only these; empty: all.
        size: the layout: ``large``, or ``small``, a fifth of the pairs.

    Returns:
        Images sorted by id, pairs in the order of their layout; a pair listed twice is taken once. Images that no pair of these
        splits names are left out. ``image_id`` is ``<category>-<stem>``, ``mask_path`` is set where a segmentation file exists (see
        :func:`read_segmentation`), ``truth_path`` where a truth file does.

    Raises:
        InputError: missing folders, malformed files, unknown splits, categories or images, or an image in two splits.
    """
    root = Path(root)
    if not (root / "ImageAnnotation").is_dir():
        raise InputError(f"{root}: no folder ImageAnnotation in it; name the folder that holds ImageAnnotation and PairAnnotation")
    unknown = [s for s in splits if s not in SPLITS]
    if unknown or not splits:
        raise InputError(f"splits must be some of {', '.join(SPLITS)}; got {list(splits)}")
    if size not in SIZES:
        raise InputError(f"size must be one of {', '.join(SIZES)}; got '{size}'")
    available = sorted(p.name for p in (root / "ImageAnnotation").iterdir() if p.is_dir())
    missing = sorted(set(categories) - set(available))
    if missing:
        raise InputError(f"{root}: no annotations of {', '.join(missing)}; there are {', '.join(available) or 'none'}")
    names = [
        n for split in dict.fromkeys(splits) for n in _pair_names(root, split, size) if not categories or n.category in categories
    ]
    images = _read_images(root, names)
    # A dict, since a pair id must be unique.
    pairs = {pair.pair_id: pair for pair in (Pair.of(images[n.category, n.source], images[n.category, n.target]) for n in names)}
    return SpairData(sorted(images.values(), key=lambda image: image.image_id), list(pairs.values()))


def read_segmentation(path: str | Path, category: str, bbox: np.ndarray | None = None) -> np.ndarray:
    """Object mask (H, W) bool of a segmentation file.

    A file whose only values are 0 and 255 is a mask, 255 inside (the toys). Anything else is a class map as in PASCAL VOC: the pixels
    with the index of ``category`` belong to the object; 255 is the unlabelled border around objects. With ``bbox`` (4,), pixels
    outside the box do not count, as a class map does not separate objects of one class.

    Raises:
        InputError: unreadable, a colour image, an empty mask, or a category that VOC does not have.
    """
    try:
        with Image.open(path) as image:
            values = np.asarray(image)
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise InputError(f"{path}: the segmentation cannot be read ({error})") from None
    if values.ndim != 2:
        raise InputError(f"{path}: a segmentation has one channel, not {values.shape[2:]}; is this a photo?")
    if np.isin(values, (0, 255)).all():
        mask = values == 255
    elif category in VOC_CLASSES:
        mask = values == VOC_CLASSES.index(category) + 1
    else:
        raise InputError(f"{path}: a map of classes, and '{category}' is none of PASCAL VOC's")
    if bbox is not None:
        box = np.zeros_like(mask)
        x1, y1, x2, y2 = (max(int(v), 0) for v in (*np.floor(bbox[:2]), *np.ceil(bbox[2:])))
        box[y1:y2, x1:x2] = True
        mask = mask & box
    if not mask.any():
        raise InputError(f"{path}: shows no {category}")
    return np.asarray(mask)


def _pair_names(root: Path, split: str, size: str) -> list[_Names]:
    layout, folder = root / "Layout" / size / f"{split}.txt", root / "PairAnnotation" / split
    if layout.is_file():
        try:
            lines = layout.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise InputError(f"{layout}: cannot be read ({error})") from None
        entries = [(line.strip(), f"{layout}, line {i}") for i, line in enumerate(lines, start=1) if line.strip()]
    elif (root / "Layout").is_dir():
        raise InputError(
            f"{layout}: no such file, but there is a folder {root / 'Layout'}; the dataset is incomplete, copy it again"
        )
    elif (root / "PairAnnotation").is_dir():
        entries = [(path.stem, str(path)) for path in sorted(folder.glob("*.json"))]
    else:
        raise InputError(f"{root}: neither a folder Layout nor PairAnnotation in it; the dataset is incomplete, copy it again")
    return [_parse_pair(name, split, where) for name, where in entries]


def _parse_pair(name: str, split: str, where: str) -> _Names:
    match = _PAIR.fullmatch(name)
    if match is None:
        raise InputError(f"{where}: '{name}' is not a pair's name, which is <id>-<source>-<target>:<category>")
    return _Names(split, match["category"], match["source"], match["target"], where)


def _read_images(root: Path, names: list[_Names]) -> dict[tuple[str, str], ImageRecord]:
    """Each image that a pair names, by category and stem."""
    images: dict[tuple[str, str], ImageRecord] = {}
    owners: dict[str, tuple[str, str]] = {}
    for n in names:
        for stem in (n.source, n.target):
            image = images.get((n.category, stem))
            if image is None:
                image = images[n.category, stem] = _read_image(root, n, stem)
                if owners.setdefault(image.image_id, (n.category, stem)) != (n.category, stem):
                    raise InputError(
                        f"{n.where}: '{n.category}/{stem}' and another image are both called {image.image_id}; rename one"
                    )
            if image.split != n.split:
                raise InputError(
                    f"{n.where}: image '{n.category}/{stem}' is in a pair of {n.split} and in one of {image.split}; "
                    "splits must not share images"
                )
    return images


def _read_image(root: Path, names: _Names, stem: str) -> ImageRecord:
    category = names.category
    path = root / "ImageAnnotation" / category / f"{stem}.json"
    try:
        annotation = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{names.where}: names the image '{stem}', but there is no {path}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); copy it again") from None
    mask, truth = root / "Segmentation" / category / f"{stem}.png", root / "truth" / category / f"{stem}.npz"
    try:
        check_category(category)
        ids, xy = _keypoints(annotation["kps"])
        bbox = _finite(annotation["bndbox"], 4)
        if bbox[2] <= bbox[0] or bbox[3] <= bbox[1]:
            raise ValueError(f"empty box {bbox.tolist()}")
        return ImageRecord(
            image_id=_UNSAFE.sub("_", f"{category}-{stem}"),
            path=str(root / "JPEGImages" / category / Path(annotation.get("filename") or f"{stem}.jpg").name),
            category=category,
            split=names.split,
            bbox=bbox,
            mask_path=str(mask) if mask.is_file() else None,
            truth_path=str(truth) if truth.is_file() else None,
            keypoint_ids=ids,
            keypoint_xy=xy,
        )
    except (KeyError, TypeError, ValueError, AttributeError, SchemaError) as error:
        raise InputError(f"{path}: not an image annotation of SPair-71k ({type(error).__name__}: {error})") from None


def _keypoints(kps: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Ids (N,) and pixels (N, 2) of the keypoints that are not null, by ascending id."""
    visible = sorted((int(key), _finite(value, 2)) for key, value in kps.items() if value is not None)
    ids = np.array([key for key, _ in visible], np.int32)
    return ids, np.array([xy for _, xy in visible], np.float32).reshape(-1, 2)


def _finite(value: Any, length: int) -> np.ndarray:
    numbers = np.asarray(value, np.float32)
    if numbers.shape != (length,) or not np.isfinite(numbers).all():
        raise ValueError(f"expected {length} finite numbers, got {value}")
    return numbers
