"""Pairs that follow from what the stages found out about the images: the nearest ones, and those seen from neighbouring sides.

The other strategies need the manifest alone; their pairs are planned when a run starts (:mod:`pipelines.folder.manifest`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.stages.describe import DescribeStage
from pipelines.stages.embed import EmbedStage
from pipelines.folder.manifest import LABELLED_SPLIT, planned_by, store_plan
from pipelines.stages.reconstruct import OrientStage, ReconstructStage
from pipelines.runner.stage import Stage
from sc3d.config import RunConfig
from sc3d.geometry.camera import camera_azimuth
from sc3d.matching.embedding import fuse_embeddings
from sc3d.matching.fusion import group_weights
from sc3d.matching.pairs import CueReader, ImageCues, plan_pairs_table
from sc3d.records import Embedding, ImageRecord
from sc3d.schema import arrow_schema, from_table
from sc3d.shards import recipe_of, shard_name

_READERS = 16


def source_stage(config: RunConfig) -> type[Stage]:
    """The stage that has what the plan goes by."""
    return EmbedStage if config.pairs.strategy == "nearest" else DescribeStage


def plan_from_images(config: RunConfig, images: Sequence[ImageRecord], say: Callable[[str], None] = lambda text: None) -> None:
    """Plan the pairs of the categories of ``images`` from what the stages found out, and write them to ``pairs.parquet``.

    Images that an earlier stage rejected are left out, and ``say`` is told how many. A plan that was made from the same images,
    artefacts, options and seed is kept as it is, so a resumed run goes on with the same pairs, on whatever machine.

    Raises:
        FeatureError: the images were described by different recipes.
    """
    labelled: dict[str, list[ImageRecord]] = {image.category: [] for image in images}
    for image in images:
        if image.split == LABELLED_SPLIT:
            labelled[image.category].append(image)
    stage = source_stage(config)(config)
    there = stage.artefacts.catalogue()
    usable = {category: [image for image in found if image.image_id in there] for category, found in labelled.items()}
    known = planned_by(stage.run)
    keys = {category: _plan_key(config, stage, found) for category, found in usable.items()}
    changed = {category: key for category, key in keys.items() if known.get(category) != key}
    if changed:
        chosen = [image for category in changed for image in usable[category]]
        reader = read_descriptors(stage, chosen, config) if config.pairs.strategy == "nearest" else read_azimuths(config)
        store_plan(config, plan_pairs_table(chosen, config.pairs, config.seed, reader), changed)
    wanted, found = (sum(map(len, groups.values())) for groups in (labelled, usable))
    if found < wanted:
        say(f"  pairs: {wanted - found} of {wanted} images are left out, since an earlier stage rejected them")


def _plan_key(config: RunConfig, stage: Stage, images: Sequence[ImageRecord]) -> str:
    fingerprint: dict[str, Any] = {
        "version": "plan-1",
        "pairs": dataclasses.asdict(config.pairs),
        "seed": config.seed,
        "artefacts": stage.recipe,
        "images": shard_name(f"{image.image_id} {image.category}" for image in images),
    }
    if config.pairs.strategy == "nearest":
        fingerprint["weights"] = group_weights(config.match)
    return recipe_of("pairs", fingerprint)


def read_descriptors(stage: Stage, images: Iterable[ImageRecord], config: RunConfig) -> CueReader:
    """Global descriptors of ``images``, read one category after the other: those of all may not fit into memory."""
    located = stage.artefacts.catalogue().located
    files: dict[str, set[str]] = {}
    for image in images:
        files.setdefault(image.category, set()).add(located[image.image_id])

    def read(category: str) -> ImageCues:
        found = from_table(Embedding, _read(stage, sorted(files[category])))
        return ImageCues([one.image_id for one in found], fuse_embeddings(found, config.match))

    return read


def read_azimuths(config: RunConfig) -> CueReader:
    """Azimuths of the cameras around the yaw-corrected meshes, by the aligned poses; all categories are read at once."""
    stage = ReconstructStage(config)
    poses = _read(stage, stage.artefacts.files(), ["image_id", "rotation", "translation"])
    turns = _read(orient := OrientStage(config), orient.artefacts.files(), ["image_id", "category", "turn"])
    rotations, translations = (_stacked(poses.column(name)) for name in ("rotation", "translation"))
    azimuths = camera_azimuth(rotations.reshape(-1, 3, 3), translations)
    of = dict(zip(poses.column("image_id").to_pylist(), azimuths.tolist(), strict=True))
    known: dict[str, tuple[list[str], list[float]]] = {}
    for image_id, category, turn in zip(*(turns.column(n).to_pylist() for n in ("image_id", "category", "turn")), strict=True):
        ids, values = known.setdefault(category, ([], []))
        ids.append(image_id)
        values.append((of.get(image_id, np.nan) + turn) % 360)
    return lambda category: ImageCues(known[category][0], np.array(known[category][1]))


def _stacked(column: pa.ChunkedArray) -> np.ndarray:
    """A column of lists of one length as rows of an array."""
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(values.reshape(len(column), -1))


def _read(stage: Stage, files: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
    with ThreadPoolExecutor(_READERS) as pool:
        tables = list(pool.map(lambda name: stage.run.read_table(stage.record, name, columns), files))
    if tables:
        return pa.concat_tables(tables)
    table = arrow_schema(stage.record).empty_table()
    return table if columns is None else table.select(list(columns))
