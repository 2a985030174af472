"""Starting Ray, or joining one: every security and noise setting in one place.

A local Ray listens on the loopback interface only and asks for its token; a cluster is joined by its address.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from sc3d.config import RayConfig

# Ray reads these when it is imported. RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 is what makes every port of a local Ray loopback, on
# Linux too; by default the object store, raylet and workers listen on all interfaces.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"

logger = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 256 * 2**20


class RaySession:
    """Ray for the time of a ``with`` block, started only when somebody needs it, so that a run with nothing to do starts nothing.

    :meth:`start` joins the Ray of this process if there is one, else the cluster of ``config.address`` or ``RAY_ADDRESS``, else starts a
    local Ray. Blocks may be nested: what any of them started ends with the outermost.
    """

    _depth: ClassVar[int] = 0
    _started: ClassVar[bool] = False

    def __init__(self, config: RayConfig) -> None:
        self._config = config

    def __enter__(self) -> RaySession:
        RaySession._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        RaySession._depth -= 1
        if RaySession._depth == 0 and RaySession._started:
            import ray

            RaySession._started = False
            ray.shutdown()

    def start(self) -> None:
        """Make sure that Ray is there. Calling it again does nothing."""
        for key, value in _ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        address = self._config.address or os.environ.get("RAY_ADDRESS")
        if address is None:
            if "ray" in sys.modules and _LOOPBACK not in os.environ and not sys.modules["ray"].is_initialized():
                logger.warning(
                    "Ray was imported before sc3d could keep it to the loopback interface; import it later, or set %s=0", _LOOPBACK
                )
            os.environ.setdefault(_LOOPBACK, "0")

        import ray

        if not ray.is_initialized():
            options = {} if address else _local_options(self._config)
            with _without_startup_line():
                ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **options)
            RaySession._started = True
        _quiet_ray_data()

    @property
    def is_cluster(self) -> bool:
        """Whether the run is on a Ray that this process has not started: the cluster's, or that of whoever calls."""
        given = self._config.address or os.environ.get("RAY_ADDRESS")
        return bool(given) or ("ray" in sys.modules and sys.modules["ray"].is_initialized() and not RaySession._started)

    def resources_here(self) -> dict[str, float]:
        """What a Ray that is started on this machine will have."""
        import torch

        return {"CPU": float(_local_options(self._config)["num_cpus"]), "GPU": float(torch.cuda.device_count())}

    @staticmethod
    def most_resources() -> dict[str, float]:
        """Resource -> how much of it there is, or can come to be where the cluster grows by itself. Ray must have been started."""
        import ray
        from ray._private.state import state

        there: dict[str, float] = dict(ray.cluster_resources())
        limits = state.get_max_resources_from_cluster_config() or {}
        return {name: max(there.get(name, 0.0), float(limits.get(name, 0.0))) for name in {*there, *limits}}


@contextmanager
def _without_startup_line() -> Iterator[None]:
    # Ray's native code writes one line to file descriptor 2 because a log level is set at all. Real failures raise.
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _local_options(config: RayConfig) -> dict[str, Any]:
    # Two logical CPUs more than the actors take: a pool that holds every CPU starves Ray Data's own tasks, silently.
    return {
        "num_cpus": max(config.workers + 2, os.cpu_count() or 1),
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
    }


def _quiet_ray_data() -> None:
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.execution_no_progress_timeout_s = 600
    # A block whose process dies again and again is missed and tried id by id; it must not end the run.
    context.max_errored_blocks = -1
    context.wait_for_min_actors_s = 300
