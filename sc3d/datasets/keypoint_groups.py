"""Which keypoints of a category are repeated, which swap in a mirror, and which side they are on.

The tables of SPair-71k and AP-10K are facts about those datasets, as their evaluations use them (GeoAware-SC); ids are the raw ids of
the annotation files. The toys carry theirs in ``keypoints.json``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from sc3d.errors import InputError


@dataclass(frozen=True)
class KeypointGroups:
    """The groups of one category's keypoint ids.

    Attributes:
        repeated: groups of symmetric or repeated keypoints, which their looks alone do not tell apart; a subset of the ids.
        mirrored: pairs of ids that swap when the image is mirrored.
        side: of each id: 0 neutral, 1 left, 2 right.
        names: of each id, where the dataset names them, else empty.
    """

    repeated: tuple[tuple[int, ...], ...]
    mirrored: tuple[tuple[int, int], ...]
    side: tuple[int, ...]
    names: tuple[str, ...] = ()


def keypoint_groups(dataset: str | Path, category: str) -> KeypointGroups:
    """The groups of a category.

    Args:
        dataset: ``"spair"``, ``"ap10k"`` (whose categories share one table), or the root folder of toys or of SPair-71k.
        category: name of the category.

    Raises:
        InputError: unknown dataset or category, or a ``keypoints.json`` that cannot be read.
    """
    if dataset == "ap10k":
        return _groups(_facts()["ap10k"], "the facts of AP-10K")
    tables, where = (_facts()["spair"], "SPair-71k") if dataset == "spair" else _tables_of(Path(dataset))
    if category not in tables:
        raise InputError(f"{where}: no category '{category}'; there are {', '.join(sorted(tables))}")
    return _groups(tables[category], f"{where}, category {category}")


@cache
def _facts() -> dict[str, Any]:
    return dict(json.loads(resources.files("sc3d.datasets").joinpath("keypoint_groups.json").read_text()))


def _tables_of(root: Path) -> tuple[dict[str, Any], str]:
    path = root / "keypoints.json"
    if not path.is_file():
        if (root / "ImageAnnotation").is_dir():
            return _facts()["spair"], "SPair-71k"
        raise InputError(f"{root}: neither a dataset's name (spair, ap10k) nor the root folder of one in SPair-71k's layout")
    try:
        tables = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); generate the toys again") from None
    if not isinstance(tables, dict):
        raise InputError(f"{path}: expected one table a category; generate the toys again")
    return tables, str(path)


def _groups(table: dict[str, Any], where: str) -> KeypointGroups:
    try:
        return KeypointGroups(
            tuple(tuple(int(i) for i in group) for group in table["repeated"]),
            tuple((int(a), int(b)) for a, b in table["mirrored"]),
            tuple(int(s) for s in table["side"]),
            tuple(str(n) for n in table.get("names", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{where}: malformed keypoint groups ({type(error).__name__}: {error})") from None
