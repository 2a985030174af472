"""What is in a run folder -> ``report/index.html``: one self-contained page, made from whatever is there.

Numbers cover the whole run; pictures, and matches that are computed again, cover a fixed number of pairs and images, so that the page takes
seconds however large the run is.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import numpy as np
import yaml

from actors.plain_words import feature_names
from actors.registry import is_rehearsal
from pipelines.folder.configuration import RUN, read_note
from pipelines.folder.manifest import IMAGES, PAIRS
from pipelines.report import search as search_page
from pipelines.report.class_shapes import class_shapes
from pipelines.report.evaluation import evaluation
from pipelines.report.metrics import METRICS_FILE
from pipelines.report.view import RunView, view_run
from pipelines.runner.timings import read_summaries
from pipelines.stages.adapter import train_job
from pipelines.stages.describe import DescribeStage
from pipelines.stages.match import MatchStage
from pipelines.stages.orient import OrientStage
from pipelines.stages.pairs import PreparedImages
from pipelines.stages.reconstruct import ReconstructStage
from pipelines.stages.registry import TIMED, stages_of
from sc3d.config import RunConfig
from sc3d.config_file import to_values
from sc3d.errors import Sc3dError, UpstreamError
from sc3d.mask_signs import count_signs
from sc3d.matching.cycle_precision import NotEstimated
from sc3d.matching.described import Described
from sc3d.matching.explain import explain_pair
from sc3d.matching.template_prior import NO_WITNESS, uses_prior
from sc3d.records import Pair
from sc3d.report.alignment import AlignmentCard, alignment_card, turn_left, yaw_card
from sc3d.report.certainty import LeastSure
from sc3d.report.charts import Series, curve, histogram
from sc3d.report.feature_maps import FeatureCard, feature_card
from sc3d.report.overview import funnel, image_tiles, label_tiles, metric_tiles, reject_tile, timing_rows
from sc3d.report.page import Link, Missing, Page, Tile, render
from sc3d.report.pairs import PairFigure, View, pair_figure
from sc3d.report.rejects import group_rejects
from sc3d.report.selection import choose_pairs, choose_ranked, spread, worst_and_best
from training.checkpoint import finished_result

PAGE = "report/index.html"

MAX_PAIRS, MAX_PAIRS_PER_CATEGORY = 12, 3
MAX_ALIGNED_EACH = 6
MAX_YAW = 12
MAX_LEAST_SURE = 4
MAX_FEATURE_CARDS, IMAGES_PER_FEATURE_CARD = 4, 4
MAX_HISTOGRAM_SHARDS = 32

Fields = dict[str, Any]


def run(config: RunConfig) -> str:
    """Write the report of a run and return its path or URI.

    Raises:
        StoreError: the folder holds no run, or is not writable.
        SchemaError: ``run.json`` or a manifest cannot be read.
    """
    view = view_run(config)
    view.run.write_bytes(PAGE, render(build_page(view)).encode())
    return f"{view.run.uri}/{PAGE}"


def build_page(view: RunView) -> Page:
    """The page's values. A section that cannot be shown says why and leaves the others alone."""
    fields: Fields = {}
    missing: dict[str, Missing] = {}
    for name, gather in SECTIONS.items():
        found = _REHEARSED if is_rehearsal(view.config) and name not in ("timings", "rejects") else _gathered(view, gather)
        if isinstance(found, Missing):
            missing[name] = found
        else:
            fields |= found
    return Page(
        run=view.run.uri,
        facts=facts(view),
        tiles=() if is_rehearsal(view.config) else tuple(tiles(view)),
        config_yaml=yaml.safe_dump(json.loads(json.dumps(to_values(view.config))), sort_keys=False, allow_unicode=True),
        links=tuple(links(view)),
        missing=missing,
        notes=view.notes,
        **fields,
    )


_REHEARSED = Missing("This was a rehearsal with actors that do nothing, so there is nothing to see here.")


def _gathered(view: RunView, gather: Callable[[RunView], Fields | Missing]) -> Fields | Missing:
    try:
        return gather(view)
    except Sc3dError as error:
        return Missing(f"This could not be shown: {error}")


def facts(view: RunView) -> tuple[tuple[str, str], ...]:
    """Run, data set and versions, for the header."""
    dataset = view.config.dataset
    versions = read_note(view.run).get("versions", {})
    return (
        *([("profile", "a rehearsal: nothing was computed")] if is_rehearsal(view.config) else _made_with(view)),
        ("data set", f"{dataset.kind}, {dataset.root}"),
        ("seed", str(view.config.seed)),
        ("made with", ", ".join(f"{name} {value}" for name, value in sorted(versions.items()))),
    )


