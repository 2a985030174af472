"""Which of two sides of a template a photo shows: both are fitted to the mask, painted as fitted, and compared with the photo again.

A view of the unstretched template tells sides apart by what is roughly where. Once a side is fitted, its render lies cell on cell on
the photo if it is the right one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sc3d.geometry.templates.fit import FittedTemplate, fit_template
from sc3d.geometry.templates.paint import Painter
from sc3d.geometry.templates.pose import FramedPhoto, compare
from sc3d.geometry.templates.views import TemplateViews, cell_masks, described_cells

FITTED_WEIGHT = 30.0
"""Of the cosine of a fitted render, beside the score of its view in standard deviations."""


@dataclass(frozen=True, eq=False)
class PosedTemplate:
    """The side that was chosen, fitted, and by how much its score is above the other side's: infinite where a person has said the
    side."""

    fitted: FittedTemplate
    confidence: float


def pose_template(views: TemplateViews, photo: FramedPhoto, size: tuple[int, int], facing: float | None = None) -> PosedTemplate:
    """Fit a template to a photo from the side that explains it best.

    Args:
        views, photo: described by one network.
        size: width and height of the photo.
        facing: azimuth in degrees that a person has said, if one has.
    """
    found = compare(photo, views, facing)
    fits = [fit_template(views.template, photo, found.start(view), size) for view in found.views]
    scores = [found.scores[v] + FITTED_WEIGHT * fitted_cosine(views, photo, fit) for v, fit in zip(found.views, fits, strict=True)]
    best = int(np.argmax(scores))
    return PosedTemplate(fits[best], float(scores[best] - min(scores)) if facing is None else np.inf)


def fitted_cosine(views: TemplateViews, photo: FramedPhoto, fitted: FittedTemplate) -> float:
    """Mean cosine of a fitted template's render with a photo, over the cells that both cover; without any: -1."""
    painter = Painter(fitted.mesh, views.template.colours)
    picture, mask = painter.paint(fitted.pose, photo.frame.intrinsics(fitted.camera.K, 1))
    foreground = cell_masks(mask[None])
    cells = described_cells(views.describe(picture[None]), foreground, per_picture=True)[0]
    both = foreground[0] & photo.foreground
    return float((cells[both] * photo.cells[both]).sum(axis=1).mean()) if both.any() else -1.0
