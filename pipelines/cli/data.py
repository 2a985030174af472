"""The published data sets: where to get them, and whether a copy is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer()
data = typer.Typer(
    help="Published data sets: where to get them, and whether a copy is whole. Nothing is downloaded.", invoke_without_command=True
)
app.add_typer(data, name="data")

Root = Annotated[Path | None, typer.Option("--root", help="Folder of the copy. Without it: how to get one.")]
Quick = Annotated[bool, typer.Option("--quick", help="Do not open the photos, only see that they are there.")]


@data.callback()
def overview(context: typer.Context) -> None:
    """List the data sets."""
    if context.invoked_subcommand is None:
        from sc3d.datasets.sources import SOURCES

        for kind, source in SOURCES.items():
            _say(f"{kind:<11} {source.name}")
        _say("sc3d data <name> says how to get one, sc3d data <name> --root DIR whether a copy is whole")


def _command(kind: str, text: str, subsets: bool) -> None:
    def command(root: Root = None, quick: Quick = False) -> None:
        _run(kind, root, None, quick)

    def command_of_subset(
        root: Root = None,
        subset: Annotated[str | None, typer.Option("--subset", help="Which pairs to count; as the option dataset.subset.")] = None,
        quick: Quick = False,
    ) -> None:
        _run(kind, root, subset, quick)

    chosen = command_of_subset if subsets else command
    chosen.__doc__ = text
    data.command(kind)(chosen)


_command("spair", "SPair-71k, and with it SPair-Geo-Aware.", subsets=True)
_command("spair-u", "SPair-U: SPair-71k's test pairs with other keypoints.", subsets=False)
_command("ap10k", "AP-10K: pairs within species, across species and across families.", subsets=True)
_command("pf-pascal", "PF-PASCAL.", subsets=False)
_command("pf-willow", "PF-WILLOW.", subsets=False)
_command("tss", "TSS: pairs with dense flow.", subsets=False)


def _run(kind: str, root: Path | None, subset: str | None, quick: bool) -> None:
    from rich.progress import Progress

    from sc3d.datasets.check import check_dataset
    from sc3d.datasets.sources import SOURCES

    if root is None:
        _say(f"{SOURCES[kind].name}: how to get it")
        _say_steps(SOURCES[kind].get)
        return
    with Progress(transient=True, console=Console(stderr=True)) as bar:
        task = bar.add_task("photos", total=None)
        check = check_dataset(kind, root, subset, not quick, lambda done, total: bar.update(task, completed=done, total=total))
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
    raise typer.Exit(1)


def _say_steps(steps: tuple[str, ...]) -> None:
    for number, step in enumerate(steps, start=1):
        _say(f"  {number}. {step}")


def _say(line: str) -> None:
    Console(highlight=False).print(line, soft_wrap=True, markup=False)
