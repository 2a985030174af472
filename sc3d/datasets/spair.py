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

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass as schema

from sc3d.config import DatasetConfig
from sc3d.datasets.annotation_files import MAX_KEYPOINTS, STRICT, Coordinate, KeypointId, Text, read_annotation, read_text
from sc3d.datasets.content import AnnotatedSet, check_categories, check_splits, named, safe_id
from sc3d.datasets.copy_check import CopyCheck, Problem
from sc3d.datasets.dataset import Dataset, Protocol, Source
from sc3d.datasets.segmentation import VOC_CLASSES
from sc3d.errors import InputError, SchemaError
from sc3d.local_files import is_file
from sc3d.records import SPLITS, ImageRecord, Pair, check_category

SIZES = ("large", "small")

_PAIR = re.compile(r"\d+-(?P<source>[^-:/]+)-(?P<target>[^-:/]+):(?P<category>[^/]+)")


@schema(config=STRICT)
class _ImageAnnotation:
    kps: Annotated[dict[KeypointId, tuple[Coordinate, Coordinate] | None], Field(max_length=MAX_KEYPOINTS)]
    bndbox: tuple[Coordinate, Coordinate, Coordinate, Coordinate]
    filename: Text | None = None


_IMAGE = TypeAdapter(_ImageAnnotation)


@dataclass(frozen=True)
class SpairFolders:
    """Where the parts of a data set in SPair-71k's layout are.

    Attributes:
        images, pairs: folders of the annotations of images and of pairs.
        layout: folder of the lists of pairs; ``None``: the pairs are all files in ``pairs``.
        photos: folder that JPEGImages, Segmentation and truth are in.
    """

    images: Path
    pairs: Path
    layout: Path | None
    photos: Path

    @classmethod
    def of(cls, root: Path) -> SpairFolders:
        """The folders below the root of SPair-71k; raises :class:`InputError` if it has no annotations."""
        images, pairs, layout = root / "ImageAnnotation", root / "PairAnnotation", root / "Layout"
        if not images.is_dir():
            raise InputError(
                f"{root}: no folder ImageAnnotation in it; name the folder that holds ImageAnnotation and PairAnnotation"
            )
        if not layout.is_dir() and not pairs.is_dir():
            raise InputError(f"{root}: neither a folder Layout nor PairAnnotation in it; the dataset is incomplete, copy it again")
        return cls(images, pairs, layout if layout.is_dir() else None, root)


@dataclass(frozen=True)
class PairName:
    """What the name of a pair says, and where it stands."""

    name: str
    split: str
    category: str
    source: str
    target: str
    where: str


def read_spair(
    root: str | Path,
    splits: Sequence[str] = SPLITS,
    categories: Collection[str] = (),
    size: str = "large",
    paired: Collection[str] = SPLITS,
) -> AnnotatedSet:
    """Read images and pairs.

    Args:
        root: folder that holds ImageAnnotation and the others.
        splits: which of trn, val and test.
        categories: only these; empty: all.
        size: the layout: ``large``, or ``small``, a fifth of the pairs.
        paired: splits whose pairs are wanted; the images of the others are returned without them.

    Returns:
        Images sorted by id, pairs in the order of their layout; a pair listed twice is taken once. Images that no pair of these
        splits names are left out. ``image_id`` is ``<category>-<stem>``, ``mask_path`` is set where a segmentation file exists (see
        :func:`~sc3d.datasets.segmentation.read_segmentation`), ``truth_path`` where a truth file does.

    Raises:
        InputError: missing folders, malformed files, unknown splits, categories or images, or an image in two splits.
    """
    if size not in SIZES:
        raise InputError(f"size must be one of {', '.join(SIZES)}; got '{size}'")
    return read_spair_folders(SpairFolders.of(Path(root)), splits, categories, size, paired)


