"""The manifests of a run, ``images.parquet`` and ``pairs.parquet``: what counts is what they name."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.folder.configuration import check_owner, read_note, record_configuration
from pipelines.folder.images import ROWS_A_GROUP
from pipelines.folder.inputs import with_inputs
from sc3d.config import RunConfig
from sc3d.datasets import registry
from sc3d.datasets.content import AnnotatedSet
from sc3d.display import shown
from sc3d.errors import InputError, SchemaError
from sc3d.manifests import IMAGES, PAIRS, read_pair_table
from sc3d.matching.pairs import plan_pairs_table
from sc3d.parsed import parsed_json
from sc3d.records import HELD_OUT_SPLITS, LABELLED_SPLIT, ImageRecord, Pair
from sc3d.schema import arrow_schema, to_table
from sc3d.shards import ITEMS
from sc3d.store import RunFolder

_PLAN_KEY = b"sc3d.plan"


def prepare(
    config: RunConfig,
    columns: Collection[str],
    looking: Callable[[int], None] = lambda count: None,
    amend: Callable[[Sequence[ImageRecord]], Sequence[ImageRecord]] = lambda images: images,
    say: Callable[[str], None] = lambda text: None,
) -> list[ImageRecord]:
    """Read the data set, write the manifests, note that the run folder belongs to it, and return the images.

    Images that were added to the data set since the last run are simply added, and those that are gone do not count any more; the pairs
    are planned anew. Those of a strategy that goes by described images stay as they were last planned:
    :func:`pipelines.stages.planning.plan_from_images` follows when the images are described.

    Args:
        columns: see :func:`~pipelines.folder.inputs.with_inputs`.
        looking: told of each photo or mask file that has been looked at.
        amend: adds to the images what the data set does not know of them.
        say: told what was left aside of the data set.

    Raises:
        StoreError: the folder holds a run on another data set, or is not writable.
        InputError: the data set cannot be read, or two images have one id. Nothing is written then.
    """
    run = RunFolder(config.run)
    data = read_annotated(config)
    for line in data.aside:
        say(f"  {line}")
    check_owner(run, config, (image.image_id for image in data.images))
    images = with_inputs(run, amend(data.images), columns, looking, config.dataset.download)
    labelled = [image for image in images if image.split == LABELLED_SPLIT]
    if config.pairs.needs_cues:
        keys = planned_by(run)
        planned = _among(read_pair_table(run, labelled=True), labelled) if keys else arrow_schema(Pair).empty_table()
    else:
        keys, planned = {}, plan_pairs_table(labelled, config.pairs, config.seed)
    in_order = to_table(ImageRecord, sorted(images, key=lambda image: image.image_id))
    run.write_table(IMAGES, in_order, rows_a_group=ROWS_A_GROUP)
    _write_pairs(run, planned, to_table(Pair, data.pairs), keys)
    counts = {"images": len(images), "pairs": planned.num_rows + len(data.pairs)}
    counts |= {"left_out": len(data.left_out)} if data.left_out else {}
    record_configuration(run, config, counts, data.aside)
    return images


def _among(pairs: pa.Table, images: Sequence[ImageRecord]) -> pa.Table:
    """The pairs of two of the images."""
    known = pa.array([image.image_id for image in images], pa.string())
    return pairs.filter(pc.and_(*(pc.is_in(pairs[side], value_set=known) for side in ("source_id", "target_id"))))


def store_plan(config: RunConfig, planned: pa.Table, keys: Mapping[str, str]) -> None:
    """Replace the pairs to label of some categories by ``planned``; ``keys`` has what each of these plans stands for.

    Those of other categories and the annotated pairs stay as they are.
    """
    run = RunFolder(config.run)
    before, annotated = read_pair_table(run, labelled=True), read_pair_table(run, labelled=False)
    others = before.filter(pc.invert(pc.is_in(before["category"], value_set=pa.array(list(keys)))))
    planned = pa.concat_tables([others.cast(planned.schema), planned])
    _write_pairs(run, planned, annotated, {**planned_by(run), **keys})
    record_configuration(run, config, {**read_note(run).get("counts", {}), "pairs": planned.num_rows + annotated.num_rows})


def planned_by(run: RunFolder) -> dict[str, str]:
    """Category -> the key that its stored pairs were given by :func:`store_plan`; empty where none were, or they cannot be read."""
    try:
        metadata = run.read_table(Pair, PAIRS, ["pair_id"]).schema.metadata if run.exists(PAIRS) else {}
    except SchemaError:
        return {}
    return parsed_json(dict[str, str], metadata.get(_PLAN_KEY, b"{}"), f"{run.uri}/{PAIRS}: its plan")


def _write_pairs(run: RunFolder, planned: pa.Table, annotated: pa.Table, keys: Mapping[str, str]) -> None:
    schema = arrow_schema(Pair)
    pairs = pa.concat_tables([planned.cast(schema), annotated.cast(schema)])
    run.write_table(PAIRS, pairs.replace_schema_metadata({**schema.metadata, _PLAN_KEY: json.dumps(keys).encode()}))


def read_images(run: RunFolder) -> list[ImageRecord]:
    """The images of the manifest."""
    return run.read_records(ImageRecord, IMAGES)


def read_pairs(run: RunFolder, labelled: bool) -> list[Pair]:
    """The pairs of the manifest: those to be labelled, or the annotated ones of the other splits."""
    return [p for p in run.read_records(Pair, PAIRS) if (p.split == LABELLED_SPLIT) == labelled]


def read_image_items(run: RunFolder) -> pa.Table:
    """The images of the manifest as items of a stage (:data:`~sc3d.shards.ITEMS`)."""
    names = ["category", "image_id"]
    return run.read_table(ImageRecord, IMAGES, names).select(names).rename_columns(ITEMS.names)


def read_pair_items(run: RunFolder, labelled: bool = True) -> pa.Table:
    """The pairs to label, or the annotated ones, as items of a stage."""
    return read_pair_table(run, labelled).select(["category", "pair_id"]).rename_columns(ITEMS.names)


def read_dataset(config: RunConfig) -> tuple[list[ImageRecord], list[Pair]]:
    """The images of the configured data set, and the annotated pairs of its held-out splits.

    Raises:
        ConfigError: no data set was named.
        InputError: it cannot be read, is empty, or holds two images with one id.
    """
    data = read_annotated(config)
    return data.images, data.pairs


def read_annotated(config: RunConfig) -> AnnotatedSet:
    """As :func:`read_dataset`, with what the data set's protocol leaves out."""
    data = registry.read_dataset(config.dataset, HELD_OUT_SPLITS)
    if not data.images:
        raise InputError(f"{config.dataset.root} holds no images of the wanted categories")
    _refuse_duplicates(data.images)
    held_out = [pair for pair in data.pairs if pair.split in HELD_OUT_SPLITS]
    return dataclasses.replace(data, pairs=_capped(held_out, config.evaluate.max_pairs_per_category))


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
            raise InputError(
                f"{shown(image.path)} and {shown(seen[image.image_id])} have the same id '{image.image_id}'; rename one of them"
            )
        seen[image.image_id] = image.path
