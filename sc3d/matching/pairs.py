"""Which ordered pairs of images are matched: within one category and split, never an image with itself, never a pair twice.

Pairs are planned as columns, so a million of them need no million Python objects. The plan follows from the seed and the set of images
alone, whatever order the manifest has; each category and split draws from its own random stream, so adding one leaves the others alone.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sc3d.config import PairsConfig
from sc3d.errors import InputError
from sc3d.records import PAIR_SEPARATOR, ImageRecord, Pair
from sc3d.schema import arrow_schema, from_table


def plan_pairs(images: Sequence[ImageRecord], config: PairsConfig, seed: int) -> list[Pair]:
    """The planned pairs as records; see :func:`plan_pairs_table`, which is the one for many pairs."""
    return from_table(Pair, plan_pairs_table(images, config, seed))


def plan_pairs_table(images: Sequence[ImageRecord], config: PairsConfig, seed: int) -> pa.Table:
    """The planned pairs as a table with the schema of :class:`~sc3d.records.Pair`, ordered by category, split, source and target.

    ``config.strategy`` "all" takes every ordered pair, "random" draws ``config.targets`` different targets for each source (all, where
    there are fewer). ``config.max_per_category`` keeps a random choice of a category's pairs over all its splits.

    Raises:
        InputError: two images have the same id.
    """
    categories: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for image in images:
        categories[image.category][image.split].append(image.image_id)
    ids = np.sort([image.image_id for image in images])
    repeated = ids[1:][ids[1:] == ids[:-1]] if len(ids) else ids
    if len(repeated):
        raise InputError(f"image id '{repeated[0]}' is in the manifest more than once; give every image its own id")
    parts = []
    for category in sorted(categories):
        groups = {split: sorted(members) for split, members in sorted(categories[category].items())}
        parts += _plan_category(category, groups, config, seed)
    schema = arrow_schema(Pair)
    return pa.concat_tables(parts) if parts else schema.empty_table()


def _plan_category(category: str, groups: dict[str, list[str]], config: PairsConfig, seed: int) -> list[pa.Table]:
    plans = []
    for split, members in groups.items():
        rng = np.random.default_rng([seed, zlib.crc32(category.encode()), zlib.crc32(split.encode())])
        everything = config.strategy == "all" or config.targets >= len(members) - 1
        plans.append(None if everything else _random_targets(len(members), config.targets, rng))
    sizes = [len(m) * (len(m) - 1) if plan is None else plan.size for m, plan in zip(groups.values(), plans, strict=True)]
    chosen = _choose(sum(sizes), config.max_per_category, np.random.default_rng([seed, zlib.crc32(category.encode())]))
    tables, first = [], 0
    for (split, members), plan, size in zip(groups.items(), plans, sizes, strict=True):
        flat = chosen[(chosen >= first) & (chosen < first + size)] - first
        first += size
        per_source = len(members) - 1 if plan is None else plan.shape[1]
        source = flat // max(per_source, 1)
        other = flat % max(per_source, 1) if plan is None else plan.reshape(-1)[flat]
        tables.append(_table(category, split, members, source, other + (other >= source)))
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
        "pair_id": pc.binary_join_element_wise(source_ids, target_ids, PAIR_SEPARATOR),
        "source_id": source_ids,
        "target_id": target_ids,
        "category": pa.repeat(pa.scalar(category, pa.string()), n),
        "split": pa.repeat(pa.scalar(split, pa.string()), n),
    }
    schema = arrow_schema(Pair)
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)
