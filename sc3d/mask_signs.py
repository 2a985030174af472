"""Signs that an object mask is likely bad, from the photo and the mask alone.

None of them proves anything: a close-up reaches all four borders, an object behind a pole is in pieces, a white car stands in snow. They
say which masks are worth a look, and which photos automatic labels should rather do without.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

ALL_ROUND = "mask_all_round"
IN_PIECES = "mask_in_pieces"
LOW_CONTRAST = "mask_low_contrast"

SIGNS = {
    ALL_ROUND: "the mask touches all four borders",
    IN_PIECES: "the mask is in pieces far from each other",
    LOW_CONTRAST: "the colours on both sides of the mask's outline are alike",
}
"""Sign -> what it means, for people."""

WORKING_SIDE = 320

_TOUCH = 0.02
_PIECE = 0.1
_GAP = 0.1
_BAND = 0.02
_LEAST_CONTRAST = 10.0


def count_signs(flags: Iterable[str]) -> int:
    """How many of the flags of a reconstruction are signs of a bad mask."""
    return len(SIGNS.keys() & set(flags))


def mask_signs(image: np.ndarray, mask: np.ndarray) -> tuple[str, ...]:
    """Which of :data:`SIGNS` a mask has.

    * ``mask_all_round``: it covers 2 % or more of each of the four borders of the image.
    * ``mask_in_pieces``: a piece of a tenth of its area or more lies a tenth of its extent or more from the largest one.
    * ``mask_low_contrast``: :func:`border_contrast` below 10.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) bool, not empty.
    """
    found = {ALL_ROUND: _all_round(mask), IN_PIECES: _in_pieces(mask), LOW_CONTRAST: border_contrast(image, mask) < _LEAST_CONTRAST}
    return tuple(sign for sign, holds in found.items() if holds)


def border_contrast(image: np.ndarray, mask: np.ndarray) -> float:
    """The median over the mask's outline of how far the mean colours right inside and right outside are apart, in CIE Lab (dE 1976).

    Inside and outside are bands of 2 % of the mask's extent. The image's own border is no outline. Infinite where there is no outline.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) bool.
    """
    scale = min(1.0, WORKING_SIDE / max(mask.shape))
    size = max(round(mask.shape[1] * scale), 1), max(round(mask.shape[0] * scale), 1)
    inside = (cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5).astype(np.uint8)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    colours = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    # The border of OpenCV's erosion counts as inside.
    outline = (inside - cv2.erode(inside, np.ones((3, 3), np.uint8))) > 0
    if not outline.any():
        return float("inf")
    width = 2 * max(2, round(_BAND * _extent(inside > 0))) + 1
    means = []
    for band in (inside.astype(np.float32), 1 - inside.astype(np.float32)):
        weight = cv2.blur(band, (width, width), borderType=cv2.BORDER_ISOLATED | cv2.BORDER_CONSTANT)
        sums = cv2.blur(colours * band[..., None], (width, width), borderType=cv2.BORDER_ISOLATED | cv2.BORDER_CONSTANT)
        means.append(sums / np.maximum(weight, 1e-6)[..., None])
    return float(np.median(np.linalg.norm(means[0] - means[1], axis=2)[outline]))


def _all_round(mask: np.ndarray) -> bool:
    return all(float(border.mean()) >= _TOUCH for border in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))


def _in_pieces(mask: np.ndarray) -> bool:
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    areas = statistics[1:, cv2.CC_STAT_AREA]
    large = [piece for piece in range(1, count) if areas[piece - 1] >= _PIECE * mask.sum()]
    if len(large) < 2:
        return False
    largest = 1 + int(np.argmax(areas))
    distance = cv2.distanceTransform((labels != largest).astype(np.uint8), cv2.DIST_L2, 5)
    return any(float(distance[labels == piece].min()) >= _GAP * _extent(mask) for piece in large if piece != largest)


def _extent(mask: np.ndarray) -> float:
    rows, columns = np.nonzero(mask)
    return float(max(np.ptp(rows), np.ptp(columns)) + 1) if len(rows) else 1.0