def _made_with(view: RunView) -> list[tuple[str, str]]:
    return [("profile", view.config.profile), *view.summary.made_with(view.config)]


def tiles(view: RunView) -> list[Tile]:
    """The numbers of the header."""
    s = view.summary
    kinds = len({image.category for image in s.images})
    found = image_tiles(len(s.images), kinds, s.reconstructions["iou_before"], s.reconstructions["iou_after"])
    counts = view.counts
    if s.pairs:
        found += label_tiles(len(s.pairs), counts["n_candidates"], counts.get("n_kept"))
    consequences = sum(reject.error_type == UpstreamError.__name__ for reject in s.rejects)
    found.append(reject_tile(s.image_rejects, s.pair_rejects, consequences))
    return found + metric_tiles(view.metrics)


def pairs(view: RunView) -> Fields | Missing:
    """A few pairs with all their candidates, matched again."""
    counts = view.counts
    if not len(counts["pair_id"]):
        return view.no_pairs()
    kept = counts.get("n_kept", counts["n_cycle"]) / np.maximum(counts["n_candidates"], 1)
    by_category: dict[str, list[tuple[str, float]]] = {}
    for pair_id, category, share in zip(counts["pair_id"], counts["category"], kept, strict=True):
        by_category.setdefault(str(category), []).append((str(pair_id), float(share)))
    chosen = choose_pairs(by_category, MAX_PAIRS, MAX_PAIRS_PER_CATEGORY)
    unsure = _least_sure(view.certainty.pairs, -1) if view.certainty is not None else []
    chosen += [pair_id for pair_id in unsure if pair_id not in chosen]
    known = {pair.pair_id: pair for pair in view.summary.pairs}
    figures = view.each("pairs", [c for c in chosen if c in known], lambda i: _pair(view, known[i], view.described))
    view.note(
        "pairs",
        f"{len(figures)} of {len(kept):,} pairs are shown, spread over the categories and over the share of candidates that is kept. "
        f"All pairs, photos and rejects, to sort, filter and walk through: sc3d view {shlex.quote(view.config.run)} --open",
    )
    if uses_prior(view.config):
        view.note("pairs", f"Not verified independently: {NO_WITNESS}.")
    return {"pairs": figures}


def _pair(view: RunView, pair: Pair, images: PreparedImages[Described]) -> PairFigure:
    source, target = images.get(pair.source_id), images.get(pair.target_id)
    views = []
    for described in (source, target):
        foreground = np.zeros(described.letterbox.side**2, bool)
        foreground[described.cells] = True
        photo = view.photo(described.image_id, described.letterbox.width, described.letterbox.height)
        views.append(View(photo, described.letterbox, foreground))
    explanation = explain_pair(source, target, view.config.label)
    return pair_figure(pair.pair_id, pair.category, (pair.source_id, pair.target_id), (views[0], views[1]), explanation)


def filters(view: RunView) -> Fields | Missing:
    """The funnel over all pairs, and the geodesic errors of the stored matches."""
    counts = view.counts
    if not len(counts["pair_id"]):
        return view.no_pairs()
    kept = int(counts["n_kept"].sum()) if "n_kept" in counts else None
    if kept is None:
        view.note("filters", f"The label thresholds were not applied yet: {view.command('label')}")
    steps = funnel(view.config, int(counts["n_candidates"].sum()), int(counts["n_cycle"].sum()), kept)
    matches = MatchStage(view.config).catalogue()
    files = matches.files_used
    shown = [files[i] for i in spread(len(files), MAX_HISTOGRAM_SHARDS)]
    tables = matches.tables(["geodesic_error"], shown)
    errors = [table["geodesic_error"].combine_chunks().flatten().to_numpy(zero_copy_only=False) for table in tables]
    values = np.concatenate(errors) if errors else np.zeros(0)
    chart = None
    if len(values):
        threshold = (view.config.label.tau_geo, f"kept up to {view.config.label.tau_geo:g}")
        stored = [Series("matches", values, "series-b")]
        limits = (0.0, view.config.match.tau_geo)
        chart = histogram(stored, limits, 40, "geodesic error in mesh diagonals", "matches", threshold)
        if len(shown) < len(files):
            view.note("filters", f"The histogram is from {len(shown)} of {len(files)} match files, evenly chosen.")
    return {"funnel": tuple(steps), "geodesic_chart": chart}


