"""What is in a run folder -> ``report/index.html``: one self-contained page, made from whatever is there.

Numbers cover the whole run; pictures, and matches that are computed again, cover a fixed number of pairs and images, so that the page takes
seconds however large the run is.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, lru_cache
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np
import yaml

from pipelines.describe import DescribeStage
from pipelines.label import STAGES
from pipelines.manifest import IMAGES, PAIRS, RUN
from pipelines.match import DescribedImages, MatchStage
from pipelines.reconstruct import OrientStage, ReconstructStage
from pipelines.summary import RunSummary, read_tables, summarise
from pipelines.timings import read_summaries
from pipelines.train import train_job
from sc3d.config import RunConfig, to_values
from sc3d.errors import InputError, Sc3dError, StoreError, UpstreamError
from sc3d.images import load_image
from sc3d.matching.label import explain_pair
from sc3d.report.alignment import AlignmentCard, alignment_card, turn_left, yaw_card
from sc3d.report.charts import Series, curve, histogram
from sc3d.report.feature_maps import FeatureCard, feature_card
from sc3d.report.metrics import filter_table, pck_tables
from sc3d.report.overview import funnel, image_tiles, label_tiles, metric_tiles, reject_tile, timing_rows
from sc3d.report.page import Link, Missing, Page, Tile, render
from sc3d.report.pairs import PairFigure, View, pair_figure
from sc3d.report.rejects import group_rejects
from sc3d.report.selection import choose_pairs, choose_ranked, spread, worst_and_best
from sc3d.store import RunFolder
from training.checkpoint import finished_result

PAGE = "report/index.html"
METRICS = "report/metrics.json"

MAX_PAIRS, MAX_PAIRS_PER_CATEGORY = 12, 3
MAX_ALIGNED_EACH = 6
MAX_YAW = 12
MAX_FEATURE_CARDS, IMAGES_PER_FEATURE_CARD = 4, 4
MAX_HISTOGRAM_SHARDS = 32
_PHOTOS = 16
_GREY = 200

Fields = dict[str, Any]
T = TypeVar("T")


def run(config: RunConfig) -> str:
    """Write the report of a run and return its path or URI.

    Raises:
        StoreError: the folder holds no run, or is not writable.
        SchemaError: ``run.json`` or a manifest cannot be read.
    """
    folder = RunFolder(config.run)
    if not folder.exists(RUN):
        raise StoreError(f"{folder.uri} holds no run; make one with: sc3d label --images DIR --run {shlex.quote(config.run)}")
    folder.write_bytes(PAGE, render(Reporter(config).page()).encode())
    return f"{folder.uri}/{PAGE}"


class Reporter:
    """Gathers the page of a run, section by section. A section that fails says why and leaves the others alone."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.run = RunFolder(config.run)
        self.summary: RunSummary = summarise(config)
        self.paths = {image.image_id: image.path for image in self.summary.images}
        self.photo = lru_cache(_PHOTOS)(self._photo)
        self.missing: dict[str, Missing] = {}
        self.notes: dict[str, tuple[str, ...]] = {}

    def page(self) -> Page:
        """The page's values."""
        sections: dict[str, Callable[[], Fields]] = {
            "pairs": self.pairs,
            "filters": self.filters,
            "alignment": self.alignment,
            "yaw": self.yaw,
            "features": self.features,
            "evaluation": self.evaluation,
            "training": self.training,
            "timings": self.timings,
            "rejects": lambda: {"rejects": tuple(group_rejects(self.summary.rejects))},
        }
        fields: Fields = {}
        for name, gather in sections.items():
            try:
                found = gather()
            except Sc3dError as error:
                self.missing[name] = Missing(f"This could not be shown: {error}")
                continue
            if isinstance(found.get("missing"), Missing):
                self.missing[name] = found["missing"]
            else:
                fields |= found
        return Page(
            run=self.run.uri,
            facts=self.facts(),
            tiles=tuple(self.tiles()),
            config_yaml=yaml.safe_dump(json.loads(json.dumps(to_values(self.config))), sort_keys=False, allow_unicode=True),
            links=tuple(self.links()),
            missing=self.missing,
            notes=self.notes,
            **fields,
        )

    def command(self, name: str) -> str:
        """The command line that runs a part of the pipeline on this run folder."""
        return f"sc3d {name} --run {shlex.quote(self.config.run)}"

    def facts(self) -> tuple[tuple[str, str], ...]:
        """Run, data set and versions, for the header."""
        dataset = self.config.dataset
        versions = self.run.read_json(RUN).get("versions", {})
        return (
            ("profile", self.config.profile),
            ("data set", f"{dataset.kind}, {dataset.root}"),
            ("seed", str(self.config.seed)),
            ("made with", ", ".join(f"{name} {value}" for name, value in sorted(versions.items()))),
        )

    def tiles(self) -> list[Tile]:
        """The numbers of the header."""
        s = self.summary
        kinds = len({image.category for image in s.images})
        tiles = image_tiles(len(s.images), kinds, s.reconstructions["iou_before"], s.reconstructions["iou_after"])
        counts = self.counts
        if s.pairs:
            tiles += label_tiles(len(s.pairs), counts["n_candidates"], counts.get("n_kept"))
        consequences = sum(reject.error_type == UpstreamError.__name__ for reject in s.rejects)
        tiles.append(reject_tile(s.image_rejects, s.pair_rejects, consequences))
        return tiles + metric_tiles(self.metrics)

    @cached_property
    def counts(self) -> dict[str, np.ndarray]:
        """The counts of each pair: of its labels, or of its matches where the thresholds were not applied yet."""
        return self.summary.labels if len(self.summary.labels["pair_id"]) else self.summary.matches

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """``metrics.json``; empty where it is not there or cannot be read."""
        try:
            return self.run.read_json(METRICS) if self.run.exists(METRICS) else {}
        except Sc3dError:
            return {}

    def no_pairs(self) -> Missing:
        """Why there is no matched pair."""
        s = self.summary
        if not s.images:
            return Missing("The run has no images yet.", self.command("label") + " --images DIR")
        if not s.pairs:
            return Missing("There is no pair to label: a category needs at least two images that are not held out.")
        if s.image_rejects >= len(s.images) or s.pair_rejects >= len(s.pairs):
            return Missing(
                "Every record was rejected; the reasons are below, under “Rejected records”. Fix them and run:",
                self.command("label"),
            )
        return Missing("No pair was matched yet with this configuration.", self.command("label"))

    def pairs(self) -> Fields:
        """A few pairs with all their candidates, matched again."""
        counts = self.counts
        if not len(counts["pair_id"]):
            return {"missing": self.no_pairs()}
        kept = counts.get("n_kept", counts["n_cycle"]) / np.maximum(counts["n_candidates"], 1)
        by_category: dict[str, list[tuple[str, float]]] = {}
        for pair_id, category, share in zip(counts["pair_id"], counts["category"], kept, strict=True):
            by_category.setdefault(str(category), []).append((str(pair_id), float(share)))
        chosen = choose_pairs(by_category, MAX_PAIRS, MAX_PAIRS_PER_CATEGORY)
        known = {pair.pair_id: pair for pair in self.summary.pairs}
        images = DescribedImages(self.config)
        figures = self._each("pairs", [c for c in chosen if c in known], lambda i: self._pair(known[i], images))
        self._note(
            "pairs",
            f"{len(figures)} of {len(kept):,} pairs are shown, spread over the categories and over the share of candidates that is kept.",
        )
        return {"pairs": tuple(figures)}

    def _pair(self, pair: Any, images: DescribedImages) -> PairFigure:
        source, target = images.get(pair.source_id), images.get(pair.target_id)
        views = []
        for described in (source, target):
            foreground = np.zeros(described.letterbox.side**2, bool)
            foreground[described.cells] = True
            photo = self._sized(described.image_id, described.letterbox.width, described.letterbox.height)
            views.append(View(photo, described.letterbox, foreground))
        explanation = explain_pair(source, target, self.config.label)
        return pair_figure(pair.pair_id, pair.category, (pair.source_id, pair.target_id), (views[0], views[1]), explanation)

    def filters(self) -> Fields:
        """The funnel over all pairs, and the geodesic errors of the stored matches."""
        counts = self.counts
        if not len(counts["pair_id"]):
            return {"missing": self.no_pairs()}
        kept = int(counts["n_kept"].sum()) if "n_kept" in counts else None
        if kept is None:
            self._note("filters", f"The label thresholds were not applied yet: {self.command('label')}")
        steps = funnel(self.config, int(counts["n_candidates"].sum()), int(counts["n_cycle"].sum()), kept)
        matches = MatchStage(self.config)
        files = matches.artefacts.files()
        shown = [files[i] for i in spread(len(files), MAX_HISTOGRAM_SHARDS)]
        tables = read_tables(matches.artefacts, shown, ["geodesic_error"])
        errors = [table.column(0).combine_chunks().flatten().to_numpy(zero_copy_only=False) for table in tables]
        values = np.concatenate(errors) if errors else np.zeros(0)
        chart = None
        if len(values):
            threshold = (self.config.label.tau_geo, f"kept up to {self.config.label.tau_geo:g}")
            stored = [Series("matches", values, "series-b")]
            limits = (0.0, self.config.match.tau_geo)
            chart = histogram(stored, limits, 40, "geodesic error in mesh diagonals", "matches", threshold)
            if len(shown) < len(files):
                self._note("filters", f"The histogram is from {len(shown)} of {len(files)} match files, evenly chosen.")
        return {"funnel": tuple(steps), "geodesic_chart": chart}

    def alignment(self) -> Fields:
        """IoU before and after over all images, and the meshes that fit worst and best."""
        columns = self.summary.reconstructions
        if not len(columns["image_id"]):
            return {"missing": self._no_images("reconstruct")}
        iou = dict(zip((str(i) for i in columns["image_id"]), columns["iou_after"].tolist(), strict=True))
        worst, best = worst_and_best(iou, MAX_ALIGNED_EACH)
        found = ReconstructStage(self.config).artefacts.catalogue().read([*worst, *best])

        def card(image_id: str) -> AlignmentCard:
            one = found[image_id]
            return alignment_card(self._sized(image_id, one.width, one.height), one)

        series = [
            Series("as reconstructed", columns["iou_before"], "series-a"),
            Series("after alignment", columns["iou_after"], "series-b"),
        ]
        return {
            "iou_chart": histogram(series, (0.0, 1.0), 25, "IoU of mesh silhouette and mask", "images"),
            "worst": tuple(self._each("alignment", worst, card)),
            "best": tuple(self._each("alignment", best, card)),
        }

    def yaw(self) -> Fields:
        """Votes: those that are known to be wrong first, then turned, uncertain and other meshes."""
        columns = self.summary.orientations
        if not len(columns["image_id"]):
            return {"missing": self._no_images("label")}
        injected = dict(zip(self.summary.reconstructions["image_id"], self.summary.reconstructions["injected_turn"], strict=True))
        ranks: dict[str, int] = {}
        for image_id, turn, uncertain in zip(columns["image_id"], columns["turn"], columns["uncertain"], strict=True):
            wrong = turn_left(int(injected.get(image_id, -1)), int(turn)) > 0
            ranks[str(image_id)] = 0 if wrong else 1 if turn else 2 if uncertain else 3
        chosen = choose_ranked(ranks, MAX_YAW)
        orientations = OrientStage(self.config).artefacts.catalogue().read(chosen)
        reconstructions = ReconstructStage(self.config).artefacts.catalogue().read(chosen)
        turned, doubtful = int((columns["turn"] != 0).sum()), int(columns["uncertain"].sum())
        self._note("yaw", f"Of {len(ranks):,} meshes, {turned:,} were turned and {doubtful:,} were too uncertain to turn.")
        simulated = sum(int(v) > 0 for v in injected.values())
        if simulated:
            left = sum(rank == 0 and injected[image_id] > 0 for image_id, rank in ranks.items())
            self._note("yaw", f"{simulated} meshes of this data set had been turned on purpose; {left} of these turns are left.")
        return {"yaw": tuple(self._each("yaw", chosen, lambda i: yaw_card(orientations[i], reconstructions[i])))}

    def features(self) -> Fields:
        """Feature maps of a few images of a few categories."""
        stage = DescribeStage(self.config)
        described = stage.artefacts.catalogue()
        by_category: dict[str, list[str]] = {}
        for image in self.summary.images:
            if image.image_id in described:
                by_category.setdefault(image.category, []).append(image.image_id)
        if not by_category:
            return {"missing": self._no_images("describe")}
        names = sorted(by_category)

        def card(category: str) -> FeatureCard:
            ids = sorted(by_category[category])
            images = [stage.read_features(ids[i]) for i in spread(len(ids), IMAGES_PER_FEATURE_CARD)]
            photos = [self._sized(f.image_id, f.letterbox.width, f.letterbox.height) for f in images]
            return feature_card(category, photos, images)

        shown = [names[i] for i in spread(len(names), MAX_FEATURE_CARDS)]
        return {"features": tuple(self._each("features", shown, card))}

    def evaluation(self) -> Fields:
        """Filter quality and PCK from ``metrics.json``."""
        if not self.run.exists(METRICS):
            if not self.summary.annotated:
                return {"missing": Missing("The data set has no annotated pairs, so there is nothing to evaluate against.")}
            return {"missing": Missing("The annotated pairs were not evaluated yet.", self.command("evaluate"))}
        metrics = self.run.read_json(METRICS)
        filters, pck = filter_table(metrics), pck_tables(metrics)
        if not filters and not pck:
            return {"missing": Missing("No annotated pair could be evaluated.", self.command("evaluate"))}
        return {"filters": tuple(filters), "published_filters": tuple(filter_table({}, published=True)), "pck": tuple(pck)}

    def training(self) -> Fields:
        """The loss curve of this configuration's adapter, as far as it has got."""
        job = train_job(self.config)
        if not self.run.exists(job.checkpoint_file):
            return {"missing": Missing("No adapter was trained yet with this configuration.", self.command("train"))}
        history = finished_result(self.run.read_bytes(job.checkpoint_file)).history
        if not history:
            return {"missing": Missing("The adapter's training has just begun.", self.command("train"))}
        steps, losses = np.array([record.step for record in history]), np.array([record.loss for record in history])
        self._note("training", f"{steps[-1]:,} of {self.config.train.steps:,} steps. The adapter: {job.adapter_file}")
        return {"loss_chart": curve(steps, losses, "step", "loss", max(5, len(steps) // 25))}

    def timings(self) -> Fields:
        """Seconds of each stage, over all runs of the folder."""
        rows = read_summaries(self.run, (*(stage.name for stage in STAGES), "train", "evaluate"))
        if not rows:
            return {"missing": Missing("No stage has run yet.", self.command("label"))}
        return {"timings": tuple(timing_rows(rows))}

    def links(self) -> Iterator[Link]:
        """What is in the run folder, as far as it is there."""
        files = (
            (RUN, "configuration, versions and counts"),
            (IMAGES, "the images"),
            (PAIRS, "the pairs"),
            (METRICS, "the evaluation"),
        )
        for name, meaning in files:
            if self.run.exists(name):
                yield Link(name, f"../{quote(name)}", meaning)
        for stage in STAGES:
            artefacts = stage(self.config).artefacts
            if artefacts.files():
                meaning = (stage.record.__doc__ or "").partition("\n")[0].replace("``", "")
                yield Link(f"{artefacts.prefix}/", f"../{quote(artefacts.prefix)}/", f"Parquet. {meaning}")
        for folder, meaning in (
            ("rejects", "Parquet, a row a rejected record"),
            ("adapters", "trained adapters and their checkpoints"),
        ):
            if self.run.names(folder):
                yield Link(f"{folder}/", f"../{folder}/", meaning)

    def _no_images(self, command: str) -> Missing:
        s = self.summary
        if s.images and s.image_rejects >= len(s.images):
            return Missing("Every image was rejected; the reasons are under “Rejected records”.")
        return Missing("Nothing of this was computed yet with this configuration.", self.command(command))

    def _each(self, section: str, names: Iterable[str], make: Callable[[str], T]) -> list[T]:
        """``make`` of each name; one that cannot be shown is a note of the section."""
        return [one for name in names if (one := self._attempt(section, name, make)) is not None]

    def _attempt(self, section: str, name: str, make: Callable[[str], T]) -> T | None:
        try:
            return make(name)
        except (Sc3dError, KeyError) as error:
            self._note(section, f"{name} could not be shown: {error}")
            return None

    def _note(self, section: str, text: str) -> None:
        self.notes[section] = (*self.notes.get(section, ()), text)

    def _sized(self, image_id: str, width: int, height: int) -> np.ndarray:
        """The photo (height, width, 3), or a grey one where it is gone or was replaced by one of another size."""
        photo = self.photo(image_id)
        grey = np.full((height, width, 3), _GREY, np.uint8)
        return photo if photo is not None and photo.shape == grey.shape else grey

    def _photo(self, image_id: str) -> np.ndarray | None:
        try:
            return load_image(self.paths[image_id])
        except (InputError, KeyError):
            return None