def read_spair_folders(
    folders: SpairFolders,
    splits: Sequence[str] = SPLITS,
    categories: Collection[str] = (),
    size: str = "large",
    paired: Collection[str] = SPLITS,
) -> AnnotatedSet:
    """As :func:`read_spair`, from folders that need not be in one place."""
    check_splits(splits)
    check_categories(folders.images.parent, categories, (p.name for p in folders.images.iterdir() if p.is_dir()))
    names = [
        n for split in dict.fromkeys(splits) for n in pair_names(folders, split, size) if not categories or n.category in categories
    ]
    images = _read_images(folders, names)
    # A dict, since a pair id must be unique.
    sides = ((images[n.category, n.source], images[n.category, n.target]) for n in names if n.split in paired)
    pairs = {pair.pair_id: pair for pair in (Pair.of(source, target) for source, target in sides)}
    listed = Counter(n.split for n in names)
    return AnnotatedSet(sorted(images.values(), key=lambda image: image.image_id), list(pairs.values()), listed)


def pair_names(folders: SpairFolders, split: str, size: str = "large") -> list[PairName]:
    """The pairs of a split, repeated ones included.

    Raises:
        InputError: a list of pairs is missing or cannot be read, or a name in it is none.
    """
    if folders.layout is not None:
        entries = _read_layout(folders.layout / size / f"{split}.txt")
    else:
        entries = [(path.stem, str(path)) for path in sorted((folders.pairs / split).glob("*.json"))]
    return [_parse_pair(name, split, where) for name, where in entries]


def _read_layout(path: Path) -> list[tuple[str, str]]:
    if not path.is_file():
        raise InputError(
            f"{path}: no such file, but there is a folder {path.parent.parent}; the dataset is incomplete, copy it again"
        )
    return [(line.strip(), f"{path}, line {i}") for i, line in enumerate(read_text(path).splitlines(), start=1) if line.strip()]


def _parse_pair(name: str, split: str, where: str) -> PairName:
    match = _PAIR.fullmatch(name)
    if match is None:
        hint = "" if ":" in name else "; was the colon replaced when it was unpacked?"
        raise InputError(f"{where}: '{name}' is not a pair's name, which is <id>-<source>-<target>:<category>{hint}")
    return PairName(name, split, match["category"], match["source"], match["target"], where)


def _read_images(folders: SpairFolders, names: list[PairName]) -> dict[tuple[str, str], ImageRecord]:
    """Each image that a pair names, by category and stem."""
    _require_annotations(folders, names)
    images: dict[tuple[str, str], ImageRecord] = {}
    owners: dict[str, tuple[str, str]] = {}
    for n in names:
        for stem in (n.source, n.target):
            image = images.get((n.category, stem))
            if image is None:
                image = images[n.category, stem] = _read_image(folders, n, stem)
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


def _require_annotations(folders: SpairFolders, names: list[PairName]) -> None:
    where = {(n.category, stem): n.where for n in reversed(names) for stem in (n.source, n.target)}
    missing = sorted(key for key in where if not is_file(_annotation(folders, *key)))
    if missing:
        category, stem = missing[0]
        others = (
            f" (so are {len(missing) - 1:,} others: {named(['/'.join(key) for key in missing[1:]])})" if len(missing) > 1 else ""
        )
        raise InputError(
            f"{where[missing[0]]}: names the image '{stem}', but {_annotation(folders, category, stem)} is missing{others}; "
            "the dataset is incomplete, copy it again"
        )


def _annotation(folders: SpairFolders, category: str, stem: str) -> Path:
    return folders.images / category / f"{stem}.json"


def _read_image(folders: SpairFolders, names: PairName, stem: str) -> ImageRecord:
    category = names.category
    path = _annotation(folders, category, stem)
    annotation = read_annotation(path, _IMAGE, "an image annotation of SPair-71k")
    mask, truth = folders.photos / "Segmentation" / category / f"{stem}.png", folders.photos / "truth" / category / f"{stem}.npz"
    try:
        check_category(category)
        ids, xy = _keypoints(annotation.kps)
        bbox = np.array(annotation.bndbox, np.float32)
        if bbox[2] <= bbox[0] or bbox[3] <= bbox[1]:
            raise ValueError(f"empty box {bbox.tolist()}")
        return ImageRecord(
            image_id=safe_id(category, stem),
            path=str(folders.photos / "JPEGImages" / category / Path(annotation.filename or f"{stem}.jpg").name),
            category=category,
            split=names.split,
            bbox=bbox,
            mask_path=str(mask) if is_file(mask) else None,
            truth_path=str(truth) if is_file(truth) else None,
            keypoint_ids=ids,
            keypoint_xy=xy,
        )
    except (ValueError, SchemaError) as error:
        raise InputError(f"{path}: not an image annotation of SPair-71k ({error})") from None


