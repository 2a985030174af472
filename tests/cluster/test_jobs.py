"""``ray job submit`` of a label run to a cluster whose head has no CPUs, with its token: what docs/local-cluster.md says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.local import LocalCluster
from pipelines.stages.label import LabelStage
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.config import RunConfig
from sc3d.config_file import load_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
pytest.importorskip("aiohttp", reason="jobs need ray[default]")

ROOT = Path(__file__).resolve().parents[2]
LABEL = ("python", "-m", "pipelines.cli", "label", "--config", "run.yaml")
NOT_CARRIED = ("tests", "docs", "runs", ".git")
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=1, cpus=3, dashboard=True) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout: the code must not change while the jobs are compared. With things in it that must not travel."""
    copy = tmp_path_factory.mktemp("checkout") / "sc3d"
    hidden = shutil.ignore_patterns(".git", ".venv", "runs", ".hypothesis", ".*_cache", "__pycache__", "data", "*.egg-info")
    shutil.copytree(ROOT, copy, ignore=hidden)
    (copy / "runs").mkdir()
    (copy / "runs" / "large.bin").write_bytes(b"\x00" * 2_000_000)
    return copy


def submit(cluster: LocalCluster, checkout: Path, name: str, *command: str, **resources: int) -> subprocess.CompletedProcess[str]:
    """``ray job submit`` as documented, without waiting for the job's end. ``resources``: num_cpus and so on of the entrypoint."""
    options = [part for key, value in resources.items() for part in (f"--entrypoint-{key.replace('_', '-')}", str(value))]
    head = ["ray", "job", "submit", "--no-wait", "--submission-id", name, "--working-dir", ".", *options, "--", *command]
    return ray(cluster, head, checkout)


def ray(cluster: LocalCluster, command: list[str], folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A command of Ray's with nothing but the cluster's environment: the token included."""
    program = shutil.which("ray", path=f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert program is not None
    environment = {**os.environ, **cluster.environment}
    return subprocess.run([program, *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def details(cluster: LocalCluster, name: str) -> dict[str, Any]:
    """What the dashboard knows about a job."""
    url = f"{cluster.dashboard_url}/api/jobs/{name}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {cluster.token}"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return dict(json.load(answer))


def wait_for(cluster: LocalCluster, name: str, condition: Callable[[], bool] | None = None, seconds: float = 400) -> str:
    """Wait until a job has ended, or until ``condition``; returns its status."""
    deadline = time.monotonic() + seconds
    while True:
        status = str(details(cluster, name)["status"])
        if status in ENDED or (condition is not None and condition()):
            return status
        assert time.monotonic() < deadline, f"{name} is {status}: {logs(cluster, name)}"
        time.sleep(0.2)


def logs(cluster: LocalCluster, name: str) -> str:
    return ray(cluster, ["ray", "job", "logs", name]).stdout


def configure(checkout: Path, run: Path, toys: Path) -> RunConfig:
    """Write run.yaml into the working directory; it travels with the job."""
    text = (
        f"run: {run}\ndataset: {{kind: toys, root: {toys}}}\npairs: {{targets: 2}}\n"
        "ray: {images_per_shard: 1, pairs_per_shard: 2, workers: 1}\nmax_reject_fraction: 0.5\n"
    )
    (checkout / "run.yaml").write_text(text)
    return load_config(checkout / "run.yaml")


def rows(config: RunConfig) -> list[dict[str, object]]:
    found = LabelStage(config).catalogue().read_all()
    return [{key: value.tolist() if hasattr(value, "tolist") else value for key, value in vars(row).items()} for row in found]


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}


@pytest.fixture(scope="module")
def done(cluster: LocalCluster, checkout: Path, four_toys: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A run of the job "undisturbed", from start to end."""
    config = configure(checkout, tmp_path_factory.mktemp("job") / "run", four_toys)
    submitted = submit(cluster, checkout, "undisturbed", *LABEL)
    assert submitted.returncode == 0, submitted.stderr
    assert wait_for(cluster, "undisturbed") == "SUCCEEDED", logs(cluster, "undisturbed")
    return config


def test_a_job_makes_labels_and_logs_its_stages(cluster: LocalCluster, done: RunConfig) -> None:
    assert len(rows(done)) == 8
    said = logs(cluster, "undisturbed")
    for stage in ("reconstruct", "orient", "describe", "match", "label"):
        assert any(line.split()[:1] == [stage] and "items" in line for line in said.splitlines()), said
    assert "\x1b[2K" not in said, "a live bar's control codes do not belong in a log"


def test_the_same_submission_id_is_refused(cluster: LocalCluster, checkout: Path, done: RunConfig) -> None:
    """Ray's own behaviour, which makes a submission safe to repeat: a run is continued under a new id, never twice at once by accident."""
    before = stamps(Path(done.run))
    again = submit(cluster, checkout, "undisturbed", *LABEL)
    assert again.returncode != 0
    assert "already exists" in again.stdout + again.stderr
    assert stamps(Path(done.run)) == before


def test_an_entrypoint_that_is_not_on_the_head(cluster: LocalCluster, checkout: Path, done: RunConfig) -> None:
    """It asks for a CPU, which the head has not; there is nothing left to do, and it finds that out. Only what it needs travelled."""
    before = stamps(Path(done.run) / "labels")
    configure(checkout, Path(done.run), Path(done.dataset.root))
    look = f"ls -A; {' '.join(LABEL)}"
    assert submit(cluster, checkout, "elsewhere", "bash", "-c", look, num_cpus=1).returncode == 0
    assert wait_for(cluster, "elsewhere") == "SUCCEEDED", logs(cluster, "elsewhere")
    said = logs(cluster, "elsewhere")
    assert "nothing to do" in said
    assert details(cluster, "elsewhere")["driver_node_id"] != details(cluster, "undisturbed")["driver_node_id"]
    assert stamps(Path(done.run) / "labels") == before
    carried = said.split()
    assert "run.yaml" in carried
    assert [name for name in NOT_CARRIED if name in carried] == []


def test_a_stopped_job_goes_on_under_a_new_id(
    cluster: LocalCluster, checkout: Path, done: RunConfig, four_toys: Path, tmp_path: Path
) -> None:
    config = configure(checkout, tmp_path / "run", four_toys)
    shards = Path(config.run) / ReconstructStage(config).artefacts.prefix
    assert submit(cluster, checkout, "stopped", *LABEL).returncode == 0
    assert wait_for(cluster, "stopped", lambda: bool(stamps(shards))) == "RUNNING", logs(cluster, "stopped")
    assert ray(cluster, ["ray", "job", "stop", "stopped"]).returncode == 0
    assert wait_for(cluster, "stopped") == "STOPPED"
    assert rows(config) == []
    before = stamps(Path(config.run) / "reconstructions")
    assert before
    assert submit(cluster, checkout, "resumed", *LABEL).returncode == 0
    assert wait_for(cluster, "resumed") == "SUCCEEDED", logs(cluster, "resumed")
    after = stamps(Path(config.run) / "reconstructions")
    assert {path: after[path] for path in before} == before, "what was finished is not computed again"
    assert rows(config) == rows(done)


def test_a_job_whose_configuration_is_wrong_fails_and_says_why(cluster: LocalCluster, checkout: Path) -> None:
    (checkout / "run.yaml").write_text("pairs: {targets: none of them}\n")
    assert submit(cluster, checkout, "wrong", *LABEL).returncode == 0
    assert wait_for(cluster, "wrong") == "FAILED"
    assert "pairs.targets" in logs(cluster, "wrong")
    assert details(cluster, "wrong")["driver_exit_code"] == 2
