"""A class shape aligned to an image: many rigid poses first, then the keypoints of the best of them set free.

The geometric energy knows no size and no pose, so it costs nothing as long as the shape is rigid: only the few hypotheses that are left pay
for it. All hypotheses are one batch of tensors. The paper's schedules are not known; these are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from sc3d.class_shapes.class_shape import ClassShape
from sc3d.class_shapes.energy import EnergyWeights, ImageTerms, outline
from sc3d.class_shapes.hypotheses import Poses, different, proposals
from sc3d.class_shapes.observation import Observation
from sc3d.class_shapes.rotations import angles_between, best_rotation, rotation_of
from sc3d.class_shapes.statistics import GeometricEnergy
from sc3d.errors import InputError

_KEEP = 4
"""Steps for which a cell keeps the point that explains it."""

TERMS = ("reconstruction", "geometry", "background", "depth", "pose")


@dataclass(frozen=True)
class AlignmentSchedule:
    """How long and how finely an alignment looks.

    Attributes:
        hypotheses: rigid poses that are optimised; ``kept`` of them are set free.
        rigid_steps, free_steps: of Adam.
        sigma: spatial deviation at the start and at the end, in longer sides; it shrinks geometrically over the first four fifths.
        rate: learning rate of places, in longer sides; of directions in radians, of the focal length three quarters of it.
        features: most geometric features of either kind.
    """

    hypotheses: int = 16
    kept: int = 4
    rigid_steps: int = 60
    free_steps: int = 100
    sigma: tuple[float, float] = (0.15, 0.02)
    rate: float = 4e-3
    features: int = 600
    weights: EnergyWeights = field(default_factory=EnergyWeights)


@dataclass(frozen=True, eq=False)
class Alignment:
    """A class shape in an image.

    Attributes:
        keypoints: (K, 3) float32 in the camera's frame, the unit of depth of the image.
        inverse_focal: in 1 / longer sides.
        terms: the five weighted terms of its energy, as in :data:`TERMS`.
        rotation: (3, 3) from the class shape's frame to the camera's, of the best similarity.
        margin: what the best hypothesis that is turned by more than 30 degrees has more energy; infinite without one. Near 0 the image
            leaves open which way the object faces.
        history: (steps, 5) weighted terms of the best hypothesis along the free steps.
        others: energies (H - 1,) of the hypotheses that lost, and their turns from the best in degrees: (H - 1, 2).
    """

    keypoints: np.ndarray
    inverse_focal: float
    terms: np.ndarray
    rotation: np.ndarray
    margin: float
    history: np.ndarray
    others: np.ndarray

    @property
    def energy(self) -> float:
        """The sum of the terms."""
        return float(self.terms.sum())

    @property
    def disagreement(self) -> float:
        """What the fit costs by the mesh's pose, unweighted: see :meth:`~sc3d.class_shapes.pose_prior.PosePrior.disagreement`."""
        return float(self.terms[TERMS.index("pose")]) / EnergyWeights().pose


