"""Starting Ray, or joining one: every security and noise setting in one place.

A local Ray listens on the loopback interface only and asks for its token; a cluster is joined by its address.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sc3d.config import RayConfig

# Ray reads these when it is imported. RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 is what makes every port of a local Ray loopback, on
# Linux too; by default the object store, raylet and workers listen on all interfaces.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

OBJECT_STORE_BYTES = 256 * 2**20


@contextmanager
def ray_session(config: RayConfig) -> Iterator[None]:
    """Ray for the time of a block: the running one if there is one, the cluster of ``config.address`` or ``RAY_ADDRESS``, else a
    local one, which ends with the block."""
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    address = config.address or os.environ.get("RAY_ADDRESS")
    if address is None:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

    import ray

    joined = ray.is_initialized()
    if not joined:
        options = {} if address else _local_options(config)
        ray.init(address=address, log_to_driver=True, logging_level=logging.ERROR, **options)
    _quiet_ray_data()
    try:
        yield
    finally:
        if not joined:
            ray.shutdown()


def _local_options(config: RayConfig) -> dict[str, Any]:
    # Two logical CPUs more than the actors take: a pool that holds every CPU starves Ray Data's own tasks, silently.
    return {
        "num_cpus": config.workers + 2,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
    }


def _quiet_ray_data() -> None:
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.execution_no_progress_timeout_s = 600
    context.wait_for_min_actors_s = 300
