"""Looking images up in a run's manifest, without a record for each of a million."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping
from functools import lru_cache

import pyarrow.compute as pc

from sc3d.manifests import IMAGES
from sc3d.records import ImageRecord
from sc3d.schema import from_table
from sc3d.store import RunFolder

ROWS_A_GROUP = 1024
"""Images that are decoded together. Those of a shard follow each other in the manifest, which is in the order of the ids."""

_GROUPS_KEPT = 8


class ImageManifest(Mapping[str, ImageRecord]):
    """Image id -> image. Holds the compressed file and the few stretches of it that were asked for last.

    Raises:
        StoreError: the run has no manifest.
        SchemaError: it was written with another schema.
    """

    def __init__(self, run: RunFolder) -> None:
        self._file = run.open_records(ImageRecord, IMAGES)
        self._where = f"{run.uri}/{IMAGES}"
        self._first = self._file.least("image_id")
        self._group = lru_cache(maxsize=_GROUPS_KEPT)(self._decoded)

    def _decoded(self, group: int) -> dict[str, ImageRecord]:
        return {image.image_id: image for image in from_table(ImageRecord, self._file.read(group=group), self._where)}

    def __getitem__(self, image_id: str) -> ImageRecord:
        group = bisect.bisect_right(self._first, image_id) - 1
        if group < 0:
            raise KeyError(image_id)
        return self._group(group)[image_id]

    def __iter__(self) -> Iterator[str]:
        for group in range(len(self._first)):
            yield from self._file.read(["image_id"], group)["image_id"].to_pylist()

    def __len__(self) -> int:
        return len(self._file)

    def ids_of(self, category: str) -> set[str]:
        """The ids of the images of a category."""
        table = self._file.read(["image_id", "category"])
        return set(table.filter(pc.equal(table["category"], category))["image_id"].to_pylist())
