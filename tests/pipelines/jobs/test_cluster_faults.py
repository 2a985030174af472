"""What days on a cluster bring, on one of several nodes with its run folder on S3: nothing is lost, doubled or done twice."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from faulty_s3 import FaultyS3

from cluster.local import LocalCluster
from pipelines.stages.label import LabelStage
from pipelines.stages.registry import chain_to
from sc3d.config import RunConfig
from sc3d.config_file import to_values
from sc3d.store import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

_STEP_S = 400.0


@pytest.fixture
def cluster(faulty_s3: FaultyS3) -> Iterator[LocalCluster]:
    """Two worker nodes that reach S3 through the proxy."""
    with LocalCluster(nodes=2, cpus=2) as cluster:
        yield cluster


@pytest.fixture
def config(finished: RunConfig, bucket: str) -> RunConfig:
    """The finished run's configuration on a fresh bucket."""
    return dataclasses.replace(finished, run=f"{bucket}/run")


@pytest.fixture
def start(cluster: LocalCluster, config: RunConfig, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts a driver of the run as a process of its own."""
    settings, log = tmp_path / "run.yaml", (tmp_path / "log.txt").open("ab")
    settings.write_text(json.dumps(to_values(config)))
    command = [sys.executable, "-m", "pipelines.label", "--config", str(settings)]
    drivers: list[subprocess.Popen[bytes]] = []

    def begin() -> subprocess.Popen[bytes]:
        drivers.append(subprocess.Popen(command, env={**os.environ, **cluster.environment}, stdout=log, stderr=log))
        return drivers[-1]

    yield begin
    for driver in drivers:
        driver.kill()
        driver.wait()
    log.close()


def wait_for(config: RunConfig, folder: str, driver: subprocess.Popen[bytes], log: Path) -> None:
    """Until there is a shard in a stage's folder."""
    run, deadline = RunFolder(config.run), time.monotonic() + _STEP_S
    while not run.names(folder, ".parquet"):
        assert driver.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, f"no {folder} after {_STEP_S:.0f} s: {log.read_text()[-3000:]}"
        time.sleep(0.2)


def finish(driver: subprocess.Popen[bytes], log: Path) -> None:
    assert driver.wait(timeout=_STEP_S) == 0, log.read_text()[-3000:]


def shards(config: RunConfig) -> dict[str, str]:
    """Every shard of a run and when it was written."""
    import boto3

    bucket, _, prefix = config.run.removeprefix("s3://").partition("/")
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    found = [item for page in pages for item in page.get("Contents", [])]
    folders = {kind.folder for kind in chain_to(RunConfig(), LabelStage.name)}
    return {i["Key"]: str(i["LastModified"]) for i in found if i["Key"].split("/")[1] in folders and i["Key"].endswith(".parquet")}


def assert_exactly_the_labels_of(config: RunConfig, expected: RunConfig) -> None:
    """0 lost, 0 doubled, and every row the same to the last bit."""

    def rows(one: RunConfig) -> pa.Table:
        stage = LabelStage(one)
        tables = [stage.run.read_table(stage.record, name) for name in stage.artefacts.files()]
        return pa.concat_tables(tables).sort_by("pair_id")

    found, wanted = rows(config), rows(expected)
    assert found["pair_id"].to_pylist() == wanted["pair_id"].to_pylist()
    assert found.equals(wanted)
    for kind in chain_to(RunConfig(), LabelStage.name):
        assert sorted(kind(config).catalogue().ids.to_pylist()) == sorted(kind(expected).catalogue().ids.to_pylist())


def test_killed_workers_a_killed_node_and_a_killed_driver(
    cluster: LocalCluster, config: RunConfig, finished: RunConfig, start: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    log = tmp_path / "log.txt"
    driver = start()
    wait_for(config, "reconstructions", driver, log)
    busy = cluster.worker_pids("ray::")
    os.kill(random.Random(0).choice(busy), signal.SIGKILL)
    wait_for(config, "features", driver, log)
    cluster.kill_node(cluster.nodes[0])
    cluster.add_node()
    wait_for(config, "matches", driver, log)
    driver.kill()
    driver.wait()
    time.sleep(3)
    before = shards(config)
    finish(start(), log)
    after = shards(config)
    assert {name: after[name] for name in before} == before, "finished shards were written again"
    assert_exactly_the_labels_of(config, finished)


def test_a_store_that_is_away_slow_and_cuts_writes_short(
    faulty_s3: FaultyS3, config: RunConfig, finished: RunConfig, start: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    log = tmp_path / "log.txt"
    driver = start()
    wait_for(config, "reconstructions", driver, log)
    faulty_s3.outage(20.0)
    time.sleep(21)
    faulty_s3.set("slow_down", probability=0.3)
    wait_for(config, "features", driver, log)
    faulty_s3.set("truncate", methods=["PUT", "GET"], probability=0.2, times=40)
    wait_for(config, "labels", driver, log)
    finish(driver, log)
    assert faulty_s3.hits > 0
    assert_exactly_the_labels_of(config, finished)


def test_a_store_that_stays_away_ends_the_run_and_the_next_one_goes_on(
    faulty_s3: FaultyS3,
    config: RunConfig,
    finished: RunConfig,
    start: Callable[[], subprocess.Popen[bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = tmp_path / "log.txt"
    driver = start()
    wait_for(config, "features", driver, log)
    faulty_s3.set("deny")
    assert driver.wait(timeout=_STEP_S) == 1
    assert "denied" in log.read_text().lower()
    faulty_s3.reset()
    before = shards(config)
    finish(start(), log)
    after = shards(config)
    assert {name: after[name] for name in before} == before
    assert_exactly_the_labels_of(config, finished)


def test_a_second_run_on_the_same_folder_is_refused_while_the_first_lives(
    config: RunConfig, finished: RunConfig, start: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    log = tmp_path / "log.txt"
    first = start()
    wait_for(config, "reconstructions", first, log)
    second = start()
    assert second.wait(timeout=_STEP_S) == 1
    assert "is being written by another run" in log.read_text()
    finish(first, log)
    assert_exactly_the_labels_of(config, finished)
