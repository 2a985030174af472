"""Where a foundation model runs, and in which precision."""

from __future__ import annotations

import os

import torch

from sc3d.config import ModelsConfig
from sc3d.errors import ConfigError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(models: ModelsConfig) -> torch.device:
    """The device of this process's models: the GPU that Ray gave the actor, else the CPU, or what ``models.device`` says.

    Raises:
        ConfigError: a GPU is asked for and this process sees none.
    """
    if models.device == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        # Ray shows an actor its own GPUs only, numbered from zero.
        return torch.device("cuda", 0)
    if models.device == "auto":
        return torch.device("cpu")
    raise ConfigError(f"models.device=cuda, but {_why_no_gpu()}; or set models.device=auto to run on the CPU")


def choose_dtype(models: ModelsConfig, device: torch.device) -> torch.dtype:
    """The floating-point type of a model on ``device``: ``models.dtype``, where ``auto`` is float32 on a CPU and half precision on a GPU.

    On a GPU ``auto`` means bfloat16, whose range is that of float32, so that no activation overflows; GPUs without it get float16.
    """
    if models.dtype != "auto":
        return _DTYPES[models.dtype]
    if device.type != "cuda":
        return torch.float32
    with torch.cuda.device(device):
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def _why_no_gpu() -> str:
    if torch.version.cuda is None:
        return "this PyTorch was built without CUDA: install the CUDA build of torch"
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides every GPU from this process: unset it, or give the Ray actor a GPU"
    return "this process sees no GPU: look at nvidia-smi and at the driver's version"
