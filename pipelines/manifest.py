"""The start of every run: claim the run folder for a data set and write its manifests, ``images.parquet`` and ``pairs.parquet``."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sc3d.config import RunConfig
from sc3d.config_file import to_values
from sc3d.datasets.folder import read_folder
from sc3d.datasets.spair import read_spair
from sc3d.errors import ConfigError, InputError, SchemaError, StoreError
from sc3d.matching.pairs import plan_pairs_table
from sc3d.records import ImageRecord, Pair
from sc3d.schema import arrow_schema, to_table
from sc3d.store import RunFolder

IMAGES = "images.parquet"
PAIRS = "pairs.parquet"
RUN = "run.json"
LABELLED_SPLIT = "trn"

_PLAN_KEY = b"sc3d.plan"


def prepare(config: RunConfig) -> list[ImageRecord]:
    """Claim the run folder, write the manifests, and return the images.

    Images that were added to the data set since the last run are simply added; the pairs are planned anew. Those of a strategy that goes
    by described images stay as they were last planned: :func:`pipelines.plan.plan_from_images` follows when the images are described.

    Raises:
        StoreError: the folder holds a run on another data set, or is not writable.
        InputError: the data set cannot be read, or two images have one id.
    """
    run = RunFolder(config.run)
    _claim(run, config)
    images, annotated = read_dataset(config)
    if config.pairs.needs_cues:
        key = planned_by(run)
        planned = read_pair_table(run, labelled=True) if key else arrow_schema(Pair).empty_table()
    else:
        labelled = [image for image in images if image.split == LABELLED_SPLIT]
        key, planned = "", plan_pairs_table(labelled, config.pairs, config.seed)
    run.write_records(ImageRecord, IMAGES, images)
    _write_pairs(run, planned, to_table(Pair, annotated), key)
    _record(run, config, {"images": len(images), "pairs": planned.num_rows + len(annotated)})
    return images


def store_plan(config: RunConfig, planned: pa.Table, key: str) -> None:
    """Replace the pairs to label by ``planned``, which ``key`` stands for; the annotated pairs stay as they are."""
    run = RunFolder(config.run)
    annotated = read_pair_table(run, labelled=False)
    _write_pairs(run, planned, annotated, key)
    _record(run, config, {**run.read_json(RUN)["counts"], "pairs": planned.num_rows + annotated.num_rows})


def planned_by(run: RunFolder) -> str:
    """The key that the stored pairs were given by :func:`store_plan`; empty for other pairs, and where there are none that can be read."""
    try:
        metadata = run.read_table(Pair, PAIRS, ["pair_id"]).schema.metadata if run.exists(PAIRS) else {}
    except SchemaError:
        return ""
    return str(metadata.get(_PLAN_KEY, b"").decode())


def _write_pairs(run: RunFolder, planned: pa.Table, annotated: pa.Table, key: str) -> None:
    schema = arrow_schema(Pair)
    pairs = pa.concat_tables([planned.cast(schema), annotated.cast(schema)])
    run.write_table(PAIRS, pairs.replace_schema_metadata({**schema.metadata, _PLAN_KEY: key.encode()}))


def read_images(run: RunFolder) -> list[ImageRecord]:
    """The images of the manifest."""
    return run.read_records(ImageRecord, IMAGES)


def read_pairs(run: RunFolder, labelled: bool) -> list[Pair]:
    """The pairs of the manifest: those to be labelled, or the annotated ones of the other splits."""
    return [p for p in run.read_records(Pair, PAIRS) if (p.split == LABELLED_SPLIT) == labelled]


def read_pair_table(run: RunFolder, labelled: bool) -> pa.Table:
    """The same as :func:`read_pairs` as a table with the schema of :class:`~sc3d.records.Pair`: for many pairs, which need no objects."""
    table = run.read_table(Pair, PAIRS)
    chosen = pc.equal(table.column("split"), LABELLED_SPLIT)
    return table.filter(chosen if labelled else pc.invert(chosen))


def images_by_id(uri: str) -> dict[str, ImageRecord]:
    """The manifest of a run as a dictionary."""
    return {image.image_id: image for image in read_images(RunFolder(uri))}


def stored_values(uri: str) -> dict[str, Any]:
    """The configuration that a run folder was last used with, as nested plain values; empty for a new folder."""
    run = RunFolder(uri)
    return dict(run.read_json(RUN)["config"]) if run.exists(RUN) else {}


def read_dataset(config: RunConfig) -> tuple[list[ImageRecord], list[Pair]]:
    """The images of the configured data set, and the annotated pairs of its held-out splits.

    Raises:
        ConfigError: no data set was named.
        InputError: it cannot be read, is empty, or holds two images with one id.
    """
    dataset = config.dataset
    if not dataset.root:
        raise ConfigError("no images: give --images DIR, or dataset.root in the configuration")
    root = Path(dataset.root)
    if dataset.kind == "folder":
        images = read_folder(root, dataset.category, Path(dataset.masks) if dataset.masks else None)
        annotated: list[Pair] = []
    else:
        data = read_spair(root, categories=dataset.categories)
        images, annotated = list(data.images), [p for p in data.pairs if p.split != LABELLED_SPLIT]
        annotated = _capped(annotated, config.evaluate.max_pairs_per_category)
    if dataset.categories:
        images = [image for image in images if image.category in dataset.categories]
    if not images:
        raise InputError(f"{root} holds no images of the wanted categories")
    _refuse_duplicates(images)
    return images, annotated


def _capped(pairs: Sequence[Pair], most: int | None) -> list[Pair]:
    if most is None:
        return list(pairs)
    kept: list[Pair] = []
    counts: dict[tuple[str, str], int] = {}
    for pair in pairs:
        key = (pair.category, pair.split)
        counts[key] = counts.get(key, 0) + 1
        if counts[key] <= most:
            kept.append(pair)
    return kept


def _refuse_duplicates(images: Iterable[ImageRecord]) -> None:
    seen: dict[str, str] = {}
    for image in images:
        if image.image_id in seen:
            raise InputError(f"{image.path} and {seen[image.image_id]} have the same id '{image.image_id}'; rename one of them")
        seen[image.image_id] = image.path


def _identity(values: dict[str, Any]) -> dict[str, Any]:
    dataset = values["dataset"]
    return {key: dataset[key] for key in ("kind", "root", "category")}


def _claim(run: RunFolder, config: RunConfig) -> None:
    wanted = _identity(to_values(config))
    if run.exists(RUN):
        found = _identity(run.read_json(RUN)["config"])
        if found != wanted:
            raise StoreError(
                f"{run.uri} holds a run on {found['kind']} '{found['root']}' ({found['category'] or 'all categories'}), "
                f"this one is on {wanted['kind']} '{wanted['root']}' ({wanted['category'] or 'all categories'}); "
                f"choose another run folder with --run"
            )
    _record(run, config, {})


def _record(run: RunFolder, config: RunConfig, counts: dict[str, int]) -> None:
    versions = {name: version(name) for name in ("sc3d", "ray", "torch", "numpy", "pyarrow")}
    values = to_values(config)
    run.write_json(RUN, {"config": values, "counts": counts, "versions": {**versions, "python": platform.python_version()}})
