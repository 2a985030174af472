"""The descriptors of a run's images by a method of evaluation: which features it reads, which adapter, and whether they are there."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipelines.stages.adapter import train_job
from pipelines.stages.describe import FeatureStage
from pipelines.stages.pairs import PreparedImages
from sc3d.class_shapes.carry import AlignedImage
from sc3d.config import RunConfig
from sc3d.display import shown
from sc3d.errors import ConfigError, FeatureError
from sc3d.evaluation.methods import TRAINED, Method, set_options, weights_of
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


def _not_trained(method: Method, resolved: RunConfig) -> str:
    asked = {option: value for option, value in method.options.items() if option_value(resolved, option) == value}
    if method.labelling:
        command = f"sc3d compare {method.labelling} --run {resolved.run}"
        return f"no adapter was trained on such labels in {resolved.run}; make one with: {command}"
    commands = " and then ".join(f"sc3d {name} --run {resolved.run} {set_options(asked)}".rstrip() for name in ("label", "train"))
    return f"no adapter was trained with that configuration in {resolved.run}; make one with: {commands}"


def option_value(config: RunConfig, option: str) -> Any:
    """The value of an option, ``stage.name``."""
    stage, _, name = option.partition(".")
    return getattr(getattr(config, stage), name)
