"""How each data set is scored, by its kind."""

from __future__ import annotations

from dataclasses import replace

from sc3d.config import RunConfig
from sc3d.datasets.dataset import Protocol, Unit
from sc3d.datasets.registry import dataset_of
from sc3d.errors import ConfigError


def protocol_of(kind: str) -> Protocol:
    """The protocol of a data set by its kind; one without a name in tables has the kind's.

    Raises:
        ConfigError: there is no such kind.
    """
    protocol = dataset_of(kind).protocol
    return protocol if protocol.dataset else replace(protocol, dataset=kind)


def unit_of(config: RunConfig) -> Unit:
    """What PCK's alpha is a share of: as configured, or as the data set's papers have it."""
    unit = config.evaluate.unit
    return protocol_of(config.dataset.kind).unit if unit == "auto" else unit


def table_name(kind: str, subset: str | None) -> str:
    """What the rows of a data set are filed under: its kind, or its name with the subset where subsets have tables of their own."""
    protocol, subsets = protocol_of(kind), dataset_of(kind).subsets
    return f"{protocol.dataset} {subset or subsets[0]}" if protocol.by_subset and subsets else kind


def dataset_name(filed: str) -> str:
    """The name in tables of what :func:`table_name` files rows under. What is no kind, or none that is here, is a name already."""
    try:
        return protocol_of(filed).dataset
    except ConfigError:
        return filed
