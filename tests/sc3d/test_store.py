"""A run folder writes whole files or nothing, on disk and on a real S3 server, and never outside itself."""

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc3d import store
from sc3d.errors import SchemaError, StoreError
from sc3d.records import Pair, Reject
from sc3d.store import RunFolder

REJECT = Reject("a", "match", "InputError", "broken")


@pytest.fixture(params=["disk", "s3"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    if request.param == "disk":
        return RunFolder(tmp_path / "a run with späces")
    return RunFolder(request.getfixturevalue("bucket") + "/runs/one")


def test_bytes_records_and_json_round_trip(run: RunFolder) -> None:
    assert not run.exists("a/b.bin")
    run.write_bytes("a/b.bin", b"one")
    run.write_bytes("a/b.bin", b"two")
    assert run.read_bytes("a/b.bin") == b"two"
    run.write_records(Reject, "a/c/r.parquet", [REJECT])
    assert [r.message for r in run.read_records(Reject, "a/c/r.parquet")] == ["broken"]
    run.write_json("run.json", {"x": [1, 2]})
    assert run.read_json("run.json")["x"] == [1, 2]
    assert run.names("a") == ["a/b.bin", "a/c/r.parquet"]
    assert run.names("a", ".parquet") == ["a/c/r.parquet"]
    assert run.names("nowhere") == []
    run.delete("a/b.bin")
    run.delete("a/b.bin")
    assert run.names("a") == ["a/c/r.parquet"]


def test_a_run_folder_travels_to_workers(run: RunFolder) -> None:
    run.write_bytes("x", b"1")
    assert pickle.loads(pickle.dumps(run)).read_bytes("x") == b"1"  # noqa: S301


def test_what_is_not_there_says_so(run: RunFolder) -> None:
    with pytest.raises(StoreError, match="is not there"):
        run.read_bytes("nothing.bin")


def test_damaged_and_foreign_files_are_named(run: RunFolder) -> None:
    run.write_records(Reject, "r.parquet", [REJECT])
    whole = run.read_bytes("r.parquet")
    run.write_bytes("cut.parquet", whole[: len(whole) // 2])
    with pytest.raises(SchemaError, match=r"cut\.parquet is damaged"):
        run.read_records(Reject, "cut.parquet")
    run.write_bytes("run.json", b"{")
    with pytest.raises(SchemaError, match="not valid JSON"):
        run.read_json("run.json")
    run.write_bytes("run.json", b'{"schema_version": 99}')
    with pytest.raises(SchemaError, match="schema version 99"):
        run.read_json("run.json")


@pytest.mark.parametrize("size", [0, 999, 1000, 1001])
def test_no_more_than_the_limit_is_read(run: RunFolder, size: int) -> None:
    run.write_bytes("a.bin", bytes(size))
    if size <= 1000:
        assert run.read_bytes("a.bin", max_bytes=1000) == bytes(size)
    else:
        with pytest.raises(SchemaError, match=r"a\.bin: the file of 0\.0 MB is larger than 0\.001 MB"):
            run.read_bytes("a.bin", max_bytes=1000)
    assert run.read_bytes("a.bin") == bytes(size)


@given(st.text(max_size=30))
def test_no_name_leaves_the_folder(name: str) -> None:
    run = RunFolder("/somewhere/run")
    try:
        path = run.path(name)
    except StoreError:
        return
    assert os.path.normpath(path) == path
    assert path.startswith("/somewhere/run/")


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "", "a//b", ".", "a/./b", "a\\b", "a\x00"])
def test_names_with_path_tricks_are_refused(name: str) -> None:
    with pytest.raises(StoreError, match="not a name inside"):
        RunFolder("/somewhere/run").path(name)


def test_unusable_uris_are_refused() -> None:
    with pytest.raises(StoreError, match="not 'ftp://'"):
        RunFolder("ftp://host/x")
    with pytest.raises(StoreError, match="credentials do not belong") as caught:
        RunFolder("s3://key:secret@bucket/x")
    assert "secret" not in str(caught.value)


def test_an_unwritable_output_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot write"):
        RunFolder(tmp_path / "file").write_bytes("x", b"1")


def test_a_missing_bucket_is_a_clear_error(s3_server: str) -> None:
    with pytest.raises(StoreError, match="cannot write"):
        RunFolder("s3://no-such-bucket-here/run").write_bytes("x", b"1")


WRITER = """
import sys
from sc3d.store import RunFolder
run = RunFolder(sys.argv[1])
print("ready", flush=True)
while True:
    for byte in b"ab":
        run.write_bytes("file", bytes([byte]) * 3_000_000)
"""


def test_kill_in_the_middle_of_writing_leaves_a_whole_file(tmp_path: Path) -> None:
    for attempt in range(4):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        while not (tmp_path / "file").exists():
            time.sleep(0.01)
        time.sleep(0.02 + 0.013 * attempt)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        data = RunFolder(tmp_path).read_bytes("file")
        assert len(data) == 3_000_000
        assert len(set(data)) == 1


def large(run: RunFolder, name: str = "r.parquet") -> int:
    """Write rejects whose messages take far more than a file that is read whole; returns its size."""
    rng = random.Random(0)
    run.write_records(Reject, name, [REJECT.replace(id=f"i{n}", message=rng.randbytes(8000).hex()) for n in range(100)])
    size = len(run.read_bytes(name))
    assert size > 2 * store.WHOLE_BYTES
    return size


def test_some_columns_of_a_large_file_are_read_alone(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    size, read = large(run), []
    real = type(run._store).open

    def counting(self: object, path: str) -> pa.PythonFile:
        stream = real(self, path)  # type: ignore[arg-type]

        class Counted:
            closed = False

            def read(self, count: int = -1) -> bytes:
                read.append(data := stream.read(None if count < 0 else count))
                return data

            def seek(self, *place: int) -> int:
                return int(stream.seek(*place))

            def tell(self) -> int:
                return int(stream.tell())

            def close(self) -> None:
                stream.close()

        return pa.PythonFile(Counted(), "r")

    monkeypatch.setattr(type(run._store), "open", counting)
    monkeypatch.setattr(type(run._store), "read", lambda *_: pytest.fail("all of it is read"))
    table = run.read_table(Reject, "r.parquet", ["id", "attempts"])
    assert table.to_pydict() == {"id": [f"i{n}" for n in range(100)], "attempts": [1] * 100}
    assert 0 < sum(map(len, read)) < size / 4


def test_columns_of_damaged_and_foreign_files_are_errors_with_their_name(run: RunFolder) -> None:
    large(run)
    whole = run.read_bytes("r.parquet")
    for name, data in (
        ("cut", whole[:-100]),
        ("middle", whole[: len(whole) // 2] + whole[len(whole) // 2 + 9 :]),
        ("text", b"x" * len(whole)),
    ):
        run.write_bytes(f"{name}.parquet", data)
        with pytest.raises(SchemaError, match=rf"{name}\.parquet is damaged"):
            run.read_table(Reject, f"{name}.parquet", ["id", "message"])
    with pytest.raises(SchemaError, match="columns nothing are missing"):
        run.read_table(Reject, "r.parquet", ["nothing"])
    with pytest.raises(SchemaError, match="holds Reject records"):
        run.read_table(Pair, "r.parquet", ["pair_id"])
    with pytest.raises(StoreError, match="is not there"):
        run.read_table(Reject, "none.parquet", ["id"])
