"""What can be known before anything expensive starts."""

from __future__ import annotations

import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from actors.catalogue import MODELS, gpu_memory_needed
from cluster.session import RaySession
from pipelines.folder.manifest import read_dataset
from pipelines.jobs.node_check import NodeReport, gpu_memory_here, lacking, look_at_nodes, selected, versions_here
from pipelines.runner.graph import Pool, fitting_parts, pools_of
from pipelines.runner.stage import Stage
from sc3d.config import RunConfig
from sc3d.errors import ConfigError, PreflightError
from sc3d.machine import cores_here
from sc3d.store import RunFolder

_CONTENT = b"sc3d"

_FEATURES_MB = {"light": 2.0, "offline": 6.0, "foundation": 13.0}
"""Size of the features of an image, which are most of what a run writes."""


def check(config: RunConfig, graphs: Sequence[Sequence[type[Stage]]]) -> list[str]:
    """One line a check that passed, for a run of some graphs of stages.

    Raises:
        PreflightError: the run cannot be done on this machine, or on the cluster that it is to run on.
        StoreError: the run folder is not writable.
        InputError: the data set cannot be read, or holds two images with one id.
    """
    lines = [_check_store(RunFolder(config.run))]
    images, _ = read_dataset(config)
    counts = Counter(image.split for image in images)
    kinds = len({image.category for image in images})
    what = f"{len(images)} images of {kinds} {'category' if kinds == 1 else 'categories'}"
    lines.append(f"data set    {what}, {counts['trn']} to label, {counts['val'] + counts['test']} held out")
    lines.append(_check_disk(config, len(images)))
    with RaySession(config.ray) as ray:
        return [*check_models(config, ray, graphs), *lines]


def check_models(config: RunConfig, ray: RaySession, graphs: Sequence[Sequence[type[Stage]]]) -> list[str]:
    """One line a check that passed of the models and of what they run on: this machine, or the nodes of the cluster.

    Raises:
        PreflightError: a model lacks something, or Ray can never give it what it asks for.
    """
    names = ", ".join(card.name for card, _ in selected(config))
    note = {"tiny": ", small random models: the labels will mean nothing", "none": ", as a rehearsal: nothing is computed"}
    lines = [f"profile     {config.profile}: {names}{note.get(config.models.variant, '')}"]
    if not ray.is_cluster:
        _check_here(config)
        pools = _pools(config, graphs, ray.workers)
        lines.append(f"resources   {cores_here()} cores here, {ray.workers} processes for each stage")
        if not any(pool.of_actors for graph in pools for pool in graph):
            return lines
        return [*lines, *(_streams(fitting_parts(graph, ray.resources_here())) for graph in pools)]
    ray.start()
    most, pools = ray.most_resources(), _pools(config, graphs, ray.workers)
    lines += [_streams(fitting_parts(graph, most)) for graph in pools]
    resources = ", ".join(f"{most[name]:g} {name}" for name in sorted(most) if name in ("CPU", "GPU", "sam3d"))
    lines.append(f"resources   up to {resources}; {ray.workers} processes for each CPU stage")
    with _probe(RunFolder(config.run)) as probe:
        reports = look_at_nodes(config, probe)
    return [*lines, *_check_nodes(config, reports), _token_line()]


def _pools(config: RunConfig, graphs: Sequence[Sequence[type[Stage]]], workers: int) -> list[list[Pool]]:
    return [pools_of([kind(config) for kind in graph], workers) for graph in graphs]


def _streams(parts: Sequence[Sequence[Pool]]) -> str:
    """Which stages of a graph run side by side."""
    names = [", ".join(dict.fromkeys(pool.stage.name for pool in part)) for part in parts]
    return f"together    {'; then '.join(names)}"


def _check_here(config: RunConfig) -> None:
    chosen = [card for card in MODELS if card.is_selected(config)]
    gpus = [f"here: {problem}" for problem in _memory_problems(config, gpu_memory_here())] if gpu_memory_needed(config) else []
    _refuse(config, [*lacking(chosen, config), *gpus, *_option_problems(config)], "here")


