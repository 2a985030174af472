"""The models of both profiles, as facts a user needs before choosing: role, source, licence, memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ModelCard:
    """One model. ``option`` is the configuration that selects it; ``None``: this version of sc3d cannot run it yet."""

    role: str
    name: str
    profile: Literal["offline", "foundation"]
    source: str
    licence: str
    commercial: str
    gated: bool
    option: str | None


MODELS: tuple[ModelCard, ...] = (
    ModelCard("mask", "mask files, GrabCut", "offline", "OpenCV", "Apache-2.0", "yes", False, "reconstruct.mask=file"),
    ModelCard("mesh and pose", "known mesh, inflation", "offline", "sc3d", "Apache-2.0", "yes", False, "reconstruct.mesh=auto"),
    ModelCard("orientation", "category consensus", "offline", "sc3d", "Apache-2.0", "yes", False, "orient.estimator=consensus"),
    ModelCard("DINO slot", "DAISY", "offline", "scikit-image", "BSD-3-Clause", "yes", False, "describe.dino=daisy"),
    ModelCard("SD slot", "HOG and colour", "offline", "scikit-image", "BSD-3-Clause", "yes", False, "describe.sd=hog"),
    ModelCard("3D descriptor", "spectral and position", "offline", "sc3d", "Apache-2.0", "yes", False, "describe.shape=spectral"),
    ModelCard("mask", "SAM 3", "foundation", "facebook/sam3", "SAM License", "with conditions", True, None),
    ModelCard(
        "mesh and pose", "SAM 3D Objects", "foundation", "facebook/sam-3d-objects", "SAM License", "with conditions", True, None
    ),
    ModelCard(
        "orientation",
        "OrientAnything V2",
        "foundation",
        "Viglong/OriAnyV2_ckpt",
        "CC BY 4.0, VGGT parts NC",
        "unclear",
        False,
        None,
    ),
    ModelCard("DINO slot", "DINOv2 ViT-B/14", "foundation", "facebook/dinov2-base", "Apache-2.0", "yes", False, None),
    ModelCard(
        "DINO slot",
        "DINOv3 ViT-B/16",
        "foundation",
        "facebook/dinov3-vitb16-pretrain-lvd1689m",
        "DINOv3 License",
        "with conditions",
        True,
        None,
    ),
    ModelCard(
        "SD slot",
        "Stable Diffusion 1.5",
        "foundation",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "CreativeML OpenRAIL-M",
        "with conditions",
        False,
        None,
    ),
    ModelCard(
        "3D descriptor", "PartField", "foundation", "mikaelaangel/partfield-ckpt", "NVIDIA, non-commercial", "no", False, None
    ),
)
