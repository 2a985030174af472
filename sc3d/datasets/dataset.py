"""All that the program knows of a data set, in one place: how it is read and scored, what its masks mean, where to get it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sc3d.config import DatasetConfig
from sc3d.datasets.content import AnnotatedSet
from sc3d.datasets.copy_check import CopyCheck
from sc3d.datasets.keypoint_groups import KeypointGroups, keypoint_groups

Unit = Literal["box", "image", "keypoints"]


@dataclass(frozen=True)
class Protocol:
    """How a data set's predictions are scored.

    Attributes:
        dataset: the data set's name in tables; empty: that of its kind.
        unit: what PCK's alpha is a share of, in the target: the longer side of its box, of the image, or of the box around its keypoints.
        alphas: the thresholds that its papers print.
        dagger: also PCK-dagger, which asks that a point's own annotation is the nearest one.
        groups: where it says which keypoints are repeated or mirrored: ``root``, in its own folder; a data set that
            :func:`~sc3d.datasets.keypoint_groups.keypoint_groups` knows; or empty, nowhere.
        by_subset: each subset has a table of its own.
    """

    dataset: str = ""
    unit: Unit = "box"
    alphas: tuple[float, ...] = (0.10, 0.05, 0.01)
    dagger: bool = False
    groups: str = ""
    by_subset: bool = False

    def groups_of(self, root: str, category: str) -> KeypointGroups:
        """The repeated and mirrored keypoints of a category; none where the data set does not say.

        Raises:
            InputError: they cannot be read, or the category is unknown.
        """
        if not self.groups:
            return KeypointGroups((), (), ())
        return keypoint_groups(Path(root) if self.groups == "root" else self.groups, category)


@dataclass(frozen=True)
class Source:
    """A data set's name, what a whole copy holds, and how to get one.

    Attributes:
        get: what to do, a line a step.
        pairs: subset ("" where there are none) -> pairs that each split lists.
        images: annotated images.
        categories: the categories that a whole copy has.
    """

    name: str
    get: tuple[str, ...]
    pairs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    images: int | None = None
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """A data set, or a way in which photos of one's own lie on a disk.

    Attributes:
        read: its reader: gets the root, the configuration, the subset and the splits whose pairs are wanted, and returns images and pairs.
            It raises :class:`~sc3d.errors.InputError` where it cannot.
        subsets: what ``dataset.subset`` can be; the first one is the default.
        protocol: how predictions on it are scored.
        masks: what the mask files of its images are: ``object``: bright on the one object, of any size, which is brought to the photo's;
            ``classes``: as :func:`~sc3d.datasets.segmentation.read_segmentation` has it, of the photo's size.
        source: what a whole copy holds, and where to get it; ``None`` where there is nothing to get or to check.
        inspect: what else to look at in a copy: gets the findings so far, to which it adds, the root and the subset, and returns the photos
            of all annotated images.
    """

    read: Callable[[Path, DatasetConfig, str, Collection[str]], AnnotatedSet]
    subsets: tuple[str, ...] = ()
    protocol: Protocol = Protocol()
    masks: Literal["object", "classes"] = "object"
    source: Source | None = None
    inspect: Callable[[CopyCheck, Path, str], set[Path]] | None = None
