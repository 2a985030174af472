"""A folder that Hugging Face ``datasets`` loads: ``data/<split>-*.parquet``, ``images/images.parquet``, and the header of its README.

A row is a pair, as in the label files of a run, but coordinates are lists of [x, y] instead of flattened ones. A second configuration,
``images``, says which file an image id stands for and the size of the photo whose pixels the coordinates are; where they are wanted, it
has the photos as well, in ``images/images-*.parquet``, which the hub's viewer shows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sc3d.errors import SchemaError
from sc3d.records import Labels
from sc3d.schema import arrow_schema

SPLIT_NAMES = {"trn": "train", "val": "validation", "test": "test"}
"""Split of the manifest -> name that ``datasets`` uses."""

_IMAGE_COLUMNS = pa.schema(
    [
        pa.field("image_id", pa.string()),
        pa.field("file", pa.string()),
        pa.field("category", pa.string()),
        pa.field("split", pa.string()),
        pa.field("width", pa.int64()),
        pa.field("height", pa.int64()),
    ]
)

_IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])

_LAYOUT = """`data/<split>-*.parquet`: a row an ordered pair of images, its matches as lists of one length.
Coordinates are [x, y] in pixels of the upright image, x first, the centre of the first pixel at 0.5.
{images}

```python
from datasets import load_dataset

labels = load_dataset(".")["train"]  # or the name of this data set on the hub
images = load_dataset(".", "images")["train"]
```"""
_WITHOUT = "`images/images.parquet`: file, size and split of each image id."
_WITH = """`images/images-*.parquet`: file, size and split of each image id, and the upright image: a copy without metadata, such as
where it was taken; JPEG of quality 95, or PNG where the photo was stored without loss."""

_POINTS = pa.list_(pa.list_(pa.float32(), 2))
_XY = ("source_xy", "target_xy")
_DTYPES = {pa.string(): "string", pa.int64(): "int64", pa.float64(): "float64", pa.float32(): "float32"}
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


def data_file(split: str, number: int) -> str:
    """Name of a data file of a split of the manifest."""
    return f"data/{SPLIT_NAMES[split]}-{number:05d}.parquet"


def layout(with_images: bool) -> str:
    """What is in the folder, as Markdown."""
    return _LAYOUT.format(images=_WITH if with_images else _WITHOUT)


def image_file(number: int | None) -> str:
    """Name of a table of images: the only one, or one of several."""
    return "images/images.parquet" if number is None else f"images/images-{number:05d}.parquet"


def image_schema(with_images: bool) -> pa.Schema:
    """Columns of the tables of images."""
    return _IMAGE_COLUMNS.append(pa.field("image", _IMAGE)) if with_images else _IMAGE_COLUMNS


def pair_schema() -> pa.Schema:
    """Columns of the data files: those of :class:`~sc3d.records.Labels`, with coordinates as lists of [x, y]."""
    return pa.schema([pa.field(f.name, _POINTS if f.name in _XY else f.type) for f in arrow_schema(Labels)])


def pair_table(labels: pa.Table) -> pa.Table:
    """A table of labels with coordinates as lists of [x, y]; nothing is copied.

    Raises:
        SchemaError: a list of coordinates has an odd length.
    """
    columns = [
        pa.chunked_array([_points(chunk, field.name) for chunk in labels[field.name].chunks], _POINTS)
        if field.name in _XY
        else labels[field.name]
        for field in pair_schema()
    ]
    return pa.table(columns, schema=pair_schema())


def _points(flat: pa.ListArray, name: str) -> pa.ListArray:
    offsets = flat.offsets.to_numpy()
    if (offsets % 2).any():
        raise SchemaError(f"column '{name}': a list of x and y has an odd length; the file was changed after it was written")
    points = pa.FixedSizeListArray.from_arrays(flat.values.slice(0, int(offsets[-1])), 2)
    return pa.ListArray.from_arrays(pa.array(offsets // 2, pa.int32()), points.cast(_POINTS.value_type), type=_POINTS)


@dataclass(frozen=True)
class DatasetHeader:
    """What the header of the README says.

    ``name``: title of the data set. ``licence``: identifier of the hub, such as cc-by-4.0, or none, which is left to be filled in.
    ``splits``: split of the manifest -> its pairs and their bytes in memory; ``images``: the same of the tables of images;
    ``image_columns``: their columns.
    """

    name: str
    licence: str | None
    splits: Mapping[str, tuple[int, int]]
    images: tuple[int, int]
    image_columns: pa.Schema = _IMAGE_COLUMNS

    def yaml(self) -> str:
        """The header, between its two lines of dashes. JSON is YAML, so values are written as such."""
        total = sum(pairs for pairs, _ in self.splits.values())
        licence = (
            f"license: {json.dumps(self.licence)}" if self.licence else "# license: choose one; the label card says what binds it"
        )
        category = next((name for limit, name in _SIZES if total < limit), "n>10M")
        splits = {SPLIT_NAMES[split]: size for split, size in self.splits.items()}
        files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in splits]
        configs = [
            {"config_name": "labels", "default": True, "data_files": files},
            {"config_name": "images", "data_files": [{"split": "train", "path": "images/*.parquet"}]},
        ]
        infos = [
            {"config_name": "labels", "features": features(pair_schema()), "splits": _splits(splits)},
            {"config_name": "images", "features": features(self.image_columns), "splits": _splits({"train": self.images})},
        ]
        lines = [
            "---",
            f"pretty_name: {json.dumps(self.name)}",
            licence,
            'tags: ["semantic-correspondence", "keypoints", "3d"]',
            f'size_categories: ["{category}"]',
            "configs:",
            *(f"- {json.dumps(config)}" for config in configs),
            "dataset_info:",
            *(f"- {json.dumps(info)}" for info in infos),
            "---",
        ]
        return "\n".join(lines) + "\n"


def _splits(sizes: Mapping[str, tuple[int, int]]) -> list[dict[str, Any]]:
    return [{"name": name, "num_bytes": size, "num_examples": count} for name, (count, size) in sizes.items()]


def features(schema: pa.Schema) -> list[dict[str, Any]]:
    """The ``features`` of a schema as they stand in a header."""
    return [{"name": field.name, **_feature(field.type)} for field in schema]


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if kind == _IMAGE:
        return {"dtype": "image"}
    if not pa.types.is_list(kind):
        return {"dtype": _DTYPES[kind]}
    inner = kind.value_type
    if pa.types.is_fixed_size_list(inner):
        return {"sequence": {"sequence": _DTYPES[inner.value_type], "length": inner.list_size}}
    return {"sequence": _DTYPES[inner]}
