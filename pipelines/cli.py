"""The command line. Each command builds a configuration and calls the ``run`` of a pipeline: a notebook calls the same function.

Exit codes: 0 done, 1 the run cannot go on (the message says why), 2 wrong usage or configuration, 3 too many rejects, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sc3d.config import RunConfig
from sc3d.config_file import load_config
from sc3d.errors import ConfigError, RejectBudgetError, Sc3dError

app = typer.Typer(
    name="sc3d",
    help="Geometry-verified semantic correspondence: photos in, verified labels and a trained adapter out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Run = Annotated[str | None, typer.Option("--run", help="Run folder: a local path or s3://bucket/prefix. Default: runs/default.")]
Config = Annotated[Path | None, typer.Option("--config", help="YAML with any options of the run.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override one option: stage.option=value. Repeatable.")]
Images = Annotated[str | None, typer.Option("--images", help="Folder of photos (or root of a data set, with --kind).")]
Kind = Annotated[str | None, typer.Option("--kind", help="Layout of --images: folder (default), spair or toys.")]
Category = Annotated[str | None, typer.Option("--category", help="Category of all photos; else the sub-folders name it.")]
Masks = Annotated[str | None, typer.Option("--masks", help="Folder of object masks with the photos' names.")]
Profile = Annotated[str | None, typer.Option("--profile", help="offline (no weights, no GPU) or foundation (the paper's models).")]
Workers = Annotated[int | None, typer.Option("--workers", help="Processes of a CPU stage at once. Default: 2.")]


def configuration(
    run: str | None,
    config: Path | None,
    overrides: Sequence[str] | None,
    options: dict[str, Any],
    defaults: dict[str, Any] | None = None,
) -> RunConfig:
    """The configuration of a command: ``defaults`` or what the run folder was made with, then YAML, options, and ``--set``."""
    from pipelines.manifest import stored_values

    chosen = [f"{name}={_yaml(value)}" for name, value in {"run": run, **options}.items() if value is not None]
    # The run folder's own configuration comes first, so that a later command need not repeat the options of an earlier one.
    folder = load_config(config, [*chosen, *(overrides or ())]).run
    return load_config(config, [*chosen, *(overrides or ())], stored_values(folder) or defaults)


def _yaml(value: object) -> str:
    import json

    return json.dumps(value)


def _dataset(images: str | None, category: str | None, masks: str | None, kind: str | None) -> dict[str, Any]:
    return {
        "dataset.root": str(Path(images).absolute()) if images else None,
        "dataset.category": category,
        "dataset.masks": str(Path(masks).absolute()) if masks else None,
        "dataset.kind": kind,
    }


def _stage_command(name: str, text: str) -> None:
    def command(
        images: Images = None,
        category: Category = None,
        masks: Masks = None,
        kind: Kind = None,
        run: Run = None,
        profile: Profile = None,
        workers: Workers = None,
        config: Config = None,
        set_: Set = None,
    ) -> None:
        from pipelines import label, report
        from pipelines.summary import print_labels

        options = {**_dataset(images, category, masks, kind), "profile": profile, "ray.workers": workers}
        settings = configuration(run, config, set_, options)
        label.run(settings, until=label.STAGE_OF[name])
        page = report.run(settings)
        print_labels(settings, page)

    command.__doc__ = text
    app.command(name)(command)


_stage_command("label", "Photos in, verified labels out: reconstruct, orient, describe, match and label what is not there yet.")
_stage_command("reconstruct", "Only masks, meshes, cameras and aligned poses.")
_stage_command("describe", "Up to the features, surface hits and geodesic balls of each image.")
_stage_command("match", "Up to the candidates of each pair with their evidence, without applying the thresholds.")


@app.command()
def relabel(
    tau_geo: Annotated[float | None, typer.Option("--tau-geo", help="Geodesic threshold, in mesh diagonals.")] = None,
    tau_cc: Annotated[float | None, typer.Option("--tau-cc", help="Cycle threshold, in object extents.")] = None,
    run: Run = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Other thresholds for the labels of a run: from the stored evidence alone, in seconds, with the photos at hand or not."""
    from pipelines import relabel as pipeline

    settings = configuration(run, config, set_, {"label.tau_geo": tau_geo, "label.tau_cc": tau_cc})
    before, after = pipeline.run(settings)
    pipeline.print_counts(settings, before, after)


