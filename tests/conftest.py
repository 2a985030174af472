"""Shared fixtures: a private Ray without network noise, an S3 server in its own process, the shared sample data."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).resolve().parent))
from faulty_s3 import FaultyS3
from s3_server import serve_s3

# Before anything imports Ray. Tests use their own home, so Ray's token file does not touch the user's.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")

# One thread: two that wait for each other at barriers take minutes instead of seconds as soon as somebody else uses a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The machines are shared: how long an example takes says nothing about the code.
settings.register_profile("sc3d", deadline=None)
settings.load_profile("sc3d")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run in several processes, a file stays in one, and so do all files that use the one Ray of the session."""
    with_ray = {item.path for item in items if "ray_session" in getattr(item, "fixturenames", ())}
    for item in items:
        item.add_marker(pytest.mark.xdist_group("ray" if item.path in with_ray else str(item.path)))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden outputs and sample data beside the checkout; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no golden outputs and sample data at {SHARED}")
    return SHARED


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], Path]:
    """Makes a module of ``tmp_path`` an installed package: its name, its code, and the text of its entry points; returns its file."""

    def made(module: str, code: str, entry_points: str) -> Path:
        file = tmp_path / f"{module}.py"
        file.write_text(code)
        information = tmp_path / f"{module}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text(entry_points)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, module, raising=False)
        return file

    return made


@pytest.fixture(scope="session")
def ray_session(s3_server: str) -> Iterator[None]:
    """One local Ray for all tests that need one; pipelines join it. Its workers inherit the S3 server's settings."""
    from cluster.session import RaySession
    from sc3d.config import RayConfig

    with RaySession(RayConfig()) as session:
        session.start()
        yield


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A real S3 server (moto) in its own process; its credentials and endpoint are in the environment. Yields the endpoint."""
    with serve_s3() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def faulty_s3_server(s3_server: str) -> Iterator[FaultyS3]:
    """The process of :func:`faulty_s3`."""
    proxy = FaultyS3(s3_server)
    yield proxy
    proxy.stop()


@pytest.fixture
def faulty_s3(faulty_s3_server: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """A proxy in its own process before the S3 server, which fails as it is told to; clients started during the test go through it."""
    faulty_s3_server.reset()
    monkeypatch.setenv("AWS_ENDPOINT_URL", faulty_s3_server.endpoint)
    yield faulty_s3_server
    faulty_s3_server.reset()


@pytest.fixture
def bucket(s3_server: str) -> str:
    """URI of a fresh bucket on the S3 server."""
    import uuid

    import boto3

    name = f"run-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=s3_server).create_bucket(Bucket=name)
    return f"s3://{name}"
