"""``references.parquet``: which meshes the others of each category are registered to. What counts of a registration is what it names."""

from __future__ import annotations

from sc3d.records import References
from sc3d.store import RunFolder

REFERENCES = "references.parquet"


def read_references(run: RunFolder) -> dict[str, References]:
    """Category -> its references; empty where none were chosen yet."""
    if not run.exists(REFERENCES):
        return {}
    return {one.category: one for one in run.read_records(References, REFERENCES)}


def store_references(run: RunFolder, chosen: dict[str, References]) -> None:
    """Replace the references of some categories; those of others stay."""
    known = {**read_references(run), **chosen}
    run.write_records(References, REFERENCES, [known[category] for category in sorted(known)])


class ReferenceBook:
    """Category -> its references; each is looked up when it is first asked for, and then kept."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._known: dict[str, References] = {}

    def get(self, category: str) -> References | None:
        """The references of a category, ``None`` where none were chosen yet."""
        if category not in self._known and (found := read_references(self._run).get(category)) is not None:
            self._known[category] = found
        return self._known.get(category)
