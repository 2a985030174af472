"""AP-10K (Yu et al., 2021) as a set of pairs: the benchmark of GeoAware-SC, in its three subsets.

Either what the published archive holds::

    annotations/ap10k-{train,val,test}-split1.json    COCO's layout: images, annotations, categories
    data/<image>.jpg
    ap-10k_is_crowd.txt                               ids of images that are not used; from GeoAware-SC's repository, also beside the root

or what GeoAware-SC's ``prepare_ap10k.ipynb`` makes of it::

    ImageAnnotation/<family>/<species>/<image id, 12 digits>.json
    PairAnnotation/{trn,val,test}[_cross_species|_cross_family]/<source>-<target>:<species|family|all>.json
    JPEGImages/<family>/<species>/<image id, 12 digits>.jpg

Where there are pairs, they are read. Else they are drawn as :mod:`sc3d.datasets.ap10k_pairs` says, which gives the same pairs on every
machine; the notebook's depend on the order in which the file system lists its folders.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import FailFast, Field, TypeAdapter
from pydantic.dataclasses import dataclass as schema

from sc3d.datasets.annotation_files import MAX_LIST, STRICT, Coordinate, ImageNumber, Text, read_annotation, read_text
from sc3d.datasets.ap10k_pairs import N_KEYPOINTS, SUBSETS, Animal, draw_pairs, splits_of
from sc3d.datasets.content import AnnotatedSet, check_categories, check_splits, left_out, named, safe_id
from sc3d.datasets.dataset import Dataset, Protocol, Source
from sc3d.errors import InputError, SchemaError
from sc3d.local_files import is_file
from sc3d.pair_ids import pair_id_of
from sc3d.records import SPLITS, ImageRecord, Pair, Reject, check_category

CROWDS = "ap-10k_is_crowd.txt"

# The order in which the notebook merges them, which decides whose annotation of an image is the first.
_FILES = tuple(f"ap10k-{part}-split1.json" for part in ("train", "test", "val"))
_SUFFIX = {"intra-species": "", "cross-species": "_cross_species", "cross-family": "_cross_family"}
_PAIR = re.compile(r"(?P<source>\d+)-(?P<target>\d+):(?P<category>.+)")
_FEWEST_KEYPOINTS = 3


_Numbers = Annotated[list[Coordinate], FailFast(), Field(min_length=3 * N_KEYPOINTS, max_length=3 * N_KEYPOINTS)]


@schema(config=STRICT, kw_only=True)
class _Keypoints:
    """What the annotation of an animal says in both layouts: x, y, visibility a keypoint; left, top, width, height."""

    keypoints: _Numbers
    bbox: tuple[Coordinate, Coordinate, Coordinate, Coordinate]
    num_keypoints: Annotated[int, Field(ge=0, le=N_KEYPOINTS)] | None = None


@schema(config=STRICT, kw_only=True)
class _Annotation(_Keypoints):
    image_id: ImageNumber
    category_id: int


@schema(config=STRICT, kw_only=True)
class _Prepared(_Keypoints):
    id: ImageNumber
    file_name: Text | None = None
    name: Text | None = None
    supercategory: Text | None = None
    is_crowd: bool | int | None = None


@schema(config=STRICT)
class _Image:
    id: ImageNumber
    file_name: Text | None = None


@schema(config=STRICT)
class _Category:
    id: int
    name: Text
    supercategory: Text


@schema(config=STRICT)
class _Coco:
    images: Annotated[list[_Image], FailFast()]
    annotations: Annotated[list[_Annotation], FailFast()]
    categories: Annotated[list[_Category], FailFast()]


_COCO, _PREPARED = TypeAdapter(_Coco), TypeAdapter(_Prepared)


@dataclass(frozen=True)
class _Drawn:
    """A pair of image ids, and the category it counts for."""

    split: str
    source: int
    target: int
    category: str


def read_ap10k(
    root: str | Path,
    subset: str = "intra-species",
    splits: Sequence[str] = SPLITS,
    categories: Collection[str] = (),
    paired: Collection[str] = SPLITS,
) -> AnnotatedSet:
    """Read images and pairs.

    Keypoints with visibility 2 count; those with 1 are hidden by something and left out. Boxes become x1, y1, x2, y2.

    Args:
        root: folder that holds ``annotations`` or ``ImageAnnotation``.
        subset: ``intra-species``; ``cross-species``: pairs of two species of one family, whose category is the family; ``cross-family``:
            pairs of two families, whose category is ``all``. The latter two have no pairs in trn, but the images to label are the same.
        splits: which of trn, val and test.
        categories: only these species; empty: all. Pairs are drawn before, so they are some of those that all species have.
        paired: splits whose pairs are wanted; those of trn are some 300,000.

    Returns:
        Images sorted by id, ``<species>-<image id>``, and pairs sorted by split, category, source and target.

    Raises:
        InputError: missing folders or files, malformed annotations, unknown splits or categories, or an image in two splits.
    """
    root = Path(root)
    check_splits(splits)
    if subset not in SUBSETS:
        raise InputError(f"subset must be one of {', '.join(SUBSETS)}; got '{subset}'")
    animals, unused = _read_animals(root)
    check_categories(root, categories, (animal.species for animal in animals.values()))
    if (root / "PairAnnotation").is_dir():
        split_of, drawn = _prepared(root, subset, animals)
    else:
        split_of = splits_of(animals.values())
        drawn = [_Drawn(*pair) for pair in draw_pairs(animals.values(), split_of, subset, paired)]
    chosen = {
        key: animal
        for key, animal in animals.items()
        if split_of.get(key) in splits and (not categories or animal.species in categories)
    }
    pairs = [pair for pair in drawn if pair.source in chosen and pair.target in chosen and pair.split in paired]
    images = {key: _record(root, animal, split_of[key]) for key, animal in chosen.items()}
    return AnnotatedSet(
        images=sorted(images.values(), key=lambda image: image.image_id),
        pairs=[_pair(pair, images) for pair in sorted(set(pairs), key=_order)],
        listed=Counter(pair.split for pair in pairs),
        left_out=tuple(unused),
    )


def _order(pair: _Drawn) -> tuple[int, str, int, int]:
    return SPLITS.index(pair.split), pair.category, pair.source, pair.target


def _pair(drawn: _Drawn, images: dict[int, ImageRecord]) -> Pair:
    source, target = images[drawn.source].image_id, images[drawn.target].image_id
    return Pair(pair_id_of(source, target), source, target, drawn.category, drawn.split)


def _record(root: Path, animal: Animal, split: str) -> ImageRecord:
    visible = animal.keypoints[:, 2] == 2
    sorted_photo = root / "JPEGImages" / animal.family / animal.species / animal.file_name
    unsorted = root / "data" / animal.file_name
    return ImageRecord(
        image_id=safe_id(animal.species, f"{animal.image_id:012d}"),
        path=str(sorted_photo if is_file(sorted_photo) or not is_file(unsorted) else unsorted),
        category=animal.species,
        split=split,
        bbox=animal.bbox,
        keypoint_ids=np.flatnonzero(visible).astype(np.int32),
        keypoint_xy=animal.keypoints[visible, :2],
    )


def _read_animals(root: Path) -> tuple[dict[int, Animal], list[Reject]]:
    """The usable animals by image id, and the images that are not used."""
    if (root / "ImageAnnotation").is_dir():
        found = list(_prepared_animals(root))
    elif (root / "annotations").is_dir():
        found = list(_original_animals(root))
    else:
        raise InputError(f"{root}: neither a folder annotations nor ImageAnnotation in it; name the folder that holds AP-10K")
    animals: dict[int, Animal] = {}
    unused: list[Reject] = []
    for animal, is_crowd in sorted(found, key=lambda pair: pair[0].image_id):
        if is_crowd:
            unused.append(left_out(f"{animal.image_id:012d}", f"listed in {CROWDS}"))
        elif animal.n_keypoints < _FEWEST_KEYPOINTS:
            unused.append(left_out(f"{animal.image_id:012d}", f"{animal.n_keypoints} keypoints, fewer than {_FEWEST_KEYPOINTS}"))
        elif animals.setdefault(animal.image_id, animal) is not animal:
            first = animals[animal.image_id]
            raise InputError(
                f"{root}: image {animal.image_id:012d} is a {first.species} and a {animal.species}; remove one of them"
            )
    return animals, unused


def _original_animals(root: Path) -> Iterator[tuple[Animal, bool]]:
    crowds = _read_crowds(root)
    folder = root / "annotations"
    parts = [read_annotation(folder / name, _COCO, "COCO's layout of AP-10K", MAX_LIST) for name in _FILES]
    images = {image.id: image for part in parts for image in part.images}
    categories = {category.id: category for part in parts for category in part.categories}
    first = {entry.image_id: entry for part in reversed(parts) for entry in reversed(part.annotations)}
    unknown = sorted(key for key, entry in first.items() if key not in images or entry.category_id not in categories)
    if unknown:
        raise InputError(f"{folder}: annotations of images or species that are not listed: {named(unknown)}")
    for key, entry in first.items():
        species = categories[entry.category_id]
        where = f"{folder}, image {key}"
        yield _animal(entry, key, images[key].file_name, (species.supercategory, species.name), where), key in crowds


def _prepared_animals(root: Path) -> Iterator[tuple[Animal, bool]]:
    crowds = _read_crowds(root) if not (root / "PairAnnotation").is_dir() else frozenset()
    for path in sorted((root / "ImageAnnotation").glob("*/*/*.json")):
        entry = read_annotation(path, _PREPARED, "an image annotation of AP-10K")
        species = entry.supercategory or path.parent.parent.name, entry.name or path.parent.name
        animal = _animal(entry, entry.id, entry.file_name, species, str(path))
        yield animal, bool(entry.is_crowd) or animal.image_id in crowds


def _read_crowds(root: Path) -> frozenset[int]:
    path = next((folder / CROWDS for folder in (root, root.absolute().parent) if (folder / CROWDS).is_file()), None)
    if path is None:
        raise InputError(
            f"{root}: no {CROWDS}, the list of images that the benchmark leaves out; copy it there from data/ of the repository "
            "Junyi42/GeoAware-SC"
        )
    try:
        return frozenset(int(line) for line in read_text(path).split())
    except ValueError as error:
        raise InputError(f"{path}: expected one image id a line ({error}); copy it again") from None


def _animal(entry: _Keypoints, number: int, file_name: str | None, species: tuple[str, str], where: str) -> Animal:
    try:
        keypoints = np.array(entry.keypoints, np.float32).reshape(N_KEYPOINTS, 3)
        if not np.isin(keypoints[:, 2], (0, 1, 2)).all():
            raise ValueError(f"visibilities {keypoints[:, 2].tolist()}, expected 0, 1 or 2")
        left, top, width, height = entry.bbox
        bbox = np.array([left, top, left + width, top + height], np.float32)
        if not (bbox[0] < bbox[2] and bbox[1] < bbox[3]):
            raise ValueError(f"empty box {entry.bbox}")
        return Animal(
            image_id=number,
            family=check_category(species[0]),
            species=check_category(species[1]),
            file_name=Path(file_name or f"{number:012d}.jpg").name,
            bbox=bbox,
            keypoints=keypoints,
            n_keypoints=entry.num_keypoints if entry.num_keypoints is not None else int((keypoints[:, 2] > 0).sum()),
        )
    except (ValueError, SchemaError) as error:
        raise InputError(f"{where}: not an annotation of AP-10K ({error})") from None


def _prepared(root: Path, subset: str, animals: dict[int, Animal]) -> tuple[dict[int, str], list[_Drawn]]:
    """The split of each image that a prepared pair names, and the pairs of the subset."""
    within = [pair for split in SPLITS for pair in _read_pairs(root, split, "")]
    pairs = within if subset == "intra-species" else [p for split in SPLITS[1:] for p in _read_pairs(root, split, _SUFFIX[subset])]
    if not pairs:
        raise InputError(
            f"{root / 'PairAnnotation'}: no pairs of the subset {subset} in it; prepare it again, or remove the folder"
        )
    split_of: dict[int, str] = {}
    unknown = sorted({key for p in (*within, *pairs) for key in (p.source, p.target) if key not in animals})
    if unknown:
        raise InputError(f"{root / 'PairAnnotation'}: names images without a usable annotation: {named(unknown)}; prepare it again")
    for pair in (*within, *pairs):
        for key in (pair.source, pair.target):
            if split_of.setdefault(key, pair.split) != pair.split:
                raise InputError(
                    f"{root / 'PairAnnotation'}: image {key:012d} is in a pair of {pair.split} and in one of {split_of[key]}; "
                    "splits must not share images"
                )
    return split_of, [replace(p, category=animals[p.source].family) if subset == "cross-species" else p for p in pairs]


def _read_pairs(root: Path, split: str, suffix: str) -> list[_Drawn]:
    pairs = []
    for path in sorted((root / "PairAnnotation" / f"{split}{suffix}").glob("*.json")):
        match = _PAIR.fullmatch(path.stem)
        if match is None:
            hint = "" if ":" in path.stem else "; was the colon replaced when it was copied?"
            raise InputError(f"{path}: the name is not <source>-<target>:<species, family or all>{hint}")
        pairs.append(_Drawn(split, int(match["source"]), int(match["target"]), match["category"]))
    return pairs


AP10K = Dataset(
    lambda root, dataset, subset, paired: read_ap10k(root, subset, SPLITS, dataset.categories, paired),
    SUBSETS,
    Protocol("AP-10K", groups="ap10k", by_subset=True),
    source=Source(
        "AP-10K",
        (
            "download ap-10k.zip; its link is in https://github.com/AlexTheBad/AP-10K, and data/prepare_ap10k.sh of "
            "https://github.com/Junyi42/GeoAware-SC has it too",
            "unpack it: the folder ap-10k holds annotations and data",
            "copy data/ap-10k_is_crowd.txt of https://github.com/Junyi42/GeoAware-SC into it or beside it",
            "give the folder ap-10k as --root; one that prepare_ap10k.ipynb has rearranged will do as well",
        ),
    ),
)
