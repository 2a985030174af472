"""The manifest and the plan of a run folder, ``images.parquet`` and ``pairs.parquet``: what counts is what they name."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from sc3d.records import LABELLED_SPLIT, ImageRecord, Pair
from sc3d.store import RunFolder

IMAGES = "images.parquet"
PAIRS = "pairs.parquet"


def read_inputs(run: RunFolder) -> pa.Table:
    """``id``, ``inputs``, ``annotation`` and ``photo`` of all images of the manifest, if there is one: what each is made from."""
    names = ["inputs", "annotation", "photo"]
    if not run.exists(IMAGES):
        return pa.table({name: pa.array([], pa.string()) for name in ["id", *names]})
    return run.read_table(ImageRecord, IMAGES, ["image_id", *names]).select(["image_id", *names]).rename_columns(["id", *names])


def labelled_images(run: RunFolder) -> pa.Array:
    """Ids of the images that pairs to label are made of."""
    table = run.read_table(ImageRecord, IMAGES, ["image_id", "split"])
    return table.filter(pc.equal(table["split"], LABELLED_SPLIT))["image_id"].combine_chunks()


def read_pair_table(run: RunFolder, labelled: bool) -> pa.Table:
    """The pairs of the plan, with the schema of :class:`~sc3d.records.Pair`: those to label, or the annotated ones of the other splits."""
    table = run.read_table(Pair, PAIRS)
    chosen = pc.equal(table.column("split"), LABELLED_SPLIT)
    return table.filter(chosen if labelled else pc.invert(chosen))
