"""What a file holds decides; its size and times only save reading it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import boto3
import pytest

from sc3d import contents
from sc3d.contents import CONTENTS, FileContent, folder_version, hash_contents
from sc3d.store import RunFolder


def old(path: Path, data: bytes) -> str:
    """A file that nobody has touched for long: its times are shortcuts."""
    path.write_bytes(data)
    return str(path)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as old at once."""
    monkeypatch.setattr(contents, "_SETTLED_NS", -(10**12))


def test_the_content_decides(tmp_path: Path) -> None:
    run, paths = (
        RunFolder(tmp_path / "run"),
        [old(tmp_path / "a", b"one"), old(tmp_path / "b", b"one"), old(tmp_path / "c", b"two")],
    )
    found = hash_contents(run, paths)
    assert found[paths[0]] == found[paths[1]] != found[paths[2]]
    os.utime(paths[0])
    assert hash_contents(run, paths) == found, "another time is not another content"


def test_a_file_of_the_same_size_and_time_is_read_again_when_it_was_changed(tmp_path: Path, settled: None) -> None:
    run, path = RunFolder(tmp_path / "run"), old(tmp_path / "a", b"one")
    seen = os.stat(path)
    before = hash_contents(run, [path])
    Path(path).write_bytes(b"two")
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert hash_contents(run, [path]) != before


def test_an_untouched_file_is_not_read_again(tmp_path: Path, settled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    run, path = RunFolder(tmp_path / "run"), old(tmp_path / "a", b"one")
    before = hash_contents(run, [path])
    read: list[str] = []
    monkeypatch.setattr(contents, "_hash_file", lambda path: read.append(path) or "")
    assert hash_contents(run, [path]) == before
    assert read == []


def test_what_was_just_written_is_read_again(tmp_path: Path) -> None:
    """Within one tick of the clock a second version may have the times of the first."""
    run, path = RunFolder(tmp_path / "run"), old(tmp_path / "a", b"one")
    hash_contents(run, [path])
    assert not run.exists(CONTENTS), "its times were no shortcut"
    past = time.time_ns() - 10 * contents._SETTLED_NS
    os.utime(path, ns=(past, past))
    assert not FileContent("a", 3, past, past, "x").is_of(os.stat(path)), "its inode was changed just now"


def test_what_cannot_be_read_is_empty_and_others_go_on(tmp_path: Path) -> None:
    run, path = RunFolder(tmp_path / "run"), old(tmp_path / "a", b"one")
    counted: list[int] = []
    found = hash_contents(run, [str(tmp_path / "gone"), path, str(tmp_path)], counted.append)
    assert (found[str(tmp_path / "gone")], found[str(tmp_path)]) == ("", "")
    assert found[path]
    assert sum(counted) == 3


def test_objects_go_by_their_version_and_the_web_by_its_address(tmp_path: Path, bucket: str, s3_server: str) -> None:
    run, client, name = RunFolder(tmp_path / "run"), boto3.client("s3", endpoint_url=s3_server), bucket.removeprefix("s3://")
    address, web = f"{bucket}/a.jpg", "https://example.org/a.jpg"
    client.put_object(Bucket=name, Key="a.jpg", Body=b"one")
    before = hash_contents(run, [address, web])
    assert hash_contents(run, [address, web]) == before
    client.put_object(Bucket=name, Key="a.jpg", Body=b"two")
    after = hash_contents(run, [address, web, f"{bucket}/gone.jpg"])
    assert after[address] != before[address]
    assert after[web] == before[web]
    assert after[f"{bucket}/gone.jpg"] not in after[address]


def test_an_address_that_is_signed_anew_is_the_same_one(tmp_path: Path) -> None:
    first, again, other = (f"https://example.org/{name}" for name in ("a.jpg?sig=1", "a.jpg?sig=2", "b.jpg?sig=1"))
    found = hash_contents(RunFolder(tmp_path / "run"), [first, again, other])
    assert found[first] == found[again] != found[other]


def test_a_folder_by_names_sizes_and_times(tmp_path: Path) -> None:
    old(tmp_path / "a.npy", b"one")
    before = folder_version(str(tmp_path))
    assert folder_version(str(tmp_path)) == before
    old(tmp_path / "b.npy", b"one")
    assert folder_version(str(tmp_path)) != before
    assert folder_version(str(tmp_path / "gone")) == ""
