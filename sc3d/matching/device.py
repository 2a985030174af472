"""Matching on a GPU, or on any PyTorch device: the same matches as :func:`sc3d.matching.label.match_pair`.

Each image is moved to the device once. A pair then is a few products and look-ups whose shapes do not depend on the outcome, so that
nothing waits for the host: the evidence of a whole tile of pairs is queued, and read back together. On the CPU
:func:`~sc3d.matching.label.match_pair` is faster, since it searches only what the filters left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sc3d.config import DEVICE_TRANSFERS, MatchConfig
from sc3d.errors import ConfigError, FeatureError
from sc3d.geometry.geodesic import LEVELS
from sc3d.matching.candidates import Candidates, fused_product, guided
from sc3d.matching.described import Described, DescribedSurface
from sc3d.matching.label import collect_matches, match_pair
from sc3d.matching.lift import interpolated
from sc3d.matching.registration import NOT_REGISTERED
from sc3d.matching.transfer import share_template
from sc3d.matching.verify import check_radii
from sc3d.records import Matches


class DeviceSurface:
    """The mesh side of an image on a device, with the geodesic ball of each surface hit.

    ``hits`` (N,) as in :class:`~sc3d.matching.described.DescribedSurface`; ``queries`` (H, D); ``vertices`` (V, D); of a registered mesh
    ``place_queries`` (R, H, 6) at the hits and ``places`` (R, V, 6) of the vertices under each reference; ``start`` and ``width`` (H,) say
    where the ball of a hit's dominant vertex lies in ``members`` (M,) and their distances ``steps`` (M,).
    """

    def __init__(self, mesh: DescribedSurface, device: torch.device) -> None:
        balls = mesh.surface.balls
        row = np.searchsorted(balls.centres, mesh.surface.dominant)
        offsets = balls.offsets.astype(np.int64)
        widths = np.diff(offsets)

        def move(values: np.ndarray, kind: type) -> torch.Tensor:
            return torch.from_numpy(values.astype(kind)).to(device)

        self.hits, self.queries = move(mesh.hits, np.int64), mesh.queries.to(device)
        self.vertices = mesh.vertices.descriptors().to(device)
        self.places = self.place_queries = None
        if mesh.places is not None:
            rows = np.arange(len(mesh.surface.cells))
            at_hits = np.stack([interpolated(places, mesh.surface, rows) for places in mesh.places])
            self.places, self.place_queries = move(mesh.places, np.float32), move(at_hits, np.float32)
        self.start, self.width = move(offsets[row], np.int64), move(widths[row], np.int64)
        self.members, self.steps = move(balls.members, np.int32), move(balls.distances, np.int32)
        self.dominant, self.mesh = move(mesh.surface.dominant, np.int64), mesh
        self.step, self.diagonal = np.float32(balls.radius / LEVELS), mesh.surface.diagonal
        self._rounds = int(widths.max(initial=0)).bit_length()

    def distance(self, hits: torch.Tensor, vertices: torch.Tensor) -> torch.Tensor:
        """Geodesic distances (K,) float64, in diagonals, from the dominant vertices of ``hits`` to ``vertices``; inf beyond the balls."""
        at, width = self.start[hits], self.width[hits]
        # The binary search of sc3d.geometry.geodesic.lookup: the same number of rounds for all rows, and no branch.
        for _ in range(self._rounds):
            half = width >> 1
            at = at + half * (self.members[(at + half - 1).clamp_min(0)] < vertices)
            width = width - half
        found = (self.members[at] == vertices) & (self.width[hits] > 0)
        distance = (self.steps[at].float() * float(self.step)).double() / self.diagonal
        return torch.where(found, distance, torch.inf)


class DeviceImage:
    """A described image on a device: what :func:`match_pairs` needs of it."""

    def __init__(self, image: Described, device: torch.device | str) -> None:
        self.image, self.device = image, torch.device(device)
        self.dense = image.dense.to(self.device)
        self.coarse = tuple(layer.to(self.device) for layer in image.coarse)
        self.cells = torch.from_numpy(image.cells).to(self.device)
        self.surface = DeviceSurface(image.mesh, self.device) if image.mesh is not None and len(image.mesh.queries) else None


@dataclass(frozen=True)
class _Evidence:
    """A pair's candidates on the device: ``forward`` (N,) target rows, ``cosine``, ``cycle_error``, ``geodesic_error`` (N,)."""

    forward: torch.Tensor
    cosine: torch.Tensor
    cycle_error: torch.Tensor
    geodesic_error: torch.Tensor


