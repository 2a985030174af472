"""How each data set is scored: the unit of the threshold, the thresholds, and which extra scores its papers print."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sc3d.config import RunConfig
from sc3d.datasets.keypoint_groups import KeypointGroups, keypoint_groups

Unit = Literal["box", "image", "keypoints"]
UNITS: tuple[Unit, ...] = ("box", "image", "keypoints")


@dataclass(frozen=True)
class Protocol:
    """How a data set's predictions are scored.

    Attributes:
        dataset: the data set's name in tables.
        unit: what PCK's alpha is a share of, in the target: the longer side of its box, of the image, or of the box around its keypoints.
        alphas: the thresholds that its papers print.
        dagger: also PCK-dagger, which asks that a point's own annotation is the nearest one.
        groups: where it says which keypoints are repeated or mirrored: ``root``, in its own folder; a data set that
            :func:`~sc3d.datasets.keypoint_groups.keypoint_groups` knows; or empty, nowhere.
    """

    dataset: str
    unit: Unit = "box"
    alphas: tuple[float, ...] = (0.10, 0.05, 0.01)
    dagger: bool = False
    groups: str = "root"

    def groups_of(self, root: str, category: str) -> KeypointGroups:
        """The repeated and mirrored keypoints of a category; none where the data set does not say.

        Raises:
            InputError: they cannot be read, or the category is unknown.
        """
        if not self.groups:
            return KeypointGroups((), (), ())
        return keypoint_groups(Path(root) if self.groups == "root" else self.groups, category)


_PROTOCOLS = {
    "spair": Protocol("SPair-71k"),
    "spair_u": Protocol("SPair-U", dagger=True, groups=""),
    "ap10k": Protocol("AP-10K", groups="ap10k"),
    "pf_pascal": Protocol("PF-PASCAL", "image", (0.15, 0.10, 0.05), groups=""),
    "pf_willow": Protocol("PF-WILLOW", "keypoints", (0.15, 0.10, 0.05), groups=""),
    "tss": Protocol("TSS", "image", (0.10, 0.05), groups=""),
}


def protocol_of(kind: str) -> Protocol:
    """The protocol of a data set by the kind of its layout; that of SPair-71k, under the kind's own name, for kinds without one."""
    return _PROTOCOLS.get(kind.replace("-", "_"), Protocol(kind))


def unit_of(config: RunConfig) -> Unit:
    """What PCK's alpha is a share of: as configured, or as the data set's papers have it."""
    unit = config.evaluate.unit
    return protocol_of(config.dataset.kind).unit if unit == "auto" else unit


def table_name(kind: str, subset: str | None) -> str:
    """What the rows of a data set are filed under: its kind, or its name with the split where splits have tables of their own."""
    if kind == "ap10k":
        return f"{protocol_of(kind).dataset} {subset or 'intra-species'}"
    return kind
