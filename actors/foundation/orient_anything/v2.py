"""OrientAnything V2: which side of an object a picture shows, and how many fronts the object has.

The network is upstream's and runs elsewhere (:mod:`actors.foundation.orient_anything.worker`); what goes in and what comes out is processed
here. n: pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image
from scipy.special import expit

from actors.foundation.orient_anything.angles import AZIMUTHS, symmetry_of, yaw_of_azimuth
from actors.foundation.orient_anything.pictures import clay_pictures, framed_square
from sc3d.errors import FeatureError
from sc3d.geometry.yaw import OrientationEstimates

SIDE = 518
OUTPUTS = 900
"""360 bins of the azimuth, 180 of the elevation, 360 of the rotation."""

_WHITE = 255


class OrientAnythingV2:
    """Tells the yaw of rendered views, and of objects in photos: an :class:`~sc3d.geometry.yaw.OrientationEstimator`.

    Args:
        network: pictures (n, 518, 518, 3) uint8 RGB -> logits (n, 900).
    """

    def __init__(self, network: Callable[[np.ndarray], np.ndarray]) -> None:
        self.network = network

    def estimate(self, views: np.ndarray) -> OrientationEstimates:
        """Estimates for nearness maps (n, h, w) of :func:`~sc3d.geometry.yaw.render_yaw_views`, of some 400 pixels a side.

        Raises:
            InputError: a view is empty.
            FeatureError: the network's answer is not finite, or not of its shape.
        """
        return self.estimate_pictures(*clay_pictures(views))

    def estimate_pictures(
        self, pictures: Sequence[np.ndarray] | np.ndarray, masks: Sequence[np.ndarray] | np.ndarray
    ) -> OrientationEstimates:
        """Estimates for the objects ``masks`` (h, w) bool in ``pictures`` (h, w, 3) uint8 RGB.

        Raises:
            InputError: a mask is empty, or of another size than its picture.
            FeatureError: the network's answer is not finite, or not of its shape.
        """
        logits = self.network(np.stack([preprocess(p, m) for p, m in zip(pictures, masks, strict=True)]))
        if logits.shape != (len(pictures), OUTPUTS):
            raise FeatureError(
                f"OrientAnything V2 answered {len(pictures)} pictures with an array of {logits.shape}, not {(len(pictures), OUTPUTS)}; "
                "is its repository at the commit that this version was written for?"
            )
        if not np.isfinite(logits).all():
            raise FeatureError(
                "OrientAnything V2's answer is not finite: set models.dtype=float32; if it still is not, the weights are damaged"
            )
        over_azimuth = logits[:, :AZIMUTHS]
        symmetry = np.array([symmetry_of(weights) for weights in expit(over_azimuth.astype(np.float64))], np.int64)
        return OrientationEstimates(yaw_of_azimuth(over_azimuth.argmax(axis=1)), symmetry)


def preprocess(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The object in the middle of a white square: (h, w, 3) uint8 and (h, w) bool -> (518, 518, 3) uint8."""
    return np.asarray(framed_square(picture, mask, _WHITE).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