def match_pairs(pairs: Sequence[tuple[DeviceImage, DeviceImage]], category: str, config: MatchConfig) -> list[Matches]:
    """The matches of several pairs of one category, as :func:`~sc3d.matching.label.match_pair` finds them.

    They differ from it where two candidates are as good to within the rounding of float32.

    Raises:
        ConfigError: the configuration asks for a transfer that runs on the CPU alone.
        FeatureError: two images were described by different recipes, their geodesic balls are too small for ``config.tau_geo``, or their
            meshes were not registered, which the transfer needs.
    """
    if config.transfer not in DEVICE_TRANSFERS:
        raise ConfigError(f"match.transfer = {config.transfer} runs on the CPU alone; match there, or choose nearest")
    queued: list[_Evidence | None] = []
    for source, target in pairs:
        check_radii(source.image, target.image, config.tau_geo)
        source.image.check_pair(target.image)
        empty = len(source.image.cells) == 0 or len(target.image.cells) == 0
        queued.append(None if empty else _evidence(source, target))
    return [
        match_pair(source.image, target.image, category, config)
        if evidence is None
        else _read_back(source.image, target.image, evidence, category, config)
        for (source, target), evidence in zip(pairs, queued, strict=True)
    ]


def _evidence(source: DeviceImage, target: DeviceImage) -> _Evidence:
    cosines = fused_product(source, target)
    closeness = guided(cosines, source.image, target.image)
    forward = closeness.argmax(dim=1)
    cosine = cosines.gather(1, forward[:, None])[:, 0]
    side, pixels = source.image.letterbox.side, source.image.letterbox.cell_pixels
    returned = source.cells[closeness.argmax(dim=0)[forward]]
    rows, columns = returned // side - source.cells // side, returned % side - source.cells % side
    cycle = (torch.hypot(rows.double(), columns.double()) * pixels).float()
    return _Evidence(forward, cosine, cycle, _geodesic(source, target, forward))


def _geodesic(source: DeviceImage, target: DeviceImage, forward: torch.Tensor) -> torch.Tensor:
    """The bicyclic geodesic error (N,) float32 of all candidates; inf without a hit on either surface."""
    mine, theirs = source.surface, target.surface
    if mine is None or theirs is None or not (mine.mesh.surface.is_sure and theirs.mesh.surface.is_sure):
        return torch.full((len(forward),), torch.inf, device=source.device)
    source_hits, target_hits = mine.hits, theirs.hits[forward]
    lifted = (source_hits >= 0) & (target_hits >= 0)
    source_hits, target_hits = source_hits.clamp_min(0), target_hits.clamp_min(0)
    errors = []
    for (there, gap_there), (back, gap_back) in _predictions(mine, theirs, source.image.transfer == "registration"):
        first = theirs.distance(target_hits, there[source_hits]) + gap_there[source_hits]
        second = mine.distance(source_hits, back[target_hits]) + gap_back[target_hits]
        errors.append((first + second) / 2)
    middle = torch.stack(errors).sort(dim=0).values[(len(errors) - 1) // 2]
    return torch.where(lifted, middle, torch.inf).float()


_Prediction = tuple[torch.Tensor, torch.Tensor]
"""The vertex (H,) that each hit has on the other mesh, and the gap (H,) that the transfer leaves there, in diagonals."""


def _predictions(mine: DeviceSurface, theirs: DeviceSurface, registered: bool) -> list[tuple[_Prediction, _Prediction]]:
    """There and back, once for each transfer that is asked, as :func:`~sc3d.matching.transfer.transfers_between` has them."""
    if share_template(mine.mesh, theirs.mesh):
        return [(_without_gap(mine.dominant), _without_gap(theirs.dominant))]
    if not registered:
        there = (mine.queries @ theirs.vertices.T).argmax(dim=1)
        back = (theirs.queries @ mine.vertices.T).argmax(dim=1)
        return [(_without_gap(there), _without_gap(back))]
    if mine.places is None or mine.place_queries is None or theirs.places is None or theirs.place_queries is None:
        raise FeatureError(NOT_REGISTERED)
    references = zip(mine.place_queries, theirs.places, theirs.place_queries, mine.places, strict=True)
    return [(_nearest(here, others), _nearest(there, own)) for here, others, there, own in references]


def _without_gap(vertices: torch.Tensor) -> _Prediction:
    return vertices, torch.zeros(len(vertices), dtype=torch.float64, device=vertices.device)


def _nearest(queries: torch.Tensor, places: torch.Tensor) -> _Prediction:
    # Not by a product: the difference of nearly equal squares would round small gaps away.
    gap, vertex = torch.cdist(queries, places, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
    return vertex, gap.double()


def _read_back(source: Described, target: Described, evidence: _Evidence, category: str, config: MatchConfig) -> Matches:
    forward = evidence.forward.cpu().numpy()
    cosine, cycle, geodesic = torch.stack([evidence.cosine, evidence.cycle_error, evidence.geodesic_error]).cpu().numpy()
    candidates = Candidates(np.arange(len(cosine)), forward, cosine, cycle)
    return collect_matches(source, target, category, candidates, geodesic, config)
