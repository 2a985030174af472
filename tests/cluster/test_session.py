"""What ends with Ray and what Ray leaves: real processes are killed, and one line says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cluster.folders import RAY, end_processes
from cluster.local import LocalCluster
from cluster.session import RaySession, deaths_told
from sc3d.config import RayConfig
from sc3d.errors import RayDiedError

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 100.0

DRIVER = """
import os, signal, sys, time
from cluster.session import RaySession, set_stderr_apart
from sc3d.config import RayConfig

def told(number, frame):
    print("told to stop", flush=True)
    sys.exit(128 + number)

if "HANDLED" in os.environ:
    signal.signal(signal.SIGTERM, told)
set_stderr_apart()
with RaySession(RayConfig(workers=1)) as session:
    session.start()
    import ray

    @ray.remote(num_cpus=0.1)
    def work():
        time.sleep(0.2)

    print("ready", flush=True)
    while sys.argv[1] == "wait":
        time.sleep(0.1)
    while sys.argv[1] == "work":
        ray.get([work.remote() for _ in range(4)])
    while sys.argv[1] == "ask":
        ray.cluster_resources()
print("ended", flush=True)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where Ray's folders go; short, for its sockets."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp", ignore_cleanup_errors=True) as path:
        yield Path(path)
        end_processes(Path(path))


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts a driver, which has said that Ray is there when this returns."""
    drivers: list[subprocess.Popen[str]] = []

    def begin(what: str = "work", **settings: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "RAY_TMPDIR": str(folder), "PYTHONPATH": str(ROOT), **settings}
        command = [sys.executable, "-c", DRIVER, what]
        pipe = subprocess.PIPE
        drivers.append(subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, cwd=folder))
        assert drivers[-1].stdout is not None
        assert drivers[-1].stdout.readline() == "ready\n"
        return drivers[-1]

    yield begin
    for driver in drivers:
        driver.kill()
        driver.communicate()


def kill_child(driver: subprocess.Popen[str], name: str) -> int:
    (victim,) = [child for child in psutil.Process(driver.pid).children() if child.name() == name]
    victim.kill()
    return victim.pid


def last_words(driver: subprocess.Popen[str]) -> str:
    """The one line of a driver that has ended with code 1."""
    _, error = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 1, error
    (line,) = error.splitlines()
    assert line.startswith("error: RayDiedError: ")
    assert line.endswith("the same command goes on where it was")
    return line


def wait_until_clean(folder: Path) -> list[Path]:
    """Until nothing but logs is left of the Rays in a folder; these."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        sessions = [session for session in folder.glob(f"sc3d-*/run-*/{RAY}/*") if not session.is_symlink()]
        if [part for session in sessions for part in session.iterdir()] == [session / "logs" for session in sessions]:
            break
        time.sleep(0.2)
    else:
        raise AssertionError("the folder was not cleaned")
    running = [p for p in psutil.process_iter() if any(f"{folder}/" in part for part in _command(p))]
    psutil.wait_procs(running, timeout=SECONDS)
    assert not [p.cmdline() for p in running if p.is_running()]
    return sessions


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_dead_raylet_ends_the_run_with_one_line_and_is_cleaned_up_after(start: Start, folder: Path) -> None:
    driver = start()
    pid = kill_child(driver, "raylet")
    line = last_words(driver)
    assert f"Ray's raylet (process {pid}) died" in line
    (session,) = wait_until_clean(folder)
    assert f"Its log: {session}/logs/raylet.err" in line
    assert (session / "logs" / "raylet.err").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["work", "ask"])
def test_a_dead_gcs_ends_the_run_with_one_line_whatever_it_is_at(start: Start, folder: Path, what: str) -> None:
    driver = start(what)
    pid = kill_child(driver, "gcs_server")
    assert f"Ray's GCS (process {pid}) died" in last_words(driver)
    wait_until_clean(folder)


@pytest.mark.slow
def test_a_run_that_ends_well_says_nothing(start: Start, folder: Path) -> None:
    out, error = (driver := start("end")).communicate(timeout=SECONDS)
    assert (driver.returncode, out, error) == (0, "ended\n", "")
    wait_until_clean(folder)


@pytest.mark.slow
def test_what_a_killed_run_leaves_is_cleaned_whether_its_keeper_lives_or_not(start: Start, folder: Path) -> None:
    alive = start()
    killed, orphaned = start(), start()
    keepers = [p for p in psutil.Process(orphaned.pid).children() if "cluster.keeper" in " ".join(p.cmdline())]
    for process in (*keepers, psutil.Process(orphaned.pid), psutil.Process(killed.pid)):
        process.kill()
    _, error = killed.communicate(timeout=SECONDS)
    # Ray's processes end with it, and may be seen to have ended first.
    assert f"he run (process {killed.pid}) " in error
    assert len(error.splitlines()) == 1
    start("end").communicate(timeout=SECONDS)
    # What the last one leaves is cleaned after its end.
    deadline = time.monotonic() + SECONDS
    while len(whole := list(folder.glob(f"sc3d-*/run-*/{RAY}/session_*_*/sockets"))) > 1 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert [path.parent.name.endswith(f"_{alive.pid}") for path in whole] == [True]
    assert alive.poll() is None
    alive.send_signal(signal.SIGINT)
    alive.communicate(timeout=SECONDS)
    wait_until_clean(folder)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", ["raylet", "gcs_server"])
