"""The data sets by name: those of the project, and those of others."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

from sc3d import plugins
from sc3d.config import DatasetConfig
from sc3d.datasets.content import AnnotatedSet
from sc3d.datasets.dataset import Dataset
from sc3d.datasets.facing import read_facings, with_facings
from sc3d.errors import ConfigError
from sc3d.records import SPLITS

DATASETS: dict[str, str | Dataset] = {
    "folder": "sc3d.datasets.folder:FOLDER",
    "table": "sc3d.datasets.table:TABLE",
    "toys": "sc3d.datasets.spair:TOYS",
    "spair": "sc3d.datasets.spair:SPAIR",
    "spair-u": "sc3d.datasets.spair_u:SPAIR_U",
    "ap10k": "sc3d.datasets.ap10k:AP10K",
    "pf-pascal": "sc3d.datasets.proposal_flow:PF_PASCAL",
    "pf-willow": "sc3d.datasets.proposal_flow:PF_WILLOW",
    "tss": "sc3d.datasets.tss:TSS",
}
"""``dataset.kind`` -> the data set, or where it is, to be imported when it is chosen."""


def dataset_of(kind: str) -> Dataset:
    """The data set of a kind: one of :data:`DATASETS`, ``module:Name``, or an entry point of the group ``sc3d.datasets``.

    Raises:
        ConfigError: there is none of this name, it cannot be imported, or it is no :class:`~sc3d.datasets.dataset.Dataset`.
    """
    found = plugins.find(plugins.DATASETS, kind, DATASETS, "data set")
    if not isinstance(found, Dataset):
        raise ConfigError(f"data set '{kind}' must be a sc3d.datasets.dataset.Dataset, not {found!r}")
    return found


def read_dataset(dataset: DatasetConfig, paired: Collection[str] = SPLITS) -> AnnotatedSet:
    """The images and annotated pairs of a data set.

    Args:
        dataset: which one, and which part of it.
        paired: splits whose pairs are wanted; others may be there as well.

    Raises:
        ConfigError: an unknown kind, no root, a subset that the data set does not have, or a reader that returns something else.
        InputError: the data set, or what was said of its photos, cannot be read.
    """
    chosen = dataset_of(dataset.kind)
    if not dataset.root:
        raise ConfigError("no images: give --images DIR, or dataset.root in the configuration")
    found = chosen.read(Path(dataset.root), dataset, subset_of(dataset), paired)
    if not isinstance(found, AnnotatedSet):
        raise ConfigError(f"the reader of data set '{dataset.kind}' must return an AnnotatedSet, not a {type(found).__name__}")
    if dataset.facing:
        images = with_facings(found.images, read_facings(dataset.facing), dataset.facing)
        return dataclasses.replace(found, images=images)
    return found


def subset_of(dataset: DatasetConfig) -> str:
    """The configured subset, or the data set's default; empty if it has none.

    Raises:
        ConfigError: an unknown kind, or a subset that the data set does not have.
    """
    subsets = dataset_of(dataset.kind).subsets
    if dataset.subset is not None and dataset.subset not in subsets:
        allowed = f"one of {', '.join(subsets)}" if subsets else "left out"
        raise ConfigError(f"dataset.subset = {dataset.subset}: of {dataset.kind} it must be {allowed}")
    return dataset.subset or next(iter(subsets), "")