def _keypoints(kps: Mapping[int, tuple[float, float] | None]) -> tuple[np.ndarray, np.ndarray]:
    """Ids (N,) and pixels (N, 2) of the keypoints that are not null, by ascending id."""
    visible = sorted((key, value) for key, value in kps.items() if value is not None)
    ids = np.array([key for key, _ in visible], np.int32)
    return ids, np.array([xy for _, xy in visible], np.float32).reshape(-1, 2)


def inspect_spair(check: CopyCheck, folders: SpairFolders, size: str) -> set[Path]:
    """The photos of all annotated images; notes what a list of pairs and the files beside it do not have in common."""
    for split in SPLITS:
        _inspect_layout(check, folders, split, size)
    annotated = {path.relative_to(folders.images).with_suffix("") for path in folders.images.glob("*/*.json")}
    photos = folders.photos / "JPEGImages"
    extra = sorted({path.relative_to(photos).with_suffix("") for path in photos.glob("*/*.jpg")} - annotated)
    if extra and folders.layout is not None:
        check.problems.append(Problem(f"{len(extra):,} photos have no annotation: {named(extra)}", fatal=False))
    if not (folders.photos / "Segmentation").is_dir():
        check.problems.append(Problem(f"{folders.photos}: no folder Segmentation; masks will be computed", fatal=False))
    return {photos / path.with_name(f"{path.name}.jpg") for path in annotated}


def _inspect_layout(check: CopyCheck, folders: SpairFolders, split: str, size: str) -> None:
    if folders.layout is None:
        return
    listed = {n.name for n in pair_names(folders, split, size)}
    there = {path.name.removesuffix(".json") for path in (folders.pairs / split).glob("*.json")}
    missing = sorted(listed - there)
    if missing:
        replaced = sum(":" not in name for name in there)
        hint = f"; {replaced:,} files there have no colon in their names: unpack on Linux or macOS" if replaced else ""
        what = f"{len(missing):,} pairs of Layout/{size}/{split}.txt have no file in PairAnnotation/{split}: {named(missing)}{hint}"
        check.problems.append(Problem(what))
    unlisted = sorted(there - listed)
    if unlisted and size == "large":
        what = f"PairAnnotation/{split} holds {len(unlisted):,} pairs that Layout does not list: {named(unlisted)}"
        check.problems.append(Problem(what, fatal=False))


def _read(root: Path, dataset: DatasetConfig, subset: str, paired: Collection[str]) -> AnnotatedSet:
    return read_spair(root, SPLITS, dataset.categories, subset, paired)


TOYS = Dataset(_read, SIZES, Protocol(groups="root"), masks="classes")

SPAIR = Dataset(
    _read,
    SIZES,
    Protocol("SPair-71k", groups="root"),
    masks="classes",
    source=Source(
        "SPair-71k",
        (
            "download http://cvlab.postech.ac.kr/research/SPair-71k/data/SPair-71k.tar.gz",
            "unpack it on Linux or macOS, since names of pairs hold a colon: tar -xzf SPair-71k.tar.gz",
            "give the folder SPair-71k, which holds ImageAnnotation, PairAnnotation, JPEGImages and Layout, as --root",
        ),
        {"large": {"trn": 53_340, "val": 5_384, "test": 12_234}, "small": {"trn": 10_652, "val": 1_070, "test": 2_438}},
        images=1_800,
        categories=tuple(name for name in VOC_CLASSES if name not in ("diningtable", "sofa")),
    ),
    inspect=lambda check, root, subset: inspect_spair(check, SpairFolders.of(root), subset),
)
