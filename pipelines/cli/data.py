"""Data to work on: published data sets, and pictures to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli.as_json import Json, say_json
from pipelines.cli.exit_codes import ExitCode
from sc3d.console import PlainConsole
from sc3d.errors import ConfigError

if TYPE_CHECKING:
    from sc3d.datasets.copy_check import CopyCheck
    from sc3d.datasets.dataset import Source

app = typer.Typer()


@app.command()
def data(
    kind: Annotated[str | None, typer.Argument(metavar="KIND", help="A data set by its name; without it, they are listed.")] = None,
    root: Annotated[Path | None, typer.Option("--root", help="Folder of the copy. Without it: how to get one.")] = None,
    subset: Annotated[str | None, typer.Option("--subset", help="Which pairs to count; as the option dataset.subset.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Do not open the photos, only see that they are there.")] = False,
    json: Json = False,
) -> None:
    """Published data sets: where to get them, and whether a copy is whole. Nothing is downloaded."""
    from sc3d.datasets.sources import SOURCES

    if kind is not None:
        found = None if root is None else _check(kind, root, subset, quick)
        _say_how(kind, json) if found is None else _say_check(kind, found, json)
        return
    if json:
        say_json([_source_facts(name, source) for name, source in SOURCES.items()])
        return
    for name, source in SOURCES.items():
        _say(f"{name:<11} {source.name}")
    _say("sc3d data KIND says how to get one, sc3d data KIND --root DIR whether a copy is whole")


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to put them; it must not exist.")],
    count: Annotated[int, typer.Option("--count", min=1, help="Photos in each category.")] = 24,
    category: Annotated[list[str] | None, typer.Option("--category", help="Of these alone: bus, car, chair, and so on.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Another seed draws other things.")] = None,
    mixed: Annotated[bool, typer.Option("--mixed", help="Cars, chairs, planes and animals of more body types and poses.")] = False,
) -> None:
    """Draw photo-like pictures, in folders by category, to try the commands on before one's own photos."""
    from pipelines.runner.progress import Progress
    from sc3d.datasets.toys.catalogue import CATEGORIES
    from sc3d.datasets.toys.photos import SAMPLE_SEED, draw_photos, sample_of

    toys = sample_of(category or CATEGORIES, count, SAMPLE_SEED if seed is None else seed, mixed=mixed)
    with Progress() as progress:
        line = progress.start("photos", count * len(toys.categories))
        draw_photos(folder, toys, lambda done, total: line.advance(1))
        line.finish()
    _say(f"{count * len(toys.categories):,} photos in {folder}; label them with: sc3d label --images {folder} --run runs/sample")


def _check(kind: str, root: Path, subset: str | None, quick: bool) -> CopyCheck:
    from rich.progress import Progress

    from sc3d.datasets.check import check_dataset

    with Progress(transient=True, console=PlainConsole(stderr=True)) as bar:
        task = bar.add_task("photos", total=None)
        return check_dataset(kind, root, subset, not quick, lambda done, total: bar.update(task, completed=done, total=total))


def _say_how(kind: str, json: bool) -> None:
    from sc3d.datasets.registry import dataset_of

    source = dataset_of(kind).source
    if source is None:
        raise ConfigError(f"{kind} is no data set that is published somewhere")
    if json:
        say_json(_source_facts(kind, source))
        return
    _say(f"{source.name}: how to get it")
    _say_steps(source.get)


def _source_facts(kind: str, source: Source) -> dict[str, Any]:
    return {"kind": kind, "name": source.name, "get": list(source.get)}


def _say_check(kind: str, check: CopyCheck, json: bool) -> None:
    """Say how whole a copy is. Raises typer.Exit if it cannot be used."""
    if json:
        counts = [{"what": one.what, "found": one.found, "expected": one.expected, "fits": one.fits} for one in check.counts]
        problems = [{"fatal": one.fatal, "message": one.message} for one in check.problems]
        facts = {"kind": kind, "name": check.name, "root": str(check.root), "usable": check.usable}
        say_json({**facts, "counts": counts, "problems": problems, "get": list(check.get)})
    else:
        _print_check(kind, check)
    if not check.usable:
        raise typer.Exit(ExitCode.CANNOT_GO_ON)


def _print_check(kind: str, check: CopyCheck) -> None:
    _say(f"{check.name} in {check.root}")
    for count in check.counts:
        whole = "" if count.expected is None else " (right)" if count.fits else f" (a whole copy: {count.expected:,})"
        _say(f"  {count.what:<24} {count.found:>8,}{whole}")
    for problem in check.problems:
        _say(f"  {'error' if problem.fatal else 'note'}: {problem.message}")
    if check.usable:
        _say(f"usable, as --kind {kind} --images {check.root}")
        return
    _say("not usable as it is; to get a whole copy:")
    _say_steps(check.get)


def _say_steps(steps: tuple[str, ...]) -> None:
    for number, step in enumerate(steps, start=1):
        _say(f"  {number}. {step}")


def _say(line: str) -> None:
    PlainConsole().print(line, soft_wrap=True)
