"""Starting Ray, or joining one: every security and noise setting in one place.

A local Ray listens on the loopback interface only, asks for its token, and lies in a private folder; a cluster is joined by its address.
While it is there, a :class:`~cluster.watch.Watch` sees to it that its death is told in one line.
"""

from __future__ import annotations

import atexit
import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cluster.folders import NATIVE_LOG, RAY, LockedFolder, clean, parent_folder
from cluster.token import keep_token_private
from cluster.watch import Watch
from sc3d.errors import RayDiedError
from sc3d.machine import processes_here

if TYPE_CHECKING:
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

# A GCS of this machine that has died does not come back. Native code that waits for it holds Python up, so the run cannot end before.
_LOCAL_ENVIRONMENT = {_LOOPBACK: "0", "RAY_gcs_rpc_server_reconnect_timeout_s": "15"}

logger = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 256 * 2**20


class RaySession:
    """Ray for the time of a ``with`` block, started only when somebody needs it, so that a run with nothing to do starts nothing.

    :meth:`start` joins the Ray of this process if there is one, else the cluster of ``config.address`` or ``RAY_ADDRESS``, else starts a
    local Ray. Blocks may be nested: what any of them started ends with the outermost.

    Args:
        config: how many processes, and which cluster.
        note: a command that notes how this process has ended, if Ray or it dies without a word: see :class:`~cluster.watch.Watch`.
    """

    _depth: ClassVar[int] = 0
    _watch: ClassVar[Watch | None] = None
    _native: ClassVar[_NativeOutput | None] = None

    def __init__(self, config: RayConfig, note: Sequence[str] = ()) -> None:
        self._config, self._note = config, note

    def __enter__(self) -> RaySession:
        RaySession._depth += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        RaySession._depth -= 1
        if RaySession._depth == 0:
            _end_ray(failed=kind is not None)

    def start(self) -> None:
        """Make sure that Ray is there. Calling it again does nothing.

        Raises:
            RayDiedError: it cannot be started, or not be joined.
        """
        for key, value in _ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        address = self._config.address or os.environ.get("RAY_ADDRESS")
        if address is None:
            if "ray" in sys.modules and _LOOPBACK not in os.environ and not sys.modules["ray"].is_initialized():
                logger.warning(
                    "Ray was imported before sc3d could keep it to the loopback interface; import it later, or set %s=0", _LOOPBACK
                )
            for key, value in _LOCAL_ENVIRONMENT.items():
                os.environ.setdefault(key, value)

        import ray

        if not ray.is_initialized():
            try:
                self._init(address)
            except Exception as error:  # Ray raises about anything
                _end_ray(failed=True)
                where = f"could not join the Ray at {address}" if address else "Ray could not be started here"
                raise RayDiedError(f"{where} ({' '.join(str(error).split())}); start the same command again once it can") from error
        _quiet_ray_data()

    def _init(self, address: str | None) -> None:
        import ray

        keep_token_private(make=not address)
        parent = parent_folder()
        clean(parent)
        watch = RaySession._watch = Watch(LockedFolder(parent), self._note)
        folder = watch.folder.path
        options = {} if address else {**_local_options(self._config), "_temp_dir": str(folder / RAY)}
        if not address:
            watch.own()
        native = RaySession._native = _NativeOutput(folder / NATIVE_LOG)
        # For sessions that are not ended by a block: before Ray's own, which is registered already.
        atexit.unregister(_end_ray)
        atexit.register(_end_ray)
        with _terminations_kept():
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **options)
        if address:
            node: Any = ray._private.worker.global_worker.node
            watch.joined(node.raylet_socket_name, node.gcs_address)
        native.started()

    @property
    def is_cluster(self) -> bool:
        """Whether the run is on a Ray that this process has not started: the cluster's, or that of whoever calls."""
        given = self._config.address or os.environ.get("RAY_ADDRESS")
        return bool(given) or ("ray" in sys.modules and sys.modules["ray"].is_initialized() and RaySession._watch is None)

    def resources_here(self) -> dict[str, float]:
        """What a Ray that is started on this machine will have."""
        import torch

        return {"CPU": float(_local_options(self._config)["num_cpus"]), "GPU": float(torch.cuda.device_count())}

    @property
    def workers(self) -> int:
        """Processes of a stage at most: as configured, else as many as fit this machine, or nine tenths of the CPUs of a cluster, which
        must have been joined."""
        if self._config.workers is not None:
            return self._config.workers
        if self.is_cluster:
            return max(1, int(0.9 * self.most_resources().get("CPU", 0.0)))
        return processes_here()

    @staticmethod
    def most_resources() -> dict[str, float]:
        """Resource -> how much of it there is, or can come to be where the cluster grows by itself. Ray must have been started."""
        import ray
        from ray._private.state import state

        there: dict[str, float] = dict(ray.cluster_resources())
        limits = state.get_max_resources_from_cluster_config() or {}
        return {name: max(there.get(name, 0.0), float(limits.get(name, 0.0))) for name in {*there, *limits}}


