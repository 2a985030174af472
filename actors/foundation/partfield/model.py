"""PartField for meshes: a network, where it runs and how finely a surface is sampled."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from actors.foundation.partfield.network import FULL, PartFieldNetwork, PartFieldSize, frozen
from actors.foundation.partfield.sampling import sample_surface, to_network_frame
from actors.state_dicts import load_strictly, read_state
from sc3d.errors import FeatureError, WeightsError
from sc3d.geometry.mesh import Mesh

FILE = "model_objaverse.ckpt"
"""The weights in the published repository."""

UNUSED = (
    "logit_scale",
    *(f"sdf_decoder.layers.{i}.weight" for i in range(0, 14, 2)),
    *(
        f"pvcnn.pc_encoder.encoder.{block}.{layer}.{name}"
        for block in (1, 2, 3)
        for layer in ("voxel_layers.0", "voxel_layers.3", "point_features.layers.0")
        for name in ("weight", "bias")
    ),
)
"""Tensors of the checkpoint that part features do not depend on: the signed distance's, and encoder blocks whose output goes nowhere."""

_PLANES_AT_ONCE = 12
"""On a GPU: the planes of four objects. On a CPU more than one at a time only takes memory."""


class PartField:
    """Part features of mesh vertices: what belongs to the same part of an object, or of two alike objects, has similar features.

    Args:
        network: in evaluation mode; see :func:`load_network` and :func:`~actors.foundation.partfield.network.random_network`.
        device: where it runs.
        dtype: of convolutions and matrix products; norms, sampling and features are float32 whatever it is.
        samples: points on the surface that the network sees; trained with 100,000, and features depend on the number.
        seed: of those points.
    """

    def __init__(
        self,
        network: PartFieldNetwork,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        samples: int = 100_000,
        seed: int = 0,
    ) -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device)
        self.dtype, self.samples, self.seed = dtype, samples, seed

    def describe(self, meshes: Sequence[Mesh]) -> list[np.ndarray]:
        """Features (V, D) float32 of the vertices of each mesh, not normalised, D = 448 for the published weights.

        Meshes are taken in the canonical frame (y up), in any unit, and put into the network's box; the surface decides, not how it is
        cut into triangles, up to the randomness of the samples. Meshes do not influence one another.

        Raises:
            GeometryError: a mesh without extent or area.
            FeatureError: features are not finite.
        """
        if not meshes:
            return []
        boxed = [to_network_frame(mesh) for mesh in meshes]
        points = np.stack([sample_surface(mesh, self.samples, self.seed) for mesh in boxed])
        return self.features_at(points, [mesh.vertices.astype(np.float32) for mesh in boxed])

    @torch.inference_mode()
    def features_at(self, points: np.ndarray, places: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Features (Q_i, D) float32 at ``places`` (Q_i, 3) around objects given by ``points`` (B, N, 3), in the network's frame."""
        clouds = torch.from_numpy(np.ascontiguousarray(points, np.float32)).to(self.device)
        queries = [torch.from_numpy(np.ascontiguousarray(p, np.float32)).to(self.device) for p in places]
        found = self.run(clouds, queries)
        for features in found:
            if not torch.isfinite(features).all():
                raise FeatureError(
                    f"PartField's features are not finite in {self.dtype}: set models.dtype=float32; if they still are not, "
                    "the weights are damaged and must be fetched again"
                )
        return [features.cpu().numpy() for features in found]

    @torch.inference_mode()
    def run(self, clouds: torch.Tensor, queries: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The same on tensors of the model's device, without a look at the values: (B, N, 3) and (Q_i, 3) each -> (Q_i, D) each."""
        with torch.autocast(self.device.type, dtype=self.dtype) if self.dtype != torch.float32 else nullcontext():
            found: list[torch.Tensor] = self.network(clouds, queries, 1 if self.device.type == "cpu" else _PLANES_AT_ONCE)
        return found


def load_network(path: str | Path, size: PartFieldSize = FULL) -> PartFieldNetwork:
    """The network with the weights in ``path``: the published checkpoint, or a folder that holds it.

    Raises:
        WeightsError: the file is missing, damaged, or does not hold exactly PartField's tensors; :data:`UNUSED` ones may be there or not.
    """
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    with torch.device("meta"):
        network = PartFieldNetwork(size)
    try:
        load_strictly(network, read_state(path), ignore=UNUSED)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}; models.partfield must name the published {FILE} or its folder") from None
    return frozen(network.float())