def align(
    shape: ClassShape,
    observation: Observation,
    schedule: AlignmentSchedule | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Alignment:
    """Align a class shape to an image.

    Args:
        seed: of the hypotheses and of the cells that are explained.
        device: where it computes.

    Raises:
        InputError: the image is described by other features than those that the class shape was built from.
    """
    return align_images(shape, [observation], schedule, seed, device)[0]


def align_images(
    shape: ClassShape,
    observations: Sequence[Observation],
    schedule: AlignmentSchedule | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> list[Alignment]:
    """Align a class shape to several images side by side, with grids of one side: eight take two to three times less each.

    What an image gets is what :func:`align` gives it, but for the rounding of sums. Arguments and errors as there.
    """
    schedule = schedule or AlignmentSchedule()
    images = [_terms_of(shape, observation, seed, device) for observation in observations]
    starts = [
        proposals(shape, observation, terms, schedule.hypotheses, seed)
        for observation, terms in zip(observations, images, strict=True)
    ]
    side_by_side = _SideBySide(shape, observations, images)
    energy = GeometricEnergy(shape.statistics.most_certain(schedule.features), device)
    return _free(shape, side_by_side, energy, _rigid(shape, side_by_side, starts, schedule), schedule)


def _terms_of(shape: ClassShape, observation: Observation, seed: int, device: torch.device | str) -> ImageTerms:
    mine, other = shape.prototypes.features.shape[1], observation.features.shape[1]
    if mine != other:
        raise InputError(
            f"{observation.image_id}: the class shape was built from features of {mine} channels, the image has {other}; "
            "build it again from the same features"
        )
    return ImageTerms(observation, shape.prototypes, observation.inverse_focal or shape.inverse_focal, seed=seed, device=device)


class _SideBySide:
    """B images, and what there is of each for every hypothesis of it."""

    def __init__(self, shape: ClassShape, observations: Sequence[Observation], images: Sequence[ImageTerms]) -> None:
        self._images, self.device = images, images[0].places.device
        self._meshes = shape.poses.rotations_of([observation.pose for observation in observations])
        self._open = torch.tensor([observation.inverse_focal is None for observation in observations])

    def of(self, poses: Sequence[Poses]) -> tuple[ImageTerms, torch.Tensor, torch.Tensor]:
        """For the hypotheses (H,) of the images: the terms, the meshes' rotations (H, 3, 3) as
        :meth:`~sc3d.class_shapes.pose_prior.PosePrior.rotations_of` has them, and which focal lengths are not known (H,)."""
        counts = [len(one.scale) for one in poses]
        meshes, open_ = (
            value.to(self.device).repeat_interleave(torch.tensor(counts, device=self.device), dim=0)
            for value in (self._meshes, self._open)
        )
        return ImageTerms.of_hypotheses(self._images, counts), meshes, open_


def _sigmas(first: float, last: float, steps: int) -> np.ndarray:
    """From the first to the last deviation over four fifths of the steps, and the last from there on."""
    along = np.minimum(np.arange(steps) / max(0.8 * (steps - 1), 1), 1)
    return np.asarray(first * (last / first) ** along)


def _rigid(shape: ClassShape, images: _SideBySide, starts: Sequence[Poses], schedule: AlignmentSchedule) -> list[Poses]:
    """Of each image the poses after their steps, the ``kept`` best of them, the best one first. Turns are vectors on top of the first
    rotation."""
    device, weights = images.device, schedule.weights
    terms, meshes, open_ = images.of(starts)
    start = Poses.joined(starts)
    dense = torch.from_numpy(shape.points.astype(np.float32)).to(device)
    R, scale, t, inverse = (value.to(device) for value in (start.R, start.scale, start.t, start.inverse_focal))
    unit = (terms.depth * inverse)[:, None]
    turn, shift = torch.zeros_like(t, requires_grad=True), torch.zeros_like(t, requires_grad=True)
    size, zoom = torch.zeros_like(scale, requires_grad=True), torch.zeros_like(scale, requires_grad=True)
    rate = schedule.rate
    groups = [{"params": [turn, size], "lr": 6 * rate}, {"params": [shift], "lr": rate}, {"params": [zoom], "lr": rate}]
    optimizer = torch.optim.Adam(groups[: 3 if open_.any() else 2], fused=True)
    sigmas = _sigmas(schedule.sigma[0], (schedule.sigma[0] * schedule.sigma[1]) ** 0.5, schedule.rigid_steps)

    def current() -> Poses:
        return Poses(rotation_of(turn) @ R, scale * size.exp(), t + shift * unit, inverse * (zoom * open_).exp())

    few, middle = outline(dense), dense[-len(shape.ids) :].mean(dim=0)

    def explained(poses: Poses, sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            return terms.explained_by(terms.seen(poses.apply(dense), 1 / poses.inverse_focal), sigma)

    def cost(poses: Poses, by: tuple[torch.Tensor, torch.Tensor], sigma: float) -> torch.Tensor:
        focal = 1 / poses.inverse_focal
        image = weights.reconstruction * terms.reconstruction(terms.seen(poses.apply(dense[by[0]]), focal), by[1], sigma)
        image = image + weights.background * terms.background(terms.seen(poses.apply(few), focal))
        image = image + weights.depth * terms.depth_error(poses.apply(middle[None])[..., 2])
        return image + weights.pose * shape.poses.disagreement(meshes, poses.R)

    by = explained(current(), float(sigmas[0]))
    for step, sigma in enumerate(sigmas):
        optimizer.zero_grad()
        poses = current()
        by = explained(poses, float(sigma)) if step and step % _KEEP == 0 else by
        cost(poses, by, float(sigma)).sum().backward()
        optimizer.step()
    with torch.no_grad():
        found = current()
        last = cost(found, explained(found, float(sigmas[-1])), float(sigmas[-1]))
    chosen = []
    for rows in _rows_of(starts):
        best = rows.start + different(found.R[rows].cpu().numpy(), last[rows].cpu().numpy(), schedule.kept)
        chosen.append(Poses(*(value[torch.from_numpy(best).to(device)] for value in vars(found).values())))
    return chosen


def _rows_of(poses: Sequence[Poses]) -> list[slice]:
    """Where the poses of each image are among those of all."""
    ends = np.cumsum([len(one.scale) for one in poses]).tolist()
    return [slice(first, end) for first, end in zip([0, *ends], ends, strict=False)]


def _free(
    shape: ClassShape, images: _SideBySide, geometry: GeometricEnergy, kept: Sequence[Poses], schedule: AlignmentSchedule
) -> list[Alignment]:
    device, weights = images.device, schedule.weights
    terms, meshes, open_ = images.of(kept)
    poses = Poses.joined(kept)
    canonical = torch.from_numpy(shape.keypoints.astype(np.float32)).to(device)
    matrix = torch.from_numpy(shape.matrix).to(device)
    start = poses.apply(canonical)
    unit = (terms.depth * poses.inverse_focal)[:, None, None]
    shift = torch.zeros_like(start, requires_grad=True)
    zoom = torch.zeros_like(poses.inverse_focal, requires_grad=True)
    groups = [{"params": [shift], "lr": schedule.rate}, {"params": [zoom], "lr": 0.75 * schedule.rate}]
    optimizer = torch.optim.Adam(groups[: 2 if open_.any() else 1], fused=True)
    first = (schedule.sigma[0] * schedule.sigma[1]) ** 0.5

    few = outline(matrix)

    def current() -> tuple[torch.Tensor, torch.Tensor]:
        return start + shift * unit, 1 / (poses.inverse_focal * (zoom * open_).exp())

    def explained(sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            keypoints, focal = current()
            return terms.explained_by(terms.seen(matrix @ keypoints, focal), sigma)

    def cost(by: tuple[torch.Tensor, torch.Tensor], sigma: float) -> torch.Tensor:
        keypoints, focal = current()
        parts = (
            weights.reconstruction * terms.reconstruction(terms.seen(matrix[by[0]] @ keypoints, focal), by[1], sigma),
            weights.geometry * geometry(keypoints),
            weights.background * terms.background(terms.seen(few @ keypoints, focal)),
            weights.depth * terms.depth_error(keypoints[..., 2]),
        )
        return torch.stack(parts, dim=-1)

    history = []
    sigmas = _sigmas(first, schedule.sigma[1], schedule.free_steps)
    by = explained(float(sigmas[0]))
    for step, sigma in enumerate(sigmas):
        optimizer.zero_grad()
        by = explained(float(sigma)) if step and step % _KEEP == 0 else by
        values = cost(by, float(sigma))
        history.append(values.detach())
        values.sum().backward()
        optimizer.step()
    with torch.no_grad():
        final = cost(explained(schedule.sigma[1]), schedule.sigma[1])
        moved, focal = current()
    keypoints, inverse = moved.cpu().numpy(), (1 / focal).cpu().numpy()
    rotations = np.stack([best_rotation(shape.keypoints, one) for one in keypoints])
    steps = torch.stack([*history, final]).cpu().numpy()
    # Free steps hardly turn the shape, so this term is the same at all of them.
    elsewhere = weights.pose * shape.poses.disagreement(meshes.cpu(), torch.from_numpy(rotations))
    pose = np.broadcast_to(elsewhere.numpy(), steps.shape[:2])[..., None]
    steps = np.concatenate([steps, pose], axis=2).astype(np.float32)
    return [_chosen(keypoints[rows], rotations[rows], inverse[rows], steps[:, rows]) for rows in _rows_of(kept)]


def _chosen(keypoints: np.ndarray, rotations: np.ndarray, inverse: np.ndarray, history: np.ndarray) -> Alignment:
    """The hypothesis of least energy, and how far the others are behind."""
    terms = history[-1]
    energies = terms.sum(axis=1)
    best = int(energies.argmin())
    turns = np.degrees(angles_between(rotations, rotations[best][None]))
    rest = np.arange(len(energies)) != best
    others = np.stack([energies[rest], turns[rest]], axis=1)
    turned = others[others[:, 1] > 30, 0]
    margin = float(turned.min() - energies[best]) if len(turned) else np.inf
    return Alignment(keypoints[best], float(inverse[best]), terms[best], rotations[best], margin, history[:, best], others)
