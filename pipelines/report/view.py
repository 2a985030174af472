"""A run folder as the report sees it: what is there, its photos, and how to say what is missing."""

from __future__ import annotations

import logging
import shlex
import traceback
from collections.abc import Callable, Iterable
from functools import cached_property, lru_cache
from typing import TypeVar

import numpy as np

from pipelines.folder.configuration import RUN
from pipelines.folder.images import ImageManifest
from pipelines.report.certainty import Certainty, gather_certainty
from pipelines.report.metrics import METRICS_FILE, read_metrics
from pipelines.report.summary import RunSummary, summarise
from pipelines.stages.agreeing import unannotated
from pipelines.stages.describe import DescribeStage
from pipelines.stages.fit import FitStage
from pipelines.stages.orient import OrientStage
from pipelines.stages.pairs import PreparedImages
from pipelines.stages.reconstruct import ReconstructStage
from pipelines.stages.verifying import described_images
from sc3d.artefacts import Catalogue
from sc3d.class_shapes.carry import AlignedImage
from sc3d.config import RunConfig
from sc3d.display import without_secrets
from sc3d.errors import InputError, Sc3dError, StoreError
from sc3d.images import load_image
from sc3d.matching.described import Described
from sc3d.report.metrics import Metrics
from sc3d.report.page import Missing
from sc3d.store import RunFolder

logger = logging.getLogger(__name__)

_PHOTOS = 16
_GREY = 200

T = TypeVar("T")


def view_run(config: RunConfig) -> RunView:
    """The view of a run that is there.

    Raises:
        StoreError: the folder holds no run.
    """
    require_run(config)
    return RunView(config)


def require_run(config: RunConfig) -> None:
    """Raise :class:`StoreError` if the folder holds no run."""
    folder = RunFolder(config.run)
    if not folder.exists(RUN):
        raise StoreError(f"{folder.uri} holds no run; make one with: sc3d label --images DIR --run {shlex.quote(config.run)}")


class RunView:
    """What the sections of the report read.

    Attributes:
        config, run: the configuration and its run folder.
        notes: remarks on a section, in the order in which they were made.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.run = RunFolder(config.run)
        self.notes: dict[str, tuple[str, ...]] = {}
        self._photo = lru_cache(_PHOTOS)(self.load_photo)

    @cached_property
    def summary(self) -> RunSummary:
        """Counts and small columns of everything that is there.

        Raises:
            SchemaError: ``run.json`` or a manifest cannot be read.
        """
        return summarise(self.config)

    @cached_property
    def images(self) -> ImageManifest:
        """The manifest's images by their id."""
        return ImageManifest(self.run)

    @cached_property
    def described(self) -> PreparedImages[Described]:
        """The described images, prepared for matching."""
        return described_images(DescribeStage(self.config), self.config.match, self.config.ray.cache_mb)

    @cached_property
    def reconstructions(self) -> Catalogue:
        """The reconstructions that are there."""
        return ReconstructStage(self.config).catalogue()

    @cached_property
    def orientations(self) -> Catalogue:
        """The orientations that are there."""
        return OrientStage(self.config).catalogue()

    @cached_property
    def fitted(self) -> list[tuple[Catalogue, PreparedImages[AlignedImage]]]:
        """The fits that are there and the images with them: of the run's own class shapes, and of those that nobody annotated."""
        stages = [FitStage(config) for config in (self.config, unannotated(self.config))]
        return [(stage.catalogue(), stage.aligned_images(self.config.ray.cache_mb)) for stage in stages]

    @cached_property
    def counts(self) -> dict[str, np.ndarray]:
        """The counts of each pair: of its labels, or of its matches where the thresholds were not applied yet."""
        return self.summary.labels if len(self.summary.labels["pair_id"]) else self.summary.matches

    @cached_property
    def metrics(self) -> Metrics:
        """``metrics.json``; empty where it is not there or cannot be read."""
        try:
            return read_metrics(self.run) if self.run.exists(METRICS_FILE) else {}
        except Sc3dError:
            return {}

    @cached_property
    def certainty(self) -> Certainty | None:
        """How sure each category is; ``None`` where what tells it cannot be read."""
        try:
            return gather_certainty(self.config, self.summary)
        except Sc3dError as error:
            self.note("certainty", f"This could not be shown: {error}")
            return None

    def command(self, name: str) -> str:
        """The command line that runs a part of the pipeline on this run folder."""
        return f"sc3d {name} --run {shlex.quote(self.config.run)}"

    def no_pairs(self) -> Missing:
        """Why there is no matched pair."""
        s = self.summary
        if not s.images:
            return Missing("The run has no images yet.", self.command("label") + " --images DIR")
        if not s.pairs:
            return Missing("There is no pair to label: a category needs at least two images that are not held out.")
        if s.image_rejects >= len(s.images) or s.pair_rejects >= len(s.pairs):
            text = "Every record was rejected; the reasons are under “Rejected records”. Put them right and run:"
            return Missing(text, self.command("label"))
        return Missing("No pair was matched yet with this configuration.", self.command("label"))

    def no_images(self, command: str) -> Missing:
        """Why nothing of an image is there; ``command`` is the part of the pipeline that makes it."""
        s = self.summary
        if s.images and s.image_rejects >= len(s.images):
            return Missing("Every image was rejected; the reasons are under “Rejected records”.")
        return Missing("Nothing of this was computed yet with this configuration.", self.command(command))

    def note(self, section: str, text: str) -> None:
        """Add a remark below a section."""
        self.notes[section] = (*self.notes.get(section, ()), text)

    def each(self, section: str, names: Iterable[str], make: Callable[[str], T]) -> tuple[T, ...]:
        """``make`` of each name; one that cannot be shown becomes a remark of the section."""
        return tuple(one for name in names if (one := self._attempt(section, name, make)) is not None)

    def _attempt(self, section: str, name: str, make: Callable[[str], T]) -> T | None:
        try:
            return make(name)
        except Exception as error:  # a page that says what it cannot show is worth more than none
            if not isinstance(error, (Sc3dError, KeyError)):
                trace = without_secrets("".join(traceback.format_exception(error)))
                logger.warning("%s of the section %s could not be shown\n%s", name, section, trace)
            self.note(section, without_secrets(f"{name} could not be shown: {error}"))
            return None

    def photo(self, image_id: str, width: int, height: int) -> np.ndarray:
        """The photo (height, width, 3), or a grey one where it is gone or was replaced by one of another size."""
        photo = self._photo(image_id)
        grey = np.full((height, width, 3), _GREY, np.uint8)
        return photo if photo is not None and photo.shape == grey.shape else grey

    def load_photo(self, image_id: str) -> np.ndarray | None:
        """The photo (H, W, 3) as it is now; ``None`` where it is gone."""
        try:
            return load_image(self.images[image_id].path, self.config.dataset.download)
        except (InputError, StoreError, KeyError):
            return None
