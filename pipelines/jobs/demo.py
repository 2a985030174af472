"""The whole job on generated images: toys -> labels -> adapter -> evaluation -> report; then photos of which nothing is known."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

from pipelines.jobs import evaluate, label, train
from pipelines.report import page as report
from pipelines.report.metrics import read_metrics
from pipelines.report.summary import print_labels
from pipelines.runner.progress import Progress
from sc3d.config import RunConfig
from sc3d.config.stages import BUILT_IN
from sc3d.config_file import load_config
from sc3d.console import PlainConsole
from sc3d.datasets.toys import ToysConfig, generate_toys
from sc3d.datasets.toys.photos import draw_photos, sample_of
from sc3d.display import near
from sc3d.durations import duration
from sc3d.errors import ConfigError
from sc3d.report.terminal import print_metrics
from sc3d.store import RunFolder

# What two cores do in about ten minutes, evaluation included; the paper's training alone is made for a GPU.
DEFAULTS: dict[str, Any] = {
    "dataset": {"kind": "toys"},
    "pairs": {"strategy": "random", "targets": 4},
    "describe": {"ball_radius": 0.2},
    "match": {"tau_geo": 0.1},
    "train": {
        "steps": 300,
        "pairs_per_step": 2,
        "channels": 128,
        "dropout": 0.0,
    },
    "evaluate": {"max_pairs_per_category": 30},
}

# Of each category.
IMAGES = {"trn": 18, "val": 2, "test": 6}

# Of each of a few categories, as somebody has photos: no mesh, no mask, no box; each gets its template.
PHOTOS = 24
PHOTO_CATEGORIES = ("bus", "car")
PHOTO_TEMPLATES = (("reconstruct.mesh", "template"), ("reconstruct.template", BUILT_IN))

# Test instances come from another seed than the labelled ones.
HELD_OUT_SEED = 1_000_003


def run(config: RunConfig) -> RunFolder:
    """Generate the toys benchmark beside the run's artefacts and run every stage on it; what is there already is kept.

    Raises:
        ConfigError: the run folder is not on a local disk, where the images are generated.
    """
    started = time.perf_counter()
    folder = RunFolder(config.run)
    if not folder.is_local:
        raise ConfigError("the demo generates its images on a local disk; give --run a local path")
    root = Path(folder.path("dataset"))
    config = dataclasses.replace(config, dataset=dataclasses.replace(config.dataset, kind="toys", root=str(root)))
    console = PlainConsole(soft_wrap=True)
    console.print(f"sc3d demo: everything goes to {config.run}")
    toys = ToysConfig(images=IMAGES, seed=config.seed, held_out_seed=config.seed + HELD_OUT_SEED, workers=config.ray.workers or 0)
    with Progress() as progress:
        line = progress.start("toys", len(toys.categories) * sum(toys.images.values()))
        generate_toys(root, toys, lambda done, total: line.advance(1))
        line.finish()
    # A Ray for each, not one for all: the warm workers of one would take the memory that the next needs.
    label.run(config)
    train.run(config)
    metrics = read_metrics(evaluate.run(config))
    page = report.run(config)
    print_metrics(metrics, console)
    console.print(f"\nreport: {near(page)}")
    photos = label_photos(config)
    print_labels(photos, report.run(photos), console)
    console.print(f"{duration(time.perf_counter() - started)} in all")
    return folder


def label_photos(config: RunConfig) -> RunConfig:
    """Label photo-like pictures without masks and meshes in a run folder beside the demo's, as ``sc3d label`` does with one's own photos.

    Returns:
        The configuration of that run.
    """
    run = f"{config.run}-photos"
    root = Path(RunFolder(run).path("dataset"))
    toys = sample_of(PHOTO_CATEGORIES, PHOTOS, workers=config.ray.workers or 0)
    with Progress() as progress:
        line = progress.start("photos", len(PHOTO_CATEGORIES) * PHOTOS)
        if not root.exists():
            draw_photos(root, toys, lambda done, total: line.advance(1))
        line.finish()
    # Other profiles have meshes of their own.
    templates = PHOTO_TEMPLATES if config.profile == "light" else ()
    chosen = [("run", run), ("dataset.root", str(root)), ("profile", config.profile), ("ray.workers", config.ray.workers)]
    photos = load_config(None, [*chosen, *templates, ("pairs.targets", 2)])
    label.run(photos)
    return photos
