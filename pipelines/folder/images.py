"""Looking images up in a run's manifest, without a record for each of a million."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from sc3d.records import LABELLED_SPLIT, ImageRecord
from sc3d.schema import from_table
from sc3d.store import RunFolder

IMAGES = "images.parquet"
ROWS_A_GROUP = 1024
"""Images that are decoded together. Those of a shard follow each other in the manifest, which is in the order of the ids."""

_GROUPS_KEPT = 8


def read_inputs(run: RunFolder) -> pa.Table:
    """``id``, ``inputs``, ``annotation`` and ``photo`` of all images of the manifest, if there is one: :mod:`pipelines.folder.inputs`."""
    names = ["inputs", "annotation", "photo"]
    if not run.exists(IMAGES):
        return pa.table({name: pa.array([], pa.string()) for name in ["id", *names]})
    return run.read_table(ImageRecord, IMAGES, ["image_id", *names]).select(["image_id", *names]).rename_columns(["id", *names])


def labelled_images(run: RunFolder) -> pa.Array:
    """Ids of the images that pairs to label are made of."""
    table = run.read_table(ImageRecord, IMAGES, ["image_id", "split"])
    return table.filter(pc.equal(table["split"], LABELLED_SPLIT))["image_id"].combine_chunks()


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
