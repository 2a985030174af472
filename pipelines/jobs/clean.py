"""Removing what is left over in a run folder: see :mod:`pipelines.stages.leftovers`."""

from __future__ import annotations

from pipelines.jobs.job import Job
from pipelines.stages.leftovers import Leftover, find_leftovers, remove_leftovers
from sc3d.config import RunConfig


def run(config: RunConfig, delete: bool = False, others: bool = False) -> tuple[list[Leftover], int]:
    """Find what is left over and, if ``delete``, remove it; returns what there was and how many files were removed.

    Args:
        others: also what belongs to other configurations, such as labels at other thresholds; imported labels stay.

    Raises:
        RunBusyError: another run that is alive writes the folder.
        InputError: there is no run.
    """
    with Job(config, "clean") as job:
        found = find_leftovers(job.config)
        return found, remove_leftovers(job.config, found, others) if delete else 0
