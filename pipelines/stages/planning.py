"""Pairs that follow from what the stages found out about the images: the nearest ones, and those seen from neighbouring sides.

The other strategies need the manifest alone; their pairs are planned when a run starts (:mod:`pipelines.folder.manifest`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pipelines.folder.manifest import planned_by, store_plan
from pipelines.runner.stage import Stage
from pipelines.stages.azimuths import read_azimuths
from pipelines.stages.describe import DescribeStage
from pipelines.stages.embed import EmbedStage
from sc3d.artefacts import Catalogue
from sc3d.config import RunConfig
from sc3d.matching.embedding import fuse_embeddings
from sc3d.matching.fusion import group_weights
from sc3d.matching.pairs import CueReader, ImageCues, plan_pairs_table
from sc3d.records import LABELLED_SPLIT, ImageRecord
from sc3d.shards import recipe_of, shard_name


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
    there = stage.known
    usable = {category: [image for image in found if image.image_id in there] for category, found in labelled.items()}
    known = planned_by(stage.run)
    keys = {category: _plan_key(config, stage, found) for category, found in usable.items()}
    changed = {category: key for category, key in keys.items() if known.get(category) != key}
    if changed:
        chosen = [image for category in changed for image in usable[category]]
        reader = read_descriptors(there, chosen, config) if config.pairs.strategy == "nearest" else read_azimuths(config)
        store_plan(config, plan_pairs_table(chosen, config.pairs, config.seed, reader), changed)
    wanted, found = (sum(map(len, groups.values())) for groups in (labelled, usable))
    if found < wanted:
        say(f"  pairs: {wanted - found} of {wanted} images are left out, since an earlier stage rejected them")


def _plan_key(config: RunConfig, stage: Stage, images: Sequence[ImageRecord]) -> str:
    fingerprint: dict[str, Any] = {
        "version": "plan-2",
        "pairs": dataclasses.asdict(config.pairs),
        "seed": config.seed,
        "artefacts": stage.recipe,
        "images": shard_name(f"{image.image_id} {image.category} {image.inputs}" for image in images),
    }
    if config.pairs.strategy == "nearest":
        fingerprint["weights"] = group_weights(config.match)
    return recipe_of("pairs", fingerprint)


def read_descriptors(there: Catalogue, images: Iterable[ImageRecord], config: RunConfig) -> CueReader:
    """Global descriptors of ``images``, read one category after the other: those of all may not fit into memory."""
    ids: dict[str, list[str]] = {}
    for image in images:
        ids.setdefault(image.category, []).append(image.image_id)

    def read(category: str) -> ImageCues:
        found = list(there.read(ids[category]).values())
        return ImageCues([one.image_id for one in found], fuse_embeddings(found, config.match))

    return read
