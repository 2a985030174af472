"""What can be known before anything expensive starts."""

from __future__ import annotations

import os
import uuid

from actors.catalogue import MODELS
from pipelines.manifest import read_dataset
from sc3d.config import RunConfig
from sc3d.errors import PreflightError
from sc3d.store import RunFolder


def check(config: RunConfig) -> list[str]:
    """One line a check that passed.

    Raises:
        PreflightError: the profile cannot be run here.
        StoreError: the run folder is not writable.
        InputError: the data set cannot be read, or holds two images with one id.
    """
    lines = [check_profile(config)]
    run = RunFolder(config.run)
    probe = f".preflight-{uuid.uuid4().hex}"
    run.write_bytes(probe, b"")
    run.delete(probe)
    lines.append(f"run folder  {run.uri} is writable")
    cores = os.cpu_count() or 1
    if config.ray.address is None:
        lines.append(f"resources   {cores} cores here, {config.ray.workers} processes a stage")
    images, _ = read_dataset(config)
    counts = {split: sum(i.split == split for i in images) for split in ("trn", "val", "test")}
    kinds = len({image.category for image in images})
    held_out = counts["val"] + counts["test"]
    lines.append(f"data set    {len(images)} images of {kinds} categories, {counts['trn']} to label, {held_out} held out")
    return lines


def check_profile(config: RunConfig) -> str:
    """A line about the profile, or :class:`PreflightError` saying what is missing."""
    wanted = [card for card in MODELS if card.profile == config.profile]
    missing = [card.name for card in wanted if card.option is None]
    if missing:
        raise PreflightError(
            f"profile '{config.profile}' needs {', '.join(missing)}, which this version of sc3d cannot run yet; use --profile offline"
        )
    return f"profile     {config.profile}: {', '.join(card.name for card in wanted)}"
