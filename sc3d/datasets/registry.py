"""The data sets by the names of their layouts."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from sc3d.config import DatasetConfig
from sc3d.datasets.ap10k import read_ap10k
from sc3d.datasets.ap10k_pairs import SUBSETS
from sc3d.datasets.content import SPLITS, AnnotatedSet
from sc3d.datasets.folder import read_folder
from sc3d.datasets.proposal_flow import read_pf_pascal, read_pf_willow
from sc3d.datasets.spair import SIZES, read_spair
from sc3d.datasets.spair_u import read_spair_u
from sc3d.datasets.table import read_table
from sc3d.datasets.tss import read_tss
from sc3d.errors import ConfigError


@dataclass(frozen=True)
class Layout:
    """How a data set lies on the disk.

    Attributes:
        read: its reader; gets the root, the configuration, the subset, and the splits whose pairs are wanted.
        subsets: what ``dataset.subset`` can be; the first one is the default.
    """

    read: Callable[[Path, DatasetConfig, str, Collection[str]], AnnotatedSet]
    subsets: tuple[str, ...] = ()


def _read_folder(root: Path, dataset: DatasetConfig, subset: str, paired: Collection[str]) -> AnnotatedSet:
    images = read_folder(root, dataset.category, Path(dataset.masks) if dataset.masks else None)
    return AnnotatedSet([image for image in images if not dataset.categories or image.category in dataset.categories], [])


def _read_table(root: Path, dataset: DatasetConfig, subset: str, paired: Collection[str]) -> AnnotatedSet:
    if dataset.masks:
        raise ConfigError("a table names the masks itself: leave --masks out, and give it a column mask_path")
    # The root as it was given: a path would shorten the two slashes of s3://.
    return AnnotatedSet(read_table(dataset.root, dataset.category, dataset.categories), [])


_SPAIR = Layout(lambda root, dataset, part, paired: read_spair(root, SPLITS, dataset.categories, part, paired), SIZES)

LAYOUTS = {
    "folder": Layout(_read_folder),
    "toys": _SPAIR,
    "spair": _SPAIR,
    "spair-u": Layout(lambda root, dataset, part, paired: read_spair_u(root, categories=dataset.categories)),
    "ap10k": Layout(lambda root, dataset, part, paired: read_ap10k(root, part, SPLITS, dataset.categories, paired), SUBSETS),
    "pf-pascal": Layout(lambda root, dataset, part, paired: read_pf_pascal(root, categories=dataset.categories)),
    "pf-willow": Layout(lambda root, dataset, part, paired: read_pf_willow(root, categories=dataset.categories)),
    "tss": Layout(lambda root, dataset, part, paired: read_tss(root, categories=dataset.categories)),
    "table": Layout(_read_table),
}


def read_dataset(dataset: DatasetConfig, paired: Collection[str] = SPLITS) -> AnnotatedSet:
    """The images and annotated pairs of a data set.

    Args:
        dataset: which one, and which part of it.
        paired: splits whose pairs are wanted; others may be there as well.

    Raises:
        ConfigError: no root, or a subset that the data set does not have.
        InputError: the data set cannot be read.
    """
    if not dataset.root:
        raise ConfigError("no images: give --images DIR, or dataset.root in the configuration")
    return LAYOUTS[dataset.kind].read(Path(dataset.root), dataset, subset_of(dataset), paired)


def subset_of(dataset: DatasetConfig) -> str:
    """The configured subset, or the data set's default; empty if it has none. Raises :class:`ConfigError` for one it does not have."""
    layout = LAYOUTS[dataset.kind]
    if dataset.subset is not None and dataset.subset not in layout.subsets:
        allowed = f"one of {', '.join(layout.subsets)}" if layout.subsets else "left out"
        raise ConfigError(f"dataset.subset = {dataset.subset}: of {dataset.kind} it must be {allowed}")
    return dataset.subset or next(iter(layout.subsets), "")
