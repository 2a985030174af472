"""Weights that are missing, cut short or another model's, for every model that loads its own: the actor says which file and what to do.

SAM 3D Objects and OrientAnything V2 load through upstream's code and have such tests of their own.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from actors.base import Actor
from actors.foundation import depth_anything, dino, latent_diffusion
from actors.foundation.dift import DiftSource
from actors.foundation.orient_anything import v1
from actors.foundation.orient_anything.actor import OrientAnythingV1Orient
from actors.foundation.partfield import model as partfield
from actors.foundation.partfield.actor import PartFieldShape
from actors.foundation.partfield.network import TINY, random_network
from actors.foundation.sam3.actor import Sam3Mask
from actors.foundation.sam3.loading import random_model as random_sam3
from actors.foundation.stable_diffusion import StableDiffusionSource
from sc3d.config_file import parse_config
from sc3d.errors import WeightsError

SAFETENSORS = "model.safetensors"


def save_dino(kind: dino.Kind) -> Callable[[Path], str]:
    def save(folder: Path) -> str:
        model: Any = dino.random_model(kind)
        model.save_pretrained(folder)
        return SAFETENSORS

    return save


def save_depth_anything(folder: Path) -> str:
    saver: Any = depth_anything.random_model()
    saver.save_pretrained(folder)
    return SAFETENSORS


def save_diffusion(folder: Path) -> str:
    networks = latent_diffusion.random_networks()
    for part in ("unet", "vae", "text_encoder", "tokenizer"):
        getattr(networks, part).save_pretrained(folder / part)
    return "unet/diffusion_pytorch_model.safetensors"


def save_sam3(folder: Path) -> str:
    model, tokenizer = random_sam3()
    saver: Any = model
    saver.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return SAFETENSORS


def save_torch(name: str, network: Callable[[], nn.Module]) -> Callable[[Path], str]:
    def save(folder: Path) -> str:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        torch.save(network().state_dict(), folder / name)
        return name

    return save


MODELS: dict[str, tuple[type[Actor], Callable[[Path], str]]] = {
    "dinov2": (dino.DinoV2Source, save_dino("dinov2")),
    "dinov2_registers": (dino.DinoV2RegistersSource, save_dino("dinov2_registers")),
    "dinov3": (dino.DinoV3Source, save_dino("dinov3")),
    "depth_anything_v2_small": (depth_anything.DepthAnythingSmall, save_depth_anything),
    "stable_diffusion": (StableDiffusionSource, save_diffusion),
    "dift": (DiftSource, save_diffusion),
    "sam3": (Sam3Mask, save_sam3),
    "orient_anything_v1": (OrientAnythingV1Orient, save_torch(v1.FILE, v1.random_model)),
    # Of another size than the published one, which takes seconds to make: as far as it is read, it is whole.
    "partfield": (PartFieldShape, save_torch(partfield.FILE, lambda: random_network(TINY))),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, str]]:
    """Option of a model -> folder with weights for its actor, and the file that they are in."""
    made: dict[str, tuple[Path, str]] = {}

    def get(option: str) -> tuple[Path, str]:
        if option not in made:
            folder = tmp_path_factory.mktemp(option)
            made[option] = folder, MODELS[option][1](folder)
        return made[option]

    return get


def build(option: str, source: Path) -> Actor:
    config = parse_config({"models": {option: str(source), "device": "cpu", "cache": str(source.parent / "cache")}})
    return MODELS[option][0](config)


@pytest.mark.parametrize("option", [option for option in MODELS if option != "partfield"])
def test_whole_weights_are_taken(option: str, saved: Callable[[str], tuple[Path, str]]) -> None:
    build(option, saved(option)[0])


@pytest.mark.parametrize("option", MODELS)
def test_missing_weights_are_named(option: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no such file or folder .*must be on every node.* or on s3"):
        build(option, tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"empty has no .*(safetensors|\.pt|\.ckpt).*right model and revision"):
        build(option, tmp_path / "empty")


@pytest.mark.parametrize("option", MODELS)
def test_weights_that_are_cut_short_are_to_be_fetched_again(
    option: str, saved: Callable[[str], tuple[Path, str]], tmp_path: Path
) -> None:
    folder, name = saved(option)
    shutil.copytree(folder, tmp_path / "cut")
    file = tmp_path / "cut" / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(WeightsError, match=r"cut.*fetch it again"):
        build(option, tmp_path / "cut")


@pytest.mark.parametrize("option", MODELS)
def test_weights_of_another_model_are_refused(option: str, saved: Callable[[str], tuple[Path, str]], tmp_path: Path) -> None:
    folder, name = saved(option)
    shutil.copytree(folder, tmp_path / "foreign")
    other, other_name = saved("sam3" if option != "sam3" else "dinov2")
    state = {"text.weight": torch.zeros(2, 2)}
    if name.endswith(".safetensors"):
        shutil.copy(other / other_name, tmp_path / "foreign" / name)
    else:
        torch.save(state, tmp_path / "foreign" / name)
    with pytest.raises(WeightsError, match=r"foreign.*(right model|must name)"):
        build(option, tmp_path / "foreign")
