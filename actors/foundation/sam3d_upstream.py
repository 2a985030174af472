"""Building SAM 3D Objects' pipeline from upstream's package, which needs CUDA and an environment of its own.

``notebook/inference.py``, upstream's own way in, imports gradio, kaolin and seaborn, so hydra instantiates the pipeline
directly, with the settings that are made there. Only this module imports upstream, and only when it is asked to.
"""

from __future__ import annotations

import importlib
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml

from actors.base import is_out_of_memory
from sc3d.errors import PreflightError, WeightsError

FILES = ("*pipeline.yaml", "*")
"""Everything in the repository on the hub, and that it must hold a pipeline.yaml."""
DEPTH_FILES = ("model.pt",)
"""MoGe v1, the depth model that pipeline.yaml names, is a repository of its own."""

_PACKAGES = ("hydra", "omegaconf", "sam3d_objects")
# What a pipeline.yaml may build. It comes with the weights, and hydra calls whatever function it names.
_TARGETS = ("sam3d_objects", "moge", "torchvision.transforms")
_ENVIRONMENT = "cluster/environments/sam3d.yml"


def check_installed() -> None:
    """Check that this process can build the pipeline.

    Raises:
        PreflightError: no GPU, or upstream's packages are not installed; says what to do.
    """
    if not torch.cuda.is_available():
        raise PreflightError(
            "SAM 3D Objects needs an NVIDIA GPU of 32 GB or more, and this process sees none: run it on a node that has one, "
            "or try the run with --set models.variant=tiny"
        )
    _import_upstream()


def load_pipeline(folder: Path, depth_weights: Path, dtype: str | None = None, compile_model: bool = False) -> Any:
    """Upstream's ``InferencePipelinePointMap``, with its weights on the GPU.

    Args:
        folder: the repository on the hub, or its ``checkpoints`` folder: holds ``pipeline.yaml``.
        depth_weights: MoGe's ``model.pt``, or the folder with it.
        dtype: ``float16``, ``bfloat16`` or ``float32``; ``None``: what pipeline.yaml says.
        compile_model: compile the networks: minutes once, then faster.

    Raises:
        PreflightError: upstream is not installed, or the GPU's memory is too small.
        WeightsError: files are missing or damaged, are no plain tensors, or would run other code than upstream's.
    """
    hydra, omegaconf = _import_upstream()
    file = next((f for f in (folder / "pipeline.yaml", folder / "checkpoints" / "pipeline.yaml") if f.is_file()), None)
    if file is None:
        raise WeightsError(
            f"{folder}: there is no pipeline.yaml in it or in its folder 'checkpoints'; fetch facebook/sam-3d-objects again"
        )
    try:
        _check_targets(file, hydra.utils.get_method)
        config = omegaconf.OmegaConf.load(str(file))
        config.rendering_engine = "pytorch3d"
        config.compile_model = compile_model
        config.workspace_dir = str(file.parent)
        depth_file = depth_weights / DEPTH_FILES[0] if depth_weights.is_dir() else depth_weights
        config.depth_model.model.pretrained_model_name_or_path = str(depth_file)
        if dtype is not None:
            config.dtype = dtype
        with _tensors_only():
            return hydra.utils.instantiate(config)
    except WeightsError:
        raise
    except Exception as error:  # whatever upstream's constructors raise
        raise _explained(error, file) from error


def _import_upstream() -> tuple[Any, Any]:
    # Upstream reads these when it is imported: without the first a KeyError, without the second the import of a module that is not
    # published. Ray's workers on a node that is this environment as a whole were started without activating it.
    os.environ.setdefault("CONDA_PREFIX", sys.prefix)
    os.environ.setdefault("CUDA_HOME", os.environ["CONDA_PREFIX"])
    os.environ["LIDRA_SKIP_INIT"] = "true"
    try:
        hydra, omegaconf, _ = (importlib.import_module(name) for name in _PACKAGES)
        importlib.import_module("hydra.utils")
    except ImportError as error:
        raise PreflightError(
            f"SAM 3D Objects cannot be imported ({error}). It needs an environment of its own: build it from {_ENVIRONMENT} or "
            "cluster/images/sam3d.Dockerfile, and offer the Ray resource 'sam3d' on the nodes that have it"
        ) from None
    return hydra, omegaconf


def _check_targets(file: Path, find: Callable[[str], Any]) -> None:
    """Check that pipeline.yaml, and the files that it names, build nothing but upstream's objects."""
    pipeline = _read_yaml(file)
    named = [str(value) for key, value in pipeline.items() if str(key).endswith("_config_path") and value is not None]
    described = {file: pipeline} | {file.parent / name: _read_yaml(file.parent / name) for name in named}
    for source, content in described.items():
        for target in _targets(content):
            # The name first, since looking an object up imports its module; then where it was made, since modules refer to others.
            if not _is_upstream(target) or not _is_upstream(str(getattr(find(target), "__module__", ""))):
                raise WeightsError(
                    f"{source}: would call {target}, which is no part of SAM 3D Objects, so it is refused; is it the right model?"
                )


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise WeightsError(f"{file}: cannot be read as YAML ({_first_line(error)}); fetch it again") from None
    if not isinstance(content, dict):
        raise WeightsError(f"{file}: does not describe a part of SAM 3D Objects; fetch it again")
    return content


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)


def _is_upstream(name: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in _TARGETS)


@contextmanager
def _tensors_only() -> Iterator[None]:
    """Upstream reads its checkpoints with ``weights_only=False``, which runs whatever code a pickle names; torch is told not to."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _explained(error: BaseException, file: Path) -> Exception:
    # hydra wraps what a constructor raises, once a level.
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    first = _first_line(causes[-1])
    if is_out_of_memory(error):
        return PreflightError(f"SAM 3D Objects does not fit the GPU's memory ({first}); it is made for GPUs of 32 GB and more")
    if any(isinstance(cause, ImportError) for cause in causes):
        return PreflightError(f"the environment of SAM 3D Objects is incomplete ({first}); build it again from {_ENVIRONMENT}")
    if any(isinstance(cause, pickle.UnpicklingError) for cause in causes):
        return WeightsError(
            f"{file.parent}: a checkpoint is damaged, or holds more than tensors and plain values and could run code when it is read "
            f"({first}); fetch it again, or convert it to .safetensors where nothing can be harmed and name that file in pipeline.yaml"
        )
    if any(type(cause).__name__ in ("URLError", "HTTPError") for cause in causes):
        return WeightsError(
            f"SAM 3D Objects takes the code of DINOv2 from GitHub, and this node cannot reach it ({first}): run once, where it can, "
            "python -c \"import torch; torch.hub.load('facebookresearch/dinov2', 'dinov2_vitl14_reg')\", and share the folder TORCH_HOME"
        )
    return WeightsError(
        f"{file}: SAM 3D Objects cannot be built from it ({first}); is it the right model, whole, at the pinned version?"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0][:200]
