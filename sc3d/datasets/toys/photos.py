"""Pictures of toys as somebody has photos: in folders by category, with nothing known about them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sc3d.datasets.toys.config import ToysConfig
from sc3d.datasets.toys.generate import Progress, generate_toys
from sc3d.errors import InputError

SAMPLE_SEED = 2_000_003
"""Other toys than those of the benchmark."""


def sample_of(categories: Sequence[str], count: int, seed: int = SAMPLE_SEED, workers: int = 0, mixed: bool = False) -> ToysConfig:
    """So many pictures of each of some categories, of ``mixed`` build if asked for; raises :class:`~sc3d.errors.ConfigError` as
    :class:`ToysConfig` does."""
    images = {"trn": count, "val": 0, "test": 0}
    return ToysConfig(tuple(categories), images, seed=seed, held_out_seed=seed + 1, mixed=mixed, workers=workers)


def draw_photos(root: str | Path, config: ToysConfig, progress: Progress | None = None) -> None:
    """Draw the pictures of all splits of ``config`` to ``root/<category>/<category>_<number>.jpg``, and nothing else.

    The folder appears in one step when all are drawn.

    Raises:
        InputError: ``root`` is there already and is not empty.
    """
    root = Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(f"{root}: is there already; choose a folder that does not exist")
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        generate_toys(partial / "toys", config, progress)
        drawn = partial / "toys" / "JPEGImages"
        for category in drawn.iterdir():
            for number, photo in enumerate(sorted(category.iterdir()), start=1):
                photo.rename(photo.with_name(f"{category.name}_{number:03d}.jpg"))
        os.rename(drawn, root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
