"""Labels of a run for other programs, with a label card: a folder that Hugging Face ``datasets`` loads, annotation files of DIY-SC or in
COCO's layout, COLMAP's database, or hloc's files of features and matches."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

import numpy as np

from pipelines.folder.images import IMAGES
from pipelines.jobs.label_card import make_card
from pipelines.runner.progress import Progress
from pipelines.stages.label import label_catalogue
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.config import RunConfig
from sc3d.datasets.label_export.folder import ExportFolder, ExportState
from sc3d.datasets.label_export.images import LabelledImages
from sc3d.datasets.label_export.label_writer import totals
from sc3d.datasets.label_export.labels import ExportedLabels
from sc3d.datasets.label_export.options import ExportOptions
from sc3d.datasets.label_export.writers import WRITERS, owns
from sc3d.errors import InputError
from sc3d.records import ImageRecord
from sc3d.shards import recipe_of
from sc3d.store import RunFolder


@dataclass(frozen=True)
class ExportSummary:
    """What an export folder holds: its ``uri``, ``pairs`` a split of the manifest, ``labels``, and ``left_out`` pairs."""

    uri: str
    pairs: Mapping[str, int]
    labels: int
    left_out: int


def export_labels(config: RunConfig, out: str, options: ExportOptions | None = None) -> ExportSummary:
    """Write the labels of a run into the folder ``out``, local or on S3. One that was cut short is gone on with.

    Raises:
        ConfigError: an option does not fit the labels.
        InputError: there are no labels, or an image cannot be named or read.
        SchemaError: a label file is damaged.
        StoreError: ``out`` cannot be written, or holds something else.
    """
    options = options or ExportOptions()
    source = ExportedLabels(label_catalogue(config, options.labels), labelled_images(config), options)
    folder = ExportFolder(out)
    writer = WRITERS[options.format](source, folder, partial(make_card, source, config))
    fresh = ExportState(_key(source), np.zeros(len(source.images), bool))
    state = folder.claim(fresh, owns, options.overwrite)
    with Progress() as progress:
        line = progress.start("export", len(source.files), done=state.position)
        while state.position < len(source.files):
            before, state = state, writer.step(state)
            folder.save(state)
            line.advance(state.position - before.position)
        if not any(total.pairs for total in totals(state).values()):
            raise InputError(f"no pair has {options.min_labels} or more labels at these thresholds, so there is nothing to export")
        if not state.complete:
            writer.finish(state)
            state = dataclasses.replace(state, complete=True)
            folder.save(state)
        line.finish()
    pairs = {split: total.pairs for split, total in totals(state).items()}
    return ExportSummary(folder.files.uri, pairs, sum(total.labels for total in totals(state).values()), state.left_out)


def _key(source: ExportedLabels) -> str:
    options = dataclasses.asdict(source.options)
    options.pop("overwrite")
    rows = [*source.files, source.catalogue.fingerprint()]
    return recipe_of("export", {"options": options, "labels": source.artefacts.recipe, "rows": rows, "sc3d": version("sc3d")})


def labelled_images(config: RunConfig) -> LabelledImages:
    """The images of a run's manifest, with the sizes that reconstructions know. Raises InputError without a manifest."""
    run = RunFolder(config.run)
    if not run.exists(IMAGES):
        raise InputError(f"{run.uri} has no manifest of images; run sc3d label or sc3d describe on it first")
    manifest = run.read_table(ImageRecord, IMAGES, ["image_id", "path", "category", "split"])
    sizes = ReconstructStage(config).catalogue().columns(["image_id", "width", "height"])
    return LabelledImages(manifest, config.dataset.root, sizes, config.dataset.download)
