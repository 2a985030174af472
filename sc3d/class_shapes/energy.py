"""The energy of a class shape in an image: ``w_r L_rec + w_g E_geom + w_b L_bg + w_d L_depth``.

- ``L_rec = -mean_p log(eps + max_i p_sem(i, p) p_sp(i, p))`` over foreground cells p and points i: some point that looks like the cell
  lies there, with ``p_sp = exp(-d^2 / 2 sigma^2)``. The four terms are the paper's; how this one is summed is ours, and so is the distance
  d: not in the image alone, but between the point and the cell lifted to its depth, along the line of sight at half weight. A pose and its
  mirror twin have one image, and opposite depths.
- ``E_geom``: the geometric energy of the keypoints. Exact.
- ``L_bg``: how far the points fall outside the mask, ours: ``mean_i max(0, distance - 1.5 cells) / 0.05``.
- ``L_depth``: ``(mean_k z_k / z - 1)^2`` of the keypoints' depths by the object's. The authors' code has it unused, in the unit of depth.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from sc3d.class_shapes.camera import principal_point, project
from sc3d.class_shapes.observation import Observation
from sc3d.class_shapes.prototypes import Prototypes

_FLOOR = 1e-4
_OUTLINE = 250
_LINE_OF_SIGHT = 0.5
_SLACK, _REACH = 1.5, 0.05
"""Cells outside the mask that cost nothing, and longer sides that cost 1."""


@dataclass(frozen=True)
class EnergyWeights:
    """The weights of reconstruction, geometry, background, depth, and of the pose of a mesh. The paper's are not known, and it has no last
    one; these are ours."""

    reconstruction: float = 1.0
    geometry: float = 0.3
    background: float = 0.5
    depth: float = 10.0
    pose: float = 0.5


class ImageTerms:
    """The terms of images' energies that depend on the pose, for H hypotheses at once: all of one image, or each of its own
    (:meth:`of_hypotheses`).

    Args:
        observation: the image.
        prototypes: of the N points.
        inverse_focal: in 1 / longer sides, of which depths and places share the unit.
        cells: most foreground cells that are explained.
        candidates: most points that may explain a cell, the likeliest; of the others the floor is nearly all that is left.
        seed: which cells are taken, where there are more.
        device: where it computes.

    Attributes:
        places: (B, P, 3) where cells are seen in longer sides, and their weighted depths; B is 1 or H, in all arrays.
        share: (B, P) of each cell in the mean over an image's cells; 0 for those that fill up a row.
        candidates, log_semantic: (B, P, C) the points that may explain a cell, and their ``log p_sem``.
        depth: (B,) of the object, in the image's unit.
    """

    def __init__(
        self,
        observation: Observation,
        prototypes: Prototypes,
        inverse_focal: float,
        cells: int = 200,
        candidates: int = 32,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(observation.xy))[:cells])
        semantic = prototypes.log_likelihood(torch.from_numpy(observation.features[chosen]).to(device))[None]
        self.log_semantic, self.candidates = semantic.topk(min(candidates, semantic.shape[2]), dim=2)
        depth = float(np.median(observation.depth))
        sight = _LINE_OF_SIGHT**0.5 / (depth * inverse_focal)
        places = np.concatenate([observation.xy, sight * observation.depth[:, None]], axis=1)[None, chosen]
        self.places, self.depth, self._sight, self._principal = (
            torch.from_numpy(np.asarray(value, np.float32)).to(device)
            for value in (places, [depth], [sight], principal_point(observation.size)[None])
        )
        self.share = torch.full_like(self.places[..., 0], 1 / len(chosen))
        self._outside = _outside(observation).to(device)
        self._to_square = _square_frame(observation).to(device)

    @classmethod
    def of_hypotheses(cls, images: Sequence[ImageTerms], counts: Sequence[int]) -> ImageTerms:
        """Of so many hypotheses of each of several images, whose grids are of one side."""
        found = copy.copy(images[0])
        cells, repeats = max(image.places.shape[1] for image in images), torch.tensor(counts, device=found.places.device)
        for name in vars(found):
            rows = torch.cat(
                [_filled(value, cells) if name in _OF_CELLS else value for value in (vars(one)[name] for one in images)]
            )
            setattr(found, name, rows.repeat_interleave(repeats, dim=0))
        return found

    def coarse(self) -> ImageTerms:
        """Of a third of the cells and half of the candidates: enough to tell bad poses from good ones."""
        few, half = copy.copy(self), (self.candidates.shape[2] + 1) // 2
        few.places, few.share = self.places[:, ::3], self.share[:, ::3] / self.share[:, ::3].sum(dim=1, keepdim=True)
        few.candidates, few.log_semantic = self.candidates[:, ::3, :half], self.log_semantic[:, ::3, :half]
        return few

    def seen(self, points: torch.Tensor, focal: torch.Tensor) -> torch.Tensor:
        """Where camera points (H, N, 3) are seen with focal lengths (H,), in longer sides, and their weighted depths: (H, N, 3)."""
        flat = project(points, focal[:, None, None], self._principal[:, None])
        return torch.cat([flat, self._sight[:, None, None] * points[..., 2:]], dim=-1)

    @torch.no_grad()
    def explained_by(self, seen: torch.Tensor, sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Which point explains each cell best, (H, P), and its ``log p_sem``, of points seen at (H, N, 3)."""
        first = torch.arange(len(seen), device=seen.device)[:, None, None] * seen.shape[1]
        rows = self.candidates + first
        away = seen.reshape(-1, 3)[rows.reshape(-1)].reshape(*rows.shape, 3) - self.places[:, :, None]
        best = (away.square_().sum(-1).div_(-2 * sigma**2) + self.log_semantic).argmax(dim=-1, keepdim=True)
        point, semantic = (of.expand(*rows.shape).gather(2, best)[..., 0] for of in (self.candidates, self.log_semantic))
        return point, semantic

    def reconstruction(self, seen: torch.Tensor, semantic: torch.Tensor, sigma: float) -> torch.Tensor:
        """``L_rec`` (H,) of the points that :meth:`explained_by` found for the cells, seen at (H, P, 3), and their ``log p_sem`` (H, P).

        The gradient of a maximum is that of whichever point attains it, so no other point is needed.
        """
        log = semantic - (seen - self.places).square().sum(-1) / (2 * sigma**2)
        return -(torch.logaddexp(log, log.new_tensor(np.log(_FLOOR))) * self.share).sum(dim=-1)

    def background(self, seen: torch.Tensor) -> torch.Tensor:
        """``L_bg`` (H,) of points seen at (H, N, 3)."""
        grid = seen[..., :2] * self._to_square[:, :1] + self._to_square[:, 1:]
        # Beyond the frame: the distance to it, and that of where it is left.
        inside = grid.clamp(-1, 1)
        beyond = (grid - inside).square().sum(-1).clamp_min(1e-12).sqrt() / 2
        field = self._outside.expand(len(seen), -1, -1, -1)
        found = torch.nn.functional.grid_sample(field, inside[:, None], align_corners=False, padding_mode="border")
        return (found[:, 0, 0] + beyond).mean(dim=-1) / _REACH

    def depth_error(self, depth: torch.Tensor) -> torch.Tensor:
        """``L_depth`` (H,) of the keypoints' depths (H, K)."""
        return (depth.mean(dim=-1) / self.depth - 1).square()


