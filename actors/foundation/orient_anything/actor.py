"""OrientAnything in the slot of the orientation model: views of a mesh at known yaws, an estimate for each, and a vote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from actors.base import Resources, Row
from actors.foundation.actor import FoundationActor
from actors.foundation.device import choose_dtype
from actors.foundation.orient_anything import v1
from actors.foundation.orient_anything.process import ModelProcess
from actors.foundation.orient_anything.v2 import OrientAnythingV2
from actors.foundation.orient_anything.worker import MODULE
from actors.offline.orient import ConsensusOrient, view_yaws, voted
from actors.weights import fetch_weights
from sc3d.config import ModelsConfig
from sc3d.errors import ConfigError
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.yaw import OrientationEstimates, OrientationEstimator, render_yaw_views

V2_FILE = "demo_ckpts/rotmod_realrotaug_best.pt"
"""The weights of version 2 in the published repository."""

# Five gigabytes from a shared disk.
_START_SECONDS = 900.0
# A CPU takes up to a minute a view.
_REQUEST_SECONDS = {"cpu": 1200.0, "cuda": 120.0}


class _Orient(FoundationActor):
    """Renders the mesh at known yaws and lets the estimates vote."""

    requires: ClassVar[Mapping[str, str]] = {key: ConsensusOrient.requires[key] for key in ("vertices", "faces")}
    provides: ClassVar[Mapping[str, str]] = ConsensusOrient.provides
    options: ClassVar[tuple[str, ...]] = ("orient.views", "orient.min_votes")
    view_side: ClassVar[int]
    estimator: OrientationEstimator

    def process(self, row: Row) -> Row:
        """Vote on one mesh; see :meth:`process_batch`."""
        return self.process_batch([row])[0]

    def process_batch(self, rows: Sequence[Row]) -> list[Row]:
        """Vote on several meshes, whose views are looked at together.

        Raises:
            GeometryError: a mesh cannot be rendered.
            FeatureError: the model's answer is not finite.
        """
        yaws = view_yaws(self.config.orient)
        views = [render_yaw_views(Mesh(row["vertices"], row["faces"]), yaws, self.view_side) for row in rows]
        found = self.estimator.estimate(np.concatenate(views))
        shape = len(rows), len(yaws)
        each = zip(found.yaw_degrees.reshape(shape), found.symmetry.reshape(shape), strict=True)
        return [voted(OrientationEstimates(yaw, symmetry), self.config.orient) for yaw, symmetry in each]


class OrientAnythingV1Orient(_Orient):
    """Yaw of a mesh by OrientAnything V1."""

    resources: ClassVar[Resources] = Resources(num_cpus=1, num_gpus=0.1)
    batch_size: ClassVar[int] = 4
    view_side: ClassVar[int] = 320
    version: ClassVar[str] = "orient-anything-v1-1"
    weights: ClassVar[Mapping[str, tuple[str, ...]]] = {"models.orient_anything_v1": (v1.FILE,)}

    def load(self, models: ModelsConfig, device: torch.device) -> None:
        """Load the network."""
        if models.variant == "tiny":
            network = v1.random_model()
        else:
            network = v1.load_network(fetch_weights(models.orient_anything_v1, (v1.FILE,), models.cache))
        self.estimator = v1.OrientAnythingV1(network, device, choose_dtype(models, device))


class OrientAnythingV2Orient(_Orient):
    """Yaw of a mesh by OrientAnything V2, whose repository ``models.orient_anything_v2_repository`` names."""

    resources: ClassVar[Resources] = Resources(num_cpus=1, num_gpus=0.25)
    view_side: ClassVar[int] = 448
    version: ClassVar[str] = "orient-anything-v2-1"
    weights: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "models.orient_anything_v2": (V2_FILE,),
        "models.orient_anything_v2_repository": ("*.py",),
    }

    def load(self, models: ModelsConfig, device: torch.device) -> None:
        """Start the process that loads the network."""
        arguments = ["--device", str(device), "--dtype", str(choose_dtype(models, device)).removeprefix("torch.")]
        if models.variant == "tiny":
            arguments.append("--tiny")
        else:
            repository = repository_of(models)
            weights = fetch_weights(models.orient_anything_v2, (V2_FILE,), models.cache)
            weights = weights / V2_FILE if weights.is_dir() else weights
            arguments += ["--repository", str(repository), "--weights", str(weights)]
        self._process = ModelProcess(
            "OrientAnything V2",
            "actors.foundation.orient_anything.worker",
            arguments,
            _START_SECONDS,
            _REQUEST_SECONDS[device.type],
        )
        self.estimator = OrientAnythingV2(self._logits)

    def _logits(self, pictures: np.ndarray) -> np.ndarray:
        return self._process.request({"pictures": pictures})["logits"]


def repository_of(models: ModelsConfig) -> Path:
    """The folder of OrientAnything V2's repository.

    Raises:
        ConfigError: none is given, or it is not there.
    """
    option = "models.orient_anything_v2_repository"
    given = models.orient_anything_v2_repository
    if not given:
        raise ConfigError(
            "OrientAnything V2 runs upstream's own code: clone https://github.com/SpatialVision/Orient-Anything-V2 on every node and set "
            f"{option} to the folder, or take orient.estimator=orient_anything_v1"
        )
    folder = Path(given).expanduser().absolute()
    if not (folder / f"{MODULE}.py").is_file():
        raise ConfigError(f"{option}={given} is not the repository of OrientAnything V2: there is no {MODULE}.py in {folder}")
    return folder
