"""Rejects grouped by stage and reason."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sc3d.errors import SchemaError, UpstreamError
from sc3d.pair_ids import split_pair_id
from sc3d.records import Reject

_PATH = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://|/)[^\s,;:'\"]+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True)
class RejectGroup:
    """Rejects of one stage for one reason. ``reason`` has what differs between them replaced; ``examples`` are (id, full message).
    ``consequence``: they only follow from rejects of an earlier stage."""

    stage: str
    error_type: str
    reason: str
    count: int
    consequence: bool
    examples: tuple[tuple[str, str], ...]


def group_rejects(rejects: Iterable[Reject], examples: int = 8) -> list[RejectGroup]:
    """Groups in the order of first appearance of their stage, the most frequent first within a stage."""
    groups: dict[tuple[str, str, str], list[Reject]] = defaultdict(list)
    stages: dict[str, int] = {}
    for reject in rejects:
        stages.setdefault(reject.stage, len(stages))
        groups[reject.stage, reject.error_type, reason_of(reject)].append(reject)
    ordered = sorted(groups.items(), key=lambda item: (stages[item[0][0]], -len(item[1]), item[0]))
    return [
        RejectGroup(
            stage=stage,
            error_type=error_type,
            reason=reason,
            count=len(members),
            consequence=error_type == UpstreamError.__name__,
            examples=tuple((r.id, r.message) for r in sorted(members, key=lambda r: r.id)[:examples]),
        )
        for (stage, error_type, reason), members in ordered
    ]


def reason_of(reject: Reject) -> str:
    """The message without what is peculiar to one record: its ids, paths and numbers become an ellipsis."""
    text = reject.message
    for part in sorted(_ids_in(reject), key=len, reverse=True):
        text = text.replace(part, "…")
    return _NUMBER.sub("…", _PATH.sub("…", text))


def _ids_in(reject: Reject) -> set[str]:
    """The id of the record and, of a pair, those of both images."""
    try:
        return {reject.id, *split_pair_id(reject.id)}
    except SchemaError:
        return {reject.id}
