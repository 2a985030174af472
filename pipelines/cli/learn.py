"""From labels to an adapter and its numbers: training, search, evaluation."""

from __future__ import annotations

import typer

from pipelines.cli.options import Config, Run, Set, configuration

app = typer.Typer()


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
