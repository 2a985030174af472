"""The options that several commands share, and the configuration that they make."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sc3d.config import RunConfig
from sc3d.config_file import load_config

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
Profile = Annotated[str | None, typer.Option("--profile", help="offline (no weights, no GPU) or foundation (the paper's models).")]
Workers = Annotated[int | None, typer.Option("--workers", help="Processes of a CPU stage at once. Default: 2.")]

RetryRejects = Annotated[bool, typer.Option("--retry-rejects", help="Try again what was rejected before.")]


def configuration(
    run: str | None,
    config: Path | None,
    overrides: Sequence[str] | None,
    options: dict[str, Any],
    defaults: dict[str, Any] | None = None,
) -> RunConfig:
    """The configuration of a command: ``defaults`` or what the run folder was made with, then YAML, options, and ``--set``."""
    from pipelines.folder.configuration import stored_values

    chosen = [f"{name}={_yaml(value)}" for name, value in {"run": run, **options}.items() if value is not None]
    # The run folder's own configuration comes first, so that a later command need not repeat the options of an earlier one.
    folder = load_config(config, [*chosen, *(overrides or ())]).run
    return load_config(config, [*chosen, *(overrides or ())], stored_values(folder) or defaults)


def _yaml(value: object) -> str:
    return json.dumps(value)


def _absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).absolute())


def dataset_options(images: str | None, category: str | None, masks: str | None, kind: str | None) -> dict[str, Any]:
    return {
        "dataset.root": _absolute(images) if images else None,
        "dataset.category": category,
        "dataset.masks": str(Path(masks).absolute()) if masks else None,
        "dataset.kind": kind,
    }
