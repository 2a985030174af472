"""``run.json``: the configuration that a run folder was last used with, versions and counts; and which data set the folder belongs to."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from pipelines.folder.images import IMAGES
from sc3d.config import RunConfig
from sc3d.config_file import to_values
from sc3d.errors import SchemaError, StoreError
from sc3d.records import ImageRecord
from sc3d.store import RunFolder

RUN = "run.json"

_RENAMED = (("compare", "recipe", "labelling"), ("evaluate", "recipes", "labellings"))
"""Options that earlier versions called otherwise: stage, name before, name now."""

_VERSIONS = ("sc3d", "ray", "torch", "numpy", "pyarrow")


def stored_values(uri: str) -> dict[str, Any]:
    """The configuration that a run folder was last used with, as nested plain values; empty for a new folder."""
    run = RunFolder(uri)
    values = dict(run.read_json(RUN)["config"]) if run.exists(RUN) else {}
    for stage, before, now in _RENAMED:
        if before in values.get(stage, {}):
            values[stage] = {now if name == before else name: value for name, value in values[stage].items()}
    return values


def record_configuration(run: RunFolder, config: RunConfig, counts: Mapping[str, int] | None = None) -> None:
    """Note that the folder is used with a configuration from now on; without ``counts`` those that it has stay."""
    if counts is None:
        counts = run.read_json(RUN).get("counts", {}) if run.exists(RUN) else {}
    versions = {name: version(name) for name in _VERSIONS} | {"python": platform.python_version()}
    run.write_json(RUN, {"config": to_values(config), "counts": dict(counts), "versions": versions})


def check_owner(run: RunFolder, config: RunConfig, image_ids: Iterable[str]) -> None:
    """Check that the folder is new, or of the same data set: it lies where it lay, or has most of the images that the folder knows.

    Image ids say where a photo is in its data set, so one that was moved keeps them.

    Raises:
        StoreError: the folder holds a run on another data set.
    """
    if not run.exists(RUN):
        return
    found, wanted = run.read_json(RUN)["config"]["dataset"], config.dataset
    if (found["kind"], found["root"]) == (wanted.kind, wanted.root):
        return
    known = _known_images(run)
    if 2 * len(known & set(image_ids)) < len(known):
        raise StoreError(
            f"{run.uri} holds a run on {found['kind']} '{found['root']}', and few of its {len(known)} images are in {wanted.kind} "
            f"'{wanted.root}'; choose another run folder with --run"
        )


def _known_images(run: RunFolder) -> set[str]:
    try:
        return set(run.read_table(ImageRecord, IMAGES, ["image_id"])["image_id"].to_pylist()) if run.exists(IMAGES) else set()
    except SchemaError:
        # Of another version of sc3d, whose artefacts this one makes anew.
        return set()
