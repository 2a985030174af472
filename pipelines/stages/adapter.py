"""labels + features -> what an adapter is trained and validated on, and the name that follows from it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.folder.manifest import IMAGES, PAIRS, read_images, read_pair_table, read_pairs
from pipelines.stages.describe import DescribeStage
from pipelines.stages.label import label_catalogue
from sc3d.artefacts import Artefacts, Catalogue
from sc3d.config import RunConfig
from sc3d.errors import FeatureError, InputError
from sc3d.evaluation.pck import box_size, common_keypoints
from sc3d.features import Features, decode_features, encode_features
from sc3d.records import VALIDATION_SPLIT, Pair
from sc3d.shards import recipe_of
from sc3d.store import RunFolder
from training.adapter import encode_adapter, load_adapter
from training.checkpoint import counted_options
from training.data import LabelledPairs
from training.job import TrainingData, TrainJob
from training.label_set import COLUMNS, LabelSet
from training.node_cache import NodeCache
from training.validation import Validation, ValidationPair, held_out_pairs


def trained_labels(config: RunConfig) -> Catalogue:
    """The labels that a configuration trains on: of its categories, those that count."""
    return label_catalogue(config, config.train.labels).within(config.dataset.categories)


def check_labels(config: RunConfig) -> Catalogue:
    """:func:`trained_labels`, of which there are some.

    Raises:
        InputError: there are none; says what there is instead.
        DamagedFileError: some of them cannot be read.
    """
    catalogue = trained_labels(config)
    catalogue.refuse_damaged()
    if not len(catalogue):
        raise InputError(_no_labels(config, catalogue.artefacts))
    return catalogue


def training_data(config: RunConfig) -> TrainingData:
    """The labelled pairs of a run with the features of their images, and the pairs that the adapter is validated on.

    Raises:
        InputError: there are no labels of this configuration, no pair has a label, or a category has none.
        FeatureError: labels name images that are not described with the present features.
    """
    catalogue = check_labels(config)
    labels = LabelSet.read(catalogue.tables(COLUMNS), scratch_folder(config))
    _check_categories(config, labels)
    described = DescribeStage(config).catalogue().ids
    _check_described(config, labels, described)
    features = feature_reader(config)
    pairs, held_out = validation_pairs(config, labels, described)
    trained = LabelledPairs(labels, features, config.ray.cache_mb * 2**20, held_out, slot_weights(config))
    return TrainingData(trained, Validation(pairs, trained.features, config.train, config.seed) if pairs else None)


def slot_weights(config: RunConfig) -> dict[str, float]:
    """Weights of the feature slots that an adapter reads, as they are fused without it."""
    return {"sd": config.match.alpha, "dino": config.match.beta}


def scratch_folder(config: RunConfig) -> Path:
    """The folder of this machine that keeps labels and features for training."""
    return Path(config.train.cache or "~/.cache/sc3d/training").expanduser()


def _no_labels(config: RunConfig, artefacts: Artefacts) -> str:
    run = artefacts.run
    others = sorted({name.split("/")[1] for name in run.names(artefacts.folder, ".parquet")} - {artefacts.recipe})
    where = f"{run.uri} holds no labels of the recipe {artefacts.recipe}"
    wanted = config.dataset.categories
    if wanted and artefacts.files():
        return f"{where} for the categories {', '.join(wanted)}"
    if artefacts.files():
        return (
            f"{where} that count: those that are there are of photos or pairs that are gone or have changed; run sc3d label again"
        )
    if not others:
        return f"{where}, nor any other; run sc3d label first"
    if config.train.labels:
        return f"{where}; there are {', '.join(others)}"
    return (
        f"{where}, which the present features and thresholds give; there are {', '.join(others)}. Run sc3d label with these options, train "
        "with those of the labels, or name a recipe to train on all the same: --set train.labels=..."
    )


def _check_categories(config: RunConfig, labels: LabelSet) -> None:
    """A category without a label would be missing from the adapter without a word."""
    run, wanted = RunFolder(config.run), set(config.dataset.categories)
    if not wanted and config.train.labels is None and run.exists(PAIRS):
        wanted = set(pc.unique(read_pair_table(run, labelled=True)["category"]).to_pylist())
    missing = sorted(wanted - labels.counts().keys())
    if missing:
        raise InputError(
            f"no pair of the categories {', '.join(missing)} has a label; look at their rejects and thresholds in the report, or train "
            f"without them: --set 'dataset.categories=[{', '.join(sorted(labels.counts()))}]'"
        )


def _check_described(config: RunConfig, labels: LabelSet, described: pa.ChunkedArray) -> None:
    images = pa.array(labels.image_ids, pa.string())
    lost = images.filter(pc.invert(pc.is_in(images, value_set=described)))
    if len(lost):
        recipe = DescribeStage(config).recipe
        raise FeatureError(
            f"{len(lost)} of {len(images)} labelled images, among them {lost[0]}, have no features of the recipe {recipe}; these labels "
            "belong to other features: train with the options that they were made with, or run sc3d describe with these"
        )


def feature_reader(config: RunConfig) -> Callable[[str], Features]:
    """What reads the features of an image: from the run folder where that is a local one, else through a cache that a node's workers share.

    The cache holds what training needs, without surfaces and 3D descriptors.
    """
    stage = DescribeStage(config)
    if stage.run.is_local:
        return stage.read_features
    cache = NodeCache(scratch_folder(config) / "features", int(config.train.cache_gb * 2**30))
    stamps = _stamps(stage)

    def encoded(image_id: str) -> bytes:
        return encode_features(dataclasses.replace(stage.read_features(image_id), shape=None, surface=None))

    def read(image_id: str) -> Features:
        key = f"{stage.run.uri}/{stage.feature_file(image_id)}@{stamps.get(image_id)}"
        return decode_features(cache.read(key, lambda: encoded(image_id)), key)

    return read


def _stamps(stage: DescribeStage) -> Mapping[str, tuple[int, float]]:
    """Image id -> size and computing time of its features, which tell them from those of an earlier run in the same place."""
    table = stage.catalogue().columns(["image_id", "n_bytes", "seconds"])
    return {image_id: (size, seconds) for image_id, size, seconds in zip(*(column.to_pylist() for column in table), strict=True)}


def validation_pairs(config: RunConfig, labels: LabelSet, described: pa.ChunkedArray) -> tuple[list[ValidationPair], list[str]]:
    """What the adapter is validated on, and which labelled pairs are held out for that.

    Annotated pairs of the val split are taken where there are any, of each category at most so many; else a share of the labelled pairs.
    """
    if config.train.validate_every == 0:
        return [], []
    annotated = _annotated_pairs(config, described)
    if annotated:
        return annotated, []
    held_out = held_out_pairs(labels.ids_by_category(), config.train.validation_share, config.train.validation_pairs)
    return [ValidationPair(pair_id, *labels.coordinates(labels.index_of(pair_id))) for pair_id in held_out], held_out


def _annotated_pairs(config: RunConfig, described: pa.ChunkedArray) -> list[ValidationPair]:
    run = RunFolder(config.run)
    if not (run.exists(PAIRS) and run.exists(IMAGES)):
        return []
    known, wanted = set(described.to_pylist()), config.dataset.categories
    by_category: dict[str, dict[str, Pair]] = {}
    for pair in read_pairs(run, labelled=False):
        usable = pair.split == VALIDATION_SPLIT and {pair.source_id, pair.target_id} <= known
        if usable and (not wanted or pair.category in wanted):
            by_category.setdefault(pair.category, {})[pair.pair_id] = pair
    if not by_category:
        return []
    images = {image.image_id: image for image in read_images(run)}
    found = []
    for pairs in by_category.values():
        for pair_id in held_out_pairs({"": list(pairs)}, 1.0, config.train.validation_pairs):
            source, target = images[pairs[pair_id].source_id], images[pairs[pair_id].target_id]
            ids, source_xy, target_xy = common_keypoints(source, target)
            if len(ids):
                found.append(ValidationPair(pair_id, source_xy, target_xy, None if target.bbox is None else box_size(target.bbox)))
    return found


def initial_adapter(config: RunConfig) -> bytes | None:
    """The adapter that a training starts from, if one is named. Raises SchemaError or FeatureError if it cannot be used."""
    return None if config.train.initial is None else encode_adapter(load_adapter(Path(config.train.initial).expanduser()))


def train_job(config: RunConfig) -> TrainJob:
    """What ``sc3d train`` trains: named by the configuration and by the labels that count.

    Raises:
        SchemaError, FeatureError: the adapter to start from cannot be used.
    """
    catalogue = trained_labels(config)
    initial = initial_adapter(config)
    fingerprint: Mapping[str, Any] = {
        "labels": catalogue.artefacts.recipe,
        "features": DescribeStage(config).recipe,
        "rows": catalogue.fingerprint(),
        "seed": config.seed,
        "initial": None if initial is None else hashlib.sha256(initial).hexdigest(),
        "train": counted_options(config.train),
        **({"kept": slot_weights(config)} if config.train.keep_features else {}),
    }
    return TrainJob(
        make_data=lambda: training_data(config),
        config=config.train,
        seed=config.seed,
        run=RunFolder(config.run),
        folder=f"adapters/{recipe_of('train', fingerprint)}",
        recipe=DescribeStage(config).recipe,
        initial=initial,
    )
