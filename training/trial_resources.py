"""What a trial of a search takes of the cluster, and how many trials that leaves room for."""

from __future__ import annotations

import ray

from sc3d.errors import PreflightError
from training.search import Search


def resources(spec: Search) -> dict[str, float]:
    """What Ray Tune is asked for each trial."""
    if spec.workers:
        # Its workers take CPUs of their own; so many trials at once are asked for that all of their workers find one.
        return {"CPU": 0.01}
    return {"CPU": 1, "GPU": spec.gpus} if spec.gpus else {"CPU": 1}


def room(workers: int, gpus: float | None) -> tuple[int, float]:
    """How many trials the running cluster has room for at once, and the GPUs of each.

    Args:
        workers: Ray Train workers of a trial, or 0.
        gpus: of a trial in one process; ``None``: one where there are any.

    Raises:
        PreflightError: not even one.
    """
    there = ray.cluster_resources()
    cpus, cards = there.get("CPU", 0.0), there.get("GPU", 0.0)
    if workers:
        trials = int((cpus - 0.5) // workers)
        if cards >= workers:
            trials = min(trials, int(cards // workers))
        if trials < 1:
            raise PreflightError(
                f"a trial with train.workers = {workers} needs {workers + 1} CPUs, the cluster has {cpus:.0f}; use fewer workers, or 0"
            )
        return trials, 0.0
    share = (1.0 if cards else 0.0) if gpus is None else gpus
    trials = int(min(cpus, cards / share if share else cpus))
    if trials < 1:
        raise PreflightError(f"a trial needs 1 CPU and {share:g} GPUs, the cluster has {cpus:.0f} and {cards:g}")
    return trials, share
