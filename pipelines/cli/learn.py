"""From labels to an adapter and its numbers: training, search, evaluation."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.cli.as_json import Json, say_json
from pipelines.cli.options import Config, Open, Reset, RetryRejects, Run, Set, configuration
from sc3d.console import PlainConsole

app = typer.Typer()


@app.command()
def train(
    run: Run = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="Settings of the losses: position (default), 3d-sc (the paper's) or diy-sc.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Ray Train workers that share each step. Default: 0, this process.")
    ] = None,
    config: Config = None,
    set_: Set = None,
    reset: Reset = None,
) -> None:
    """Train the adapter on the labels of a run. The same command goes on where it was cut short."""
    from pipelines.jobs import train as pipeline
    from pipelines.stages.adapter import train_job

    settings = configuration(run, config, set_, {"train.preset": preset, "train.workers": workers}, reset=reset, say=True)
    folder = pipeline.run(settings)
    PlainConsole().print(f"adapter: {folder.uri}/{train_job(settings).adapter_file}", soft_wrap=True)


@app.command()
def sweep(
    run: Run = None,
    level: Annotated[
        str | None,
        typer.Option(
            "--level",
            help="labels: weights and thresholds, in one pass (default); adapter: train with each setting, with Ray Tune.",
        ),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            "--objective",
            help="Of the label level: fpr, wrong labels (default), pck of the fused features, or cycles: needs no annotation.",
        ),
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option(
            "--precision", help="Share of right labels that tau_geo is to reach where nothing is annotated. Default: 0.95."
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option("--trials", help="Settings that the adapter level trains with. Default: 30.")
    ] = None,
    hours: Annotated[float | None, typer.Option("--hours", help="Time after which the adapter level stops.")] = None,
    retry_rejects: RetryRejects = False,
    config: Config = None,
    set_: Set = None,
    reset: Reset = None,
    open_: Open = False,
) -> None:
    """Search on the annotated validation pairs of a run: fusion weights and thresholds, or what the adapter is trained with.

    Without annotated pairs: the widest tau_geo at a wanted precision.
    """
    from pipelines.jobs import sweep as pipeline
    from pipelines.report.opening import open_page
    from pipelines.report.search import PAGE

    options = {
        "sweep.level": level,
        "sweep.objective": objective,
        "sweep.precision": precision,
        "sweep.trials": trials,
        "sweep.hours": hours,
    }
    folder = pipeline.run(configuration(run, config, set_, options, reset=reset, say=True), retry_rejects=retry_rejects)
    if open_:
        open_page(f"{folder.uri}/{PAGE}", folder.uri)


@app.command()
def evaluate(
    run: Run = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help="What predicts, by name (sc3d methods), such as light-template; adapter:PATH for a checkpoint. Repeatable.",
        ),
    ] = None,
    retry_rejects: RetryRejects = False,
    config: Config = None,
    set_: Set = None,
    reset: Reset = None,
) -> None:
    """PCK and filter quality on the annotated pairs of a run: its features, its adapter where one was trained, or any method by name."""
    from actors.plain_words import made_with
    from pipelines.jobs import evaluate as pipeline
    from pipelines.report.metrics import CSV, LATEX, METRICS_FILE, read_metrics
    from sc3d.report.terminal import print_metrics

    settings = configuration(run, config, set_, {"evaluate.methods": method or None}, reset=reset, say=True)
    folder = pipeline.run(settings, retry_rejects)
    print_metrics(read_metrics(folder))
    for what, how in made_with(settings, {}):
        PlainConsole().print(f"{what} of the run: {how}", soft_wrap=True)
    PlainConsole().print(f"tables: {folder.uri}/{METRICS_FILE}, {CSV}, {LATEX}", soft_wrap=True)


@app.command()
def represent(
    run: Run = None,
    features: Annotated[
        str | None, typer.Option("--features", help="What cells are told by: zero-shot (default) or adapter, the trained one.")
    ] = None,
    landmarks: Annotated[
        str | None,
        typer.Option(
            "--landmarks",
            help="What class shapes are built on: annotated (default), keypoints of the training images; registered, points of a mesh.",
        ),
    ] = None,
    depth: Annotated[
        str | None, typer.Option("--depth", help="Whose depth is read: mesh (default), depth_anything_v2_small, _base or _large.")
    ] = None,
    retry_rejects: RetryRejects = False,
    config: Config = None,
    set_: Set = None,
    reset: Reset = None,
) -> None:
    """SemAlign3D: build the 3D shape of each category from annotated images, and fit it to the images of the annotated pairs."""
    from pipelines.jobs import represent as pipeline

    options = {"represent.features": features, "represent.landmarks": landmarks, "represent.depth": depth}
    folder = pipeline.run(configuration(run, config, set_, options, reset=reset, say=True), retry_rejects)
    PlainConsole().print(
        f"evaluate it: sc3d evaluate --run {folder.uri} --method semalign3d (sc3d methods lists others)", soft_wrap=True
    )


@app.command()
def compare(
    labelling: Annotated[
        str | None, typer.Argument(metavar="LABELLING", help="Name of a labelling; without it, they are listed.")
    ] = None,
    run: Run = None,
    retry_rejects: RetryRejects = False,
    config: Config = None,
    set_: Set = None,
    reset: Reset = None,
) -> None:
    """Label the pairs of a run by another labelling (the paper's ablation, DIY-SC's), and train an adapter on these labels."""
    from pipelines.jobs import compare as pipeline
    from sc3d.evaluation.labellings import LABELLINGS

    if labelling is None:
        for one in LABELLINGS.values():
            paper = f"; the paper's adapter: PCK@0.10 {one.published:.1f} %" if one.published else ""
            PlainConsole().print(f"{one.name:18} {one.meaning}{paper}", soft_wrap=True)
        return
    folder = pipeline.run(configuration(run, config, set_, {}, reset=reset, say=True), labelling, retry_rejects)
    PlainConsole().print(f"evaluate it: sc3d evaluate --run {folder.uri} --method labels-{labelling}", soft_wrap=True)


@app.command()
def methods(json: Json = False) -> None:
    """The methods that sc3d evaluate knows by name: what they read, and which published row they reproduce."""
    from sc3d.evaluation.methods import METHODS

    if json:
        facts = [(one.name, one.meaning, dict(one.options), one.published or None) for one in METHODS.values()]
        say_json([dict(zip(("name", "meaning", "options", "published"), one, strict=True)) for one in facts])
        return
    console = PlainConsole(soft_wrap=True)
    for one in METHODS.values():
        asks = [f"asks for {', '.join(f'{o}={v}' for o, v in one.options.items())}"] if one.options else []
        asks += [f"published as {one.published}"] if one.published else []
        console.print(f"{one.name:26} {one.meaning}")
        if asks:
            console.print(f"{'':26} {'; '.join(asks)}", style="dim")
    console.print(f"{'adapter:PATH':26} any checkpoint: ours, DIY-SC's or GeoAware-SC's")
    console.print(f"{'NAME=METHOD':26} a method under another name")
