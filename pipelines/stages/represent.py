"""annotated images + features + posed meshes -> the 3D shape of each category -> ``class_shapes/``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from actors.base import Actor, Row
from pipelines.folder.images import IMAGES
from pipelines.stages.landmarks import AnnotatedPoints, PointSource, RegisteredPoints
from pipelines.stages.observing import ObservingStage
from pipelines.stages.orient import shuffled
from pipelines.stages.register import RegisterStage
from sc3d.class_shapes.build import Annotated, build_class_shape
from sc3d.class_shapes.class_shape import ClassShape, decode_class_shape
from sc3d.class_shapes.observation import annotate
from sc3d.config import RunConfig
from sc3d.errors import InputError, SchemaError, UpstreamError, concerns_the_run
from sc3d.records import LABELLED_SPLIT, ClassShapeIndex, ImageRecord
from sc3d.shards import Shard, item_table, shard_name

_USED = ["image_id", "category", "split", "keypoint_ids", "inputs", "annotation"]


class BuildShape(Actor):
    """Builds the class shape of a category from its annotated images."""

    requires: ClassVar[Mapping[str, str]] = {
        "category": "object category",
        "views": "annotated images",
        "mirrored": "keypoint id -> its counterpart in a mirror",
    }
    provides: ClassVar[Mapping[str, str]] = {"shape": "the class shape"}
    version: ClassVar[str] = "class-shape-3"
    options: ClassVar[tuple[str, ...]] = ("represent.points", "seed")

    def process(self, row: Row) -> Row:
        """Build one class shape."""
        shape = build_class_shape(
            row["category"], row["views"], row["mirrored"], self.config.represent.points, seed=self.config.seed
        )
        return {"shape": shape}


class RepresentStage(ObservingStage):
    """A row a category: made from the points of its training images, their features and their posed meshes."""

    name = "represent"
    folder = "class_shapes"
    record = ClassShapeIndex
    key = "category"
    options = ("represent.landmarks", "represent.images")
    slots = (BuildShape,)
    given = BuildShape.requires

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        if not self._is_annotated:
            self.upstream = (*self.upstream, RegisterStage)

    def reads(self) -> tuple[str, ...]:
        return *super().reads(), *(("dataset.kind",) if self._is_annotated else ())

    @property
    def _is_annotated(self) -> bool:
        return self.whole.represent.landmarks == "annotated"

    @cached_property
    def _points(self) -> PointSource:
        if self._is_annotated:
            return AnnotatedPoints(self.config.dataset.kind, self.whole.dataset.root)
        return RegisteredPoints(self.other(RegisterStage))

    @cached_property
    def _learned(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """Category -> the images that its class shape is made of, drawn by lot: ids, and what each is made from."""
        if not self.run.exists(IMAGES):
            return {}
        table = self.run.read_table(ImageRecord, IMAGES, _USED)
        usable = pc.equal(table["split"], LABELLED_SPLIT)
        if self._is_annotated:
            usable = pc.and_(usable, pc.greater(pc.fill_null(pc.list_value_length(table["keypoint_ids"]), 0), 0))
        table = table.filter(usable)
        ids = table["image_id"].combine_chunks()
        own = table["annotation"].combine_chunks() if self._is_annotated else self.other(RegisterStage).inputs_of(ids)
        made_of: dict[str, list[tuple[str, str]]] = {}
        columns = (column.to_pylist() for column in (table["category"], ids, table["inputs"], own))
        for category, image_id, *parts in zip(*columns, strict=True):
            made_of.setdefault(category, []).append((image_id, " ".join([image_id, *parts])))
        most = self.config.represent.images
        return {name: sorted(members, key=lambda one: shuffled(one[0]))[:most] for name, members in made_of.items()}

    def learned(self) -> pa.Table:
        """The images that class shapes are made of (:data:`~sc3d.shards.ITEMS`)."""
        return item_table((name, image_id) for name, members in sorted(self._learned.items()) for image_id, _ in members)

    def named(self) -> pa.Table:
        return item_table((category, category) for category in sorted(self._learned))

    @property
    def counted(self) -> pa.Table:
        return self.wanted(self.named()["id"].combine_chunks())

    def inputs_of(self, ids: pa.Array) -> pa.Array:
        made_of = {category: shard_name(inputs for _, inputs in members) for category, members in self._learned.items()}
        return pa.array([made_of.get(one, "") for one in ids.to_pylist()], pa.string())

    @property
    def shard_size(self) -> int:
        return 1

    def load(self, shard: Shard) -> Iterable[Row]:
        row: Row = {"category": shard.category}
        try:
            views = self._views(shard.category)
            yield {**row, "views": views, "mirrored": self._points.mirrored(shard.category)}
        except Exception as error:  # what one category lacks concerns that category
            if concerns_the_run(error):
                raise
            yield {**row, "error": error}

    def _views(self, category: str) -> list[Annotated]:
        """The images of a category with their points, of those that earlier stages did not reject."""
        views = []
        ids = [image_id for image_id, _ in self._learned[category]]
        self.read_ahead(ids)
        for image_id in ids:
            try:
                one = self.observed.get(image_id)
                points = self._points.of(self.images[image_id], one.reconstruction)
            except (UpstreamError, InputError) as error:
                if concerns_the_run(error):
                    raise
                continue
            views.append((one.observation, annotate(one.observation, *points, one.depth, one.mask, one.features)))
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
