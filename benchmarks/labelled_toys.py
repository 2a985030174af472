"""Mixed toys, labelled as ``sc3d label`` does, with the dense truth of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipelines.folder.manifest import read_images
from pipelines.jobs import label
from sc3d.config import RunConfig
from sc3d.config_file import load_config
from sc3d.datasets.toys import ToysConfig, generate_toys, toy_truth
from sc3d.datasets.toys.catalogue import MIXED
from sc3d.datasets.toys.judge import SeenToy
from sc3d.store import RunFolder


@dataclass(frozen=True)
class LabelledToys:
    """A finished run; ``toy`` tells of an image id what its photo shows."""

    config: RunConfig
    toy: Callable[[str], SeenToy]

    @classmethod
    def of(cls, config: RunConfig) -> LabelledToys:
        """A run on toys that is there."""
        truths = {image.image_id: image.truth_path for image in read_images(RunFolder(config.run))}
        return cls(config, cache(lambda image_id: SeenToy(toy_truth(str(truths[image_id])))))


def label_toys(folder: Path, seed: int, images: int, options: Mapping[str, str]) -> LabelledToys:
    """Draw so many mixed toys a category of a seed, and label them."""
    drawn = ToysConfig(
        tuple(MIXED), {"trn": images, "val": 0, "test": 0}, seed=seed, held_out_seed=seed + 1000, mixed=True, workers=1
    )
    generate_toys(folder / "toys", drawn)
    places = {"run": str(folder / "run"), "dataset.root": str(folder / "toys"), "dataset.kind": "toys", "seed": str(seed)}
    config = load_config(None, [f"{name}={value}" for name, value in {**places, **options}.items()])
    label.run(config)
    return LabelledToys.of(config)
