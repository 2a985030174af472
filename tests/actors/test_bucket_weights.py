"""Weights in a bucket of a real S3 server: copied once a node and whole, or not at all."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path

import boto3
import pyarrow.fs as pafs
import pytest

from actors import bucket_weights
from actors.weights import fetch_weights, find_weights, weights_identity
from sc3d.errors import WeightsError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def s3(s3_server, bucket):
    return boto3.client("s3", endpoint_url=s3_server), bucket.removeprefix("s3://")


def put(s3, files: dict[str, bytes]) -> str:
    client, bucket = s3
    for name, content in files.items():
        client.put_object(Bucket=bucket, Key=f"models/one/{name}", Body=content)
    return f"s3://{bucket}/models/one"


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def folders(cache: Path) -> list[Path]:
    return [p for p in cache.iterdir() if p.is_dir()]


def test_a_prefix_is_copied_once_and_whole(s3, tmp_path, caplog):
    files = {"a.safetensors": b"a" * 1000, "sub/b.json": b"{}", "empty": b""}
    uri, cache = put(s3, files), tmp_path / "cache"
    assert find_weights(uri, cache=str(cache)) is None
    with caplog.at_level(logging.INFO):
        folder = fetch_weights(uri, cache=str(cache))
        assert fetch_weights(f"{uri}/", cache=str(cache)) == folder == find_weights(uri, cache=str(cache))
    assert contents(folder) == files
    assert folders(cache) == [folder]
    assert caplog.text.count("fetching") == 1


def test_only_the_wanted_files_are_copied(s3, tmp_path):
    uri = put(s3, {"a.safetensors": b"a", "sub/b.json": b"{}", "large.ckpt": b"x"})
    assert contents(fetch_weights(uri, ["a.safetensors", "sub/*"], str(tmp_path))) == {"a.safetensors": b"a", "sub/b.json": b"{}"}
    assert contents(fetch_weights(uri, ["large.ckpt"], str(tmp_path))) == {"large.ckpt": b"x"}
    with pytest.raises(WeightsError, match=r"one has no c\.pt"):
        fetch_weights(uri, ["a.safetensors", "c.pt"], str(tmp_path))


def test_a_single_object_is_a_file(s3, tmp_path):
    uri = put(s3, {"model.ckpt": b"weights"})
    path = fetch_weights(f"{uri}/model.ckpt", ["model.ckpt"], str(tmp_path))
    assert (path.name, path.read_bytes()) == ("model.ckpt", b"weights")
    assert find_weights(f"{uri}/model.ckpt", cache=str(tmp_path)) == path


def test_replaced_weights_have_another_identity_and_are_fetched_again(s3, tmp_path):
    uri = put(s3, {"a.pt": b"first"})
    old, folder = weights_identity(uri), fetch_weights(uri, cache=str(tmp_path))
    assert weights_identity(uri) == old
    put(s3, {"a.pt": b"second"})
    assert weights_identity(uri) != old
    assert contents(fetch_weights(uri, cache=str(tmp_path))) == {"a.pt": b"second"}
    assert contents(folder) == {"a.pt": b"first"}


@pytest.mark.parametrize("name", ["s3://{bucket}/nothing", "s3://no-such-bucket-anywhere/x"])
def test_missing_prefixes_and_buckets_are_weights_errors(s3, tmp_path, name):
    uri = name.format(bucket=s3[1])
    for ask in (fetch_weights, weights_identity):
        with pytest.raises(WeightsError, match=uri):
            ask(uri)


def test_credentials_in_the_uri_are_refused_and_not_repeated():
    with pytest.raises(WeightsError, match="credentials do not belong") as error:
        fetch_weights("s3://key:secret@bucket/x")
    assert "secret" not in str(error.value)


def test_a_disk_that_is_too_small_is_known_before_the_copy(s3, tmp_path, monkeypatch):
    uri = put(s3, {"a.pt": b"x" * 100})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=99))
    with pytest.raises(WeightsError, match=r"GB left.*models\.cache"):
        fetch_weights(uri, cache=str(tmp_path))
    assert folders(tmp_path) == []


def test_a_cache_that_cannot_be_written_is_a_weights_error(s3, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"cannot copy .*models\.cache"):
        fetch_weights(put(s3, {"a.pt": b"x"}), cache=str(tmp_path / "file"))


def test_names_that_lead_out_of_the_cache_are_refused(tmp_path):
    progress = bucket_weights._Progress("s3://bucket", 1)
    with pytest.raises(WeightsError, match="outside of the cache"):
        bucket_weights._copy_object(pafs.LocalFileSystem(), ("../x", __file__, 1, 0), tmp_path / "folder", progress)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_change_while_they_are_copied_do_not_count(s3, tmp_path, monkeypatch):
    uri = put(s3, {"a.pt": b"one", "b.pt": b"one"})
    copy = bucket_weights._copy_object

    def copy_and_change(filesystem, entry, folder, progress):
        copy(filesystem, entry, folder, progress)
        if entry[0] == "b.pt":
            put(s3, {"b.pt": b"two and more"})

    monkeypatch.setattr(bucket_weights, "_copy_object", copy_and_change)
    with pytest.raises(WeightsError, match="changed while it was read"):
        fetch_weights(uri, cache=str(tmp_path))
    assert folders(tmp_path) == []


FETCH = """
import logging, sys, time
from pathlib import Path
from actors import bucket_weights  # without actors.weights, which imports torch for seconds
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
uri, cache, me, others = sys.argv[1:5]
{extra}
Path(cache, me).touch()
while not Path(cache, others).exists():
    time.sleep(0.01)
