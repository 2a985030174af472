"""A cluster of several nodes on one machine, for tests and trials: ``python -m cluster.local --nodes 3 --cpus 2``.

Each node is a raylet with its own object store and worker processes, as on a machine of its own, and can be killed like one. The head
has no CPUs for work. Everything listens on the loopback interface and asks for a token that is made for this cluster alone. What is not
like a real cluster: the nodes share a disk, an address and the real CPUs, GPUs are only counted, and a driver attaches to the head's object
store wherever it runs.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from cluster.loopback import free_port, stop_event
from sc3d.errors import ConfigError, PreflightError

_NOT_INHERITED = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN")
_NOT_RUNNING = "the local cluster is not running: use it in a with block"
_STOP_SECONDS = 30.0
_ANSWER_SECONDS = 120.0
_LEAST_STORE_MB = 80


@dataclass(frozen=True)
class NodeProcess:
    """One process of a node. ``role``: raylet, worker (it runs tasks or an actor) or other. ``title``: what ``ps`` shows, which for a
    worker names the task or actor."""

    node: int
    pid: int
    role: str
    title: str


class LocalCluster:
    """A Ray cluster on this machine for the time of a ``with`` block.

    Drivers are processes of their own that have :attr:`environment` in theirs; a process that has imported Ray already may hold other
    settings and cannot join. Not thread-safe.

    Args:
        nodes: worker nodes, with indices from 1; the head is node 0.
        cpus: logical CPUs of each worker node; they may be more than there are.
        gpus: GPUs that each worker node claims to have. Ray schedules by them; nothing provides them.
        resources: custom resources of each worker node, such as ``{"sam3d": 1}``.
        dashboard: with the dashboard, which takes jobs.
        variables: environment of the nodes beside this process's own, such as the credentials of an object store.
        object_store_mb: shared memory of each node's object store, in MB.

    Raises:
        ConfigError: an argument makes no sense.
        PreflightError: the cluster cannot be started here.
    """

    def __init__(
        self,
        nodes: int = 2,
        cpus: int = 2,
        gpus: int = 0,
        resources: Mapping[str, float] | None = None,
        dashboard: bool = False,
        variables: Mapping[str, str] | None = None,
        object_store_mb: int = 128,
    ) -> None:
        if nodes < 0 or cpus < 0 or gpus < 0 or object_store_mb < _LEAST_STORE_MB:
            raise ConfigError(f"nodes, cpus and gpus must not be negative, and object_store_mb is at least {_LEAST_STORE_MB}")
        if dashboard and importlib.util.find_spec("aiohttp") is None:
            raise PreflightError("the dashboard, which takes jobs, needs more of Ray: pip install 'ray[default]'")
        self._wanted = nodes
        self._shape: dict[str, Any] = {"cpus": cpus, "gpus": gpus, "resources": dict(resources or {})}
        self._variables = dict(variables or {})
        self._with_dashboard = dashboard
        self._store_bytes = object_store_mb * 2**20
        self._holder: subprocess.Popen[str] | None = None
        self._address = ""
        self._dashboard_url: str | None = None
        self._folder: Path | None = None
        self._log: IO[bytes] | None = None
        self._alive: list[int] = []

    def __enter__(self) -> LocalCluster:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        """``host:port`` that drivers join."""
        return self._address

    @property
    def dashboard_url(self) -> str | None:
        """Where jobs are submitted, ``http://...``; none without a dashboard."""
        return self._dashboard_url

    @property
    def token(self) -> str:
        """The token that every connection must show."""
        return self._token_file.read_text()

    @property
    def environment(self) -> dict[str, str]:
        """What a driver's environment needs beside the usual: ``{**os.environ, **cluster.environment}``. It also makes ``ray job`` and
        ``ray status`` find this cluster."""
        found = {"RAY_ADDRESS": self.address, **self._security()}
        return {**found, "RAY_API_SERVER_ADDRESS": self._dashboard_url} if self._dashboard_url else found

    @property
    def nodes(self) -> tuple[int, ...]:
        """Indices of the worker nodes that are up."""
        return tuple(self._alive)

    def add_node(self, cpus: int | None = None, gpus: int | None = None, resources: Mapping[str, float] | None = None) -> int:
        """Start another worker node, like the others unless it is said otherwise, and return its index once the cluster knows it."""
        given = {"cpus": cpus, "gpus": gpus, "resources": None if resources is None else dict(resources)}
        shape = {**self._shape, **{key: value for key, value in given.items() if value is not None}}
        answer = self._ask("add", num_cpus=shape["cpus"], num_gpus=shape["gpus"], resources=shape["resources"], **self._common())
        self._alive.append(answer["node"])
        return int(answer["node"])

    def kill_node(self, index: int) -> None:
        """SIGKILL the raylet of a worker node and everything it runs at once, as when a machine loses power. The rest of the cluster is
        not told: it has to notice.

        Raises:
            ConfigError: there is no such worker node.
        """
        if index not in self._alive:
            raise ConfigError(f"there is no worker node {index}; those that are up: {self._alive}")
        self._ask("kill", index=index)
        self._alive.remove(index)

    def processes(self) -> list[NodeProcess]:
        """Every process of the nodes that are up."""
        found = self._ask("processes")["nodes"]
        return [NodeProcess(int(node), *process) for node, members in found.items() for process in members]

    def node_pids(self) -> dict[int, int]:
        """Node -> pid of its raylet."""
        return {p.node: p.pid for p in self.processes() if p.role == "raylet"}

    def worker_pids(self, title: str = "ray::", node: int | None = None) -> list[int]:
        """Pids of the processes that run tasks and actors, idle ones too, on all nodes or one. ``title``: only those whose title contains
        this; an actor's is ``ray::ClassName``, an idle process's ``ray::IDLE``."""
        chosen = (p for p in self.processes() if p.role == "worker" and title in p.title and node in (None, p.node))
        return [p.pid for p in chosen]

    def close(self) -> None:
        """Stop every node and remove the temporary folder. Calling it again does nothing."""
        holder, self._holder = self._holder, None
        if holder is not None:
            with holder:
                try:
                    holder.communicate(json.dumps({"do": "stop"}) + "\n", timeout=_STOP_SECONDS)
                except (subprocess.TimeoutExpired, OSError, ValueError):
                    holder.kill()
        if self._log is not None:
            self._log.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._alive = []

    @property
    def _token_file(self) -> Path:
        if self._folder is None:
            raise PreflightError(_NOT_RUNNING)
        return self._folder / "token"

    def _security(self) -> dict[str, str]:
        # The loopback switch's name is about other systems; on Linux too it is what keeps every port of Ray off the network.
        return {
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self._token_file),
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def _common(self) -> dict[str, Any]:
        return {"object_store_memory": self._store_bytes}

    def _start(self) -> None:
        # Ray's socket paths must stay below 108 bytes, which rules out the long temporary folders of macOS and of tests.
        parent = "/tmp" if os.access("/tmp", os.W_OK) else tempfile.gettempdir()  # noqa: S108
        self._folder = Path(tempfile.mkdtemp(prefix="sc3d-", dir=parent))
        self._token_file.touch(0o600)
        self._token_file.write_text(secrets.token_hex(32))
        environment = {key: value for key, value in os.environ.items() if key not in _NOT_INHERITED}
        environment.update(self._variables)
        environment.update(self._security())
        # A job's "python" is looked up on the head's PATH, and cluster_utils notes the newest cluster in Ray's default folder.
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
        environment["RAY_TMPDIR"] = str(self._folder)
        self._log = open(self._folder / "nodes.log", "wb")  # noqa: SIM115
        self._holder = subprocess.Popen(
            [sys.executable, "-m", "cluster.local_nodes", secrets.token_hex(8), str(self._folder)],
            env=environment,
            cwd=Path(__file__).resolve().parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )
        head: dict[str, Any] = {"num_cpus": 0, "num_gpus": 0, "include_dashboard": self._with_dashboard, **self._common()}
        if self._with_dashboard:
            head |= {"dashboard_host": "127.0.0.1", "dashboard_port": free_port()}
        answer = self._ask("add", **head)
        self._address = answer["address"]
        self._dashboard_url = f"http://{answer['dashboard']}" if self._with_dashboard else None
        for _ in range(self._wanted):
            self.add_node()

    def _ask(self, command: str, **options: Any) -> dict[str, Any]:
        if self._holder is None or self._holder.stdin is None or self._holder.stdout is None:
            raise PreflightError(_NOT_RUNNING)
        try:
            self._holder.stdin.write(json.dumps({"do": command, **options}) + "\n")
            self._holder.stdin.flush()
            ready, _, _ = select.select([self._holder.stdout], [], [], _ANSWER_SECONDS)
            line = self._holder.stdout.readline() if ready else ""
        except OSError:
            line = ""
        answer = json.loads(line) if line else {"error": f"its process ended or does not answer.\n{self._last_words()}"}
        if "error" in answer:
            raise PreflightError(f"the local cluster could not {command} a node: {answer['error']}")
        return dict(answer)

    def _last_words(self) -> str:
        try:
            return (self._folder / "nodes.log").read_text(errors="replace")[-2000:] if self._folder else ""
        except OSError:
            return ""


