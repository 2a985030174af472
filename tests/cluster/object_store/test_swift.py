"""A run folder on a real object store, OpenStack Swift with its S3 interface: what a mock of S3 cannot show."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster.object_store.swift import SwiftServer
from sc3d.errors import BucketError, StoreDeniedError, StoreError, StoreUnavailableError
from sc3d.store import RunFolder

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
MEGABYTE = 1_000_000


def test_a_file_is_written_replaced_listed_read_and_deleted(swift: str) -> None:
    folder = RunFolder(f"{swift}/runs/one")
    assert folder.names("labels") == []
    assert not folder.exists("labels/a.bin")
    folder.write_bytes("labels/a.bin", b"first")
    folder.write_bytes("labels/a.bin", b"second")
    folder.write_bytes("labels/deeper/b.bin", b"")
    folder.write_bytes("labelsplus/c.bin", b"not below labels")
    assert folder.read_bytes("labels/a.bin") == b"second"
    assert folder.read_bytes("labels/deeper/b.bin") == b""
    assert folder.names("labels") == ["labels/a.bin", "labels/deeper/b.bin"]
    folder.delete("labels/a.bin")
    assert not folder.exists("labels/a.bin")
    assert folder.names("labels") == ["labels/deeper/b.bin"]
    with pytest.raises(StoreError, match="is not there"):
        folder.read_bytes("labels/a.bin")


def test_a_listing_has_every_object_at_once(swift: str) -> None:
    """More objects than one answer of the store holds (1,000), and complete as soon as they are written, as S3's are."""
    folder = RunFolder(f"{swift}/many")
    names = [f"shards/{i % 7}/{i:05}.parquet" for i in range(1100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: folder.write_bytes(name, name.encode()), names))
    assert folder.names("shards", ".parquet") == sorted(names)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(folder.read_bytes, names[::50])) == [name.encode() for name in names[::50]]


def test_an_object_of_20_mb_comes_back_whole(swift: str) -> None:
    """It is sent in parts, which Swift keeps in a bucket of its own: they are no files of the run folder."""
    data = os.urandom(20 * MEGABYTE)
    folder = RunFolder(f"{swift}/big")
    folder.write_bytes("features/image.safetensors", data)
    assert folder.read_bytes("features/image.safetensors") == data
    assert folder.names("features") == ["features/image.safetensors"]
    folder.write_bytes("features/image.safetensors", data[: 12 * MEGABYTE])
    assert folder.read_bytes("features/image.safetensors") == data[: 12 * MEGABYTE]


def test_a_store_without_conditional_writes_says_so(swift: str) -> None:
    """Swift answers 501 to "create unless it is there", and nothing is left behind by asking."""
    folder = RunFolder(f"{swift}/claims")
    assert folder.create_bytes("claims/mine", b"x") is None
    assert folder.names("claims") == []


def test_a_bucket_that_is_not_there_and_wrong_credentials_are_said(swift: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BucketError, match="there-is-no-such-bucket"):
        RunFolder("s3://there-is-no-such-bucket/run", patience=0).write_bytes("a", b"")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreDeniedError):
        RunFolder(f"{swift}/run", patience=0).write_bytes("a", b"")


def test_a_store_that_was_away_has_kept_everything(swift_server: SwiftServer, swift: str) -> None:
    folder = RunFolder(f"{swift}/kept")
    folder.write_bytes("a.bin", b"stays")
    swift_server.stop()
    try:
        with pytest.raises(StoreUnavailableError):
            RunFolder(f"{swift}/kept", patience=0).read_bytes("a.bin")
    finally:
        swift_server.start()
    assert folder.read_bytes("a.bin") == b"stays"


@pytest.mark.timeout(900)
def test_labels_on_swift_are_those_of_a_local_run(swift: str, four_toys: Path, tmp_path: Path) -> None:
    from pipelines.stages.label import LabelStage
    from sc3d.config_file import load_config

    def labels(run: str) -> list[object]:
        settings = [f"run={run}", "dataset.kind=toys", f"dataset.root={four_toys}", "pairs.targets=2", "ray.images_per_shard=2"]
        options = [part for setting in settings for part in ("--set", setting)]
        command = [sys.executable, "-m", "pipelines.label", *options, "--set", "ray.pairs_per_shard=3"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stdout + done.stderr
        return LabelStage(load_config(None, [*settings, "ray.pairs_per_shard=3"])).catalogue().read_all()

    local, remote = labels(str(tmp_path / "run")), labels(f"{swift}/run")
    assert len(local) == 8
    assert sum(row.n_kept for row in local) > 0  # type: ignore[attr-defined]
    assert [_plain(row) for row in remote] == [_plain(row) for row in local]


def _plain(row: object) -> dict[str, object]:
    return {key: value.tolist() if hasattr(value, "tolist") else value for key, value in vars(row).items()}
