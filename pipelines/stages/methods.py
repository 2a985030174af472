"""The descriptors of a run's images by a method of evaluation: which features it reads, which adapter, and whether they are there."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipelines.jobs.compare import labelled_by
from pipelines.stages.describe import DescribeStage
from pipelines.stages.mirror import MirrorStage
from pipelines.jobs.train import train_job
from sc3d.cache import ByteCache
from sc3d.config import RunConfig
from sc3d.errors import ConfigError, FeatureError, UpstreamError, WeightsError
from sc3d.evaluation.methods import STAND_INS, TRAINED, Method, missing_options, resolve, set_options, weights_of
from sc3d.evaluation.readout import CellDescriptors
from sc3d.features import Features
from sc3d.store import RunFolder
from training.adapter import Adapter, decode_adapter, load_adapter, source_names


class ImageCells(NamedTuple):
    """An image as its keypoints are predicted: the descriptors of all cells, and the foreground (side, side)."""

    descriptors: CellDescriptors
    foreground: np.ndarray


class MethodImages:
    """The images of a run as one method describes them, kept in a cache of at most ``cache_mb``.

    Args:
        method: the method.
        config: the configuration that the method reads, see :func:`~sc3d.evaluation.methods.resolve`.
        described: the stage whose feature files are read.
        cache_mb: bound of the cache, in MB.
    """

    def __init__(self, method: Method, config: RunConfig, described: DescribeStage | MirrorStage, cache_mb: int) -> None:
        self._method, self._config, self._stage = method, config, described
        self._known = described.artefacts.catalogue()
        self._cache: ByteCache[str, ImageCells] = ByteCache(
            self._load, lambda cells: cells.descriptors.n_bytes + cells.foreground.nbytes, cache_mb * 2**20
        )

    @property
    def reads(self) -> int:
        """How often an image's features were read so far."""
        return self._cache.misses

    def get(self, image_id: str) -> ImageCells:
        """The descriptors of an image.

        Raises:
            UpstreamError: an earlier stage rejected the image.
        """
        if image_id not in self._known:
            raise UpstreamError(f"image {image_id} has no features; see the rejects of reconstruct, orient and describe")
        return self._cache.get(image_id)

    @cached_property
    def _adapter(self) -> Adapter:
        return read_adapter(self._method, self._config)

    def _load(self, image_id: str) -> ImageCells:
        features = self._stage.read_features(image_id)
        return ImageCells(self._describe(features), features.foreground)

    def _describe(self, features: Features) -> CellDescriptors:
        if self._method.is_zero_shot:
            return CellDescriptors.of_features(features, weights_of(self._method, self._config))
        return CellDescriptors.of_map(self._adapter.describe(sources_for(self._adapter, features)), features.letterbox)


def sources_for(adapter: Adapter, features: Features) -> Features:
    """The features with those sources that an adapter was made for: all, or those of one slot, whichever has its channels.

    Raises:
        FeatureError: neither has.
    """
    names = source_names(features)
    choices = [names, *([n for n in names if n.partition(".")[0] == slot] for slot in ("dino", "sd"))]
    for chosen in choices:
        if [features.sources[name].shape[0] for name in chosen] == adapter.feature_dims:
            return dataclasses.replace(
                features, sources={name: features.sources[name] for name in chosen}, shape=None, surface=None
            )
    found = {name: features.sources[name].shape[0] for name in names}
    raise FeatureError(
        f"{features.image_id}: the adapter is for sources of {adapter.feature_dims} channels, the image has {found}; "
        "describe the images with the models that the adapter was trained on"
    )


def trained_adapter(config: RunConfig) -> str | None:
    """The file of the adapter that was trained with a configuration, if there is one."""
    job = train_job(config)
    return job.adapter_file if job.run.exists(job.adapter_file) else None


def read_adapter(method: Method, config: RunConfig) -> Adapter:
    """The adapter of a method.

    Raises:
        ConfigError: none was trained with the configuration that the method reads.
        SchemaError, FeatureError, StoreError: the file cannot be read, or is no adapter.
    """
    if method.adapter == TRAINED:
        file = trained_adapter(config)
        if file is None:
            raise ConfigError(f"method {method.name}: {_not_trained(method, config)}")
        return decode_adapter(RunFolder(config.run).read_bytes(file), file)
    if method.adapter.startswith("s3://"):
        return decode_adapter(_read_anywhere(method.adapter), method.adapter)
    return load_adapter(method.adapter)


def adapter_identity(method: Method, config: RunConfig) -> str | None:
    """What stands for a method's adapter in a recipe: its file, whose name is a hash of all it was made from, or a hash of its content."""
    if method.is_zero_shot:
        return None
    if method.adapter == TRAINED:
        return trained_adapter(config)
    return hashlib.sha256(_read_anywhere(method.adapter)).hexdigest()[:16]


def _read_anywhere(path: str) -> bytes:
    if path.startswith("s3://"):
        folder, _, name = path.rpartition("/")
        return RunFolder(folder).read_bytes(name)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"the adapter {path} cannot be read: {error.strerror or error}") from None


def method_config(method: Method, config: RunConfig) -> RunConfig:
    """The configuration whose features and adapter a method reads.

    Raises:
        ConfigError: the method's options do not fit the others.
    """
    resolved, _ = resolve(method, config)
    return labelled_by(resolved, method.recipe) if method.recipe else resolved


def check_method(method: Method, config: RunConfig, images: Collection[str]) -> None:
    """Check before a run that a method's features and adapter are there.

    Args:
        config: the run's own configuration.
        images: the images of the annotated pairs; some of them must have been described as the method asks.

    Raises:
        ConfigError: the run lacks the features or the adapter that the method needs; says what makes them.
        SchemaError, FeatureError: the adapter's file cannot be used.
    """
    resolved = method_config(method, config)
    described = ", ".join(f"{option} = {_value(resolved, option)}" for option in STAND_INS)
    remedy = f"Make them with: sc3d describe --run {config.run} {missing_options(method, config)}".rstrip()
    try:
        known = DescribeStage(resolved).artefacts.catalogue()
    except WeightsError as error:
        # What names features holds the revision of the weights, which nobody here knows.
        raise ConfigError(
            f"method {method.name} reads features of {described}, whose weights cannot be told: {error}. {remedy}"
        ) from None
    if images and not any(image in known for image in images):
        raise ConfigError(
            f"method {method.name} reads features of {described}, and none of the annotated images of {config.run} has them. {remedy}"
        )
    if not method.is_zero_shot:
        read_adapter(method, resolved)


def _not_trained(method: Method, resolved: RunConfig) -> str:
    asked = {option: value for option, value in method.options.items() if _value(resolved, option) == value}
    if method.recipe:
        return f"no adapter was trained on such labels in {resolved.run}; make one with: sc3d compare {method.recipe} --run {resolved.run}"
    commands = " and then ".join(f"sc3d {name} --run {resolved.run} {set_options(asked)}".rstrip() for name in ("label", "train"))
    return f"no adapter was trained with that configuration in {resolved.run}; make one with: {commands}"


def _value(config: RunConfig, option: str) -> Any:
    stage, _, name = option.partition(".")
    return getattr(getattr(config, stage), name)