def test_a_joined_cluster_that_dies_ends_the_run_with_one_line_and_is_not_touched(start: Start, folder: Path, part: str) -> None:
    with LocalCluster(nodes=1, cpus=2) as cluster:
        driver = start(**cluster.environment)
        members = cluster.processes()
        (victim,) = [p for p in members if p.node == 0 and (p.role == part or Path(p.title.split()[0]).name == part)]
        (other,) = [p for p in members if p.node == 1 and p.role == "raylet"]
        os.kill(victim.pid, signal.SIGKILL)
        line = last_words(driver)
        assert {"raylet": "this node's raylet", "gcs_server": f"GCS at {cluster.address} is gone"}[part] in line
        assert psutil.pid_exists(other.pid)


def test_a_ray_that_cannot_be_joined_is_one_error(folder: Path) -> None:
    environment = {**os.environ, "RAY_TMPDIR": str(folder), "PYTHONPATH": str(ROOT), "RAY_ADDRESS": "no address"}
    code = "from pipelines.cli import main\nimport sys\nmain(sys.argv[1:])"
    arguments = [
        "label",
        "--images",
        str(folder),
        "--category",
        "bus",
        "--run",
        str(folder / "run"),
        "--set",
        "max_reject_fraction=1",
    ]
    from PIL import Image

    Image.new("RGB", (60, 40)).save(folder / "photo.png")
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 1
    assert done.stderr.startswith("error: RayDiedError: could not join the Ray at no address (")
    assert len(done.stderr.splitlines()) == 1


def test_a_death_in_ray_is_one_line_and_what_code_raises_stays_what_it_is(ray_session: None) -> None:
    import ray

    @ray.remote(num_cpus=0)
    class Mortal:
        def die(self) -> None:
            os._exit(1)

    @ray.remote(num_cpus=0)
    def relayed() -> None:
        ray.get(Mortal.remote().die.remote())

    @ray.remote(num_cpus=0)
    def wrong() -> None:
        raise ZeroDivisionError

    for work in (Mortal.remote().die, relayed):
        with pytest.raises(RayDiedError, match=r"has died \(ActorDiedError: .*same command goes on") as told, deaths_told():
            ray.get(work.remote())
        assert "\n" not in str(told.value)
    with pytest.raises(ZeroDivisionError), deaths_told():
        ray.get(wrong.remote())


def test_ray_leaves_the_handler_of_sigterm_that_there_was(start: Start) -> None:
    """What a command says and ends with when it is told to stop is its own, while Ray is there as before."""
    driver = start("wait", HANDLED="1")
    driver.send_signal(signal.SIGTERM)
    output, error = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 143, error
    assert (output, error) == ("told to stop\n", "")


def test_processes_follow_the_machine_or_the_cluster_unless_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.session.processes_here", lambda: 6)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(RaySession, "is_cluster", False)
    assert RaySession(RayConfig()).workers == 6
    assert RaySession(RayConfig(workers=3)).workers == 3
    assert RaySession(RayConfig()).resources_here()["CPU"] >= 8
    monkeypatch.setattr(RaySession, "is_cluster", True)
    for cpus, workers in ((128.0, 115), (1.0, 1), (0.0, 1)):
        monkeypatch.setattr(RaySession, "most_resources", staticmethod(lambda cpus=cpus: {"CPU": cpus}))
        assert RaySession(RayConfig()).workers == workers
    assert RaySession(RayConfig(workers=3)).workers == 3
