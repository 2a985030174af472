"""annotated images + features + posed meshes -> the 3D shape of each category -> ``class_shapes/``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.base import Actor, Row
from pipelines.folder.images import IMAGES
from pipelines.stages.observing import ObservingStage
from sc3d.class_shapes.build import Annotated, build_class_shape
from sc3d.class_shapes.class_shape import ClassShape, decode_class_shape
from sc3d.class_shapes.observation import annotate
from sc3d.errors import InputError, SchemaError, UpstreamError, concerns_the_run
from sc3d.evaluation.protocols import protocol_of
from sc3d.records import LABELLED_SPLIT, ClassShapeIndex, ImageRecord
from sc3d.shards import ITEMS, Shard, shard_name

_USED = ["image_id", "category", "split", "keypoint_ids", "inputs", "annotation"]


class BuildShape(Actor):
    """Builds the class shape of a category from its annotated images."""

    requires: ClassVar[Mapping[str, str]] = {
        "category": "object category",
        "views": "annotated images",
        "mirrored": "keypoint id -> its counterpart in a mirror",
    }
    provides: ClassVar[Mapping[str, str]] = {"shape": "the class shape"}
    version: ClassVar[str] = "class-shape-1"
    options: ClassVar[tuple[str, ...]] = ("represent.points", "seed")

    def process(self, row: Row) -> Row:
        """Build one class shape."""
        shape = build_class_shape(
            row["category"], row["views"], row["mirrored"], self.config.represent.points, seed=self.config.seed
        )
        return {"shape": shape}


class RepresentStage(ObservingStage):
    """A row a category: made from the keypoints of its training images, their features and their posed meshes."""

    name = "represent"
    folder = "class_shapes"
    record = ClassShapeIndex
    key = "category"
    options = ("dataset.kind",)
    slots = (BuildShape,)
    given: ClassVar[Mapping[str, str]] = {
        "category": "object category",
        "views": "annotated images",
        "mirrored": "keypoint id -> its counterpart in a mirror",
    }

    @cached_property
    def _annotated(self) -> pa.Table:
        """The images of the training split that have keypoints, with the columns ``_USED``."""
        if not self.run.exists(IMAGES):
            return pa.table({name: pa.array([], pa.string()) for name in _USED})
        table = self.run.read_table(ImageRecord, IMAGES, _USED)
        has = pc.greater(pc.fill_null(pc.list_value_length(table["keypoint_ids"]), 0), 0)
        return table.filter(pc.and_(pc.equal(table["split"], LABELLED_SPLIT), has))

    def named(self) -> pa.Table:
        categories = pc.unique(self._annotated["category"]).sort()
        return pa.Table.from_arrays([categories, categories], schema=ITEMS)

    @property
    def counted(self) -> pa.Table:
        return self.wanted(self.named()["id"].combine_chunks())

    def inputs_of(self, ids: pa.Array) -> pa.Array:
        made_of: dict[str, list[str]] = {}
        table = self._annotated.select(["category", "image_id", "inputs", "annotation"])
        for category, *parts in zip(*(column.to_pylist() for column in table.columns), strict=True):
            made_of.setdefault(category, []).append(" ".join(parts))
        return pa.array([shard_name(made_of[one]) if one in made_of else "" for one in ids.to_pylist()], pa.string())

    @property
    def shard_size(self) -> int:
        return 1

    def load(self, shard: Shard) -> list[Row]:
        groups = protocol_of(self.config.dataset.kind).groups_of(self.whole.dataset.root, shard.category)
        mirrored = {a: b for pair in groups.mirrored for a, b in (pair, pair[::-1])}
        return [{"category": shard.category, "views": self._views(shard.category), "mirrored": mirrored}]

    def _views(self, category: str) -> list[Annotated]:
        """The annotated images of a category, of those that earlier stages did not reject."""
        views = []
        for image_id in self._annotated.filter(pc.equal(self._annotated["category"], category))["image_id"].to_pylist():
            try:
                one, image = self.observed.get(image_id), self.images[image_id]
            except (UpstreamError, InputError) as error:
                if concerns_the_run(error):
                    raise
                continue
            ids, xy = np.asarray(image.keypoint_ids), np.asarray(image.keypoint_xy, np.float64)
            views.append((one.observation, annotate(one.observation, ids, xy, one.depth, one.mask, one.features)))
        return views

    def shape_file(self, category: str) -> str:
        """Name of a category's file: what it was made from is in it."""
        inputs = self.inputs_of(pa.array([category]))[0]
        return f"{self.artefacts.prefix}/{category}.{inputs}.safetensors"

    def read_shape(self, category: str) -> ClassShape:
        """The class shape of a category.

        Raises:
            UpstreamError: there is none.
            StoreError, SchemaError: its file cannot be read.
        """
        if category not in self.known:
            raise UpstreamError(f"category {category} has no class shape; see the rejects of {self.name}")
        name = self.shape_file(category)
        shape = decode_class_shape(self.run.read_bytes(name), name)
        if shape.category != category:
            raise SchemaError(f"{name}: holds the class shape of {shape.category}; delete it and make it again")
        return shape

    def finish(self, row: Row, seconds: float) -> ClassShapeIndex:
        shape: ClassShape = row["shape"]
        data = shape.encode()
        self.run.write_bytes(self.shape_file(shape.category), data)
        return ClassShapeIndex(
            shape.category, shape.images, len(shape.ids), len(shape.matrix), shape.mirror_gap, len(data), seconds
        )
