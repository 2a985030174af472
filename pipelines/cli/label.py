"""From photos to labels: the stages, other thresholds, and the demonstration."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.cli.options import (
    Category,
    Config,
    Facing,
    Images,
    Kind,
    Masks,
    Open,
    Profile,
    Reset,
    RetryRejects,
    Run,
    Set,
    Template,
    Workers,
    configuration,
    dataset_options,
    template_options,
)

app = typer.Typer()


def _stage_command(name: str, text: str) -> None:
    def command(
        images: Images = None,
        category: Category = None,
        masks: Masks = None,
        kind: Kind = None,
        run: Run = None,
        facing: Facing = None,
        profile: Profile = None,
        template: Template = None,
        workers: Workers = None,
        retry_rejects: RetryRejects = False,
        config: Config = None,
        set_: Set = None,
        reset: Reset = None,
        open_: Open = False,
    ) -> None:
        from pipelines.jobs import label
        from pipelines.report import page as report
        from pipelines.report.opening import open_page
        from pipelines.report.summary import print_labels

        options = {
            **dataset_options(images, category, masks, kind),
            "dataset.facing": facing,
            **template_options(template),
            "profile": profile,
            "ray.workers": workers,
        }
        settings = configuration(run, config, set_, options, reset=reset, say=True)
        label.run(settings, until=name, retry_rejects=retry_rejects)
        page = report.run(settings)
        print_labels(settings, page)
        if open_:
            open_page(page, settings.run)

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
    reset: Reset = None,
) -> None:
    """Other thresholds for the labels of a run: from the stored evidence alone, in seconds, with the photos at hand or not."""
    from pipelines.jobs import relabel as pipeline

    settings = configuration(run, config, set_, {"label.tau_geo": tau_geo, "label.tau_cc": tau_cc}, reset=reset, say=True)
    before = pipeline.count_labels(pipeline.stored_config(settings))
    pipeline.run(settings)
    pipeline.print_counts(settings, before, pipeline.count_labels(settings))


@app.command()
def demo(
    run: Annotated[
        str,
        typer.Option(
            "--run", help="Run folder, on a local disk. The images go to RUN/dataset, photos and their run to RUN-photos."
        ),
    ] = "runs/demo",
    workers: Workers = None,
    config: Config = None,
    set_: Set = None,
    reset: Reset = None,
    open_: Open = False,
) -> None:
    """The whole pipeline on images that it draws itself, with training and evaluation; then photos without masks or meshes.

    Nothing is downloaded. A quarter of an hour or so on two cores; what is there already is kept.
    """
    from pipelines.jobs import demo as pipeline
    from pipelines.report.opening import open_page
    from pipelines.report.page import PAGE

    settings = configuration(run, config, set_, {"ray.workers": workers}, pipeline.DEFAULTS, reset=reset, say=True)
    folder = pipeline.run(settings)
    if open_:
        open_page(f"{folder.uri}/{PAGE}", folder.uri)
