"""Which of several templates fits a collection of photos, and whether any does: by render cosines, without a label.

The mean best render cosine orders templates of one kind of object. Whether one is of the right kind at all is better told together with how
much the best view leads the mean of all views: a foreign shape that looks a little like the object does so from everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sc3d.geometry.templates.pose import FramedPhoto, feature_scores
from sc3d.geometry.templates.template import Template
from sc3d.geometry.templates.views import Describer, TemplateViews


@dataclass(frozen=True)
class TemplateChoice:
    """``best``: index of the template with the largest mean best render cosine over the photos, ``cosine``; ``lead``: how far that is above
    the mean over all views, on average; ``fits``: whether the sum of both is large enough."""

    best: int
    cosine: float
    lead: float
    fits: bool


def choose_template(
    templates: Sequence[Template], photos: Sequence[FramedPhoto], describe: Describer, least: float
) -> TemplateChoice:
    """Compare templates on photos of one category.

    Args:
        templates, photos: at least one of each.
        describe: the network that described the photos.
        least: sum of cosine and lead at which a template fits.

    Raises:
        GeometryError: a template cannot be rendered.
    """
    found = [render_cosines(TemplateViews(template, describe), photos) for template in templates]
    best = max(range(len(found)), key=lambda index: found[index][0])
    cosine, lead = found[best]
    return TemplateChoice(best, cosine, lead, cosine + lead >= least)


def render_cosines(views: TemplateViews, photos: Sequence[FramedPhoto]) -> tuple[float, float]:
    """A template's mean best render cosine over photos, and by how much it leads the mean over all views."""
    scores = np.array([feature_scores(photo, views) for photo in photos])
    best = float(scores.max(axis=1).mean())
    return best, best - float(scores.mean())
