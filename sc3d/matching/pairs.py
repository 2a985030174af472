"""Which ordered pairs of images are matched: within one category and split, never an image with itself, never a pair twice.

Pairs are planned as columns, so a million of them need no million Python objects. The plan follows from the seed and the set of images
alone, whatever order the manifest has; each category and split draws from its own random stream, so adding one leaves the others alone.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sc3d.config import PairsConfig
from sc3d.errors import ConfigError, InputError
from sc3d.matching.azimuth_chains import chained_pairs
from sc3d.matching.nearest_images import nearest_images
from sc3d.pair_ids import join_pair_ids
from sc3d.records import ImageRecord, Pair
from sc3d.schema import arrow_schema, from_table


@dataclass(frozen=True, eq=False)
class ImageCues:
    """What the strategies "nearest" and "azimuth" go by, of the images of one category.

    ``image_ids``: N ids in any order, each once. ``values``: for "nearest" their global descriptors (N, C), rows of unit length; for
    "azimuth" the azimuths (N,) of their cameras in degrees. Rows that are not finite count as missing.
    """

    image_ids: Sequence[str]
    values: np.ndarray

    def __post_init__(self) -> None:
        if len(self.image_ids) != len(self.values):
            raise InputError(f"{len(self.image_ids)} images but {len(self.values)} cues; give every image one")

    def of(self, image_ids: Sequence[str]) -> tuple[list[str], np.ndarray]:
        """Those of ``image_ids`` that have finite cues, in the given order, and their cues."""
        finite = np.isfinite(self.values).all(axis=tuple(range(1, self.values.ndim)))
        row_of = {image_id: row for row, image_id in enumerate(self.image_ids) if finite[row]}
        known = [image_id for image_id in image_ids if image_id in row_of]
        return known, self.values[[row_of[image_id] for image_id in known]]


CueReader = Callable[[str], ImageCues]
"""Category -> the cues of its images. Asked for one category after the other, so that only one is in memory."""


def plan_pairs(images: Sequence[ImageRecord], config: PairsConfig, seed: int, cues: CueReader | None = None) -> list[Pair]:
    """The planned pairs as records; see :func:`plan_pairs_table`, which is the one for many pairs."""
    return from_table(Pair, plan_pairs_table(images, config, seed, cues))


def plan_pairs_table(images: Sequence[ImageRecord], config: PairsConfig, seed: int, cues: CueReader | None = None) -> pa.Table:
    """The planned pairs as a table with the schema of :class:`~sc3d.records.Pair`, ordered by category, split, source and target.

    ``config.strategy``, always within one category and split:

    * "all" takes every ordered pair.
    * "random" draws ``config.targets`` different targets for each source (all, where there are fewer).
    * "nearest" takes for each source the ``config.targets`` images with the most similar global descriptors.
    * "azimuth" pairs the consecutive members of chains over neighbouring azimuth bins, in both directions: ``config.targets`` pairs an
      image on average, or all that there are.

    ``config.max_per_category`` keeps a random choice of a category's pairs over all its splits; "azimuth" keeps or cuts both directions
    of a pair together. "nearest" and "azimuth" leave images without a cue out.

    Raises:
        InputError: two images have the same id.
        ConfigError: the strategy needs cues and there are none.
    """
    if config.needs_cues and cues is None:
        raise ConfigError(f"pairs.strategy = {config.strategy} goes by described images; plan these pairs after the describe stage")
    categories: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for image in images:
        categories[image.category][image.split].append(image.image_id)
    ids = np.sort([image.image_id for image in images])
    repeated = ids[1:][ids[1:] == ids[:-1]] if len(ids) else ids
    if len(repeated):
        raise InputError(f"image id '{repeated[0]}' is in the manifest more than once; give every image its own id")
    parts = []
    for category in sorted(categories):
        known = cues(category) if config.needs_cues and cues is not None else None
        groups = [_plan_group(category, split, ids, known, config, seed) for split, ids in sorted(categories[category].items())]
        parts += _cap(groups, config.max_per_category, np.random.default_rng([seed, zlib.crc32(category.encode())]))
    schema = arrow_schema(Pair)
    return pa.concat_tables(parts) if parts else schema.empty_table()


@dataclass(frozen=True, eq=False)
class _Group:
    """The plan of the images of one category and split.

    ``codes`` ascending int64: source * (n - 1) + the target's position among the others; ``None``: every ordered pair. ``mirrored``: each
    code stands for both directions.
    """

    category: str
    split: str
    members: list[str]
    codes: np.ndarray | None
    mirrored: bool = False

    def __len__(self) -> int:
        return len(self.members) * (len(self.members) - 1) if self.codes is None else len(self.codes)

    def table(self, chosen: np.ndarray) -> pa.Table:
        """The pairs at the given positions (M,) of the plan."""
        others = max(len(self.members) - 1, 1)
        source, other = np.divmod(chosen if self.codes is None else self.codes[chosen], others)
        target = other + (other >= source)
        if self.mirrored:
            source, target = np.concatenate([source, target]), np.concatenate([target, source])
            order = np.lexsort((target, source))
            source, target = source[order], target[order]
        return _table(self.category, self.split, self.members, source, target)


def _plan_group(
    category: str, split: str, image_ids: Sequence[str], cues: ImageCues | None, config: PairsConfig, seed: int
) -> _Group:
    members = sorted(image_ids)
    values = np.zeros(0)
    if cues is not None:
        members, values = cues.of(members)
    n, rng = len(members), np.random.default_rng([seed, zlib.crc32(category.encode()), zlib.crc32(split.encode())])
    if config.strategy == "azimuth":
        pairs = chained_pairs(values, -(-n * config.targets // 2), config.azimuth_bins, config.chain_length, rng)
        return _Group(category, split, members, pairs[:, 0] * (n - 1) + pairs[:, 1] - 1, mirrored=True)
    if config.strategy == "all" or config.targets >= n - 1:
        return _Group(category, split, members, None)
    if config.strategy == "nearest":
        targets = nearest_images(values, config.targets)
        others = targets - (targets > np.arange(n)[:, None])
    else:
        others = _random_targets(n, config.targets, rng)
    return _Group(category, split, members, (np.arange(n)[:, None] * (n - 1) + others).ravel())


def _cap(groups: Sequence[_Group], cap: int | None, rng: np.random.Generator) -> list[pa.Table]:
    """The tables of a category's groups, with at most ``cap`` pairs in all."""
    both = any(group.mirrored for group in groups)
    chosen = _choose(sum(map(len, groups)), cap // 2 if both and cap is not None else cap, rng)
    tables, first = [], 0
    for group in groups:
        tables.append(group.table(chosen[(chosen >= first) & (chosen < first + len(group))] - first))
        first += len(group)
    return tables


def _choose(total: int, cap: int | None, rng: np.random.Generator) -> np.ndarray:
    if cap is None or cap >= total:
        return np.arange(total)
    return np.sort(rng.choice(total, max(cap, 0), replace=False, shuffle=False))


def _random_targets(n: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """For each of ``n`` sources ``k`` different numbers below ``n - 1``, ascending: (n, k) int64, the targets with the source skipped."""
    others = n - 1
    if 4 * k >= others:
        return np.sort(np.argpartition(rng.random((n, others), dtype=np.float32), k - 1, axis=1)[:, :k], axis=1)
    # Floyd's sampling without replacement, for all sources at once: memory grows with the pairs, not with the square of the images.
    drawn = np.empty((n, k), np.int64)
    for i, top in enumerate(range(others - k, others)):
        value = rng.integers(0, top + 1, n)
        seen = (drawn[:, :i] == value[:, None]).any(axis=1)
        drawn[:, i] = np.where(seen, top, value)
    return np.sort(drawn, axis=1)


def _table(category: str, split: str, members: list[str], source: np.ndarray, target: np.ndarray) -> pa.Table:
    names = pa.array(members, pa.string())
    source_ids, target_ids = names.take(pa.array(source)), names.take(pa.array(target))
    n = len(source)
    columns = {
        "pair_id": join_pair_ids(source_ids, target_ids),
        "source_id": source_ids,
        "target_id": target_ids,
        "category": pa.repeat(pa.scalar(category, pa.string()), n),
        "split": pa.repeat(pa.scalar(split, pa.string()), n),
    }
    schema = arrow_schema(Pair)
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)
