"""A node's cache: each file is fetched once, whoever asks, and the folder stays below its size."""

import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sc3d.errors import StoreError
from training.node_cache import NodeCache


def _content(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in folder.glob("*.cached"))


def _fetch_slowly(folder: Path, log: Path) -> bytes:
    def fetch() -> bytes:
        with log.open("a") as stream:
            stream.write("fetched\n")
        time.sleep(0.3)
        return b"data"

    return NodeCache(folder, 100).read("key", fetch)


def test_processes_and_threads_that_ask_at_once_fetch_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        waiting = [pool.apply_async(_fetch_slowly, (tmp_path / "cache", log)) for _ in range(4)]
        assert [one.get(timeout=60) for one in waiting] == [b"data"] * 4
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: _fetch_slowly(tmp_path / "cache", log), range(4))) == [b"data"] * 4
    assert log.read_text().splitlines() == ["fetched"]


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    cache = NodeCache(tmp_path, 10)
    for key in ("a", "b", "c"):
        assert cache.read(key, lambda key=key: key.encode() * 3) == key.encode() * 3  # type: ignore[misc]
        time.sleep(0.02)
    assert cache.read("a", lambda: b"never") == b"aaa"
    time.sleep(0.02)
    assert cache.read("d", lambda: b"ddd") == b"ddd"
    assert _content(tmp_path) == [b"aaa", b"ccc", b"ddd"]
    assert cache.read("e", lambda: b"e" * 11) == b"e" * 11
    assert _content(tmp_path) == [b"aaa", b"ccc", b"ddd"], "what is larger than the folder is not kept"


def test_a_fetch_that_fails_leaves_nothing_and_is_tried_again(tmp_path: Path) -> None:
    cache = NodeCache(tmp_path, 10)

    def fail() -> bytes:
        raise StoreError("away")

    with pytest.raises(StoreError, match="away"):
        cache.read("a", fail)
    assert cache.read("a", lambda: b"a") == b"a"


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path: Path) -> None:
    cache = NodeCache(tmp_path, 10)
    old, new = tmp_path / "writing-old", tmp_path / "writing-new"
    for path in (old, new):
        path.write_bytes(b"x" * 100)
    os.utime(old, (0, 0))
    cache.read("a", lambda: b"a")
    assert not old.exists()
    assert new.exists()


def test_a_folder_that_cannot_be_made_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"train\.cache"):
        NodeCache(tmp_path / "file", 10)
