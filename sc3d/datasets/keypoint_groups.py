"""Which keypoints of a category are repeated, which swap in a mirror, and which side they are on.

The tables of SPair-71k and AP-10K are facts about those datasets, as their evaluations use them (GeoAware-SC); ids are the raw ids of
the annotation files. The toys carry theirs in ``keypoints.json``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass as schema

from sc3d.datasets.annotation_files import STRICT, KeypointId, Text, read_annotation
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
        return _groups(_facts().ap10k, "the facts of AP-10K")
    tables, where = (_facts().spair, "SPair-71k") if dataset == "spair" else _tables_of(Path(dataset))
    if category not in tables:
        raise InputError(f"{where}: no category '{category}'; there are {', '.join(sorted(tables))}")
    return _groups(tables[category], f"{where}, category {category}")


@schema(config=STRICT)
class _Table:
    repeated: list[list[KeypointId]]
    mirrored: list[tuple[KeypointId, KeypointId]]
    side: list[Annotated[int, Field(ge=0, le=2)]]
    names: list[Text] = field(default_factory=list)


@schema(config=STRICT)
class _Facts:
    spair: dict[str, _Table]
    ap10k: _Table


_TABLES = TypeAdapter(dict[str, _Table])


@cache
def _facts() -> _Facts:
    return TypeAdapter(_Facts).validate_json(resources.files("sc3d.datasets").joinpath("keypoint_groups.json").read_bytes())


def _tables_of(root: Path) -> tuple[dict[str, _Table], str]:
    path = root / "keypoints.json"
    if not path.is_file():
        if (root / "ImageAnnotation").is_dir():
            return _facts().spair, "SPair-71k"
        raise InputError(f"{root}: neither a dataset's name (spair, ap10k) nor the root folder of one in SPair-71k's layout")
    return read_annotation(path, _TABLES, "a table of keypoint groups for each category"), str(path)


def _groups(table: _Table, where: str) -> KeypointGroups:
    groups = (*table.repeated, *table.mirrored)
    if any(i >= len(table.side) for group in groups for i in group) or len(table.names) not in (0, len(table.side)):
        raise InputError(f"{where}: malformed keypoint groups (they name keypoints beyond the {len(table.side)} that have a side)")
    repeated = tuple(tuple(group) for group in table.repeated)
    return KeypointGroups(repeated, tuple(table.mirrored), tuple(table.side), tuple(table.names))
