"""What a run has produced so far: as numbers, and as tables in the terminal for somebody who has read only the README."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from actors.plain_words import kind_of_mesh, made_with
from actors.registry import is_rehearsal
from pipelines.folder.manifest import IMAGES, PAIRS, read_images, read_pairs
from pipelines.report.rejects import read_rejects
from pipelines.runner.stage import Stage
from pipelines.runner.timings import cost_of_thousand, read_timing
from pipelines.stages.describe import DescribeStage
from pipelines.stages.label import LabelStage
from pipelines.stages.match import MatchStage
from pipelines.stages.orient import OrientStage
from pipelines.stages.pairs import IMAGE_READS
from pipelines.stages.reconstruct import ReconstructStage
from pipelines.stages.registry import LABELLING, chain_to, stages_of
from sc3d.config import RunConfig
from sc3d.console import PlainConsole
from sc3d.display import near
from sc3d.durations import duration
from sc3d.errors import UpstreamError
from sc3d.matching.template_prior import NO_WITNESS, uses_prior
from sc3d.records import LOW_CONFIDENCE, ImageRecord, Pair, Reject
from sc3d.store import RunFolder

Columns = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class RunSummary:
    """What is there of a run's present configuration.

    ``images``, ``pairs`` (to be labelled), ``annotated`` (pairs): the manifest. ``rejects``: of all stages, in their order. The others hold
    one array a column, empty where not computed: ``reconstructions`` (image_id, category, iou_before, iou_after, injected_turn,
    numbering, flags, confidence), ``orientations`` (image_id, category, turn, uncertain, posterior), ``matches`` (pair_id, category,
    n_candidates, n_cycle), and ``labels`` (the same and n_kept).
    """

    images: list[ImageRecord]
    pairs: list[Pair]
    annotated: list[Pair]
    rejects: list[Reject]
    reconstructions: Columns
    orientations: Columns
    matches: Columns
    labels: Columns

    def made_with(self, config: RunConfig) -> list[tuple[str, str]]:
        """What made features and meshes, in plain words."""
        return made_with(config, count_meshes(config, self.reconstructions))

    @property
    def image_rejects(self) -> int:
        """Images that a stage rejected."""
        images = {image.image_id for image in self.images}
        return len({reject.id for reject in self.rejects} & images)

    @property
    def unsure(self) -> int:
        """Images whose pose is too unsure for labels: of a template that another side explains nearly as well."""
        return sum(LOW_CONFIDENCE in flags for flags in self.reconstructions["flags"])

    @property
    def pair_rejects(self) -> int:
        """Pairs that were rejected for a reason of their own, not for one of their images."""
        pairs = {pair.pair_id for pair in self.pairs}
        return len({r.id for r in self.rejects if r.error_type != UpstreamError.__name__} & pairs)


def summarise(config: RunConfig) -> RunSummary:
    """Read what a run holds; only small columns are kept in memory.

    Raises:
        SchemaError, StoreError: a file cannot be read.
    """
    run = RunFolder(config.run)
    planned = run.exists(PAIRS)
    reconstructed = ["image_id", "category", "iou_before", "iou_after"]
    matched = ["pair_id", "category", "n_candidates", "n_cycle"]
    return RunSummary(
        images=read_images(run) if run.exists(IMAGES) else [],
        pairs=read_pairs(run, labelled=True) if planned else [],
        annotated=read_pairs(run, labelled=False) if planned else [],
        rejects=[reject for stage in stages_of(config) for reject in read_rejects(stage)],
        reconstructions=_columns(ReconstructStage(config), [*reconstructed, "injected_turn", "numbering", "flags", "confidence"]),
        orientations=_columns(OrientStage(config), ["image_id", "category", "turn", "uncertain", "posterior"]),
        matches=_columns(MatchStage(config), matched),
        labels=_columns(LabelStage(config), [*matched, "n_kept"]),
    )


def count_meshes(config: RunConfig, reconstructions: Columns) -> dict[str, int]:
    """Kind of mesh, in plain words -> how many reconstructions have it, the commonest first."""
    columns = (reconstructions[name].tolist() for name in ("injected_turn", "numbering"))
    told_by = Counter((int(turn) >= 0, bool(numbering)) for turn, numbering in zip(*columns, strict=True))
    kinds: Counter[str] = Counter()
    for (disturbed, numbered), count in told_by.items():
        kinds[kind_of_mesh(config, 0 if disturbed else -1, "template" if numbered else "")] += count
    return dict(kinds.most_common())


def _columns(stage: Stage, names: Sequence[str]) -> Columns:
    table = stage.artefacts.columns(stage.counted, names)
    return {name: table.column(name).to_numpy(zero_copy_only=False) for name in names}


def print_labels(config: RunConfig, page: str, console: PlainConsole | None = None) -> None:
    """Print what ``sc3d label`` (or a part of it) has produced, and where it is. ``page`` is the report's path or URI."""
    console = console or PlainConsole()
    summary = summarise(config)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column("what", style="bold", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("meaning", style="dim")
    found = [] if is_rehearsal(config) else [*_image_lines(summary), *_pair_lines(summary, config)]
    for row in [*found, *_time_lines(config)]:
        table.add_row(*(cell for cell in row))
    console.print()
    console.print(table)
    console.print()
    if not is_rehearsal(config):
        for what, how in summary.made_with(config):
            console.print(f"{what}: {how}", soft_wrap=True)
    if is_rehearsal(config):
        counts = f"{len(summary.orientations['image_id']):,} images and {len(summary.labels['pair_id']):,} pairs"
        console.print(f"A rehearsal: {counts} went through actors that do nothing. The labels mean nothing.")
    if uses_prior(config):
        console.print(f"Not verified independently: {NO_WITNESS}.", soft_wrap=True)
    if _nothing_done(config):
        console.print("Everything was there already; nothing was computed.")
    stage = LabelStage(config)
    if len(summary.labels["pair_id"]):
        console.print(f"labels: {near(f'{stage.run.uri}/{stage.artefacts.prefix}')}", soft_wrap=True)
    console.print(f"report: {near(page)}", soft_wrap=True)
    if summary.images:
        console.print(f"look through it: sc3d view {shlex.quote(config.run)} --open", soft_wrap=True)


def _image_lines(summary: RunSummary) -> list[tuple[str, str, str]]:
    kinds = len({image.category for image in summary.images})
    lines = [("images", f"{len(summary.images):,}", f"of {kinds} {'category' if kinds == 1 else 'categories'}")]
    if summary.image_rejects or summary.pair_rejects:
        rejected = f"{summary.image_rejects:,} images, {summary.pair_rejects:,} pairs"
        lines.append(("rejected", f"{summary.image_rejects + summary.pair_rejects:,}", f"{rejected}; the report says why"))
    else:
        lines.append(("rejected", "0", "images or pairs that could not be processed"))
    before, after = summary.reconstructions["iou_before"], summary.reconstructions["iou_after"]
    if len(before):
        meaning = "mean IoU with the mask, before -> after alignment"
        lines.append(("mesh fit", f"{before.mean():.2f} -> {after.mean():.2f}", meaning))
    if summary.unsure:
        lines.append(("unsure", f"{summary.unsure:,}", "photos whose side is not known give no labels; say it: sc3d orient"))
    turns, uncertain = summary.orientations["turn"], summary.orientations["uncertain"]
    if len(turns):
        lines.append(("turned", f"{int((turns != 0).sum()):,}", "meshes turned so that their front faces forward"))
        lines.append(("uncertain", f"{int(uncertain.sum()):,}", "meshes of which it is not known which way they face"))
    return lines


def _pair_lines(summary: RunSummary, config: RunConfig) -> list[tuple[str, str, str]]:
    matches = summary.labels if len(summary.labels["pair_id"]) else summary.matches
    pairs = len(matches["pair_id"])
    if not pairs:
        return []
    candidates = int(matches["n_candidates"].sum())
    lines = [
        ("pairs", f"{pairs:,}", "of two images of one category"),
        ("candidates", f"{candidates:,}", "spots of the source, each with its best match"),
    ]
    if "n_kept" in matches:
        kept = matches["n_kept"]
        share = f"{100 * kept.sum() / candidates:.1f} % of the candidates" if candidates else "there were no candidates"
        lines.append(("labels", f"{int(kept.sum()):,}", f"passed the cycle and the geodesic test: {share}"))
        none, least = f"{int((kept == 0).sum()):,} pairs have none", config.label.min_agreement
        asked = f": labels need agreement on {100 * least:g} % of a pair's spots (label.min_agreement)" if least else ""
        lines.append(("labels per pair", f"{kept.mean():,.0f}", f"mean; {none}{asked}"))
    return lines


def _time_lines(config: RunConfig) -> list[tuple[str, str, str]]:
    run = RunFolder(config.run)
    rows = [values for stage in LABELLING if (values := read_timing(run, stage.name))]
    total = sum(row["seconds"] for row in rows)
    parts = ", ".join(f"{row['stage']} {duration(row['seconds'])}" for row in rows)
    lines = [("time", duration(total), parts)] if rows else []
    lines += _cost_lines(config)
    match = read_timing(run, MatchStage.name)
    if match and (counted := match.get("counted")):
        lines.append(("reads per pair", f"{match.get('counters', {}).get(IMAGE_READS, 0) / counted:.2f}", "of an image's features"))
    return lines


def _cost_lines(config: RunConfig) -> list[tuple[str, str, str]]:
    lines, run, ray = [], RunFolder(config.run), config.ray
    of_images = [kind.name for kind in chain_to(config, DescribeStage.name)]
    for what, stages in (("images", of_images), ("pairs", [MatchStage.name, LabelStage.name])):
        cost = cost_of_thousand(run, stages)
        if cost is None:
            continue
        hours = f"{cost.cpu_hours:.2g} CPU hours" + (f" and {cost.gpu_hours:.2g} GPU hours" if cost.gpu_hours else "")
        price = cost.cpu_hours * ray.cpu_hour_price + cost.gpu_hours * ray.gpu_hour_price
        estimated = f"estimated from {cost.counted:,} {what}"
        meaning = f"at your prices: {hours}, {estimated}" if price else f"of processes, {estimated}"
        lines.append((f"1,000 {what}", f"{price:,.2f}" if price else hours, meaning))
    return lines


def _nothing_done(config: RunConfig) -> bool:
    run = RunFolder(config.run)
    rows = [values for stage in LABELLING if (values := read_timing(run, stage.name))]
    return bool(rows) and all(row["computed"] == 0 for row in rows)
