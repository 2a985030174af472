"""Fit a complete silhouette to a mask that shows only part of the object.

Losses on areas cannot tell a half-hidden object from a smaller one: both fill the visible mask. Outlines can. Where the object itself ends,
the mask's outline follows the silhouette's; where an occluder or the image's border cuts it off, it does not, and the silhouette goes on
beyond. So a pose explains a partial mask if the silhouette contains the mask and as much as possible of the mask's outline lies on the
silhouette's. This step is an addition to 3D-SC (arXiv 2605.30093), whose losses have a minimum at a smaller or shifted object here.

At a fixed rotation a silhouette nearly keeps its shape, so the search is over the size and position of one template (a correlation at low
resolution over all positions and :data:`SIZES`), then refined against the distance to the mask's outline.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import fft, ndimage

from sc3d.errors import GeometryError
from sc3d.geometry.image_motion import Similarity
from sc3d.geometry.silhouette import Parameters, SilhouetteRenderer
from sc3d.geometry.target import MaskTarget, depth_inside

# Sizes tried, relative to the template: the visible part of an object is often fitted by a smaller copy, seldom by a larger one.
SIZES = np.geomspace(0.8, 2.2, 22)
# No silhouette larger than so many boxes of the mask is considered.
_LARGEST = 4.0
# Long side of the mask's box in cells of the correlation.
_CELLS = 40
# An outline point agrees with the mask if it is this near, in pixels.
_NEAR = 2.0
# Price of a share of the mask outside the silhouette, in shares of agreeing outline.
_UNCOVERED = 3.0
# Share of the mask that may be uncovered for free: pixels on the outline fall either way.
_BORDER = 0.01
# When a candidate beats the template: margins measured on exact and on deformed meshes, occluded and not (benchmarks/alignment.py). A
# complete object with another shape than its mesh must not be taken for an occluded one.
_LEAST_AGREEMENT, _LEAST_COVERED, _LEAST_GAIN = 0.55, 0.97, 0.25
_PEAKS, _REFINED = 3, 6
_ROUNDS = 2
# Outline points that the refinement looks at, at most.
_POINTS = 1000


@dataclass(frozen=True)
class Evidence:
    """``agreement``: share of the mask's outline that lies on the silhouette's; ``covered``: share of the mask in the silhouette."""

    agreement: float
    covered: float

    @property
    def score(self) -> float:
        """What the search maximises."""
        return self.agreement - _UNCOVERED * max(0.0, 1.0 - _BORDER - self.covered)

    def beats(self, other: Evidence) -> bool:
        """Whether this is enough to prefer a partly hidden object to ``other``, although its silhouette fills the mask less well."""
        return self.agreement >= _LEAST_AGREEMENT and self.covered >= _LEAST_COVERED and self.score >= other.score + _LEAST_GAIN


class OutlineMatcher:
    """Compares silhouettes with the outline of one partial mask."""

    def __init__(self, target: MaskTarget) -> None:
        self.target = target
        height, width = target.mask.shape
        inner = ndimage.binary_erosion(target.mask, border_value=1)
        rows, columns = np.nonzero(target.mask & ~inner)
        # At the image's border the mask ends because the image does.
        keep = (rows > 0) & (columns > 0) & (rows < height - 1) & (columns < width - 1)
        self.rows, self.columns = rows[keep], columns[keep]
        outline = np.ones((height, width), bool)
        outline[self.rows, self.columns] = False
        distance = depth_inside(outline)
        # The outline runs between pixels: half a pixel outside the centres of the mask's outermost ones.
        signed = np.where(target.mask, -distance - 0.5, distance - 0.5)
        self.fields = np.dstack([signed, *np.gradient(signed)]).astype(np.float32)
        # The refinement starts from what the search can resolve.
        self.reach = 2.0 * max(np.ptp(target.free_sides()[0].reshape(2, 2), axis=0).max() / _CELLS, 1.5)

    @property
    def is_usable(self) -> bool:
        """Whether any outline is left that is not the image's border."""
        return len(self.rows) >= 8

    def evidence(self, coverage: np.ndarray) -> Evidence:
        """How well a hard silhouette on the canvas explains the mask as a part of it."""
        # One pixel around the image, so that a silhouette which leaves the image has its outline there.
        m = self.target.margin - 1
        window = np.ascontiguousarray(coverage[m : coverage.shape[0] - m, m : coverage.shape[1] - m])
        rows, columns = self.rows + 1, self.columns + 1
        # A pixel inside is one pixel from the outside when the outline passes right beside it.
        inside, outside = depth_inside(window)[rows, columns] - 1.0, depth_inside(~window)[rows, columns]
        near = np.where(window[rows, columns], inside, outside) <= _NEAR
        covered = float(np.count_nonzero(window[1:-1, 1:-1] & self.target.mask) / self.target.area)
        return Evidence(float(near.mean()), covered)

    def search(self, template: np.ndarray) -> list[Similarity]:
        """Sizes and positions of the silhouette ``template`` (canvas, bool) that may explain the mask, best first."""
        top, left, crop = _crop(template)
        centre = np.array([left + crop.shape[1] / 2, top + crop.shape[0] / 2]) - self.target.margin
        box = self.target.free_sides()[0]
        extent = float((box[2:] - box[:2]).max())
        cell = max(extent / _CELLS, 0.5)
        sizes = SIZES[SIZES * max(crop.shape) <= _LARGEST * extent]
        if not len(sizes):
            return []
        side = fft.next_fast_len(int(_CELLS + sizes[-1] * max(crop.shape) / cell) + 12, real=True)
        spectra = [fft.rfft2(image, (side, side)) for image in self._cells(box[:2], cell)]
        found: list[tuple[float, Similarity]] = []
        for size in sizes:
            width, height = (max(round(n * size / cell), 1) for n in crop.shape[::-1])
            inside = np.pad(cv2.resize(crop.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA), 3) >= 0.5
            to_outside, to_inside = depth_inside(inside), depth_inside(~inside)
            ring = np.exp(-0.5 * (np.maximum(to_outside, to_inside) - 0.5) ** 2)
            # A cell more all round, as the mask's border cells are covered only in part.
            near, covered = (
                fft.irfft2(spectrum * np.conj(fft.rfft2(image.astype(np.float32), (side, side))), (side, side))
                for spectrum, image in zip(spectra, (ring, to_inside <= 1.0), strict=True)
            )
            score = near - _UNCOVERED * (1.0 - covered)
            for _ in range(_PEAKS):
                row, column = np.unravel_index(int(score.argmax()), score.shape)
                # Offsets beyond the mask's box are negative ones that wrapped around.
                offset = np.array([v - side if v > _CELLS else v for v in (column, row)], np.float64)
                middle = (offset + np.array(inside.shape[::-1]) / 2) * cell + box[:2]
                found.append((float(score[row, column]), Similarity(float(size), centre, middle - centre)))
                score[np.ix_(np.arange(row - 2, row + 3) % side, np.arange(column - 2, column + 3) % side)] = -np.inf
        return self._distinct(found, cell)

    def _distinct(self, found: list[tuple[float, Similarity]], cell: float) -> list[Similarity]:
        """The best few that differ from each other by more than the search's own spacing."""
        kept: list[Similarity] = []
        for _, candidate in sorted(found, key=lambda item: -item[0]):
            if all(
                abs(np.log(candidate.size / other.size)) > 0.06 or np.abs(candidate.shift - other.shift).max() > 3 * cell
                for other in kept
            ):
                kept.append(candidate)
            if len(kept) == _REFINED:
                break
        return kept

    def _cells(self, corner: np.ndarray, cell: float) -> tuple[np.ndarray, np.ndarray]:
        """The mask's outline and area per cell of a grid from ``corner`` (x, y), each with the sum 1."""
        grids = []
        for rows, columns in ((self.rows, self.columns), np.nonzero(self.target.mask)):
            i, j = (((index + 0.5 - low) // cell).astype(np.int64) for index, low in ((rows, corner[1]), (columns, corner[0])))
            grid = np.zeros((_CELLS + 1, _CELLS + 1), np.float32)
            np.add.at(grid, (i, j), 1.0 / len(rows))
            grids.append(grid)
        return grids[0], grids[1]

    def refine(self, template: np.ndarray, start: Similarity) -> Similarity:
        """Gauss-Newton on the distances of the template's outline points to the mask's outline, with weights that let go of far points.

        Points outside the image know nothing. A point deep inside the mask leaves mask uncovered and is let go of more slowly than one
        outside, which an occluder explains.
        """
        points = _outline_points(template) - self.target.margin
        points = points[:: len(points) // _POINTS + 1]
        size, shift = start.size, start.shift
        for reach in np.geomspace(self.reach, 1.5, 12):
            arm = points - start.centre
            distance, gradient, inside = self._sample(Similarity(size, start.centre, shift).apply(points))
            if np.count_nonzero(inside) < 8:
                break
            width = np.where(distance < 0, 4.0 * reach, reach)
            weight = inside / (1.0 + (distance / width) ** 2) ** 2
            columns = np.column_stack([np.einsum("nk,nk->n", gradient, arm), gradient])
            normal = columns.T @ (weight[:, None] * columns)
            damping = 1e-3 * np.diag(np.diag(normal)) + 1e-9 * np.eye(3)
            step = np.linalg.solve(normal + damping, columns.T @ (weight * distance))
            size, shift = float(np.clip(size - step[0], 0.5 * size, 2.0 * size)), shift - step[1:]
        return Similarity(size, start.centre, shift)

    def _sample(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Signed distance to the mask's outline (N,), its gradient (N, 2) and whether the point is inside the image (N,)."""
        height, width = self.target.mask.shape
        inside = (points > 0).all(axis=1) & (points[:, 0] < width) & (points[:, 1] < height)
        x, y = (points.T - 0.5).astype(np.float32)
        sampled = cv2.remap(self.fields, x[None], y[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0].astype(np.float64)
        return sampled[:, 0], sampled[:, :0:-1], inside


def _outline_points(coverage: np.ndarray) -> np.ndarray:
    """Points (N, 2) between each covered pixel and its uncovered neighbours, x first."""
    top, left, crop = _crop(coverage)
    coverage = np.pad(crop, 1)
    rows, columns = np.nonzero(coverage[:, 1:] != coverage[:, :-1])
    across = np.column_stack([columns + left, rows + (top - 0.5)])
    rows, columns = np.nonzero(coverage[1:] != coverage[:-1])
    return np.concatenate([across, np.column_stack([columns + (left - 0.5), rows + top])])


def _crop(coverage: np.ndarray) -> tuple[int, int, np.ndarray]:
    """First row, first column and content of the box around the covered pixels."""
    rows, columns = np.flatnonzero(coverage.any(axis=1)), np.flatnonzero(coverage.any(axis=0))
    return int(rows[0]), int(columns[0]), coverage[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def complete(
    renderer: SilhouetteRenderer, target: MaskTarget, start: Parameters, pivot: np.ndarray
) -> Iterator[tuple[Parameters, Evidence]]:
    """Poses whose complete silhouettes may explain a partial mask.

    Args:
        renderer: renders onto the target's canvas.
        target: the mask and its camera.
        start: log scale and translation (3,) of the template: the best pose so far.
        pivot: the middle of the mesh after rotation (3,).

    Yields:
        ``start`` first and then the candidates, each with its evidence; nothing if the mask has no outline inside the image.
    """
    matcher = OutlineMatcher(target)
    template = renderer.render(*start).coverage
    if not matcher.is_usable or not template.any():
        return
    yield start, matcher.evidence(template)
    refined: list[Similarity] = []
    for found in matcher.search(template):
        similarity = matcher.refine(template, found)
        if any(similarity.is_close(other) for other in refined):
            continue
        refined.append(similarity)
        parameters = similarity.move(start, pivot, target.camera)
        # Perspective changes the outline a little when the object moves: render again and refine.
        for _ in range(_ROUNDS):
            try:
                silhouette = renderer.render(*parameters).coverage
            except GeometryError:
                # A larger object at the same depth can reach behind the camera: not a candidate.
                break
            if not silhouette[target.window].any():
                break
            yield parameters, matcher.evidence(silhouette)
            top, left, crop = _crop(silhouette)
            centre = np.array([left + crop.shape[1] / 2, top + crop.shape[0] / 2]) - target.margin
            residual = matcher.refine(silhouette, Similarity(1.0, centre, np.zeros(2)))
            parameters = residual.move(parameters, pivot, target.camera)
