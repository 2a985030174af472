"""The descriptors of a run's images by a method of evaluation: which features it reads, which adapter, and whether they are there."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipelines.stages.adapter import train_job
from pipelines.stages.compare import labelled_by
from pipelines.stages.describe import DescribeStage, FeatureStage
from pipelines.stages.pairs import PreparedImages
from sc3d.class_shapes.carry import AlignedImage
from sc3d.config import RunConfig
from sc3d.display import shown
from sc3d.errors import ConfigError, FeatureError, WeightsError
from sc3d.evaluation.methods import STAND_INS, TRAINED, Method, missing_options, resolve, set_options, weights_of
from sc3d.evaluation.readout import CellDescriptors
from sc3d.features import Features
from sc3d.matching.template_prior import PosedTemplate
from sc3d.s3_addresses import folder_and_name, is_s3
from sc3d.store import RunFolder
from training.adapter import Adapter, decode_adapter, load_adapter, source_names


class ImageCells(NamedTuple):
    """An image as its keypoints are predicted: the descriptors of all cells, the foreground (side, side), its template, if the method
    asks for the prior of that and its pose is sure, and the class shape in it, if matches go through that."""

    descriptors: CellDescriptors
    foreground: np.ndarray
    template: PosedTemplate | None = None
    aligned: AlignedImage | None = None

    @property
    def n_bytes(self) -> int:
        """Memory of the arrays."""
        others = [one.n_bytes for one in (self.template, self.aligned) if one is not None]
        return self.descriptors.n_bytes + self.foreground.nbytes + sum(others)


def method_images(method: Method, config: RunConfig, described: FeatureStage, cache_mb: int) -> PreparedImages[ImageCells]:
    """The images of a run as one method describes them.

    Args:
        config: the configuration that the method reads, see :func:`~sc3d.evaluation.methods.resolve`.
        described: the stage whose feature files are read.
        cache_mb: bound of their cache, in MB.
    """

    @cache
    def adapter() -> Adapter:
        return read_adapter(method, config)

    def prepare(features: Features) -> ImageCells:
        template = PosedTemplate.of_features(features) if method.prior else None
        if method.is_zero_shot:
            return ImageCells(CellDescriptors.of_features(features, weights_of(method, config)), features.foreground, template)
        cells = adapter().describe(sources_for(adapter(), features))
        return ImageCells(CellDescriptors.of_map(cells, features.letterbox), features.foreground, template)

    return PreparedImages(described, prepare, cache_mb)


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
    if is_s3(method.adapter):
        return decode_adapter(_read_anywhere(method.adapter), method.adapter)
    return load_adapter(Path(method.adapter).expanduser())


def adapter_identity(method: Method, config: RunConfig) -> str | None:
    """What stands for a method's adapter in a recipe: its file, whose name is a hash of all it was made from, or a hash of its content."""
    if method.is_zero_shot:
        return None
    if method.adapter == TRAINED:
        return trained_adapter(config)
    return hashlib.sha256(_read_anywhere(method.adapter)).hexdigest()[:16]


def _read_anywhere(path: str) -> bytes:
    if is_s3(path):
        try:
            folder, name = folder_and_name(path)
        except ValueError as error:
            raise ConfigError(f"the adapter {shown(path)}: {error}") from None
        return RunFolder(folder).read_bytes(name)
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(f"the adapter {path} cannot be read: {error.strerror or error}") from None


def method_config(method: Method, config: RunConfig) -> RunConfig:
    """The configuration whose features and adapter a method reads.

    Raises:
        ConfigError: the method's options do not fit the others.
    """
    resolved, _ = resolve(method, config)
    return labelled_by(resolved, method.labelling) if method.labelling else resolved


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
        known = DescribeStage(resolved).catalogue()
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
    if method.labelling:
        command = f"sc3d compare {method.labelling} --run {resolved.run}"
        return f"no adapter was trained on such labels in {resolved.run}; make one with: {command}"
    commands = " and then ".join(f"sc3d {name} --run {resolved.run} {set_options(asked)}".rstrip() for name in ("label", "train"))
    return f"no adapter was trained with that configuration in {resolved.run}; make one with: {commands}"


def _value(config: RunConfig, option: str) -> Any:
    stage, _, name = option.partition(".")
    return getattr(getattr(config, stage), name)