def alignment(view: RunView) -> Fields | Missing:
    """IoU before and after over all images, and the meshes that fit worst and best."""
    columns = view.summary.reconstructions
    if not len(columns["image_id"]):
        return view.no_images("reconstruct")
    iou = dict(zip((str(i) for i in columns["image_id"]), columns["iou_after"].tolist(), strict=True))
    worst, best = worst_and_best(iou, MAX_ALIGNED_EACH)
    signs = dict(zip((str(i) for i in columns["image_id"]), map(count_signs, columns["flags"]), strict=True))
    doubtful = sorted(image_id for image_id, count in signs.items() if count)
    shown = doubtful[:MAX_ALIGNED_EACH]
    found = ReconstructStage(view.config).catalogue().read([*worst, *best, *shown])

    def card(image_id: str) -> AlignmentCard:
        one = found[image_id]
        return alignment_card(view.photo(image_id, one.width, one.height), one)

    if doubtful:
        left_out = sum(count > view.config.label.max_mask_signs for count in signs.values())
        view.note(
            "alignment",
            f"{len(doubtful):,} of {len(columns['image_id']):,} photos have signs of a bad mask; {left_out:,} of them give no labels "
            f"(label.max_mask_signs = {view.config.label.max_mask_signs}).",
        )
    series = [
        Series("as reconstructed", columns["iou_before"], "series-a"),
        Series("after alignment", columns["iou_after"], "series-b"),
    ]
    return {
        "iou_chart": histogram(series, (0.0, 1.0), 25, "IoU of mesh silhouette and mask", "images"),
        "doubtful": view.each("alignment", shown, card),
        "worst": view.each("alignment", worst, card),
        "best": view.each("alignment", best, card),
    }


def yaw(view: RunView) -> Fields | Missing:
    """Turns: those that are known to be wrong first, then turned, uncertain and other meshes."""
    columns = view.summary.orientations
    if not len(columns["image_id"]):
        return view.no_images("label")
    injected = dict(zip(view.summary.reconstructions["image_id"], view.summary.reconstructions["injected_turn"], strict=True))
    ranks: dict[str, int] = {}
    for image_id, turn, uncertain in zip(columns["image_id"], columns["turn"], columns["uncertain"], strict=True):
        wrong = turn_left(int(injected.get(image_id, -1)), int(turn)) > 0
        ranks[str(image_id)] = 0 if wrong else 1 if turn else 2 if uncertain else 3
    unsure_fronts = _least_sure(view.certainty.images, 1) if view.certainty is not None else []
    chosen = [*(others := choose_ranked(ranks, MAX_YAW)), *(image_id for image_id in unsure_fronts if image_id not in others)]
    orientations = OrientStage(view.config).catalogue().read(chosen)
    reconstructions = ReconstructStage(view.config).catalogue().read(chosen)
    turned, doubtful = int((columns["turn"] != 0).sum()), int(columns["uncertain"].sum())
    view.note("yaw", f"Of {len(ranks):,} meshes, {turned:,} were turned and {doubtful:,} are uncertain.")
    if unsure := view.summary.unsure:
        view.note(
            "yaw", f"{unsure:,} photos give no labels since nobody knows which side they show. Say it: {view.command('orient')}"
        )
    simulated = sum(int(v) > 0 for v in injected.values())
    if simulated:
        left = sum(rank == 0 and injected[image_id] > 0 for image_id, rank in ranks.items())
        view.note("yaw", f"{simulated} meshes of this data set had been turned on purpose; {left} of these turns are left.")
    return {"yaw": view.each("yaw", chosen, lambda i: yaw_card(orientations[i], reconstructions[i]))}


def certainty(view: RunView) -> Fields | Missing:
    """How sure orientation, registration and labels of each category are, and what is least sure."""
    if not len(view.summary.orientations["image_id"]):
        return view.no_images("label")
    found = view.certainty
    if found is None:
        return {}
    if found.looked_at < len(found.rows):
        view.note("certainty", f"Registrations and labels are looked at of {found.looked_at} of {len(found.rows)} categories.")
    for row in found.rows:
        if isinstance(row.labels, NotEstimated):
            view.note("certainty", f"{row.category}: labels are not judged; {row.labels.reason}.")
    images = [LeastSure(c, i, f"its front is {100 * p:.0f} % sure", f"yaw-{i}") for c, (i, p) in sorted(found.images.items())]
    pairs = [LeastSure(c, i, f"{100 * p:.0f} % of its chains end open", f"pair-{i}") for c, (i, p) in sorted(found.pairs.items())]
    return {"certainty": found.rows, "least_sure": (*_worst(images, found.images, 1), *_worst(pairs, found.pairs, -1))}


