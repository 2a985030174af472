"""Weights as tensors by name: read without running code, and put into a model only if they are its own."""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from sc3d.errors import WeightsError

_TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin")
_REFUSED = re.compile(r"(?:GLOBAL|[Uu]nsupported class) ([\w.]+)")
_SHOWN = 5

# Containers of options that training frameworks store beside the weights: they are read as if they were plain dictionaries.
_OPTIONS = (
    "argparse.Namespace",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "pathlib.PosixPath",
    "yacs.config.CfgNode",
)


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a weights file by name, on the CPU. Large files are mapped where the format allows it, not read.

    ``.safetensors``, or what ``torch.save`` wrote (``.pt``, ``.pth``, ``.ckpt``, ``.bin``), of which only tensors and plain values are
    read: a pickle that names code is refused, and not executed. Lightning's ``{"state_dict": ...}`` is unwrapped, and the usual
    containers of options beside it (``hyper_parameters``) are passed over.

    Raises:
        WeightsError: the file is missing, cut short, not a weights file, or refused.
    """
    path = Path(path)
    if not path.exists():
        raise WeightsError(f"there are no weights at {path}")
    if path.is_dir():
        raise WeightsError(f"{path} is a folder; give the weights file in it")
    if path.suffix != ".safetensors" and path.suffix not in _TORCH_SUFFIXES:
        raise WeightsError(f"{path} is not a weights file: its name ends in none of .safetensors, {', '.join(_TORCH_SUFFIXES)}")
    try:
        with open(path, "rb") as stream:
            head = stream.read(64)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from None
    _check_head(path, head)
    values = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path, head)
    if isinstance(values, Mapping) and isinstance(values.get("state_dict"), Mapping):
        values = values["state_dict"]
    if not isinstance(values, Mapping):
        raise WeightsError(f"{path} holds a {type(values).__name__}, not tensors by name; is it the right file?")
    state = {str(name): value.detach() for name, value in values.items() if isinstance(value, torch.Tensor)}
    if not state:
        raise WeightsError(f"{path} holds no tensors by name, only {_some(sorted(map(str, values)))}; is it the right file?")
    return state


def load_strictly(module: nn.Module, state: Mapping[str, torch.Tensor], ignore: Sequence[str] = ()) -> None:
    """Put weights into a model, all of them or none. Precision follows the model; a model on the meta device takes the tensors as they are.

    Args:
        module: the model, whose own names and shapes decide.
        state: tensors by name.
        ignore: patterns (``sdf_decoder.*``) of names in ``state`` that the model does not have and that are left out.

    Raises:
        WeightsError: names are missing or unknown, or shapes differ; the message shows the first few.
    """
    own = {name: value for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
    missing = [name for name in own if name not in state]
    unknown = [name for name in state if name not in own and not any(fnmatchcase(name, pattern) for pattern in ignore)]
    shapes = [
        f"{name} is {tuple(state[name].shape)} and should be {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    problems = [
        f"{len(found)} {what}: {_some(found)}"
        for what, found in (("missing", missing), ("unknown", unknown), ("of another shape", shapes))
        if found
    ]
    if problems:
        raise WeightsError(
            f"these weights are not those of {type(module).__name__} ({'; '.join(problems)}); is the source the right model and revision?"
        )
    on_meta = any(value.is_meta for value in own.values())
    module.load_state_dict({name: state[name] for name in own}, strict=True, assign=on_meta)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _check_head(path: Path, head: bytes) -> None:
    if not head:
        raise WeightsError(f"{path} is empty; fetch it again")
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path} is a pointer of git-lfs, not the weights; run `git lfs pull` in its repository")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise WeightsError(f"{path} is a web page, not weights: a download of it was answered with a page; fetch it again")


def _read_safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is cut short or is not a safetensors file ({error}); delete it and fetch it again") from None


def _read_torch(path: Path, head: bytes) -> Any:
    # The format of older versions of torch is no zip file and cannot be mapped.
    is_zip = head.startswith(b"PK\x03\x04")
    try:
        with torch.serialization.safe_globals([_stand_in(name) for name in _OPTIONS]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # a damaged pickle can raise nearly anything
        refused = _REFUSED.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if refused:
            raise WeightsError(
                f"{path} holds more than tensors and plain values ({refused[1]}), which could run code when it is read, so it is refused: "
                "get the model as .safetensors, or convert the file where nothing can be harmed; "
                "if it should hold only weights, fetch it again"
            ) from None
        reason = str(error).strip().split("\n")[0][:200]
        raise WeightsError(
            f"{path} is cut short, damaged or not written by torch.save ({type(error).__name__}: {reason}); delete it and fetch it again"
        ) from None


def _stand_in(name: str) -> type:
    """A class of that name whose instances are inert: the class that the file names is neither imported nor run."""

    def inert(cls: type, *_: object) -> OrderedDict[str, object]:
        # The one type that torch's restricted reader lets a file both fill with items and give attributes to.
        return OrderedDict()

    module, _, short = name.rpartition(".")
    return type(short, (), {"__new__": inert, "__module__": module, "__qualname__": short})
