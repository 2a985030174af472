"""Labels and adapters that leave a run for other programs, and labels that come from them."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from pipelines.cli.options import Config, Run, Set, configuration
from sc3d.console import PlainConsole

app = typer.Typer()
export = typer.Typer(help="Write labels or an adapter for other programs.", no_args_is_help=True)
import_ = typer.Typer(help="Take labels that another program made.", no_args_is_help=True)
app.add_typer(export, name="export")
app.add_typer(import_, name="import")


class Format(str, Enum):
    """What labels are written as."""

    huggingface = "huggingface"
    diy_sc = "diy-sc"
    coco = "coco"
    colmap = "colmap"
    hloc = "hloc"


class Names(str, Enum):
    """What images are called in annotation files."""

    file = "file"
    id = "id"


class Split(str, Enum):
    """A folder of annotation files."""

    trn = "trn"
    val = "val"
    test = "test"


@export.command("labels")
def export_labels(
    out: Annotated[str, typer.Argument(metavar="OUT", help="Folder to write: a local path or s3://bucket/prefix. New, or empty.")],
    format_: Annotated[
        Format,
        typer.Option(
            "--format",
            help="huggingface: a folder for datasets.load_dataset; diy-sc: annotation files to train with; coco: keypoints in COCO's "
            "layout; colmap: its database; hloc: its features and matches (needs h5py).",
        ),
    ] = Format.huggingface,
    labels: Annotated[
        str | None, typer.Option("--labels", help="Recipe of the labels, as an import prints it. Default: the run's own.")
    ] = None,
    tau_geo: Annotated[float | None, typer.Option("--tau-geo", help="A narrower geodesic threshold, in mesh diagonals.")] = None,
    tau_cc: Annotated[float | None, typer.Option("--tau-cc", help="A narrower cycle threshold, in object extents.")] = None,
    min_labels: Annotated[int, typer.Option("--min-labels", help="Leave out pairs with fewer labels.")] = 1,
    val_fraction: Annotated[float, typer.Option("--val-fraction", help="Share of the pairs for the validation split.")] = 0.0,
    names: Annotated[
        Names,
        typer.Option("--names", help="Name images by their files, or by their ids where file names repeat. Not of huggingface."),
    ] = Names.file,
    license_: Annotated[
        str | None, typer.Option("--license", help="Licence of the labels for the card, such as cc-by-4.0.")
    ] = None,
    with_images: Annotated[
        bool, typer.Option("--with-images", help="huggingface: copies of the photos too, without metadata, which its viewer shows.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another export; anything else is never touched.")] = False,
    run: Run = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """The labels of a run for other programs, with a label card. Goes on where it was cut short."""
    from pipelines.jobs import export as pipeline

    options = pipeline.ExportOptions(
        format_.value, labels, tau_cc, tau_geo, min_labels, val_fraction, names.value, license_, overwrite, with_images
    )
    summary = pipeline.export_labels(configuration(run, config, set_, {}), out, options)
    console = PlainConsole(soft_wrap=True)
    pairs = ", ".join(f"{count:,} {split}" for split, count in summary.pairs.items())
    left_out = f"; {summary.left_out:,} pairs with fewer than {min_labels} were left out" if summary.left_out else ""
    console.print(f"{summary.labels:,} labels of pairs: {pairs}{left_out}")
    if format_ is Format.diy_sc and "val" not in summary.pairs:
        console.print("DIY-SC's training also wants validation pairs: --val-fraction 0.02 puts some aside")
    console.print(f"labels: {summary.uri}")


@export.command("adapter")
def export_adapter(
    out: Annotated[str, typer.Argument(metavar="OUT", help="Local folder to write.")],
    which: Annotated[
        str,
        typer.Option("--adapter", help="latest, best-pck or best-loss of the run; or any checkpoint: a .safetensors or .pth file."),
    ] = "latest",
    onnx: Annotated[bool, typer.Option("--onnx", help="Also write adapter.onnx; needs the packages onnx and onnxscript.")] = False,
    run: Run = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """The adapter of a run for programs without sc3d: safetensors, a loader for torch.hub, and ONNX."""
    from pipelines.jobs import export_adapter as pipeline

    for path in pipeline.run(configuration(run, config, set_, {}), out, which, onnx):
        PlainConsole(soft_wrap=True).print(path)


@import_.command("labels")
def import_labels(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="DIY-SC's folder that holds trn and val: a local path or s3://...")
    ],
    split: Annotated[Split, typer.Option("--split", help="Which of its folders.")] = Split.trn,
    skip_unknown: Annotated[bool, typer.Option("--skip-unknown", help="Leave out images that the run does not have.")] = False,
    run: Run = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """DIY-SC's annotation files as labels of a run on the same images, checked before anything is written."""
    from pipelines.jobs import import_labels as pipeline

    summary = pipeline.import_labels(configuration(run, config, set_, {}), folder, split.value, skip_unknown)
    console = PlainConsole(soft_wrap=True)
    console.print(f"{summary.labels:,} labels of {summary.pairs:,} pairs, from {summary.annotations:,} annotations")
    for count, what in ((summary.mirrored, "of mirrored targets"), (summary.unknown, "of images that the run does not have")):
        if count:
            console.print(f"left out: {count:,} {what}")
    console.print(f"recipe: {summary.recipe} (to train on them: sc3d train --set train.labels={summary.recipe})")
    console.print(f"labels: {summary.uri}")