def _resources(values: list[str]) -> dict[str, float]:
    found = {}
    for value in values:
        name, _, amount = value.partition("=")
        try:
            found[name] = float(amount or 1)
        except ValueError:
            raise typer.BadParameter(f"'{value}' is not NAME=AMOUNT, such as sam3d=1") from None
    return found


def _command(
    nodes: Annotated[int, typer.Option(help="Worker nodes beside the head.")] = 2,
    cpus: Annotated[int, typer.Option(help="Logical CPUs of each worker node.")] = 2,
    gpus: Annotated[int, typer.Option(help="GPUs that each worker node claims to have; they are only counted.")] = 0,
    resource: Annotated[list[str] | None, typer.Option(help="NAME=AMOUNT of each worker node, such as sam3d=1.")] = None,
    dashboard: Annotated[bool, typer.Option(help="The dashboard, which takes jobs.")] = True,
) -> None:
    """A Ray cluster of several nodes on this machine, on the loopback interface and with a token, until Ctrl-C."""
    stop = stop_event()
    options = _resources(resource or [])
    with LocalCluster(nodes, cpus, gpus, options, dashboard) as cluster:
        settings = "\n".join(f"export {key}={value}" for key, value in cluster.environment.items())
        typer.echo(f"# A head without CPUs and {nodes} worker nodes. In another terminal:\n{settings}")
        typer.echo("sc3d label --config run.yaml                          # joins it")
        if dashboard:
            typer.echo("ray job submit --working-dir . -- python -m pipelines.cli label --config run.yaml")
            typer.echo(
                f"# Dashboard: {cluster.dashboard_url}, which asks for the token: cat {cluster.environment['RAY_AUTH_TOKEN_PATH']}"
            )
        typer.echo("# Ctrl-C stops everything.")
        stop.wait()


if __name__ == "__main__":
    typer.run(_command)
