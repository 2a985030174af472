"""The Proposal Flow data sets (Ham et al., 2016 and 2018) with the lists of pairs that CNNGeometric and NCNet published.

PF-PASCAL::

    JPEGImages/<photo>.jpg
    Annotations/<class>/<photo>.mat               kps (K, 2), NaN where not visible; bbox; for lists without points
    {train,val,test}_pairs_pf_pascal.csv          source_image, target_image, class (1 to 20), XA, YA, XB, YB; also {train,..}_pairs.csv

PF-WILLOW::

    <group, such as car(G)>/<photo>.png
    test_pairs_pf.csv                             two photos, then 10 x and 10 y in the first, 10 x and 10 y in the second

The lists may lie in the root, beside it, or in ``image_pairs`` of either; the root may be the folder above the photos'. Coordinates within
a column of PF-PASCAL are separated by semicolons.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from sc3d.datasets.annotation_files import MAX_KEYPOINTS, read_lines_of_csv
from sc3d.datasets.content import AnnotatedSet, PairKeypoints, check_categories, check_splits, finite, left_out, safe_id
from sc3d.datasets.dataset import Dataset, Protocol, Source
from sc3d.datasets.mat_file import read_mat
from sc3d.datasets.segmentation import VOC_CLASSES
from sc3d.errors import InputError, SchemaError
from sc3d.local_files import is_file, read_local
from sc3d.pair_ids import pair_id_of
from sc3d.records import SPLITS, ImageRecord, Pair, Reject, check_category

_PASCAL_LISTS = {"trn": "train", "val": "val", "test": "test"}
_WILLOW_LIST = "test_pairs_pf.csv"
_WILLOW_POINTS = 10
_POINTS = ("XA", "YA", "XB", "YB")
# The files of PF-PASCAL have less than 1 KB.
_MAT_BYTES = 1 << 18


@dataclass(frozen=True)
class _Row:
    """One line of a list: photos (paths below the root), category, and points (K, 4), x and y in both."""

    split: str
    category: str
    photos: tuple[str, str]
    points: np.ndarray
    where: str

    @property
    def image_ids(self) -> tuple[str, str]:
        """The ids of both images: a photo that shows two categories is two images."""
        first, second = (safe_id(self.category, re.sub(r"\.[^./]*$", "", photo)) for photo in self.photos)
        return first, second


def read_pf_pascal(root: str | Path, splits: Sequence[str] | None = None, categories: Collection[str] = ()) -> AnnotatedSet:
    """Read images and pairs of PF-PASCAL.

    The splits share photos: an image is of the most held-out split that names it, so that nothing in a test pair is labelled, and so is a
    pair that two splits list. Pairs that are listed twice (mirrored ones, which the training list repeats) are taken once. Keypoint ids are
    the pair's own (:class:`~sc3d.datasets.content.PairKeypoints`). The published threshold is a share of the image's longer side; ``bbox``
    is set where there is a .mat file with one.

    Args:
        root: the folder that holds JPEGImages, or the one above it.
        splits: which of trn, val and test; none: those that there are lists of.
        categories: only these; empty: all.

    Returns:
        Images sorted by id, ``<class>-<photo>``, and pairs by split, in the order of their lists. A pair without common keypoints is left
        out.

    Raises:
        InputError: a list or an annotation is missing or malformed, a column is missing, or an unknown category.
    """
    check_splits(SPLITS if splits is None else splits)
    root = Path(root)
    base = next((folder for folder in (root, root / "PF-dataset-PASCAL") if (folder / "JPEGImages").is_dir()), None)
    if base is None:
        raise InputError(f"{root}: no folder JPEGImages in it; name the folder that holds it")
    check_categories(base, categories, VOC_CLASSES)
    lists = {split: _find_list(root, base, _pascal_lists(split)) for split in SPLITS}
    wanted = [split for split in SPLITS if (lists[split] is not None if splits is None else split in splits)]
    mats = _Mats(base / "Annotations")
    rows = [
        row for split in wanted or SPLITS for row in _pascal_rows(_required(lists[split], root, _pascal_lists(split)), split, mats)
    ]
    return _assemble(base / "JPEGImages", rows, categories, lambda row, side: mats.box(row.category, row.photos[side]))


def read_pf_willow(root: str | Path, splits: Sequence[str] = SPLITS, categories: Collection[str] = ()) -> AnnotatedSet:
    """Read images and pairs of PF-WILLOW, all of which are for test.

    The category of a photo is the name of its folder without what is in brackets. The published threshold is a share of the longer side of
    the box around the keypoints; ``bbox`` stays empty.

    Args, returns and raises as :func:`read_pf_pascal`; ids are ``<category>-<group>-<photo>``.
    """
    check_splits(splits)
    names = (_WILLOW_LIST, f"PF-dataset/{_WILLOW_LIST}")
    path = _required(_find_list(Path(root), Path(root), names), Path(root), names)
    base = next((folder for folder in (path.parent / "PF-dataset", path.parent) if folder.is_dir()), path.parent)
    rows = [_willow_row(line, where) for line, where in read_lines_of_csv(path)[1:]] if "test" in splits else []
    check_categories(base, categories, (row.category for row in rows))
    return _assemble(base, rows, categories, lambda row, side: None)


def _assemble(
    base: Path, rows: Sequence[_Row], categories: Collection[str], box: Callable[[_Row, int], np.ndarray | None]
) -> AnnotatedSet:
    rows = [row for row in rows if not categories or row.category in categories]
    keypoints = PairKeypoints()
    annotated: dict[frozenset[str], str] = {}
    first: dict[str, tuple[_Row, int]] = {}
    splits: dict[str, str] = {}
    pairs: dict[str, Pair] = {}
    unused: dict[str, Reject] = {}
    # The most held-out split first, since the first to name an image or a pair has it.
    for row in sorted(rows, key=lambda row: -SPLITS.index(row.split)):
        ids = row.image_ids
        name = pair_id_of(*ids)
        if len(row.points) == 0:
            unused[name] = left_out(name, f"{row.where}: no keypoint is visible in both images")
            continue
        if annotated.setdefault(frozenset(ids), row.split) == row.split:
            keypoints.add(ids, row.points, row.where)
        for side, image in enumerate(ids):
            splits.setdefault(image, row.split)
            if first.setdefault(image, (row, side))[0].photos[first[image][1]] != row.photos[side]:
                raise InputError(f"{row.where}: two photos are both called {image}; rename one")
        known = pairs.setdefault(name, Pair(name, *ids, row.category, row.split))
        if known.split != row.split:
            unused[f"{row.split} {name}"] = left_out(name, f"{row.where}: also listed for {known.split}, where it counts")
    images = []
    for image, (row, side) in sorted(first.items()):
        ids_of, xy = keypoints.of(image)
        images.append(
            ImageRecord(
                image_id=image,
                path=str(base / row.photos[side]),
                category=row.category,
                split=splits[image],
                bbox=box(row, side),
                keypoint_ids=ids_of,
                keypoint_xy=xy,
            )
        )
    ordered = sorted(pairs.values(), key=lambda pair: SPLITS.index(pair.split))
    return AnnotatedSet(images, ordered, Counter(row.split for row in rows), tuple(unused.values()))


def _pascal_lists(split: str) -> tuple[str, ...]:
    return f"{_PASCAL_LISTS[split]}_pairs_pf_pascal.csv", f"{_PASCAL_LISTS[split]}_pairs.csv"


def _find_list(root: Path, base: Path, names: Iterable[str]) -> Path | None:
    folders = [place for folder in (root, base, base.absolute().parent) for place in (folder, folder / "image_pairs")]
    return next((folder / name for folder in folders for name in names if (folder / name).is_file()), None)


def _required(path: Path | None, root: Path, names: Iterable[str]) -> Path:
    if path is None:
        raise InputError(f"{root}: no list of pairs {' or '.join(names)} in it, beside it or in image_pairs; copy it there")
    return path


def _pascal_rows(path: Path, split: str, mats: _Mats) -> list[_Row]:
    (header, _), *lines = read_lines_of_csv(path)
    columns = ["source_image", "target_image", "class"]
    if any(name in header for name in _POINTS):
        columns += _POINTS
    missing = [name for name in columns if name not in header]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)}; there are {', '.join(header)}")
    rows = []
    for line, where in lines:
        if len(line) != len(header):
            raise InputError(f"{where}: {len(line)} fields under {len(header)} columns; copy the list again")
        rows.append(_pascal_row(split, dict(zip(header, line, strict=True)), where, mats))
    return rows


def _pascal_row(split: str, line: Mapping[str, str], where: str, mats: _Mats) -> _Row:
    number = line["class"].removesuffix(".0")
    if not (number.isdecimal() and 1 <= int(number) <= len(VOC_CLASSES)):
        raise InputError(f"{where}: class '{line['class']}', expected 1 to {len(VOC_CLASSES)}")
    category = VOC_CLASSES[int(number) - 1]
    first, second = (_photo(line[column], where).name for column in ("source_image", "target_image"))
    if "XA" in line:
        points = _columns([line[column].split(";") for column in _POINTS], where)
    else:
        sides = [mats.keypoints(category, photo, where) for photo in (first, second)]
        if len(sides[0]) != len(sides[1]):
            raise InputError(f"{where}: {len(sides[0])} and {len(sides[1])} keypoints in the .mat files; both need one row a part")
        points = np.concatenate(sides, axis=1)
        points = points[~np.isnan(points).any(axis=1)]
    return _Row(split, category, (first, second), points, where)


def _willow_row(line: list[str], where: str) -> _Row:
    if len(line) != 2 + 4 * _WILLOW_POINTS:
        raise InputError(f"{where}: {len(line)} fields, expected two photos and {4 * _WILLOW_POINTS} coordinates")
    photos = [_photo(name, where) for name in line[:2]]
    groups = {re.sub(r"\(.*?\)", "", photo.parent.name).strip().lower() for photo in photos}
    category = groups.pop()
    if groups:
        raise InputError(f"{where}: photos of {category} and of {groups.pop()}; a pair shows one category")
    try:
        check_category(category)
    except SchemaError as error:
        raise InputError(f"{where}: {error}") from None
    numbers = np.array_split(np.array(line[2:]), 4)
    points = _columns([values.tolist() for values in numbers], where)
    first, second = (f"{photo.parent.name}/{photo.name}" for photo in photos)
    return _Row("test", category, (first, second), points, where)


def _photo(name: str, where: str) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.suffix or path.name in ("", ".."):
        raise InputError(f"{where}: '{name}' is not the name of a photo")
    return path


def _columns(columns: Sequence[Sequence[str]], where: str) -> np.ndarray:
    """x, y, x, y as text, K each -> (K, 4) float64."""
    try:
        points = np.array([[float(value) for value in column if value.strip()] for column in columns]).T
    except ValueError:
        raise InputError(f"{where}: coordinates must be as many numbers in each of XA, YA, XB and YB") from None
    if points.ndim != 2 or not np.isfinite(points).all():
        raise InputError(f"{where}: coordinates must be as many finite numbers in each of XA, YA, XB and YB")
    return points


class _Mats:
    """The .mat files of PF-PASCAL, each read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contents: dict[Path, Mapping[str, np.ndarray | None]] = {}

    def keypoints(self, category: str, photo: str, where: str) -> np.ndarray:
        """All keypoints (K, 2) of a photo, NaN where not visible."""
        path = self._path(category, photo)
        if not is_file(path):
            raise InputError(
                f"{where}: gives no points, and {path} is missing; unpack Annotations, or take a list with XA, YA, XB, YB"
            )
        kps = self._read(path).get("kps")
        if kps is None:
            raise InputError(f"{path}: has no array of real numbers called kps; copy it again")
        if kps.ndim != 2 or kps.shape[1] != 2 or len(kps) > MAX_KEYPOINTS or np.isinf(kps).any():
            raise InputError(f"{path}: kps of shape {kps.shape}, expected (K, 2) of numbers, NaN where not visible")
        return kps

    def box(self, category: str, photo: str) -> np.ndarray | None:
        """The box (4,) of the object in a photo, where there is a file with one."""
        path = self._path(category, photo)
        content: Mapping[str, np.ndarray | None] = self._read(path) if is_file(path) else {}
        if "bbox" not in content:
            return None
        values = content["bbox"]
        try:
            box = finite(None if values is None else values.ravel(), 4)
        except ValueError as error:
            raise InputError(f"{path}: bbox: {error}") from None
        if not (box[2] > box[0] and box[3] > box[1]):
            raise InputError(f"{path}: the box {box.tolist()} is empty; expected x1, y1, x2, y2")
        return box

    def _path(self, category: str, photo: str) -> Path:
        return self._folder / category / f"{PurePosixPath(photo).stem}.mat"

    def _read(self, path: Path) -> Mapping[str, np.ndarray | None]:
        if path not in self._contents:
            try:
                self._contents[path] = read_mat(read_local(path, _MAT_BYTES), ("kps", "bbox"))
            except ValueError as error:
                raise InputError(f"{path}: cannot be read as a MATLAB file ({error}); copy it again") from None
        return self._contents[path]


