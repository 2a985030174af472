"""A stand-in for SAM 3D Objects' pipeline that needs no weights: for trials of a run, not for labels.

It is no small model of the same architecture, whose code needs CUDA and lives elsewhere, and it reconstructs nothing: it inflates the mask
and says so in upstream's conventions, so that all that follows the pipeline is run as it is with the real one.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from sc3d.geometry.inflate import FOCAL, inflate

# Canonical (y up, front +z) -> upstream's mesh (z up, front -y), and OpenCV's camera -> PyTorch3D's; column vectors.
_Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
_PYTORCH3D = np.diag([-1.0, -1.0, 1.0])


class SilhouettePipeline:
    """The inflated mask as upstream's ``InferencePipelinePointMap`` would return it: same calls, shapes and frames."""

    device = torch.device("cpu")
    dtype = torch.float32

    def depth_model(self, frame: torch.Tensor) -> dict[str, torch.Tensor]:
        """A wall at depth 1 in front of an ordinary camera: ``frame`` (3, H, W) -> ``pointmaps`` (H, W, 3), normalised ``intrinsics``."""
        height, width = frame.shape[1:]
        focal = FOCAL * max(width, height)
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        points = torch.stack([(x - width / 2) / focal, (y - height / 2) / focal, torch.ones_like(x)], dim=-1)
        intrinsics = torch.tensor([[focal / width, 0, 0.5], [0, focal / height, 0.5], [0, 0, 1]])
        return {"pointmaps": points, "intrinsics": intrinsics}

    def run(self, image: np.ndarray, mask: None, seed: int, **options: Any) -> dict[str, Any]:
        """Inflate the alpha channel of ``image`` (H, W, 4) uint8. Seed and options mean nothing here."""
        vertices, faces, _, pose = inflate(image[..., 3] > 127)
        # Upstream writes points as rows, so its rotation is the transpose.
        rotation = (_PYTORCH3D @ pose.R @ _Z_UP.T).T
        x, y, z, w = Rotation.from_matrix(rotation).as_quat()
        mesh = SimpleNamespace(vertices=torch.from_numpy(vertices @ _Z_UP.T).float(), faces=torch.from_numpy(faces.copy()))
        return {
            "rotation": torch.tensor([[w, x, y, z]]).float(),
            "translation": torch.from_numpy(_PYTORCH3D @ pose.t)[None].float(),
            "scale": torch.full((1, 3), pose.scale),
            "mesh": [mesh],
        }
