"""Ray dies in the middle of a run, at a moment drawn by lot: one line says so, and the same command loses and doubles nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from pipelines.report.status import read_status
from pipelines.stages.label import LabelStage
from sc3d.config import RunConfig
from sc3d.config_file import to_values
from sc3d.store import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SECONDS = 500.0


def start(settings: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipelines.cli", "label", "--config", str(settings)]
    # The processes of the run are its own, not those of the tests' Ray.
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def child(driver: subprocess.Popen[str], name: str) -> psutil.Process:
    """The process of a driver's Ray of that name, once it is there."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and driver.poll() is None:
        for process in psutil.Process(driver.pid).children():
            if process.name() == name:
                return process
        time.sleep(0.05)
    raise AssertionError(f"there was no {name}")


def labels(config: RunConfig) -> pa.Table:
    stage = LabelStage(config)
    tables = [stage.run.read_table(stage.record, name) for name in stage.artefacts.files()]
    return pa.concat_tables(tables).sort_by("pair_id")


def check_last_words(code: int, said: str, pid: int) -> None:
    assert code == 1, said
    errors = [line for line in said.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, said
    assert f"(process {pid}) died" in errors[0]
    assert "Traceback" not in said


def check_status(config: RunConfig, command: str, pid: int) -> None:
    """The run folder says how it ended, a little after the run has: nobody waits for a lease to run out."""
    deadline = time.monotonic() + SECONDS
    while (status := read_status(RunFolder(config.run)))["state"] == "running" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert (status["command"], status["state"]) == (command, "failed")
    assert f"(process {pid}) died" in status["reason"]


@pytest.mark.parametrize(("part", "seed"), [("raylet", 0), ("gcs_server", 1), ("raylet", 2), ("gcs_server", 3)])
def test_a_run_whose_ray_dies_says_so_and_the_same_command_goes_on(
    finished: RunConfig, tmp_path: Path, part: str, seed: int
) -> None:
    config = dataclasses.replace(finished, run=str(tmp_path / "run"))
    settings = tmp_path / "run.yaml"
    settings.write_text(json.dumps(to_values(config)))
    driver = start(settings)
    victim = child(driver, part)
    time.sleep(random.Random(seed).uniform(0, 10))
    victim.kill()
    _, said = driver.communicate(timeout=SECONDS)
    check_last_words(driver.returncode, said, victim.pid)
    check_status(config, "label", victim.pid)

    again = start(settings)
    _, said = again.communicate(timeout=SECONDS)
    assert again.returncode == 0, said
    found, wanted = labels(config), labels(finished)
    assert found["pair_id"].to_pylist() == wanted["pair_id"].to_pylist()
    assert found.equals(wanted)
