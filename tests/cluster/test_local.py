"""The cluster on one machine is what tests of faults stand on: real nodes, closed to others, and nothing left when it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cluster.local import LocalCluster
from sc3d.errors import ConfigError, PreflightError

ROOT = Path(__file__).resolve().parents[2]

NODES = """
import json, ray
ray.init(logging_level="ERROR", log_to_driver=False)
nodes = [{"id": n["NodeID"], "up": n["Alive"], **n["Resources"]} for n in ray.nodes()]
print(json.dumps({"nodes": nodes, "here": ray.get_runtime_context().get_node_id()}))
"""

# One actor a node; it says where it is when it is asked, again and again.
ACTORS = """
import os, sys, ray
ray.init(logging_level="ERROR", log_to_driver=False)
@ray.remote(num_cpus=2, max_restarts=-1, max_task_retries=-1)
class Probe:
    def where(self):
        return os.getpid()
probes = [Probe.remote() for _ in range(2)]
for _ in sys.stdin:
    print("pids", *sorted(ray.get([probe.where.remote() for probe in probes], timeout=200)), flush=True)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=2, cpus=2, gpus=1, resources={"sam3d": 1}, dashboard=True) as cluster:
        yield cluster


def drive(cluster: LocalCluster, code: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a driver in a process of its own."""
    environment = {**os.environ, **cluster.environment, **settings}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, cwd="/")


def nodes_seen(cluster: LocalCluster) -> dict[str, list[dict[str, float]]]:
    """What a driver is told about the nodes."""
    done = drive(cluster, NODES)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def wait_until(condition: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("options", [{"nodes": -1}, {"cpus": -1}, {"gpus": -1}, {"object_store_mb": 1}])
def test_impossible_clusters_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        LocalCluster(**options)  # type: ignore[arg-type]


def test_a_cluster_that_is_not_running_says_so() -> None:
    with pytest.raises(PreflightError, match="with block"):
        LocalCluster().node_pids()


def test_a_wrong_resource_is_wrong_usage() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cluster.local", "--resource", "sam3d=lots"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "sam3d=lots" in done.stderr


@pytest.mark.slow
def test_the_nodes_are_as_asked_and_the_head_takes_no_work(cluster: LocalCluster) -> None:
    seen = nodes_seen(cluster)
    head = [n for n in seen["nodes"] if "node:__internal_head__" in n]
    workers = [n for n in seen["nodes"] if "node:__internal_head__" not in n]
    assert [n.get("CPU", 0) for n in head] == [0]
    assert [(n["CPU"], n["GPU"], n["sam3d"]) for n in workers] == [(2, 1, 1), (2, 1, 1)]
    assert seen["here"] == head[0]["id"], "a driver that loses a worker node must not lose its own"
    assert cluster.nodes == (1, 2)
    assert set(cluster.node_pids()) == {0, 1, 2}


@pytest.mark.slow
def test_nothing_listens_beyond_the_loopback_interface(cluster: LocalCluster) -> None:
    drive(cluster, NODES)
    listening = [
        (process.title, connection.laddr)
        for process in cluster.processes()
        for connection in psutil.Process(process.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) > 6
    assert [where for where in listening if where[1].ip.removeprefix("::ffff:") != "127.0.0.1"] == []


@pytest.mark.slow
def test_a_wrong_token_is_refused(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0" * 64)
    done = drive(cluster, NODES, RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))
    assert done.returncode != 0
    assert "InvalidAuthToken" in done.stderr
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{cluster.dashboard_url}/api/jobs/", timeout=30)  # noqa: S310
    assert refused.value.code == 401
    token_file = Path(cluster.environment["RAY_AUTH_TOKEN_PATH"])
    assert token_file.stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_a_node_that_is_killed_is_gone_and_its_actor_moves_to_a_new_one(cluster: LocalCluster) -> None:
    environment = {**os.environ, **cluster.environment}
    driver = subprocess.Popen(
        [sys.executable, "-c", ACTORS], env=environment, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with driver:
        assert driver.stdin is not None
        assert driver.stdout is not None

        def where() -> list[int]:
            driver.stdin.write("\n")
            driver.stdin.flush()
            # Ray prints remarks of its own there, about a node that died for instance.
            answer = next(line for line in driver.stdout if line.startswith("pids "))
            return [int(pid) for pid in answer.split()[1:]]

        before = where()
        assert sorted(cluster.worker_pids("ray::Probe")) == before
        lost = cluster.nodes[-1]
        on_it = cluster.worker_pids("ray::Probe", node=lost)
        everything = [p.pid for p in cluster.processes() if p.node == lost]
        assert len(on_it) == 1
        assert set(on_it) < set(everything)
        cluster.kill_node(lost)
        assert not any(alive(pid) for pid in everything)
        assert lost not in cluster.nodes
        with pytest.raises(ConfigError, match="no worker node"):
            cluster.kill_node(lost)
        new = cluster.add_node()
        after = where()
        assert set(before) - set(on_it) == set(before) & set(after), "the actor on the other node went on"
        assert set(cluster.worker_pids("ray::Probe", node=new)) == set(after) - set(before)
        driver.stdin.close()
        assert driver.wait(60) == 0


@pytest.mark.slow
def test_the_cluster_ends_with_its_owner(tmp_path: Path) -> None:
    """Also when the owner is killed and can do nothing about it."""
    code = (
        "import json, time\nfrom cluster.local import LocalCluster\n"
        "with LocalCluster(nodes=1, cpus=1) as cluster:\n"
        "    pids = [p.pid for p in cluster.processes()]\n"
        "    print(json.dumps([pids, cluster.environment['RAY_AUTH_TOKEN_PATH']]), flush=True)\n"
        "    time.sleep(600)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with owner:
        assert owner.stdout is not None
        pids, token_file = json.loads(owner.stdout.readline())
        assert len(pids) > 4
        assert all(alive(pid) for pid in pids)
        owner.kill()
    wait_until(lambda: not any(alive(pid) for pid in pids) and not Path(token_file).parent.exists())


@pytest.mark.slow
def test_the_command_prints_how_to_join_and_stops_at_ctrl_c() -> None:
    command = [sys.executable, "-m", "cluster.local", "--nodes", "1", "--cpus", "1", "--resource", "sam3d=2", "--no-dashboard"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or "Ctrl-C" not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read() if process.stderr else ""
        exported = dict(line.removeprefix("export ").strip().split("=", 1) for line in lines if line.startswith("export "))
        done = subprocess.run(
            [sys.executable, "-c", NODES], env={**os.environ, **exported}, capture_output=True, text=True, timeout=120, cwd="/"
        )
        assert [n["sam3d"] for n in json.loads(done.stdout)["nodes"] if "sam3d" in n] == [2], done.stderr
        started = [p.pid for p in psutil.Process(process.pid).children(recursive=True)]
        assert len(started) > 4
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert not any(alive(pid) for pid in started)
    assert not Path(exported["RAY_AUTH_TOKEN_PATH"]).parent.exists()
