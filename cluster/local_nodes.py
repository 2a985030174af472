"""The process that holds the nodes of a :class:`~cluster.local.LocalCluster`. Not for direct use: ``python -m cluster.local`` starts it.

It is a process of its own so that every node gets the cluster's environment (token, loopback, temporary folder) whatever the caller's
process has done with Ray, and so that nodes end with it: when its standard input closes, also because the caller was killed, it kills
what it started. Commands and answers are one JSON object a line.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from ray.cluster_utils import Cluster

# isort: split
import psutil  # Ray brings it along, and finds it once Ray is imported.

MARK = "SC3D_LOCAL_NODE"
"""Every process of a node has this variable in its environment: ``<cluster>/<node>``."""

_AGENTS = ("DashboardAgent", "RuntimeEnvAgent", "IDLE_SpillWorker", "IDLE_RestoreWorker")
_KILL_SECONDS = 20.0


class Nodes:
    """The nodes of one cluster, by index; 0 is the head. ``name``: unique to the cluster."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._cluster = Cluster(initialize_head=False, shutdown_at_exit=True)
        self._nodes: dict[int, Any] = {}
        self._count = 0

    def add(self, **options: Any) -> dict[str, Any]:
        """Start a node and wait until the cluster knows it. The first is the head. ``options`` are those of Ray's ``Cluster.add_node``."""
        index = self._count
        os.environ[MARK] = f"{self._name}/{index}"
        if index == 0:
            options["gcs_server_port"] = 0
        # A folder of its own for the files of jobs: a node deletes what it no longer runs itself, whoever else still does.
        folder = f"runtime_resources_{index}"
        node = self._cluster.add_node(runtime_env_dir_name=folder, dashboard_agent_listen_port=0, **options)
        self._count += 1
        self._nodes[index] = node
        return {"node": index, "address": self._cluster.address, "dashboard": node.webui_url if index == 0 else None}

    def kill(self, index: int) -> dict[str, Any]:
        """SIGKILL every process of a node, as when its machine loses power."""
        _kill_until_none_is_left(lambda: self._members(index))
        # What is left to do is Ray's own bookkeeping about processes that are gone.
        self._cluster.remove_node(self._nodes.pop(index), allow_graceful=False)
        return {}

    def processes(self) -> dict[str, Any]:
        """Node -> its processes as (pid, role, title); the role is raylet, worker (runs tasks or an actor) or other."""
        return {"nodes": {index: [_describe(process) for process in self._members(index)] for index in self._nodes}}

    def stop(self) -> dict[str, Any]:
        """SIGKILL everything. There is nothing in a throw-away cluster that would be worth a slow goodbye."""
        session = os.getsid(0)

        def everything() -> set[psutil.Process]:
            own = psutil.Process()
            mine = {process for process in psutil.process_iter() if process != own and _session_of(process) == session}
            return mine | set(own.children(recursive=True)) | _marked(f"{self._name}/")

        _kill_until_none_is_left(everything)
        return {}

    def _members(self, index: int) -> set[psutil.Process]:
        # Ray's agents overwrite their environment with their title, so descent is needed beside the mark; the mark finds what has lost
        # its parent, such as the driver of a job.
        started = (info.process.pid for infos in self._nodes[index].all_processes.values() for info in infos)
        found = _marked(f"{self._name}/{index}").union(*map(_with_descendants, started))
        return {process for process in found if _is_alive(process)}


def _with_descendants(pid: int) -> set[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return {process, *process.children(recursive=True)}
    except psutil.Error:
        return set()


def _marked(prefix: str) -> set[psutil.Process]:
    found = set()
    for process in psutil.process_iter():
        try:
            mark = process.environ().get(MARK, "")
        except (psutil.Error, OSError):
            continue
        if mark == prefix or (prefix.endswith("/") and mark.startswith(prefix)):
            found.add(process)
    return found


def _describe(process: psutil.Process) -> tuple[int, str, str]:
    try:
        command = process.cmdline()
    except psutil.Error:
        command = []
    title = " ".join(command[:2])
    name = os.path.basename(command[0]) if command else ""
    if name == "raylet":
        return process.pid, "raylet", title
    is_worker = title.startswith("ray::") and not any(agent in title for agent in _AGENTS)
    return process.pid, "worker" if is_worker else "other", title


def _kill_until_none_is_left(members: Callable[[], set[psutil.Process]]) -> None:
    # Orphans of the first round (a raylet's agents) are still in it: it was listed before anything was killed. A raylet may have started
    # another worker while it was listed, so it is done again until none is left.
    deadline = time.monotonic() + _KILL_SECONDS
    known: set[psutil.Process] = set()
    while time.monotonic() < deadline:
        known = {process for process in known | members() if _is_alive(process)}
        if not known:
            return
        for process in known:
            with suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(known, timeout=1)


def _session_of(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid)
    except OSError:
        return -1


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _serve(nodes: Nodes, answers: TextIO) -> None:
    commands: dict[str, Callable[..., dict[str, Any]]] = {
        "add": nodes.add,
        "kill": nodes.kill,
        "processes": nodes.processes,
        "stop": nodes.stop,
    }
    for line in sys.stdin:
        request = json.loads(line)
        name = request.pop("do")
        try:
            answer = commands[name](**request)
        except Exception as error:  # Whatever it is, the caller is told, and decides.
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        if name == "stop":
            return


def main() -> None:
    """``python -m cluster.local_nodes NAME FOLDER``: the folder, which holds everything that Ray writes, is removed at the end."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    # Ray's Cluster notes its address in Ray's default folder, which it does not make.
    (folder / "ray").mkdir(exist_ok=True)
    # Ray writes to standard output too; the answers keep it to themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    nodes = Nodes(name)
    try:
        _serve(nodes, answers)
    finally:
        nodes.stop()
        shutil.rmtree(folder, ignore_errors=True)
        # Ray's own handlers would wait for processes that are gone.
        os._exit(0)


if __name__ == "__main__":
    main()
