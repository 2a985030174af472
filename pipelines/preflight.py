"""What can be known before anything expensive starts."""

from __future__ import annotations

import os
import uuid

from actors.catalogue import MODELS, availability
from pipelines.manifest import read_dataset
from sc3d.config import RunConfig
from sc3d.errors import ConfigError, PreflightError
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
    what = f"{len(images)} images of {kinds} {'category' if kinds == 1 else 'categories'}"
    lines.append(f"data set    {what}, {counts['trn']} to label, {held_out} held out")
    return lines


def check_profile(config: RunConfig) -> str:
    """A line about the chosen models, or :class:`PreflightError` saying what each one lacks here and how to get it.

    Where the run has GPUs or nodes elsewhere, only this machine is looked at.
    """
    chosen = [card for card in MODELS if card.is_selected(config)]
    lacking = [f"{card.name}: {problem}" for card in chosen if (problem := availability(card, config.models).problem)]
    if config.orient.estimator == "orient_anything_v2" and config.models.variant == "full":
        from actors.foundation.orient_anything.actor import repository_of

        try:
            repository_of(config.models)
        except ConfigError as error:
            lacking.append(str(error))
    if lacking:
        raise PreflightError(
            f"profile '{config.profile}' cannot run here. "
            + ". ".join(lacking)
            + ". Weights that lie elsewhere are named with --set "
            "models.<name>=<folder, s3:// or hub id>; --set models.variant=tiny tries the run with small random models"
        )
    tiny = ", small random models: the labels will mean nothing" if config.models.variant == "tiny" else ""
    return f"profile     {config.profile}: {', '.join(card.name for card in chosen)}{tiny}"
