"""The Slurm script: clean shell, ports of its own, a token that nobody else reads, a cluster whose head does no work, and a clean end."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "cluster" / "slurm" / "label.sbatch"
SLURM = SCRIPT.read_text()
BIN = Path(sys.executable).parent
Submit = Callable[..., "subprocess.Popen[str]"]

# Slurm's commands on one machine: steps run here, and what is asked of the controller is answered or noted.
COMMANDS = {
    "srun": 'while [ "$1" != ray ]; do shift; done; exec "$@"',
    "scontrol": 'case "$1" in show) echo "NodeName=n1 NodeAddr=127.0.0.1 NodeHostName=n1";; *) echo "$@" >> "$NOTES/scontrol";; esac',
    "squeue": 'echo "$STATE"',
    "ray": f'exec "{BIN}/ray" "$@"',
    "python": f'if [ "$2" = pipelines.cli ]; then exec "{sys.executable}" "$NOTES/driver.py" "$@"; fi; exec "{sys.executable}" "$@"',
}

# In place of the pipeline: tells what it sees, and works until it is told to stop.
DRIVER = """
import json, os, pathlib, sys, time, urllib.error, urllib.request
import ray
ray.init(logging_level="ERROR", log_to_driver=False)
def status(port, path):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20).status
    except urllib.error.HTTPError as error:
        return error.code
notes = pathlib.Path(os.environ["NOTES"])
port = int(os.environ["RAY_ADDRESS"].rpartition(":")[2])
seen = {
    "arguments": sys.argv[1:],
    "nodes": [[node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0)] for node in ray.nodes()],
    "environment": dict(os.environ),
    "dashboard": status(port + 1, "/api/jobs/"),
    "health": status(port + 3, "/api/healthz"),
}
(notes / "seen").write_text(json.dumps(seen))
try:
    while "stay" in sys.argv:
        time.sleep(0.2)
except KeyboardInterrupt:
    (notes / "interrupted").touch()
    sys.exit(130)
"""


def test_the_slurm_script_is_clean_shell() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    checker = BIN / "shellcheck"
    done = subprocess.run([str(checker), str(SCRIPT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_slurm_s_options() -> None:
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", SLURM, re.MULTILINE))
    assert options["ntasks-per-node"] == "1"
    assert "requeue" in options
    # To the shell, which stops the driver; and early enough.
    assert int(re.fullmatch(r"B:TERM@(\d+)", options["signal"])[1]) >= 120  # type: ignore[index]
    assert options["open-mode"] == "append"
    assert "array" not in options


@pytest.mark.parametrize("job", [1, 399, 400, 12_345_678])
def test_ports_of_slurm_jobs_lie_between_those_of_others(job: int) -> None:
    (expression,) = re.findall(r"^port=\$\(\((.*)\)\)$", SLURM, re.MULTILINE)
    start = int(subprocess.check_output(["bash", "-c", f"echo $(({expression}))"], env={"SLURM_JOB_ID": str(job)}, text=True))
    offsets = [int(n) for n in re.findall(r"\$\(\(port \+ (\d+)\)\)", SLURM)]
    assert len(offsets) == len({*re.findall(r"\S*\$\(\(port \+ \d+\)\)", SLURM)})
    assert max(offsets) < 30
    assert start > 19_999, "Ray's workers"
    assert start + 30 <= 32_768, "ephemeral ports"


@pytest.fixture
def submit(tmp_path: Path) -> Iterator[Submit]:
    """Starts the script as a job on one node, with the state that Slurm is to tell and the run's options."""
    started: list[tuple[subprocess.Popen[str], int]] = []

    def start(state: str, *options: str) -> subprocess.Popen[str]:
        number = os.getpid()
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("RAY_")},
            "HOME": str(tmp_path),
            "SC3D_ENV": str(tmp_path / "env"),
            "NOTES": str(tmp_path),
            "STATE": state,
            "SLURM_JOB_ID": str(number),
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_CPUS_PER_TASK": "3",
            "SLURM_SUBMIT_DIR": str(tmp_path),
            "SLURMD_NODENAME": "n1",
        }
        command = ["bash", str(SCRIPT), str(tmp_path / "run.yaml"), *options]
        log = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, start_new_session=True, **log)  # type: ignore[call-overload]
        started.append((process, number))
        return process

    for name, text in COMMANDS.items():
        command = tmp_path / "env" / "bin" / name
        command.parent.mkdir(parents=True, exist_ok=True)
        command.write_text(f"#!/usr/bin/env bash\n{text}\n")
        command.chmod(0o755)
    (tmp_path / "driver.py").write_text(DRIVER)
    (tmp_path / "run.yaml").touch()
    yield start
    for process, number in started:
        for pid in running(tmp_path):
            os.kill(pid, signal.SIGKILL)
        process.wait(timeout=20)
        shutil.rmtree(f"/tmp/sc3d-{number}", ignore_errors=True)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert path.exists(), process.communicate(timeout=10)[0] if process.poll() is not None else "nothing happened"


def running(folder: Path) -> dict[int, str]:
    """Process id -> command line of what a job started."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"NOTES={folder}".encode() in (entry / "environ").read_bytes():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def assert_gone(folder: Path) -> None:
    # Helpers of Ray's agents see for themselves that their parent has ended, a little later.
    deadline = time.monotonic() + 60
    while running(folder) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not running(folder)


@pytest.mark.slow
def test_a_job_runs_to_its_end(submit: Submit, tmp_path: Path) -> None:
    process = submit("RUNNING", "--run", "x")
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
    seen = json.loads((tmp_path / "seen").read_text())
    assert seen["arguments"] == ["-m", "pipelines.cli", "label", "--config", str(tmp_path / "run.yaml"), "--run", "x"]
    # The head, and a worker on the same machine.
    assert sorted(seen["nodes"]) == [[0, 0], [3, 0]]
    assert seen["environment"]["RAY_AUTH_MODE"] == "token"
    assert seen["dashboard"] == 401
    # What Kubernetes' probes ask for needs no token.
    assert seen["health"] == 200
    assert not list(tmp_path.glob(".sc3d-*"))
    assert not (tmp_path / "scontrol").exists()
    assert_gone(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_out_of_time_it_stops_and_goes_back_into_the_queue(submit: Submit, tmp_path: Path) -> None:
    process = submit("RUNNING", "stay")
    wait_for(tmp_path / "seen", process)
    (scratch,) = tmp_path.glob(".sc3d-*")
    assert stat.S_IMODE(scratch.stat().st_mode) == 0o700
    token = scratch / "token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    text = token.read_text()
    assert re.fullmatch("[0-9a-f]{64}", text)
    # Neither the environment of a process nor a command line shows it to others.
    assert text not in (tmp_path / "seen").read_text()
    assert not any(text in line for line in running(tmp_path).values())
    os.kill(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=150)
    assert process.returncode == 0, output
    assert (tmp_path / "interrupted").exists(), "the run was not told, or not given time"
    assert (tmp_path / "scontrol").read_text().split()[0] == "requeue"
    assert not scratch.exists()
    assert_gone(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_cancelled_it_stays_away(submit: Submit, tmp_path: Path) -> None:
    process = submit("CANCELLED", "stay")
    wait_for(tmp_path / "seen", process)
    os.kill(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=150)
    assert process.returncode == 143, output
    assert not (tmp_path / "scontrol").exists()
    assert_gone(tmp_path)
