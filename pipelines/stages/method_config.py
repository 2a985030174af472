"""The configuration that a method of evaluation reads, and whether what it needs is there."""

from __future__ import annotations

from collections.abc import Collection

from pipelines.stages.compare import labelled_by
from pipelines.stages.describe import DescribeStage
from pipelines.stages.methods import option_value, read_adapter
from sc3d.config import RunConfig
from sc3d.errors import ConfigError, WeightsError
from sc3d.evaluation.methods import STAND_INS, Method, missing_options, resolve


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
    described = ", ".join(f"{option} = {option_value(resolved, option)}" for option in STAND_INS)
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
