"""The models that are measured. A further model is a further :class:`Subject` in :data:`SUBJECTS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import count
from typing import Any, Literal, get_args

import numpy as np
import torch

from actors.foundation import depth_anything, dino, latent_diffusion
from actors.foundation.dift import Dift, DiftOptions, DiftSource
from actors.foundation.orient_anything import v1
from actors.foundation.orient_anything.actor import OrientAnythingV1Orient
from actors.foundation.partfield.actor import PartFieldShape
from actors.foundation.partfield.model import PartField
from actors.foundation.partfield.network import FULL, TINY, random_network
from actors.foundation.pretrained import Size
from actors.foundation.sam3.actor import Sam3Mask
from actors.foundation.sam3.loading import random_model as random_sam3
from actors.foundation.sam3.model import Sam3
from actors.foundation.stable_diffusion import FRAME, StableDiffusion, StableDiffusionOptions, StableDiffusionSource
from actors.offline.orient import view_yaws
from sc3d.config import OrientConfig
from sc3d.datasets.toys.catalogue import CATALOGUE
from sc3d.datasets.toys.meshing import mesh_toy
from sc3d.geometry.mesh import Mesh
from sc3d.geometry.yaw import render_yaw_views

Layout = Literal["contiguous", "channels last"]

_POINTS = {"full": 100_000, "tiny": 2_000}
_VIEWS = OrientConfig().views


@dataclass(frozen=True)
class Work:
    """A model that is ready to run.

    ``step``: runs a batch of that many records through the network, their input being on the device already. ``whole``: all that an
    actor does for so many records, from photos or meshes to arrays on the CPU. ``modules``: the networks on the device, which
    ``torch.compile`` and other layouts are tried on.
    """

    step: Callable[[int], object]
    whole: Callable[[int], object]
    modules: Sequence[torch.nn.Module]


@dataclass(frozen=True)
class Subject:
    """One model.

    ``name``: with what it is shown. ``card``: its name in the catalogue. ``unit``: what its records are. ``batch``: records that its
    actor takes at once. ``batches``: those that are tried on a GPU. ``build``: makes it. ``layouts``: of convolutions in memory, which
    are tried on a GPU beside the one that it has there.
    """

    name: str
    card: str
    unit: str
    batch: int
    batches: tuple[int, ...]
    build: Callable[[Size, torch.device, torch.dtype], Work]
    layouts: tuple[Layout, ...] = ()


def build_dino(kind: dino.Kind, size: Size, device: torch.device, dtype: torch.dtype) -> Work:
    """DINO at the working grid."""
    with torch.device(device):
        network = dino.random_model(kind, size)
    model = dino.Dino(network, device, dtype)
    frame = _noise_frame(model.frame, device)
    return Work(lambda n: model.tokens(frame.expand(n, -1, -1, -1)), lambda n: model.describe([_photo()] * n), [model.model])


def build_depth_anything(kind: depth_anything.Kind, size: Size, device: torch.device, dtype: torch.dtype) -> Work:
    """Depth Anything V2 on a photo of four to three."""
    with torch.device(device):
        network = depth_anything.random_model(kind, size)
    model = depth_anything.DepthAnything(network, device, dtype)
    width, height = depth_anything.network_size(640, 480)
    pixels = torch.zeros((1, 3, height, width), device=device)
    return Work(
        lambda n: model.inverse_depth(pixels.expand(n, -1, -1, -1)),
        lambda n: [model.nearness(_photo()) for _ in range(n)],
        [model.model],
    )


def build_stable_diffusion(options: StableDiffusionOptions, size: Size, device: torch.device, dtype: torch.dtype) -> Work:
    """Stable Diffusion in tiles or in one pass. The text is encoded once a category, on the CPU."""
    model = StableDiffusion(_diffusion_networks("1.5", size, device), device, dtype, options)
    frame = _noise_frame(FRAME, device)
    encoder: Any = model.vae
    return Work(
        lambda n: model.layers(frame.expand(n, -1, -1, -1), ["bus"] * n),
        lambda n: model.describe([_photo()] * n, ["bus"] * n),
        [model.unet, encoder.encoder],
    )


def build_dift(size: Size, device: torch.device, dtype: torch.dtype) -> Work:
    """DIFT; tiny with one draw of noise, as the tiny actor has it."""
    options = DiftOptions() if size == "full" else DiftOptions(ensemble=1)
    model = Dift(_diffusion_networks("2.1", size, device), device, dtype, options)
    frame = _noise_frame(options.frame, device)
    encoder: Any = model.vae
    return Work(
        lambda n: model.features(frame.expand(n, -1, -1, -1), ["bus"] * n),
        lambda n: model.describe([_photo()] * n, ["bus"] * n),
        [model.unet, encoder.encoder],
    )


def build_sam3(size: Size, device: torch.device, dtype: torch.dtype) -> Work:
    """SAM 3: image encoder, text encoder and head. In a step a batch has a new prompt, which is encoded; ``whole`` knows its prompt, as
    an actor does after the first image of a category, and makes the mask of one of all 200 queries."""
    with torch.device(device):
        network, tokenizer = random_sam3(size)
    model = Sam3(network, tokenizer, device, dtype, least_score=0.0)
    pixels = torch.zeros(1, 3, model.side, model.side, device=device)
    words = count()

    def step(n: int) -> object:
        return model.answer(model.look(pixels.expand(n, -1, -1, -1)), [f"bus {next(words)}"] * n)

    def whole(n: int) -> object:
        found = model.find(model.encode([_photo()] * n), ["bus"] * n)
        return [instances.mask(instances.choose() or 0) for instances in found]

    return Work(step, whole, list(network.children()))


def build_partfield(size: Size, device: torch.device, dtype: torch.dtype) -> Work:
    """PartField on a car's surface, its features at the car's vertices."""
    # Half precision is autocast's there, which the meta device does not know.
    precision = torch.float32 if device.type == "meta" else dtype
    model = PartField(random_network(FULL if size == "full" else TINY), device, precision, _POINTS[size])
    car = _car()
    places = torch.from_numpy(car.vertices.astype(np.float32)).to(device)
    points = torch.rand(1, model.samples, 3, generator=torch.Generator().manual_seed(0)).to(device) * 1.8 - 0.9
    return Work(
        lambda n: model.run(points.expand(n, -1, -1), [places] * n),
        lambda n: model.describe([car] * n),
        [model.network],
    )


def build_orient_anything(size: Size, device: torch.device, dtype: torch.dtype) -> Work:
    """OrientAnything V1 on the views of a mesh that vote on its yaw, which the actor renders on the CPU."""
    with torch.device(device):
        network = v1.random_model(size)
    model = v1.OrientAnythingV1(network, device, dtype)
    pixels = torch.zeros(_VIEWS, 3, v1.CROPPED, v1.CROPPED, device=device)

    @torch.inference_mode()
    def step(n: int) -> object:
        return model.network(pixels.repeat(n, 1, 1, 1))

    def whole(n: int) -> object:
        views = [render_yaw_views(_car(), view_yaws(OrientConfig()), OrientAnythingV1Orient.view_side) for _ in range(n)]
        return model.estimate(np.concatenate(views))

    return Work(step, whole, [network])


SUBJECTS: tuple[Subject, ...] = (
    Subject("SAM 3 at 1008 px", "SAM 3", "images", Sam3Mask.batch_size, (1, 4, 16), build_sam3, ("channels last",)),
    Subject(
        f"OrientAnything V1, {_VIEWS} views of 224 px",
        "OrientAnything V1",
        "meshes",
        OrientAnythingV1Orient.batch_size,
        (1, 4, 16),
        build_orient_anything,
    ),
    Subject(
        "DINOv2 ViT-B/14 at 840 px",
        "DINOv2 ViT-B/14",
        "images",
        dino.DinoSource.batch_size,
        (1, 8, 32),
        partial(build_dino, "dinov2"),
    ),
    Subject(
        "DINOv2 with registers ViT-B/14 at 840 px",
        "DINOv2 with registers",
        "images",
        dino.DinoSource.batch_size,
        (1, 8, 32),
        partial(build_dino, "dinov2_registers"),
    ),
    Subject(
        "DINOv3 ViT-B/16 at 960 px",
        "DINOv3 ViT-B/16",
        "images",
        dino.DinoSource.batch_size,
        (1, 8, 32),
        partial(build_dino, "dinov3"),
    ),
    *(
        Subject(
            f"Depth Anything V2 {kind} at 518 px",
            f"Depth Anything V2 {kind}",
            "images",
            depth_anything.DepthAnythingActor.batch_size,
            (1, 4),
            partial(build_depth_anything, kind),
            ("contiguous",),
        )
        for kind in get_args(depth_anything.Kind)
    ),
    Subject(
        "Stable Diffusion 1.5, four tiles of 512 px",
        "Stable Diffusion 1.5",
        "images",
        StableDiffusionSource.batch_size,
        (1, 4, 8),
        partial(build_stable_diffusion, StableDiffusionOptions()),
        ("contiguous",),
    ),
    Subject(
        "Stable Diffusion 1.5, one pass of 960 px",
        "Stable Diffusion 1.5",
        "images",
        StableDiffusionSource.batch_size,
        (1, 4),
        partial(build_stable_diffusion, StableDiffusionOptions(tile=None)),
        ("contiguous",),
    ),
    Subject(
        "DIFT (Stable Diffusion 2.1), 768 px, 8 draws",
        "DIFT (Stable Diffusion 2.1)",
        "images",
        DiftSource.batch_size,
        (1, 4),
        build_dift,
        ("contiguous",),
    ),
    Subject(
        "PartField, 100,000 points",
        "PartField",
        "meshes",
        PartFieldShape.batch_size,
        (1, 4, 16),
        build_partfield,
        ("channels last",),
    ),
)

TOGETHER = ("DINOv2 ViT-B/14 at 840 px", "Stable Diffusion 1.5, four tiles of 512 px")
"""What the describe stage runs on each image."""


def set_layout(module: torch.nn.Module, layout: Layout) -> None:
    """Put the kernels of a network's 2D convolutions into a layout in memory, which their outputs follow."""
    to = torch.channels_last if layout == "channels last" else torch.contiguous_format
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=to)


def _diffusion_networks(version: latent_diffusion.Version, size: Size, device: torch.device) -> latent_diffusion.Networks:
    with torch.device(device):
        return latent_diffusion.random_networks(version, size)


def _noise_frame(side: int, device: torch.device) -> torch.Tensor:
    return torch.randint(0, 256, (1, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).to(device)


@cache
def _photo() -> np.ndarray:
    """A photo of the usual size of SPair-71k's."""
    return np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8)


@cache
def _car() -> Mesh:
    toy = mesh_toy(CATALOGUE["car"].build(np.random.default_rng(0)))
    return Mesh(toy.vertices, toy.faces)
