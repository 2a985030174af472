"""Which of several templates fits a collection of photos, and whether any does: by the best render cosine, without a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sc3d.geometry.templates.pose import FramedPhoto, feature_scores
from sc3d.geometry.templates.template import Template
from sc3d.geometry.templates.views import Describer, TemplateViews


@dataclass(frozen=True)
class TemplateChoice:
    """``cosines`` (n,): each template's mean best render cosine over the photos; ``best`` the one with the largest, an index; ``fits``:
    whether that is large enough."""

    cosines: tuple[float, ...]
    best: int
    fits: bool


def choose_template(
    templates: Sequence[Template], photos: Sequence[FramedPhoto], describe: Describer, least: float
) -> TemplateChoice:
    """Compare templates on photos of one category.

    Args:
        templates, photos: at least one of each.
        describe: the network that described the photos.
        least: mean best render cosine at which a template fits.

    Raises:
        GeometryError: a template cannot be rendered.
    """
    cosines = tuple(mean_cosine(TemplateViews(template, describe), photos) for template in templates)
    best = int(np.argmax(cosines))
    return TemplateChoice(cosines, best, cosines[best] >= least)


def mean_cosine(views: TemplateViews, photos: Sequence[FramedPhoto]) -> float:
    """A template's mean best render cosine over photos."""
    return float(np.mean([feature_scores(photo, views).max() for photo in photos]))
