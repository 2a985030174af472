"""Collections of toys, described and posed in one process, and what filters keep of their pairs; :mod:`benchmarks.light` measures them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from actors.base import Actor, Row, run_actors
from pipelines.folder.manifest import read_dataset
from pipelines.jobs.templates import FOLDER
from pipelines.stages.describe import DescribeStage
from pipelines.stages.reconstruct import ReconstructStage, image_row
from sc3d.config import LabelConfig, RunConfig
from sc3d.config_file import load_config
from sc3d.datasets.toys import ToysConfig, generate_toys, toy_truth
from sc3d.evaluation.filter_quality import FilterCounts, filter_quality
from sc3d.features import Features
from sc3d.geometry.camera import camera_azimuth
from sc3d.geometry.templates.template import Template
from sc3d.grid import Letterbox
from sc3d.matching.described import Described
from sc3d.records import LOW_CONFIDENCE, ImageRecord, Pair
from sc3d.store import RunFolder

TAUS = (0.05, 0.1)
LABELS, BOX = "cycle + geodesic", "position in the 2D box"


@dataclass(frozen=True)
class Counts:
    """What a filter keeps of some pairs: labels, and of the annotated points among them how many there are and are wrong."""

    pairs: int = 0
    kept: int = 0
    judged: int = 0
    wrong: int = 0

    def __add__(self, other: Counts | FilterCounts) -> Counts:
        pairs = other.pairs if isinstance(other, Counts) else 1
        return Counts(self.pairs + pairs, self.kept + other.kept, self.judged + other.judged, self.wrong + other.wrong)

    @property
    def share(self) -> float:
        """Wrong of the judged, in per cent; NaN if none was judged."""
        return 100 * self.wrong / self.judged if self.judged else float("nan")


class Toys:
    """Toys of one seed, described once a kind of mesh.

    Args:
        folder: where toys and templates are written.
        images, pairs: a category.
    """

    def __init__(self, folder: Path, categories: Sequence[str], images: int, pairs: int, seed: int) -> None:
        self.folder = folder
        counts = {"trn": 0, "val": 0, "test": images}
        drawn = ToysConfig(tuple(categories), counts, {**counts, "test": pairs}, seed=seed + 1000, held_out_seed=seed)
        generate_toys(folder / "toys", drawn)
        self.categories = tuple(categories)
        found, self.pairs = read_dataset(self.config("inflate"))
        self.images = {image.image_id: image for image in found}

    def config(self, mesh: str, *options: str) -> RunConfig:
        """The light profile on the toys with one kind of mesh."""
        places = (f"run={self.folder / 'run'}", f"dataset.root={self.folder / 'toys'}", "dataset.kind=toys")
        template = ("reconstruct.template=toys",) if mesh == "template" else ()
        return load_config(None, [*places, "profile=light", *template, f"reconstruct.mesh={mesh}", *options])

    def of(self, category: str) -> list[ImageRecord]:
        """The images of a category."""
        return [image for image in self.images.values() if image.category == category]

    def pairs_of(self, categories: Iterable[str]) -> list[Pair]:
        """The annotated pairs of some categories."""
        return [pair for pair in self.pairs if pair.category in set(categories)]

    def azimuth(self, image_id: str) -> float:
        """From which side an image's camera really sees the object, in degrees."""
        pose = toy_truth(str(self.images[image_id].truth_path)).pose
        return float(camera_azimuth(pose.R, pose.t))