def _worst(items: list[LeastSure], values: Mapping[str, tuple[str, float]], sign: int) -> list[LeastSure]:
    return sorted(items, key=lambda one: sign * values[one.category][1])[:MAX_LEAST_SURE]


def _least_sure(found: Mapping[str, tuple[str, float]], sign: int) -> list[str]:
    """Ids of those that the page links to, so that they are shown."""
    return [id_ for id_, _ in sorted(found.values(), key=lambda one: sign * one[1])[:MAX_LEAST_SURE]]


def features(view: RunView) -> Fields | Missing:
    """Feature maps of a few images of a few categories."""
    stage = DescribeStage(view.config)
    described = stage.known
    by_category: dict[str, list[str]] = {}
    for image in view.summary.images:
        if image.image_id in described:
            by_category.setdefault(image.category, []).append(image.image_id)
    if not by_category:
        return view.no_images("describe")
    names, titles = sorted(by_category), feature_names(view.config)

    def card(category: str) -> FeatureCard:
        ids = sorted(by_category[category])
        images = [stage.read_features(ids[i]) for i in spread(len(ids), IMAGES_PER_FEATURE_CARD)]
        photos = [view.photo(f.image_id, f.letterbox.width, f.letterbox.height) for f in images]
        return feature_card(category, photos, images, titles)

    shown = [names[i] for i in spread(len(names), MAX_FEATURE_CARDS)]
    return {"features": view.each("features", shown, card)}


def training(view: RunView) -> Fields | Missing:
    """The loss curve of this configuration's adapter, as far as it has got."""
    job = train_job(view.config)
    if not view.run.exists(job.checkpoint_file):
        return Missing("No adapter was trained yet with this configuration.", view.command("train"))
    history = finished_result(view.run.read_bytes(job.checkpoint_file)).history
    if not history:
        return Missing("The adapter's training has just begun.", view.command("train"))
    steps, losses = np.array([record.step for record in history]), np.array([record.loss for record in history])
    view.note("training", f"{steps[-1]:,} of {view.config.train.steps:,} steps. The adapter: {job.adapter_file}")
    return {"loss_chart": curve(steps, losses, "step", "loss", max(5, len(steps) // 25))}


def timings(view: RunView) -> Fields | Missing:
    """Seconds of each stage, over all runs of the folder."""
    rows = read_summaries(view.run, TIMED)
    if not rows:
        return Missing("No stage has run yet.", view.command("label"))
    return {"timings": tuple(timing_rows(rows))}


def links(view: RunView) -> Iterator[Link]:
    """What is in the run folder, as far as it is there."""
    files = (
        (RUN, "configuration, versions and counts"),
        (IMAGES, "the images"),
        (PAIRS, "the pairs"),
        (METRICS_FILE, "the evaluation"),
        (search_page.PAGE, "the search for the best settings"),
    )
    for name, meaning in files:
        if view.run.exists(name):
            yield Link(name, f"../{quote(name)}", meaning)
    for stage in stages_of(view.config):
        artefacts = stage.artefacts
        if artefacts.files():
            meaning = (stage.record.__doc__ or "").partition("\n")[0].replace("``", "")
            yield Link(f"{artefacts.prefix}/", f"../{quote(artefacts.prefix)}/", f"Parquet. {meaning}")
    for folder, meaning in (
        ("rejects", "Parquet, a row a rejected record"),
        ("adapters", "trained adapters and their checkpoints"),
    ):
        if view.run.names(folder):
            yield Link(f"{folder}/", f"../{folder}/", meaning)


def rejects(view: RunView) -> Fields:
    """Rejected records by stage and reason, and what was left aside of the data set."""
    for line in read_note(view.run).get("aside", []):
        view.note("rejects", line)
    return {"rejects": tuple(group_rejects(view.summary.rejects))}


SECTIONS: dict[str, Callable[[RunView], Fields | Missing]] = {
    "pairs": pairs,
    "filters": filters,
    "alignment": alignment,
    "yaw": yaw,
    "certainty": certainty,
    "features": features,
    "shapes": class_shapes,
    "evaluation": evaluation,
    "training": training,
    "timings": timings,
    "rejects": rejects,
}
"""Section -> what gathers its part of the page, or says that it is missing."""
