"""PartField in the slot of the 3D descriptor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch

from actors.base import Resources, Row
from actors.foundation.actor import FoundationActor
from actors.foundation.device import choose_dtype
from actors.foundation.partfield.model import FILE, PartField, load_network
from actors.foundation.partfield.network import TINY, random_network
from actors.foundation.partfield.projection import onto_axes, principal_axes
from actors.weights import fetch_weights
from sc3d.config import ModelsConfig
from sc3d.datasets.toys.catalogue import CATALOGUE
from sc3d.datasets.toys.meshing import mesh_toy
from sc3d.errors import FeatureError
from sc3d.geometry.mesh import Mesh

_SAMPLES, _TINY_SAMPLES = 100_000, 2_000
_REFERENCE_TOYS = ("aeroplane", "bus", "chair", "quadruped")


class PartFieldShape(FoundationActor):
    """PartField's features of the canonical mesh's vertices.

    With ``models.partfield_dims`` they are stored projected on axes that the same weights always give, so that features of images that
    were described at different times can be compared.
    """

    requires: ClassVar[Mapping[str, str]] = {
        "vertices": "(V, 3) welded mesh, canonical frame",
        "faces": "(F, 3) triangles, vertex indices",
    }
    provides: ClassVar[Mapping[str, str]] = {"shape": "(V, D) float16 descriptor per vertex"}
    resources: ClassVar[Resources] = Resources(num_cpus=0.5, num_gpus=0.25)
    batch_size: ClassVar[int] = 4
    version: ClassVar[str] = "partfield-1"
    options: ClassVar[tuple[str, ...]] = ("models.partfield_dims", "seed")
    weights: ClassVar[Mapping[str, tuple[str, ...]]] = {"models.partfield": (FILE,)}

    def load(self, models: ModelsConfig, device: torch.device) -> None:
        """Load the network, and find the axes that features are projected on."""
        if models.variant == "tiny":
            network, samples = random_network(TINY), _TINY_SAMPLES
        else:
            network, samples = load_network(fetch_weights(models.partfield, (FILE,), models.cache)), _SAMPLES
        self.model = PartField(network, device, _precision(models, device), samples, self.config.seed)
        self._axes = None if models.partfield_dims is None else reference_axes(self.model, models.partfield_dims)

    def process(self, row: Row) -> Row:
        """Describe one mesh; raises :class:`~sc3d.errors.GeometryError` if it cannot be used."""
        return self.process_batch([row])[0]

    def process_batch(self, rows: Sequence[Row]) -> list[Row]:
        """Describe several meshes at once; raises as :meth:`process` if one of them cannot be used."""
        described = self.model.describe([Mesh(row["vertices"], row["faces"]) for row in rows])
        return [{"shape": self._stored(features)} for features in described]

    def _stored(self, features: np.ndarray) -> np.ndarray:
        values = features if self._axes is None else onto_axes(features, self._axes)
        if np.abs(values).max() > np.finfo(np.float16).max:
            raise FeatureError("PartField's features are too large for float16; are these its published weights?")
        return values.astype(np.float16)


def reference_axes(model: PartField, dims: int) -> np.ndarray:
    """Principal axes (D, dims) of the model's features on four unlike toys: they depend on the weights and on nothing else."""
    return principal_axes([model.describe([mesh])[0] for mesh in _reference_meshes()], dims)


def _reference_meshes() -> Iterator[Mesh]:
    for name in _REFERENCE_TOYS:
        toy = mesh_toy(CATALOGUE[name].build(np.random.default_rng(0)))
        yield Mesh(toy.vertices, toy.faces)


def _precision(models: ModelsConfig, device: torch.device) -> torch.dtype:
    # Upstream runs this network in float16, which has eight times the resolution of bfloat16.
    return torch.float16 if models.dtype == "auto" and device.type == "cuda" else choose_dtype(models, device)
