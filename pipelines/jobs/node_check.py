"""What each node of a Ray cluster has of what a run needs: looked up on the node itself, before anything expensive starts."""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from actors.base import Resources
from actors.catalogue import MODELS, ModelCard, availability
from actors.registry import actor_of
from sc3d.config import RunConfig
from sc3d.errors import StoreError
from sc3d.store import RunFolder

VERSIONS = ("sc3d", "ray", "torch", "numpy", "pyarrow")

_WAIT_S = 120.0
_LEAST_FREE_GIB = 2.0


@dataclass(frozen=True)
class NodeReport:
    """A node: its ``versions`` by name, what its models lack (``problems``), GiB ``free`` for temporary files, GiB of each of its GPUs."""

    name: str
    versions: Mapping[str, str]
    problems: tuple[str, ...]
    free: float
    gpus: tuple[float, ...]


def versions_here() -> dict[str, str]:
    """Versions of Python and of the packages that must be the same on all nodes."""
    return {"python": platform.python_version(), **{name: version(name) for name in VERSIONS}}


def look_here(name: str, config: RunConfig, models: Sequence[str], probe: str) -> NodeReport:
    """The report of the machine that this process is on, about some models by their names. ``probe``: a file of the run folder."""
    cards = [card for card in MODELS if card.name in models]
    problems = lacking(cards, config)
    free = shutil.disk_usage(tempfile.gettempdir()).free / 2**30
    if free < _LEAST_FREE_GIB:
        problems += (f"only {free:.1f} GiB are free for temporary files at {tempfile.gettempdir()}; Ray and the weights need more",)
    problems += _unseen(config, probe)
    return NodeReport(name, versions_here(), problems, free, gpu_memory_here())


def lacking(cards: Sequence[ModelCard], config: RunConfig) -> tuple[str, ...]:
    """What this machine lacks of some models, a line each with what to do. Models that lack the same are named together in front."""
    names: dict[str, list[str]] = {}
    for card in cards:
        for problem in availability(card, config.models).problems:
            names.setdefault(problem, []).append(card.name)
    return tuple(f"{', '.join(dict.fromkeys(who))}: {problem}" for problem, who in names.items())


def _unseen(config: RunConfig, probe: str) -> tuple[str, ...]:
    """Whether this machine cannot use the run folder as the others do."""
    try:
        if RunFolder(config.run).exists(probe):
            return ()
    except StoreError as error:
        return (str(error),)
    return (
        f"does not see what another machine wrote to {config.run}; choose s3:// or a disk that all nodes share, with a full path",
    )


def gpu_memory_here() -> tuple[float, ...]:
    """GiB of each GPU of this machine."""
    import torch

    if not torch.cuda.is_available():
        return ()
    return tuple(torch.cuda.get_device_properties(i).total_memory / 2**30 for i in range(torch.cuda.device_count()))


def selected(config: RunConfig) -> list[tuple[ModelCard, Resources]]:
    """The chosen models, and what a process of each needs."""
    cards = [card for card in MODELS if card.is_selected(config)]
    return [(card, actor_of(config, card.option.partition("=")[0]).needs(config)) for card in cards]


def look_at_nodes(config: RunConfig, probe: str) -> list[NodeReport]:
    """A report from each node that is there and may get work, about the models that it may get and about a file of the run folder,
    ``probe``. Ray must have been started.

    A node that does not answer in time reports that.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    waiting: dict[Any, str] = {}
    look = ray.remote(num_cpus=0, max_retries=1)(look_here)
    for node in ray.nodes():
        has = node["Resources"]
        if not node["Alive"] or not (has.get("CPU") or has.get("GPU")):
            continue
        apart = node.get("Labels", {}).get("sc3d.image") == "sam3d"
        models = [card.name for card, needs in selected(config) if _can_run(has, needs) and (needs.custom or not apart)]
        name = str(node["NodeManagerHostname"])
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        waiting[look.options(scheduling_strategy=there).remote(name, config, models, probe)] = name
    done, late = ray.wait(list(waiting), num_returns=len(waiting), timeout=_WAIT_S) if waiting else ([], [])
    silent = [NodeReport(waiting[task], {}, (f"gave no answer within {_WAIT_S:.0f} s",), 0.0, ()) for task in late]
    return [*(_answer(task, waiting[task]) for task in done), *silent]


def _answer(task: Any, name: str) -> NodeReport:
    import ray

    try:
        report: NodeReport = ray.get(task)
    except Exception as error:  # whatever is wrong with a node is what one wants to know
        return NodeReport(name, {}, (f"cannot run sc3d: {str(error).strip().splitlines()[-1]}",), 0.0, ())
    return report


def _can_run(has: Mapping[str, float], needs: Resources) -> bool:
    wanted = {"CPU": needs.num_cpus, "GPU": needs.num_gpus, **needs.custom}
    return all(has.get(name, 0.0) >= amount for name, amount in wanted.items())
