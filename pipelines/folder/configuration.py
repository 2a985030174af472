"""``run.json``: the configuration that a run folder was last used with, versions and counts; and which data set the folder belongs to."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from typing_extensions import NotRequired, TypedDict

from pipelines.folder.images import IMAGES
from sc3d.config import RunConfig
from sc3d.config_file import to_values
from sc3d.errors import SchemaError, StoreError
from sc3d.parsed import Whole, parsed, read_parsed
from sc3d.records import ImageRecord
from sc3d.store import RunFolder

RUN = "run.json"

_RENAMED = (("compare", "recipe", "labelling"), ("evaluate", "recipes", "labellings"))
"""Options that earlier versions called otherwise: stage, name before, name now."""

_VERSIONS = ("sc3d", "ray", "torch", "numpy", "pyarrow")


class RunNote(TypedDict):
    """``run.json``. The configuration is checked as one where it is used, since options can be overridden, or come from other versions."""

    config: dict[str, Any]
    counts: NotRequired[dict[str, Whole]]
    aside: NotRequired[list[str]]
    versions: NotRequired[dict[str, str]]


class _Place(TypedDict):
    kind: str
    root: str


def read_note(run: RunFolder) -> RunNote:
    """What ``run.json`` says.

    Raises:
        MissingFileError: there is none.
        SchemaError: it is not what a run writes.
    """
    return read_parsed(run, RUN, RunNote)


def stored_values(uri: str) -> dict[str, Any]:
    """The configuration that a run folder was last used with, as nested plain values; empty for a new folder.

    Raises:
        SchemaError: ``run.json`` is not what a run writes.
    """
    run = RunFolder(uri)
    values = dict(read_note(run)["config"]) if run.exists(RUN) else {}
    for stage, before, now in _RENAMED:
        if isinstance(options := values.get(stage), dict) and before in options:
            values[stage] = {now if name == before else name: value for name, value in options.items()}
    return values


def record_configuration(
    run: RunFolder, config: RunConfig, counts: Mapping[str, int] | None = None, aside: Sequence[str] | None = None
) -> None:
    """Note that the folder is used with a configuration from now on; without ``counts``, or what was left ``aside`` of its data set,
    those that it has stay."""
    known = read_note(run) if (counts is None or aside is None) and run.exists(RUN) else RunNote(config={})
    versions = {name: version(name) for name in _VERSIONS} | {"python": platform.python_version()}
    values = {
        "config": to_values(config),
        "counts": dict(known.get("counts", {}) if counts is None else counts),
        "aside": list(known.get("aside", []) if aside is None else aside),
        "versions": versions,
    }
    run.write_json(RUN, values)


def check_owner(run: RunFolder, config: RunConfig, image_ids: Iterable[str]) -> None:
    """Check that the folder is new, or of the same data set: it lies where it lay, or has most of the images that the folder knows.

    Image ids say where a photo is in its data set, so one that was moved keeps them.

    Raises:
        StoreError: the folder holds a run on another data set.
    """
    if not run.exists(RUN):
        return
    found, wanted = parsed(_Place, read_note(run)["config"].get("dataset"), f"{run.uri}/{RUN}: config.dataset"), config.dataset
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
