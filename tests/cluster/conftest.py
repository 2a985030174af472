"""A real object store, for the tests that want one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.object_store.swift import PACKAGES, SwiftServer, missing_programs


@pytest.fixture(scope="session")
def swift_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftServer]:
    """OpenStack Swift with its S3 interface, on the loopback interface. Its settings are not in the environment: see :func:`swift`."""
    missing = missing_programs()
    if missing:
        pytest.skip(f"no OpenStack Swift here ({missing[0]} not found); as root: apt-get install {' '.join(PACKAGES)}")
    with SwiftServer(tmp_path_factory.mktemp("swift")) as server:
        yield server


@pytest.fixture
def swift(swift_server: SwiftServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """URI of a fresh bucket on Swift, whose settings are in the environment."""
    import uuid

    import boto3

    for key, value in swift_server.environment.items():
        monkeypatch.setenv(key, value)
    name = f"run-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=swift_server.endpoint).create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture(scope="session")
def four_toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of four cars."""
    from sc3d.datasets.toys import ToysConfig, generate_toys

    root = tmp_path_factory.mktemp("four") / "toys"
    images = {"trn": 4, "val": 0, "test": 0}
    generate_toys(root, ToysConfig(categories=("car",), images=images, occlusion=0.0, truncation=0.0, workers=1))
    return root