@app.command()
def demo(
    run: Run = None,
    workers: Workers = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """The whole pipeline on generated images: labels, training, evaluation, and an HTML report. About five minutes on two cores."""
    from pipelines import demo as pipeline

    settings = configuration(run or "runs/demo", config, set_, {"ray.workers": workers}, pipeline.DEFAULTS)
    pipeline.run(settings)


@app.command()
def train(run: Run = None, config: Config = None, set_: Set = None) -> None:
    """Train the adapter on the labels of a run."""
    from pipelines import train as pipeline

    pipeline.run(configuration(run, config, set_, {}))


@app.command()
def sweep(run: Run = None, config: Config = None, set_: Set = None) -> None:
    """Search the fusion weights and the thresholds on the annotated validation pairs of a run."""
    from pipelines import sweep as pipeline

    pipeline.run(configuration(run, config, set_, {}))


@app.command()
def evaluate(run: Run = None, config: Config = None, set_: Set = None) -> None:
    """Filter quality and PCK on the annotated pairs of a run, with the adapter where one was trained."""
    from pipelines import evaluate as pipeline
    from pipelines.summary import print_metrics

    print_metrics(pipeline.run(configuration(run, config, set_, {})))


@app.command()
def report(run: Run = None, config: Config = None, set_: Set = None) -> None:
    """Write the run's HTML report from what is there."""
    from pipelines import report as pipeline

    Console().print(f"report: {pipeline.run(configuration(run, config, set_, {}))}", soft_wrap=True)


@app.command()
def show(
    pair: Annotated[
        str | None, typer.Argument(metavar="PAIR_ID", help="Source id ~ target id; without it, some pairs are listed.")
    ] = None,
    run: Run = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="FILE.html or FILE.png. Default: a page in report/pairs/ of the run.")
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    config: Config = None,
    set_: Set = None,
) -> None:
    """One pair with all its evidence: every match on photos and meshes, and what rejected it."""
    from pipelines import show as pipeline

    settings = configuration(run, config, set_, {})
    if pair is None:
        if out or open_:
            raise ConfigError("--out and --open need the id of a pair; sc3d show alone lists some")
        pipeline.print_pairs(settings)
        return
    written = pipeline.run(settings, pair, out)
    Console().print(f"pair: {written}", soft_wrap=True, markup=False, highlight=False)
    if open_:
        pipeline.open_page(written)


@app.command()
def models(run: Run = None, config: Config = None, set_: Set = None) -> None:
    """The models of both profiles: role, source, licence, and whether they are here or what to do to get them."""
    from pipelines.models import print_models

    print_models(configuration(run, config, set_, {}).models)


@app.command()
def preflight(
    images: Images = None,
    category: Category = None,
    masks: Masks = None,
    kind: Kind = None,
    run: Run = None,
    profile: Profile = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Check a run before anything expensive starts: data set, run folder, models, resources."""
    from pipelines.preflight import check

    for line in check(configuration(run, config, set_, {**_dataset(images, category, masks, kind), "profile": profile})):
        Console().print(line, soft_wrap=True, highlight=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors meant for the user become one line on stderr and an exit code."""
    try:
        app(args=list(arguments) if arguments is not None else None, prog_name="sc3d")
    except Sc3dError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold red]error:[/] {type(error).__name__}: ", end="")
        sys.stderr.write(f"{error}\n")
        sys.exit(2 if isinstance(error, ConfigError) else 3 if isinstance(error, RejectBudgetError) else 1)


if __name__ == "__main__":
    main()