_OF_CELLS = ("places", "share", "candidates", "log_semantic")


def _filled(values: torch.Tensor, cells: int) -> torch.Tensor:
    """Values (1, P, ...) of cells with zeros behind them: (1, cells, ...)."""
    return torch.cat([values, values.new_zeros(1, cells - values.shape[1], *values.shape[2:])], dim=1)


def outline(points: torch.Tensor) -> torch.Tensor:
    """About 250 of points (..., N, D), which stand for all where they should not lie outside the mask."""
    return points[..., :: max(points.shape[-2] // _OUTLINE, 1), :]


def _outside(observation: Observation) -> torch.Tensor:
    """Distance (1, 1, side, side) of each cell to the mask beyond the slack, in sides of the square frame."""
    side = observation.letterbox.side
    distance = distance_transform_edt(~observation.foreground)
    return torch.from_numpy(np.maximum(distance - _SLACK, 0).astype(np.float32) / side)[None, None]


def _square_frame(observation: Observation) -> torch.Tensor:
    """Factor and offset (1, 2, 2) from longer sides to the square frame's [-1, 1]."""
    box, longer = observation.letterbox, max(observation.size)
    ends = box.to_square(np.array([[0.0, 0.0], [longer, longer]])) / box.square * 2 - 1
    return torch.from_numpy(np.stack([ends[1] - ends[0], ends[0]]).astype(np.float32))[None]