class Collection:
    """The photos of one category: masked and described once, and given meshes of any kind.

    ``seconds`` has the mean of what an image took by itself, beside its mesh.
    """

    def __init__(self, toys: Toys, category: str) -> None:
        self.toys, self.category = toys, category
        reconstruct, describe = image_actors(toys.config("inflate"))
        at, shape = first_with(reconstruct, "vertices"), first_with(describe, "shape")
        rows = [image_row(image) for image in toys.of(category)]
        self.rows, self.seconds = timed([*reconstruct[:at], *describe[1:shape]], rows)

    def with_meshes(self, config: RunConfig, template: Template | None = None) -> tuple[list[Row], float, float]:
        """The rows with meshes, poses and surfaces, the mean seconds an image, and those of mesh and pose alone."""
        name = None
        if template is not None:
            name = f"{FOLDER}/{template.digest}.safetensors"
            RunFolder(config.run).write_bytes(name, template.encode())
        reconstruct, describe = image_actors(config)
        meshes = reconstruct[first_with(reconstruct, "vertices") :]
        rows = [{**one, "template": name} for one in self.rows]
        # Rendering the template is no photo's time.
        timed(meshes, rows[:1])
        rows, posing = timed(meshes, rows)
        rows, rest = timed(describe[first_with(describe, "shape") :], rows)
        return rows, posing + rest, posing

    def described(self, config: RunConfig, rows: Sequence[Row]) -> dict[str, Described]:
        """Image id -> the image of a row, prepared for matching."""
        return {one["image_id"]: Described(features_of(one), config.match) for one in rows}

    def counts(self, ready: Mapping[str, Described], config: RunConfig) -> dict[str, Counts]:
        """What each filter keeps of the category's pairs, of those whose images are ready."""
        return wrong_labels(self.toys.pairs_of([self.category]), ready, self.toys.images, config.label.min_agreement)


def image_actors(config: RunConfig) -> tuple[list[Actor], list[Actor]]:
    """The actors of both stages of images."""
    stages = (ReconstructStage(config), DescribeStage(config))
    reconstruct, describe = ([kind(config) for kind in stage.actors()] for stage in stages)
    return reconstruct, describe


def first_with(actors: Sequence[Actor], key: str) -> int:
    """Index of the actor that provides a key."""
    return next(index for index, actor in enumerate(actors) if key in actor.provides)


def timed(actors: Sequence[Actor], rows: Sequence[Row]) -> tuple[list[Row], float]:
    """The rows that went through the actors, and the mean seconds of one."""
    # Of the processor: a machine that others share takes longer, and no more work.
    began = time.process_time()
    outcomes = run_actors(actors, rows, "image_id", "light")
    seconds = (time.process_time() - began) / max(len(rows), 1)
    return [outcome.row for outcome in outcomes if outcome.reject is None], seconds


def features_of(found: Row) -> Features:
    """The features of a row that went through all actors."""
    # Unsure photos count here: whether they are asked is the caller's.
    surface = dataclasses.replace(found["surface"], numbering=found.get("numbering", ""))
    return Features(
        image_id=found["image_id"],
        letterbox=found["letterbox"],
        foreground=found["foreground"],
        extent=found["extent"],
        sources={"dino": found["dino"], **found["sd"]},
        shape=found["shape"],
        surface=surface,
    )


def is_sure(found: Row) -> bool:
    """Whether the pose of a row counts."""
    return LOW_CONFIDENCE not in found["flags"]


def flat_features(found: Row) -> Features:
    """The features of a row without a mesh."""
    box = Letterbox(found["width"], found["height"])
    extent = float(np.ptp(np.argwhere(found["mask"]), axis=0).max() + 1)
    sources = {"dino": found["dino"], **found["sd"]}
    return Features(found["image_id"], box, box.sample_mask(found["mask"]), extent, sources)


def wrong_labels(
    pairs: Sequence[Pair], images: Mapping[str, Described], records: Mapping[str, ImageRecord], agreement: float
) -> dict[str, Counts]:
    """Filter -> what it keeps: none, cycle, cycle and the position in the 2D box, and the labels at geodesic errors of 0.05 and 0.1.

    Args:
        agreement: least one of a pair that gives labels.
    """
    totals: dict[str, Counts] = {}
    for pair in pairs:
        if pair.source_id not in images or pair.target_id not in images:
            continue
        sides = images[pair.source_id], images[pair.target_id]
        annotations = records[pair.source_id], records[pair.target_id]
        for tau in TAUS:
            label = LabelConfig(tau_geo=tau, min_agreement=agreement)
            for found in filter_quality(*sides, annotations, label, "light"):
                name = f"{tau:g}" if found.filter == LABELS else found.filter
                if name != found.filter or tau == TAUS[0]:
                    totals[name] = totals.get(name, Counts()) + found
    return totals
