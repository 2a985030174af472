"""Silhouettes of many posed meshes at once, with derivatives, in PyTorch: one call a step for a whole batch, on a GPU or a CPU.

Every projected triangle is given the same orientation and its three sides are drawn into an accumulation buffer
(:mod:`sc3d.geometry.contour_torch`), which yields the exact area of triangles in every pixel. Sides between two triangles on opposite sides
cancel; only folds, where both lie on one side, and open borders are drawn. There is no depth buffer and no custom kernel, and the cost
follows the length of the contour.

A pixel's alpha is the area that it is covered to, capped at 1. Its derivative is exact as well: the flux of the moving edges through the
pixel, wherever alpha is strictly between 0 and 1, so that edges in front of or behind other parts of the mesh do not count.

B: objects, V: vertices, F: faces, E: edges, S: edge pieces, C: weight maps, H x W: the canvas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sc3d.geometry.contour_torch import ONE, Pieces, Sweep, cut_at_columns, cut_at_rows
from sc3d.geometry.mesh import Mesh


@dataclass(frozen=True, eq=False)
class BatchMeasures:
    """Measures of B silhouettes under C weight maps, as float64 arrays.

    ``hard`` (B, C) are the sums over pixels whose centre is covered; ``areas`` (B, C) the sums weighted with alpha; ``slopes`` (B, C, 4)
    the derivatives of ``areas`` by log scale and t.
    """

    hard: np.ndarray
    areas: np.ndarray
    slopes: np.ndarray


@dataclass(frozen=True, eq=False)
class PosedShape:
    """A mesh at a rotation, and where it is drawn.

    ``rotated`` (V, 3) vertices R @ X; ``K`` (3, 3) intrinsics of the canvas; ``maps`` (C, h, w) float32 weights on it.
    """

    mesh: Mesh
    rotated: np.ndarray
    K: np.ndarray
    maps: np.ndarray


@dataclass(frozen=True, eq=False)
class _Topology:
    """A mesh's edges on the device: ``edges`` (E, 2), and for each of its N triangle sides the triangle, the edge, and +1 or -1 if the
    triangle runs along the edge or against it."""

    is_closed: bool
    vertices: torch.Tensor
    faces: torch.Tensor
    edges: torch.Tensor
    side_face: torch.Tensor
    side_edge: torch.Tensor
    side_sign: torch.Tensor

    @classmethod
    def of(cls, shape: PosedShape, device: torch.device) -> _Topology:
        faces, edges = shape.mesh.faces.astype(np.int64), shape.mesh.edges.astype(np.int64)
        start, end = faces.T.reshape(-1), faces[:, [1, 2, 0]].T.reshape(-1)
        face = np.tile(np.arange(len(faces)), 3)
        # A loop, the side of a triangle without an area, encloses nothing.
        real = start != end
        start, end, face = start[real], end[real], face[real]
        side = np.searchsorted(edges[:, 0] << 32 | edges[:, 1], np.minimum(start, end) << 32 | np.maximum(start, end))
        is_closed = bool((np.bincount(side, minlength=len(edges)) % 2 == 0).all())
        sign = np.where(start < end, 1, -1).astype(np.int32)
        arrays = (np.ascontiguousarray(array) for array in (shape.rotated, faces, edges, face, side, sign))
        return cls(is_closed, *(torch.as_tensor(array, device=device) for array in arrays))


@dataclass(frozen=True, eq=False)
class _Contour:
    """Directed edges: the object ``owner`` (N,) of each, ``weight`` (N,) how many triangles it bounds, ends ``a`` and ``b`` (2, N) in
    pixels, and their derivatives (N, 2, 4) by log scale and translation."""

    owner: torch.Tensor
    weight: torch.Tensor
    a: torch.Tensor
    b: torch.Tensor
    velocity_a: torch.Tensor
    velocity_b: torch.Tensor


@dataclass(frozen=True, eq=False)
class _Scene:
    """A batch of contours, their pieces, the place ``pixel`` (S,) of each piece on the canvases one after the other, and their sweep."""

    contour: _Contour
    pieces: Pieces
    pixel: torch.Tensor
    sweep: Sweep


class SilhouetteBatch:
    """Renders B meshes, each at its own rotation, into one canvas size: the largest of the objects', zero-padded.

    Args:
        shapes: the objects, with the same number of weight maps each.
        device: where everything is kept and computed; it needs float64.
    """

    def __init__(self, shapes: Sequence[PosedShape], device: torch.device) -> None:
        self.device = device
        self._topologies = [_Topology.of(shape, device) for shape in shapes]
        self._all_K = torch.as_tensor(np.stack([shape.K for shape in shapes]), device=device)
        self.height = max(shape.maps.shape[1] for shape in shapes)
        # One column more than the canvas: what is right of it is swept into a column without weight.
        self.columns = max(shape.maps.shape[2] for shape in shapes) + 1
        places = 1 + self.height * self.columns
        self._maps = torch.empty((len(shapes), places, len(shapes[0].maps)), dtype=torch.float64, device=device)
        for b, shape in enumerate(shapes):
            self._maps[b] = torch.as_tensor(_prefix_sums(shape.maps, self.height, self.columns))
        self._pack()

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all objects but those in ``rows``, which are renumbered in this order."""
        self._topologies = [self._topologies[b] for b in rows]
        index = torch.as_tensor(list(rows), device=self.device)
        self._all_K, self._maps = self._all_K[index], self._maps[index]
        self._pack()

    def _pack(self) -> None:
        """All objects' vertices, faces and edges behind each other."""
        parts = self._topologies
        counts = [torch.tensor([len(getattr(p, name)) for p in parts]) for name in ("vertices", "faces", "edges", "side_face")]
        first_vertex, first_face, first_edge = ((count.cumsum(0) - count).tolist() for count in counts[:3])
        self._vertices = torch.cat([p.vertices for p in parts])
        self._vertex_object = torch.repeat_interleave(torch.arange(len(parts)), counts[0]).to(self.device)
        self._faces = torch.cat([p.faces + n for p, n in zip(parts, first_vertex, strict=True)])
        self._edges = torch.cat([p.edges + n for p, n in zip(parts, first_vertex, strict=True)])
        self._edge_object = torch.repeat_interleave(torch.arange(len(parts)), counts[2]).to(self.device)
        self._side_face = torch.cat([p.side_face + n for p, n in zip(parts, first_face, strict=True)])
        self._side_edge = torch.cat([p.side_edge + n for p, n in zip(parts, first_edge, strict=True)])
        self._side_sign = torch.cat([p.side_sign for p in parts])
        # All triangles of a closed mesh cover every pixel twice, from the front and from the back.
        self._full = torch.tensor([ONE * (2 if p.is_closed else 1) for p in parts], dtype=torch.int32, device=self.device)

    def measure(self, log_scale: np.ndarray, translation: np.ndarray) -> BatchMeasures:
        """Measure the silhouettes at ``X_cam = exp(log_scale) * R @ X + t``, ``log_scale`` (B,) and ``translation`` (B, 3).

        All vertices must be in front of the camera.
        """
        scene = self._render(
            *(torch.as_tensor(value, dtype=torch.float64, device=self.device) for value in (log_scale, translation))
        )
        sweep, sums = scene.sweep, self._maps.flatten(0, 1)
        owner = sweep.at // self._maps.shape[1]
        # Between two places of the sweep alpha is constant. Behind an object's last one it is zero.
        runs = sums[sweep.at].diff(dim=0, append=sums[sweep.at[-1:]])
        areas, hard = self._alpha(sweep.area, owner)[:, None] * runs, (sweep.layers > 0)[:, None] * runs
        totals = self._totals(torch.cat([hard, areas], dim=1), owner).chunk(2, dim=1)
        slopes = self._slopes(scene, lambda pixel: sums[pixel + 1] - sums[pixel])
        return BatchMeasures(*(x.cpu().numpy() for x in (*totals, slopes)))

    def draw(self, log_scale: torch.Tensor, translation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Alpha (B, H, W) float64, differentiable by autograd in both arguments, and the pixels whose centres are covered (B, H, W) bool.

        ``log_scale`` (B,) and ``translation`` (B, 3) are float64 on the batch's device; all vertices must be in front of the camera.
        """
        alpha, hard = _Drawing.apply(self, log_scale, translation)
        return alpha, hard

    def _render(self, log_scale: torch.Tensor, translation: torch.Tensor) -> _Scene:
        grown = log_scale.exp()[self._vertex_object, None] * self._vertices
        contour = self._contour(grown, grown + translation[self._vertex_object])
        parts = cut_at_rows(contour.a, contour.b, self.height)
        pieces = cut_at_columns(parts, self.columns - 1)
        crossed = (parts.centre - 0.5).ceil().nan_to_num().clamp(0, self.columns - 1).long()
        row_start = contour.owner * self._maps.shape[1]
        pixel = row_start[pieces.edge] + pieces.row * self.columns + pieces.column
        # With x to the right and y down, a positive triangle runs upwards along its left side.
        weight = -contour.weight[pieces.edge]
        crossing = -contour.weight[parts.edge] * parts.crossing
        sweep = Sweep.of(
            torch.cat([pixel, pixel + pieces.inside, row_start[parts.edge] + parts.row * self.columns + crossed]),
            torch.cat([weight * pieces.near, weight * pieces.beyond, torch.zeros_like(crossing)]),
            torch.cat([torch.zeros_like(weight), torch.zeros_like(weight), crossing]),
        )
        return _Scene(contour, pieces, pixel, sweep)

    def _contour(self, grown: torch.Tensor, xyz: torch.Tensor) -> _Contour:
        """The edges that do not lie between two triangles on opposite sides, of camera points ``xyz`` (V, 3)."""
        K = self._all_K[self._vertex_object]
        towards = (K[:, :2, :2] * xyz[:, None, :2]).sum(dim=2) / xyz[:, 2:]
        xy = towards + K[:, :2, 2]
        (ax, bx, cx), (ay, by, cy) = xy[self._faces].permute(2, 1, 0)
        # One sign a triangle for its three sides: rounding must not open it.
        turn = ((bx - ax) * (cy - ay) - (by - ay) * (cx - ax)).sign().int()
        weight = torch.zeros(len(self._edges), dtype=torch.int32, device=self.device)
        weight.index_add_(0, self._side_edge, turn[self._side_face] * self._side_sign)
        ay, by = xy[:, 1][self._edges].unbind(1)
        seen = (torch.maximum(ay, by) > 0) & (torch.minimum(ay, by) < self.height)
        chosen = (seen & (weight != 0)).nonzero()[:, 0]
        ends = self._edges[chosen]
        a, b = ((xy[v].T, _velocities(K[v], grown[v], towards[v], xyz[v, 2])) for v in (ends[:, 0], ends[:, 1]))
        return _Contour(self._edge_object[chosen], weight[chosen], a[0], b[0], a[1], b[1])

    def _alpha(self, area: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
        return (area.double() / self._full[owner]).clamp(0, 1)

    def _slopes(self, scene: _Scene, weights: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Derivatives (B, C, 4) of the areas under maps that are ``weights`` (N, C) at N pixels: the flux of the moving pieces through the
        pixels that are partly covered."""
        contour, pieces = scene.contour, scene.pieces
        full = self._full[contour.owner[pieces.edge]]
        area = scene.sweep.area_at(scene.pixel)
        counts = (pieces.inside & (area > 0) & (area < full)).nonzero()[:, 0]
        edge = pieces.edge[counts]
        along = contour.b[:, edge] - contour.a[:, edge]
        share = ((pieces.middle[:, counts] - contour.a[:, edge]) * along).sum(dim=0) / (along**2).sum(dim=0)
        velocity = contour.velocity_a[edge].lerp(contour.velocity_b[edge], share[:, None, None])
        dx, dy = pieces.step[:, counts, None]
        flux = (dy * velocity[:, 0] - dx * velocity[:, 1]) * (contour.weight[edge] * ONE / full[counts])[:, None]
        slopes = weights(scene.pixel[counts])[:, :, None] * flux[:, None]
        return self._totals(slopes.flatten(1), contour.owner[edge]).unflatten(1, (-1, 4))

    def _totals(self, values: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
        """Sums (B, K) of ``values`` (N, K) over the items of each object; ``owner`` (N,) is sorted."""
        number = torch.bincount(owner, minlength=len(self._topologies))
        longest = int(number.max())
        place = torch.arange(len(owner), device=self.device) - (number.cumsum(0) - number)[owner]
        # Padded, since scattered additions come in any order on a GPU, and the last bits of the sum would change from run to run.
        padded = torch.zeros((len(number) * longest, values.shape[1]), dtype=values.dtype, device=self.device)
        return padded.index_copy_(0, owner * longest + place, values).view(len(number), longest, values.shape[1]).sum(dim=1)


class _Drawing(torch.autograd.Function):
    """:meth:`SilhouetteBatch.draw` for autograd."""

    @staticmethod
    def forward(
        context: Any, batch: SilhouetteBatch, log_scale: torch.Tensor, translation: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scene = batch._render(log_scale, translation)
        context.batch, context.scene = batch, scene
        objects, places = batch._maps.shape[:2]
        pixel = torch.arange(objects * places, device=batch.device)
        alpha = batch._alpha(scene.sweep.area_at(pixel), pixel // places)
        hard = scene.sweep.layers_at(pixel) > 0
        alpha, hard = (
            x.view(objects, places)[:, :-1].reshape(objects, batch.height, -1)[:, :, :-1].contiguous() for x in (alpha, hard)
        )
        context.mark_non_differentiable(hard)
        return alpha, hard

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[None, torch.Tensor, torch.Tensor]:
        batch = context.batch
        maps = torch.nn.functional.pad(torch.nn.functional.pad(gradients[0], (0, 1)).flatten(1), (0, 1)).flatten()
        slopes = batch._slopes(context.scene, lambda pixel: maps[pixel, None])[:, 0]
        return None, slopes[:, 0], slopes[:, 1:]


def _prefix_sums(maps: np.ndarray, height: int, columns: int) -> np.ndarray:
    """Sums (P + 1, C) float64 of all pixels before each of P = height * columns pixels, rows one after the other, of (C, h, w)."""
    channels, h, w = maps.shape
    sums = np.zeros((1 + height * columns, channels))
    sums[1:].reshape(height, columns, channels)[:h, :w] = maps.transpose(1, 2, 0)
    # In numpy, since a running sum of floats on a GPU need not repeat to the last bit.
    return sums.cumsum(axis=0)


def _velocities(K: torch.Tensor, grown: torch.Tensor, towards: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    """Derivatives (N, 2, 4) of the pixels of N points by log scale and translation; ``towards`` (N, 2) is the pixel less the principal
    point, ``grown`` (N, 3) the point less the translation."""
    by_t = torch.cat([K[:, :2, :2], -towards[:, :, None]], dim=2) / depth[:, None, None]
    return torch.cat([(by_t * grown[:, None]).sum(dim=2, keepdim=True), by_t], dim=2)
