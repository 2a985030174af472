"""Which images of AP-10K are paired: the rules of GeoAware-SC, with an order and a draw that are the same on every machine.

The rules: of each species, sorted by image id, the last 30 images are for test, the 20 before them for val, the others for trn. A pair
needs ``sum(v_source / 2 * v_target / 2) >= 3`` over the keypoints' visibilities (0, 1 or 2). Within a species, test and val take all
unordered pairs once, trn at most 50 an image; across the species of a family at most 900 (test) or 400 (val) a family; across families
at most 30 or 20 of each two families.

Where there are more pairs than the rule takes, those with the smallest :func:`rank` are taken. It depends on the two image ids alone, so
neither the file system nor a library's random numbers have a say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

SUBSETS = ("intra-species", "cross-species", "cross-family")
ALL_FAMILIES = "all"
N_KEYPOINTS = 17

_TEST_IMAGES, _VAL_IMAGES = 30, 20
_TRAINING_PAIRS_AN_IMAGE = 50
_PAIRS_A_FAMILY = {"test": 900, "val": 400}
_PAIRS_OF_TWO_FAMILIES = {"test": 30, "val": 20}
_LEAST_VISIBILITY = 3.0


@dataclass(frozen=True, eq=False)
class Animal:
    """The annotation of one image: box (4,) as x1, y1, x2, y2; keypoints (17, 3) as x, y, visibility (0, 1 hidden, 2 visible)."""

    image_id: int
    family: str
    species: str
    file_name: str
    bbox: np.ndarray
    keypoints: np.ndarray
    n_keypoints: int


@dataclass(frozen=True)
class _Group:
    """Images of one species and split: ids (n,) uint64 ascending, visibilities (n, 17) as shares."""

    ids: np.ndarray
    visibility: np.ndarray


def rank(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A number for each pair of image ids, as good as random: (n,), (n,) uint64 -> (n,) uint64 (splitmix64's mixer, twice)."""
    return _mix(_mix(first) ^ second)


def _mix(values: np.ndarray) -> np.ndarray:
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))


def splits_of(animals: Iterable[Animal]) -> dict[int, str]:
    """Image id -> trn, val or test."""
    result = {}
    for members in _by_species(animals).values():
        for place, animal in enumerate(reversed(members)):
            result[animal.image_id] = "test" if place < _TEST_IMAGES else "val" if place < _TEST_IMAGES + _VAL_IMAGES else "trn"
    return result


def draw_pairs(
    animals: Iterable[Animal], split_of: Mapping[int, str], subset: str, splits: Collection[str]
) -> Iterator[tuple[str, int, int, str]]:
    """Split, source image, target image and category of each pair of a subset in some splits."""
    families: dict[str, list[str]] = {}
    groups: dict[tuple[str, str], _Group] = {}
    for (family, species), members in sorted(_by_species(animals).items()):
        families.setdefault(family, []).append(species)
        for split in splits:
            groups[species, split] = _group([animal for animal in members if split_of[animal.image_id] == split])
    if subset == "intra-species":
        for species in (s for family in families.values() for s in family):
            for split in splits:
                yield from _within(groups[species, split], split, species)
        return
    for split in (s for s in splits if s in _PAIRS_A_FAMILY):
        if subset == "cross-species":
            for family, relatives in families.items():
                candidates = [_across(groups[a, split], groups[b, split]) for a, b in combinations(relatives, 2)]
                if candidates:
                    yield from _lowest(np.concatenate(candidates), _PAIRS_A_FAMILY[split], split, family)
        else:
            whole = [_joined([groups[species, split] for species in relatives]) for relatives in families.values()]
            for first, second in combinations(whole, 2):
                yield from _lowest(_across(first, second), _PAIRS_OF_TWO_FAMILIES[split], split, ALL_FAMILIES)


def _by_species(animals: Iterable[Animal]) -> dict[tuple[str, str], list[Animal]]:
    result: dict[tuple[str, str], list[Animal]] = {}
    for animal in sorted(animals, key=lambda a: a.image_id):
        result.setdefault((animal.family, animal.species), []).append(animal)
    return result


def _group(members: list[Animal]) -> _Group:
    ids = np.array([animal.image_id for animal in members], np.uint64)
    visibility = np.array([animal.keypoints[:, 2] / 2 for animal in members]).reshape(-1, N_KEYPOINTS)
    return _Group(ids, visibility)


def _joined(groups: list[_Group]) -> _Group:
    return _Group(np.concatenate([g.ids for g in groups]), np.concatenate([g.visibility for g in groups]))


def _across(a: _Group, b: _Group) -> np.ndarray:
    """The possible pairs (n, 2) of an image of ``a``, the source, and one of ``b``."""
    i, j = np.nonzero(a.visibility @ b.visibility.T >= _LEAST_VISIBILITY)
    return np.stack([a.ids[i], b.ids[j]], axis=1)


def _within(group: _Group, split: str, species: str) -> Iterator[tuple[str, int, int, str]]:
    pairs = _across(group, group)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    most = _TRAINING_PAIRS_AN_IMAGE * len(group.ids) if split == "trn" else len(pairs)
    # Either image may be the source, as in the notebook, which shuffles the images.
    turned = rank(pairs[:, 1], pairs[:, 0]) % np.uint64(2) == 1
    for (_, a, b, _), swap in zip(_lowest(pairs, most, split, species), turned[_chosen(pairs, most)], strict=True):
        yield (split, b, a, species) if swap else (split, a, b, species)


def _lowest(pairs: np.ndarray, most: int, split: str, category: str) -> Iterator[tuple[str, int, int, str]]:
    for source, target in pairs[_chosen(pairs, most)].tolist():
        yield split, source, target, category


def _chosen(pairs: np.ndarray, most: int) -> np.ndarray:
    """Indices of the ``most`` pairs of the smallest rank; ranks that are equal go by ids."""
    return np.lexsort((pairs[:, 1], pairs[:, 0], rank(pairs[:, 0], pairs[:, 1])))[:most]