@contextmanager
def deaths_told() -> Iterator[None]:
    """What Ray raises because a process has died that the work in the block cannot do without is one line, as if all of Ray had died.

    Raises:
        RayDiedError: instead of what Ray raises. What code raises in a process of Ray's is left as it is.
    """
    try:
        yield
    except Exception as error:
        if (death := _death(error)) is None:
            raise
        first, watch = str(death).partition("\n")[0], RaySession._watch
        logs = f"{watch.folder.path / RAY}/session_*/logs" if watch is not None else "in the folder of Ray's session"
        raise RayDiedError(
            f"a process of Ray's that the run needs has died ({type(death).__name__}: {first}). Its logs: {logs}. "
            "What is finished is kept; the same command goes on where it was"
        ) from error


@contextmanager
def _terminations_kept() -> Iterator[None]:
    """Ray replaces the handler of SIGTERM by its own, after which nothing ends in order; put the caller's back, if there is one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(handler):
            signal.signal(signal.SIGTERM, handler)


def _death(error: BaseException) -> BaseException | None:
    """What Ray has raised by itself; none where code in one of its processes has raised it."""
    if "ray" not in sys.modules:
        return None
    from ray.exceptions import RayError, RayTaskError

    while isinstance(error, RayTaskError):
        error = error.cause
    return error if isinstance(error, RayError) else None


def set_stderr_apart() -> None:
    """Give Python's standard error a descriptor of its own: what native code writes to 2 can then go to a log, while Ray is there."""
    before = sys.__stderr__
    if before is not None and before is sys.stderr and before.fileno() == 2:
        own = os.fdopen(os.dup(2), "w", buffering=1, encoding=before.encoding, errors=before.errors)
        sys.stderr = sys.__stderr__ = own  # type: ignore[misc]


def _end_ray(failed: bool = False) -> None:
    """End the Ray that a session of this process has started, or leave the one that it has joined."""
    watch, native = RaySession._watch, RaySession._native
    RaySession._watch = RaySession._native = None
    if watch is not None:
        import ray

        watch.closing(failed)
        ray.shutdown()
    if native is not None:
        native.restore()
    if watch is not None:
        watch.closed()


class _NativeOutput:
    """File descriptor 2 goes to a log: Ray's native code writes there what only Ray's developers can read, and crashes their stacks.

    For as long as Ray is there where Python's standard error has a descriptor of its own, as in the command line; else until Ray has been
    started, which writes a line because a log level is set at all. Real failures raise.
    """

    def __init__(self, log: Path) -> None:
        self._apart = sys.__stderr__ is not None and sys.__stderr__.fileno() != 2
        self._before = os.dup(2)
        self._log = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        os.dup2(self._log, 2)
        # Ray would enable it with Python's standard error, where it is not enabled yet.
        self._enabled = self._apart and not faulthandler.is_enabled()
        if self._enabled:
            faulthandler.enable(self._log, all_threads=False)

    def started(self) -> None:
        """Ray has been started."""
        if not self._apart:
            self.restore()

    def restore(self) -> None:
        """File descriptor 2 is what it was. Calling it again does nothing."""
        if self._log < 0:
            return
        if self._enabled:
            faulthandler.disable()
        os.dup2(self._before, 2)
        os.close(self._before)
        os.close(self._log)
        self._log = -1


def _local_options(config: RayConfig) -> dict[str, Any]:
    # Two logical CPUs more than the actors take: a pool that holds every CPU starves Ray Data's own tasks, silently.
    return {
        "num_cpus": max((config.workers or processes_here()) + 2, os.cpu_count() or 1),
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
    }


def _quiet_ray_data() -> None:
    import ray.data

    # It tells of each process that died with a stack of its own; the driver tells what became of the ids.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.execution_no_progress_timeout_s = 600
    # A block whose process dies again and again is missed and tried id by id; it must not end the run.
    context.max_errored_blocks = -1
    context.wait_for_min_actors_s = 300
