"""The class shapes' section of the report: a few categories, each with its cloud and its fits from best to worst."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.report.evaluation import evaluated_stages
from pipelines.report.view import RunView
from pipelines.stages.fit import FitStage
from pipelines.stages.reconstruct import ReconstructStage
from pipelines.stages.represent import RepresentStage
from sc3d.class_shapes.class_shape import ClassShape
from sc3d.report.class_shapes import FitCard, ShapeCard, fit_card, shape_card
from sc3d.report.page import Missing
from sc3d.report.selection import spread

MAX_CATEGORIES, FITS_EACH = 4, 6


def class_shapes(view: RunView) -> dict[str, Any] | Missing:
    """The class shapes that were evaluated last, or those of this configuration."""
    fits = _shown(view)
    shapes = fits.other(RepresentStage)
    categories = sorted(shapes.known.ids.to_pylist())
    if not categories:
        return Missing("No class shape was built yet with this configuration.", view.command("represent"))
    ranked = _by_energy(fits)
    chosen = [categories[i] for i in spread(len(categories), MAX_CATEGORIES)]
    if len(chosen) < len(categories):
        view.note("shapes", f"{len(chosen)} of {len(categories)} categories are shown.")
    kind = "annotated keypoints" if shapes.config.represent.landmarks == "annotated" else "landmarks that nobody annotated"
    view.note("shapes", f"These are built on {kind}, from the features of {shapes.config.represent.features}.")

    def card(category: str) -> ShapeCard:
        mine = ranked.get(category, [])
        return _card(view, fits, shapes.read_shape(category), [mine[i] for i in spread(len(mine), FITS_EACH)])

    return {"shapes": view.each("shapes", chosen, card)}


def _shown(view: RunView) -> FitStage:
    """The fits of the first method of the last evaluation that goes through class shapes; without one, those of the configuration."""
    for stage in evaluated_stages(view, view.metrics):
        if stage.method.carried and len(stage.other(FitStage).known):
            return stage.other(FitStage)
    return FitStage(view.config)


def _by_energy(fits: FitStage) -> dict[str, list[str]]:
    """Category -> the images that its class shape is fitted to, the least energy first."""
    table = fits.known.columns(["image_id", "category", "terms"])
    if not len(table):
        return {}
    energy = np.asarray(table["terms"].combine_chunks().flatten()).reshape(len(table), -1).sum(axis=1)
    ranked = table.drop_columns(["terms"]).append_column("energy", pa.array(energy))
    found: dict[str, list[str]] = {}
    for row in ranked.sort_by([("energy", "ascending"), ("image_id", "ascending")]).to_pylist():
        found.setdefault(row["category"], []).append(row["image_id"])
    return found


def _card(view: RunView, fits: FitStage, shape: ClassShape, image_ids: list[str]) -> ShapeCard:
    """The card of a category with the fits to these images, the best one first."""
    reconstructions = fits.other(ReconstructStage).known.read(image_ids)
    alignments = fits.alignments(image_ids)

    def card(image_id: str) -> FitCard:
        one = reconstructions[image_id]
        return fit_card(shape, alignments[image_id], view.photo(image_id, one.width, one.height), one)

    rotation = alignments[image_ids[0]].rotation if image_ids else np.eye(3)
    return shape_card(shape, rotation, view.each("shapes", image_ids, card))
