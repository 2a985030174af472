"""Looking at a run, at the models, and at what a run would need."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.cli.options import Category, Config, Images, Kind, Masks, Profile, Run, Set, configuration, dataset_options
from sc3d.errors import ConfigError

app = typer.Typer()


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

    for line in check(configuration(run, config, set_, {**dataset_options(images, category, masks, kind), "profile": profile})):
        Console().print(line, soft_wrap=True, highlight=False)
