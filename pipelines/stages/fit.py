"""features + posed meshes + class shapes -> the class shape fitted to each image -> ``shape_fits/``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, cached_property
from itertools import groupby
from typing import ClassVar

import numpy as np
import pyarrow as pa

from actors.base import Actor, Row
from pipelines.stages.describe import DescribeStage
from pipelines.stages.methods import method_images
from pipelines.stages.observing import ObservingStage
from pipelines.stages.pairs import PreparedImages
from pipelines.stages.represent import RepresentStage
from sc3d.class_shapes.alignment import Alignment, AlignmentSchedule, align_images
from sc3d.class_shapes.carry import AlignedImage, aligned_image
from sc3d.class_shapes.class_shape import ClassShape
from sc3d.class_shapes.observation import unit_rows
from sc3d.errors import Sc3dError, concerns_the_run
from sc3d.features import Features
from sc3d.grid import Letterbox
from sc3d.records import ShapeFit
from sc3d.shards import Shard


class FitShape(Actor):
    """Fits a class shape to an image."""

    requires: ClassVar[Mapping[str, str]] = {"observation": "what the image tells", "shape": "the class shape of its category"}
    provides: ClassVar[Mapping[str, str]] = {"fit": "the class shape in the image"}
    version: ClassVar[str] = "fit-3"
    options: ClassVar[tuple[str, ...]] = ("represent.hypotheses", "seed")
    batch_size: ClassVar[int] = 8

    def process(self, row: Row) -> Row:
        """Fit one image."""
        return self.process_batch([row])[0]

    def process_batch(self, rows: Sequence[Row]) -> list[Row]:
        """Fit images, those of one class shape side by side."""
        schedule = AlignmentSchedule(hypotheses=self.config.represent.hypotheses)
        fits: list[Alignment] = []
        for _, group in groupby(rows, key=lambda row: id(row["shape"])):
            of_one = list(group)
            fits += align_images(of_one[0]["shape"], [row["observation"] for row in of_one], schedule, self.config.seed)
        return [{"fit": fit} for fit in fits]


class FitStage(ObservingStage):
    """A row an image: made from the image, and from the class shape of its category."""

    name = "fit"
    folder = "shape_fits"
    record = ShapeFit
    by_category = True
    slots = (FitShape,)
    upstream = (*ObservingStage.upstream, RepresentStage)
    given = {"image_id": "image id", "category": "object category", **FitShape.requires}

    @property
    def counted(self) -> pa.Table:
        return self.wanted(self._manifest_inputs["id"].combine_chunks())

    def inputs_of(self, ids: pa.Array) -> pa.Array:
        shapes = self.other(RepresentStage)
        return self.inputs_with_category(ids, lambda category: str(shapes.inputs_of(pa.array([category]))[0]))

    def load(self, shard: Shard) -> Iterable[Row]:
        shape, missing = self._shape(shard.category)
        self.read_ahead(shard.ids)
        for image_id in shard.ids:
            row: Row = {"image_id": image_id, "category": shard.category}
            try:
                if missing is not None:
                    raise missing
                yield {**row, "observation": self.observed.get(image_id).observation, "shape": shape}
            except Exception as error:  # what one image lacks concerns that image
                if concerns_the_run(error):
                    raise
                yield {**row, "error": error}

    def _shape(self, category: str) -> tuple[ClassShape | None, Sc3dError | None]:
        """The class shape of a category, or why there is none."""
        try:
            return self.other(RepresentStage).read_shape(category), None
        except Sc3dError as error:
            if concerns_the_run(error):
                raise
            return None, error

    def finish(self, row: Row, seconds: float) -> ShapeFit:
        fit: Alignment = row["fit"]
        return ShapeFit(
            row["image_id"],
            row["category"],
            fit.keypoints,
            fit.inverse_focal,
            fit.rotation,
            fit.terms,
            fit.margin,
            fit.history,
            fit.others,
            seconds,
        )

    def alignments(self, image_ids: Iterable[str]) -> dict[str, Alignment]:
        """Image -> the class shape in it, each file read once."""
        return {
            one.image_id: Alignment(one.keypoints, one.inverse_focal, one.terms, one.rotation, one.margin, one.history, one.others)
            for one in self.known.read(image_ids).values()
        }

    def aligned(self, image_id: str, letterbox: Letterbox, features: np.ndarray) -> AlignedImage:
        """The class shape in an image, with the features (side * side, C) of its cells."""
        alignment = self.alignments([image_id])[image_id]
        shape = self._shape_of(self.images[image_id].category)
        return aligned_image(shape, alignment, letterbox, unit_rows(features))

    def aligned_images(self, cache_mb: int) -> PreparedImages[AlignedImage]:
        """The images with the class shape in them, on the features that this was built from; in a cache of so many MB."""
        described = self.other(DescribeStage)
        cells = method_images(self.method, self.whole, described, 0)

        def prepare(features: Features) -> AlignedImage:
            return self.aligned(features.image_id, features.letterbox, cells.prepare(features).descriptors.flat())

        return PreparedImages(described, prepare, cache_mb, needed=[self])

    @cached_property
    def _shape_of(self) -> Callable[[str], ClassShape]:
        return cache(self.other(RepresentStage).read_shape)
