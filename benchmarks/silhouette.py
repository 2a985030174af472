"""The outline renderer beside PyTorch3D's golden silhouettes, where those are beside the checkout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import row
from sc3d.geometry.camera import Camera
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.silhouette import OutlineRenderer

GOLDEN = Path(__file__).parents[2] / "shared" / "golden" / "silhouette.npz"


def run() -> Iterator[dict[str, Any]]:
    """Largest mean difference of the alphas and least cosine of the gradients over the golden poses; nothing without the golden file."""
    if not GOLDEN.exists():
        return
    golden = np.load(GOLDEN)
    camera = Camera(golden["K"], int(golden["size"]), int(golden["size"]))
    renderer = OutlineRenderer(Mesh(golden["vertices"], golden["faces"]), golden["R"], camera, overlap=4)
    mask = golden["mask"].astype(np.float32)
    differences, cosines = [], []
    for pose, log_scale in enumerate(golden["log_scale"].tolist()):
        silhouette = renderer.render(log_scale, golden["t"][pose])
        differences.append(float(np.abs(silhouette.alpha - golden["alpha"][pose].astype(np.float32)).mean()))
        areas, slopes = silhouette.areas(np.stack([mask, np.ones_like(mask)]))
        union = areas[1] + mask.sum() - areas[0]
        gradient = (areas[0] * (slopes[1] - slopes[0]) - slopes[0] * union) / union**2
        expected = np.append(golden["grad_log_scale"][pose], golden["grad_t"][pose])
        cosines.append(float(gradient @ expected / np.linalg.norm(gradient) / np.linalg.norm(expected)))
    n = len(cosines)
    yield row("silhouette", "mean absolute difference to PyTorch3D, worst pose", max(differences), "alpha", "lower", n=n)
    yield row("silhouette", "cosine of the soft IoU gradient with PyTorch3D's, worst pose", min(cosines), "cosine", "higher", n=n)
