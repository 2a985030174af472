"""The options that several commands share, and the configuration that they make."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sc3d.console import PlainConsole
from sc3d.errors import ConfigError

if TYPE_CHECKING:
    from sc3d.config import RunConfig

Run = Annotated[str | None, typer.Option("--run", help="Run folder: a local path or s3://bucket/prefix. Default: runs/default.")]
Folder = Annotated[str | None, typer.Argument(metavar="RUN", help="Run folder; the same as --run.")]
Config = Annotated[Path | None, typer.Option("--config", help="YAML with any options of the run.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override one option: stage.option=value. Repeatable.")]
Images = Annotated[str | None, typer.Option("--images", help="Folder of photos; with --kind, a table of photos or a data set.")]
Kind = Annotated[
    str | None,
    typer.Option("--kind", help="What --images is: folder (default), table (CSV, Parquet), or a data set: see sc3d data."),
]
Category = Annotated[str | None, typer.Option("--category", help="Category of all photos; else the sub-folders name it.")]
Masks = Annotated[str | None, typer.Option("--masks", help="Folder of object masks with the photos' names.")]
Facing = Annotated[str | None, typer.Option("--facing", help="CSV of photos and the sides that they show: see sc3d orient.")]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile", help="light (default: small learned models, no GPU), offline (no weights) or foundation (the paper's models)."
    ),
]
Template = Annotated[
    str | None,
    typer.Option(
        "--template", help="Mesh of the object (.glb, .gltf, .obj, .ply), or a folder with CATEGORY.glb; toys: built-in shapes."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", help="Processes of a CPU stage at once. Default: as this machine has room for."),
]

Open = Annotated[bool, typer.Option("--open", help="Open the page in the browser; from a bucket, a copy of it.")]

Reset = Annotated[
    list[str] | None,
    typer.Option(
        "--reset", help="Do not take over an option from earlier commands on the run: stage.option, stage, or all. Repeatable."
    ),
]
RetryRejects = Annotated[bool, typer.Option("--retry-rejects", help="Try again what was rejected before.")]


def configuration(
    run: str | None,
    config: Path | None,
    overrides: Sequence[str] | None,
    options: dict[str, Any],
    defaults: dict[str, Any] | None = None,
    reset: Sequence[str] | None = None,
    say: bool = False,
) -> RunConfig:
    """The configuration of a command: ``defaults`` or what the run folder was last used with, then YAML, options, and ``--set``.

    ``reset`` names options that are not taken over from the run folder; ``say``: print which are, where they differ from the defaults.
    """
    from pipelines.folder.configuration import RUN, stored_values
    from sc3d.config_file import load_config, located, parse_config, without

    chosen: list[str | tuple[str, Any]] = [(name, value) for name, value in {"run": run, **options}.items() if value is not None]
    chosen += overrides or ()
    folder = located(load_config(config, chosen)).run
    before = without(stored_values(folder), reset or ())
    try:
        found = located(load_config(config, [*chosen, ("run", folder)], before or defaults))
    except ConfigError:
        parse_config(before, f"{folder}/{RUN} (--reset OPTION leaves one out)")
        raise
    if say and before:
        _say_taken_over(found, located(load_config(config, chosen, defaults)))
    return found


def stored_configuration(run: str | None) -> RunConfig:
    """The configuration that a run folder was last used with, for commands that take no options."""
    return configuration(run, None, None, {})


def _say_taken_over(found: RunConfig, fresh: RunConfig) -> None:
    """Say which options of earlier commands on a run folder go on to hold."""
    from sc3d.config_file import flat_values

    plain = flat_values(fresh)
    kept = {name: value for name, value in flat_values(found).items() if name != "run" and value != plain[name]}
    if kept:
        listed = ", ".join(f"{name}={json.dumps(value)}" for name, value in kept.items())
        PlainConsole(stderr=True, soft_wrap=True).print(
            f"as before on this run: {listed} (--reset OPTION, or --reset all, goes back to the defaults)",
            style="dim",
        )


def template_options(template: str | None) -> dict[str, Any]:
    return {"reconstruct.template": template, "reconstruct.mesh": "template"} if template else {}


def dataset_options(images: str | None, category: str | None, masks: str | None, kind: str | None) -> dict[str, Any]:
    return {
        "dataset.root": images,
        "dataset.category": category,
        "dataset.masks": masks,
        "dataset.kind": kind,
    }