print("got", bucket_weights.fetch(uri, (), Path(cache)))
"""


def start(uri: str, cache: Path, me: str, other: str, extra: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FETCH.format(extra=extra), uri, str(cache), me, other]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_of_a_node_fetch_once(s3, tmp_path):
    files = {f"{i}.bin": os.urandom(1 << 20) for i in range(3)}
    uri = put(s3, files)
    # Whoever copies goes on when the other has met the lock, or would have.
    meet = """
class Meet(logging.Handler):
    def emit(self, record):
        waiting, deadline = Path(cache, "waiting"), time.monotonic() + 10
        if "waiting" in record.getMessage():
            waiting.touch()
        while not waiting.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
bucket_weights.logger.addHandler(Meet())
"""
    processes = [start(uri, tmp_path, "one", "two", meet), start(uri, tmp_path, "two", "one", meet)]
    outputs = [p.communicate(timeout=120) for p in processes]
    assert [p.returncode for p in processes] == [0, 0], outputs
    said = "".join(out for out, _ in outputs)
    assert said.count(f"fetching {uri}") == 1
    assert said.count("waiting for another process") == 1
    (folder,) = folders(tmp_path)
    assert said.count(f"got {folder}\n") == 2
    assert contents(folder) == files


def test_a_killed_copy_does_not_count_and_blocks_nobody(s3, tmp_path, monkeypatch):
    files = {"a.bin": os.urandom(1 << 20)}
    uri = put(s3, files)
    die = """
import os, signal
bucket_weights._CHUNK = 1 << 16
add = bucket_weights._Progress.add
def add_and_die(self, n):
    add(self, n)
    if self._done > 1 << 19:
        os.kill(os.getpid(), signal.SIGKILL)
bucket_weights._Progress.add = add_and_die
"""
    process = start(uri, tmp_path, "one", "one", die)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    (partial,) = folders(tmp_path)
    assert 0 < len(contents(partial)["a.bin"]) < 1 << 20
    assert find_weights(uri, cache=str(tmp_path)) is None
    # The disk has no room for both.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=0 if partial.exists() else 1 << 20))
    folder = fetch_weights(uri, cache=str(tmp_path))
    assert contents(folder) == files
    assert folders(tmp_path) == [folder]