_WILLOW = "http://www.di.ens.fr/willow/research"

PF_PASCAL = Dataset(
    lambda root, dataset, subset, paired: read_pf_pascal(root, categories=dataset.categories),
    protocol=Protocol("PF-PASCAL", "image", (0.15, 0.10, 0.05)),
    source=Source(
        "PF-PASCAL",
        (
            f"download {_WILLOW}/proposalflow/dataset/PF-dataset-PASCAL.zip and unpack it",
            f"download {_WILLOW}/cnngeometric/other_resources/test_pairs_pf_pascal.csv and val_pairs_pf_pascal.csv from the same place",
            "for the training pairs, train_pairs.csv in datasets/pf-pascal/image_pairs of https://github.com/ignacio-rocco/ncnet",
            "put the lists into the folder PF-dataset-PASCAL, and give it as --root",
        ),
        {"": {"trn": 2_940, "val": 308, "test": 299}},
    ),
)

PF_WILLOW = Dataset(
    lambda root, dataset, subset, paired: read_pf_willow(root, categories=dataset.categories),
    protocol=Protocol("PF-WILLOW", "keypoints", (0.15, 0.10, 0.05)),
    source=Source(
        "PF-WILLOW",
        (
            f"download {_WILLOW}/proposalflow/dataset/PF-dataset.zip and unpack it",
            f"download {_WILLOW}/cnngeometric/other_resources/test_pairs_pf.csv",
            "put the list into the folder PF-dataset, and give it as --root",
        ),
        {"": {"test": 900}},
    ),
)
