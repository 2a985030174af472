"""Looking at a run, at the models, and at what a run would need."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.as_json import Json, say_json
from pipelines.cli.options import (
    Category,
    Config,
    Folder,
    Images,
    Kind,
    Masks,
    Open,
    Profile,
    Run,
    Set,
    configuration,
    dataset_options,
    stored_configuration,
)
from sc3d.console import PlainConsole
from sc3d.errors import ConfigError

app = typer.Typer()


@app.command()
def report(run: Run = None, config: Config = None, set_: Set = None, open_: Open = False) -> None:
    """Write the run's HTML report from what is there."""
    from pipelines.report import page as pipeline
    from pipelines.report.opening import open_page

    settings = configuration(run, config, set_, {})
    page = pipeline.run(settings)
    PlainConsole().print(f"report: {page}", soft_wrap=True)
    if open_:
        open_page(page, settings.run)


@app.command()
def view(
    folder: Folder = None,
    run: Run = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port on this machine. Default: any that is free.")] = 0,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    config: Config = None,
    set_: Set = None,
) -> None:
    """All pairs, images and rejects of a run in the browser: sort, filter, and walk through them. Only this machine can open it."""
    from pipelines.view import server

    server.run(configuration(folder or run, config, set_, {}), port, open_)


@app.command()
def show(
    pair: Annotated[
        str | None, typer.Argument(metavar="PAIR_ID", help="Source id ~ target id; without it, some pairs are listed.")
    ] = None,
    run: Run = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="FILE.html or FILE.png. Default: a page in report/pairs/ of the run.")
    ] = None,
    open_: Open = False,
    config: Config = None,
    set_: Set = None,
) -> None:
    """One pair with all its evidence: every match on photos and meshes, and what rejected it."""
    from pipelines.report import show as pipeline
    from pipelines.report.opening import open_page

    settings = configuration(run, config, set_, {})
    if pair is None:
        if out or open_:
            raise ConfigError("--out and --open need the id of a pair; sc3d show alone lists some")
        pipeline.print_pairs(settings)
        return
    written = pipeline.run(settings, pair, out)
    PlainConsole().print(f"pair: {written}", soft_wrap=True)
    if open_:
        open_page(written, settings.run)


@app.command()
def orient(
    folder: Folder = None,
    run: Run = None,
    most: Annotated[int, typer.Option("--most", min=1, help="Photos on the page at most: the least sure.")] = 200,
    everything: Annotated[bool, typer.Option("--all", help="Also the photos that are sure.")] = False,
    open_: Open = False,
) -> None:
    """Which side of its object does a photo show? A page to click on, of those that are unsure; then: sc3d label --facing."""
    from pipelines.report.facing import run as write_page
    from pipelines.report.opening import open_page

    settings = stored_configuration(folder or run)
    found = write_page(settings, most, everything)
    line = f"{found.unsure:,} photos are unsure, {found.settled:,} were settled by a person; {found.shown:,} are on the page: {found.page}"
    PlainConsole().print(line, soft_wrap=True)
    if open_:
        open_page(found.page, settings.run)


@app.command()
def rejects(
    folder: Folder = None,
    examples: Annotated[int, typer.Option("--examples", min=0, help="Examples of each reason.")] = 3,
    json: Json = False,
    run: Run = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """What was rejected, by stage and reason, with examples."""
    from pipelines.report import rejects as pipeline

    settings = configuration(folder or run, config, set_, {})
    groups = pipeline.run(settings, examples)
    if json:
        say_json(pipeline.reject_facts(settings, groups))
        return
    pipeline.print_groups(settings, groups)


@app.command()
def status(
    folder: Folder = None,
    run: Run = None,
    watch: Annotated[
        float | None, typer.Option("--watch", min=0.1, help="Look again every so many seconds, until it ends.")
    ] = None,
    json: Json = False,
) -> None:
    """How far a run is, from whatever machine can read its run folder."""
    from pipelines.report.status import print_status, status_facts
    from sc3d.store import RunFolder

    if json and watch is not None:
        raise ConfigError("--json prints how far the run is once; leave out --watch, and ask again")
    settings = stored_configuration(folder or run)
    if json:
        say_json(status_facts(RunFolder(settings.run)))
        return
    if print_status(RunFolder(settings.run), watch) != "running":
        # What is left over is found by the stages, which take seconds to import; the answer is there before.
        from pipelines.report.leftovers import print_leftovers

        print_leftovers(settings)


@app.command()
def clean(
    folder: Folder = None,
    run: Run = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; without this option nothing is changed.")] = False,
    others: Annotated[
        bool, typer.Option("--other-configurations", help="Also what other configurations have made, such as other thresholds.")
    ] = False,
) -> None:
    """What lies in a run folder and does not count: of deleted or replaced photos, of pairs not planned any more. Dry by default."""
    from pipelines.jobs import clean as pipeline
    from pipelines.report.leftovers import print_found

    found, removed = pipeline.run(stored_configuration(folder or run), delete, others)
    print_found(found, removed, delete)


@app.command()
def models(json: Json = False, run: Run = None, config: Config = None, set_: Set = None) -> None:
    """The models of all profiles: what they do, source, licence, and whether they are here or what to do to get them."""
    from pipelines.report.models import model_facts, print_models

    settings = configuration(run, config, set_, {}).models
    if json:
        say_json(model_facts(settings))
        return
    print_models(settings)


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
    """Check a run before anything expensive starts: data set, run folder, models, and the nodes of the cluster."""
    from pipelines.jobs.preflight import check
    from pipelines.stages.registry import graphs_of

    settings = configuration(run, config, set_, {**dataset_options(images, category, masks, kind), "profile": profile})
    for line in check(settings, graphs_of(settings)):
        PlainConsole().print(line, soft_wrap=True)