def _check_nodes(config: RunConfig, reports: Sequence[NodeReport]) -> list[str]:
    here = versions_here()
    problems = [f"{report.name}: {problem}" for report in reports for problem in report.problems]
    for report in reports:
        other = [f"{name} {has} (here {here[name]})" for name, has in report.versions.items() if has != here[name]]
        if other:
            problems.append(f"{report.name} has {', '.join(other)}; all nodes need the same versions, so use one image for all")
        problems += [f"{report.name}: {problem}" for problem in _memory_problems(config, report.gpus)]
    _refuse(config, [*problems, *_option_problems(config)], "on this cluster")
    if not reports:
        return ["nodes       none is there yet: what they have is not known before the cluster has grown"]
    return [
        f"nodes       {len(reports)}, all with sc3d {here['sc3d']}, ray {here['ray']}, python {here['python']} and their models"
    ]


def _memory_problems(config: RunConfig, gpus: Sequence[float]) -> list[str]:
    """Whether the models that may share one of a machine's GPUs, of so many GiB, fit into it together."""
    if not gpus:
        return []
    needed, least = gpu_memory_needed(config), min(gpus)
    shares = {card.name: needs.num_gpus for card, needs in selected(config) if needs.num_gpus and card.name in needed}
    together, room, names = 0.0, 1.0, []
    for name in sorted(shares, key=lambda name: -needed[name] / shares[name]):
        fit = int((room + 1e-9) // shares[name])
        together, room = together + fit * needed[name], room - fit * shares[name]
        names += [f"{fit} x {name}"] if fit else []
    if together <= least:
        return []
    return [
        f"{', '.join(names)} may share a GPU and need about {together:.0f} GiB, which has {least:.0f}; "
        "give each process a larger share with ray.pools.<actor>.num_gpus"
    ]


def _option_problems(config: RunConfig) -> list[str]:
    mask = config.reconstruct.mask
    unused = config.models.foreground and not mask.endswith("foreground")
    advice = "set reconstruct.mask=file_or_foreground, or leave it out"
    return [
        *_repository_problem(config),
        *([f"models.foreground is not used with reconstruct.mask={mask}: {advice}"] if unused else []),
    ]


def _repository_problem(config: RunConfig) -> list[str]:
    if config.orient.estimator != "orient_anything_v2" or config.models.variant != "full":
        return []
    from actors.foundation.orient_anything.actor import repository_of

    try:
        repository_of(config.models)
    except ConfigError as error:
        return [str(error)]
    return []


def _refuse(config: RunConfig, problems: Sequence[str], where: str) -> None:
    if problems:
        raise PreflightError(
            f"profile '{config.profile}' cannot run {where}",
            problems,
            "Weights that lie elsewhere are named with --set models.<name>=<folder, s3:// or hub id>; "
            "--set models.variant=tiny tries the run with small random models",
        )


def _token_line() -> str:
    if os.environ.get("RAY_AUTH_MODE", "token") == "token":
        return "token       Ray asks for its token"
    return "token       OFF: whoever reaches the dashboard's port can run code on the cluster; set RAY_AUTH_MODE=token on all nodes"


@contextmanager
def _probe(run: RunFolder) -> Iterator[str]:
    """A small file of the run folder that is there for a while."""
    probe = f".preflight-{uuid.uuid4().hex}"
    run.write_bytes(probe, _CONTENT)
    try:
        yield probe
    finally:
        run.delete(probe)


def _check_store(run: RunFolder) -> str:
    with _probe(run) as probe:
        if run.read_bytes(probe) != _CONTENT:
            raise PreflightError(f"{run.uri} does not give back what was just written to it; is there a cache in between?")
        conditional = run.create_bytes(probe, b"again")
    how = "without conditional writes, so runs take turns by listing" if conditional is None else "one run at a time"
    return f"run folder  {run.uri} is writable, {how}"


def _check_disk(config: RunConfig, images: int) -> str:
    needed = images * _FEATURES_MB[config.profile] / 1024
    run = RunFolder(config.run)
    if not run.is_local:
        return f"storage     about {needed:,.1f} GiB for the features of {images} images"
    folder = os.path.dirname(run.path("run.json"))
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    free = shutil.disk_usage(folder).free / 2**30
    if needed > free:
        raise PreflightError(
            f"the features of {images} images take about {needed:,.1f} GiB, and {run.uri} has {free:,.1f} GiB free; "
            "choose another run folder with --run"
        )
    return f"storage     about {needed:,.1f} GiB for the features of {images} images, {free:,.0f} GiB are free"
