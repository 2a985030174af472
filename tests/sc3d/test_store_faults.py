"""A bucket whose server is away, overloaded, cuts connections or refuses: what passes is waited for, the rest is explained."""

import errno
import io
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.fs as pafs
import pytest
from faulty_s3 import FaultyS3

from sc3d import store_retry, store_s3
from sc3d.errors import BucketError, ConfigError, MissingFileError, StoreDeniedError, StoreError, StoreUnavailableError
from sc3d.records import Reject
from sc3d.store import RunFolder
from sc3d.store_disk import TEMPORARY

BIG = 12_000_000
"""Bytes of an object that pyarrow uploads in parts."""


@pytest.fixture
def run(faulty_s3: FaultyS3, bucket: str, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setenv("SC3D_STORE_PATIENCE", "60")
    monkeypatch.setattr(store_retry, "_LONGEST_WAIT_S", 0.3)
    monkeypatch.setattr(store_s3, "_CLIENT_ATTEMPTS", 1)
    monkeypatch.setattr(store_retry, "_warned", {})
    return RunFolder(f"{bucket}/runs/one")


@pytest.fixture
def hasty(run: RunFolder) -> RunFolder:
    return RunFolder(run.uri, patience=0)


def whole(run: RunFolder, name: str) -> bytes | None:
    """What the server itself holds, or None."""
    return run.read_bytes(name) if run.exists(name) else None


def test_what_can_be_had_with_few_requests_is(run: RunFolder, faulty_s3: FaultyS3) -> None:
    run.write_bytes("x", b"1" * 5_000_000)
    assert faulty_s3.log == [f"PUT /{run.path('x')}"]
    run.read_bytes("x")
    assert [line.split()[0] for line in faulty_s3.log[1:]] == ["HEAD", "GET"]
    run.exists("y")  # the first answer of "not there" also asks for the bucket
    before = faulty_s3.requests
    assert not run.exists("y")
    assert run.exists("x")
    assert faulty_s3.requests - before == 2


def test_opening_and_pickling_make_no_request(run: RunFolder, faulty_s3: FaultyS3) -> None:
    before = faulty_s3.requests
    assert pickle.loads(pickle.dumps(RunFolder(run.uri))).uri == run.uri  # noqa: S301
    assert faulty_s3.requests == before
    assert len(pickle.dumps(run)) < 300


def test_every_operation_outlasts_an_outage(run: RunFolder, faulty_s3: FaultyS3, caplog: pytest.LogCaptureFixture) -> None:
    run.write_bytes("a/old", b"old")
    for doing in (
        lambda: run.write_bytes("a/new", b"new"),
        lambda: run.write_bytes("a/big", b"x" * BIG),
        lambda: run.read_bytes("a/old"),
        lambda: run.exists("a/old"),
        lambda: run.names("a"),
        lambda: run.create_bytes("a/made", b"made"),
        lambda: run.delete("a/old"),
    ):
        faulty_s3.outage(0.6)
        doing()
    assert run.names("a") == ["a/big", "a/made", "a/new"]
    assert run.read_bytes("a/new") == b"new"
    # However many operations waited: one warning within a minute, and one word when the store was back.
    warnings = [r.getMessage() for r in caplog.records if r.name == "sc3d.store" and r.levelno == logging.WARNING]
    assert len([w for w in warnings if "trying again for" in w]) == 1
    assert run.uri in warnings[0]
    assert warnings[1] == f"{run.uri} answers again"


@pytest.mark.parametrize("mode", ["slow_down", "truncate", "lose_answer", "error"])
def test_a_bad_server_loses_and_cuts_nothing(run: RunFolder, faulty_s3: FaultyS3, mode: str) -> None:
    faulty_s3.set(mode, probability=0.4, seed=1)
    files = {f"a/{i}": os.urandom(1000 + 900_000 * (i % 4 == 0)) for i in range(8)}
    for name, data in files.items():
        run.write_bytes(name, data)
    run.write_bytes("a/big", b"x" * BIG)
    assert {name: run.read_bytes(name) for name in files} == files
    assert run.names("a") == sorted([*files, "a/big"])
    assert faulty_s3.hits > 5
    for name in files:
        run.delete(name)
    faulty_s3.set("ok")
    assert run.names("a") == ["a/big"]
    assert run.read_bytes("a/big") == b"x" * BIG


def test_a_server_that_hangs_does_not_hang_a_run(run: RunFolder, faulty_s3: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_s3, "REQUEST_TIMEOUT_S", 1.0)
    store_s3._open.cache_clear()
    run.write_bytes("x", b"1")
    faulty_s3.set("delay", seconds=600, times=2)
    assert run.read_bytes("x") == b"1"
    assert faulty_s3.hits == 2
    store_s3._open.cache_clear()


UPLOADS = [
    (10, "PUT", ""),
    (BIG, "POST", "uploads"),
    (BIG, "PUT", "partNumber=1"),
    (BIG, "PUT", "partNumber=2"),
    (BIG, "POST", "uploadId"),
]


@pytest.mark.parametrize(("size", "method", "phase"), UPLOADS)
@pytest.mark.parametrize("mode", ["slow_down", "truncate", "deny", "lose_answer"])
def test_a_failed_upload_is_no_object(hasty: RunFolder, faulty_s3: FaultyS3, size: int, method: str, phase: str, mode: str) -> None:
    faulty_s3.set(mode, methods=[method], match=phase)
    with pytest.raises(StoreError):
        hasty.write_bytes("x", b"1" * size)
    assert faulty_s3.hits > 0
    faulty_s3.set("ok")
    assert whole(hasty, "x") in (None, b"1" * size)
    if mode != "lose_answer":
        assert whole(hasty, "x") is None


def test_a_writer_killed_in_an_upload_leaves_no_object(run: RunFolder, faulty_s3: FaultyS3) -> None:
    script = "import sys; from sc3d.store import RunFolder; RunFolder(sys.argv[1]).write_bytes('x', b'1' * int(sys.argv[2]))"
    for size, phase in ((BIG, "partNumber"), (5_000_000, "")):
        faulty_s3.set("delay", seconds=30, methods=["PUT"], match=phase)
        writer = subprocess.Popen([sys.executable, "-c", script, run.uri, str(size)])
        while not faulty_s3.hits:
            time.sleep(0.05)
            assert writer.poll() is None
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        faulty_s3.set("ok")
        assert not run.exists("x")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own reaction to SIGINT, which a process that a shell started in the background ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_leaves_no_half_object(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_bytes("x", b"old")
    real = store_s3.S3Store._files

    class Interrupting:
        """At the worst moment: the stream is open and nothing was written to it."""

        def __init__(self, files: pafs.S3FileSystem) -> None:
            self.files = files

        def open_output_stream(self, path: str) -> pa.NativeFile:
            stream = self.files.open_output_stream(path)
            os.kill(os.getpid(), signal.SIGINT)
            return stream

    monkeypatch.setattr(store_s3.S3Store, "_files", lambda self, single_put=True: Interrupting(real(self, single_put)))
    for size in (1000, BIG):
        with pytest.raises(KeyboardInterrupt):
            run.write_bytes("x", b"1" * size)
        with monkeypatch.context() as undone:
            undone.setattr(store_s3.S3Store, "_files", real)
            deadline = time.monotonic() + 60
            while run.read_bytes("x") != b"1" * size:
                assert time.monotonic() < deadline
                time.sleep(0.05)


def test_a_short_answer_is_noticed(run: RunFolder, hasty: RunFolder, faulty_s3: FaultyS3) -> None:
    data = os.urandom(700_000)
    run.write_bytes("x", data)
    faulty_s3.set("truncate")
    with pytest.raises(StoreUnavailableError, match=r"(?i)partial file|bytes came"):
        hasty.read_bytes("x")
    faulty_s3.set("truncate", times=3)
    assert run.read_bytes("x") == data
    assert faulty_s3.hits == 3


def test_fewer_bytes_than_announced_are_no_answer(run: RunFolder, hasty: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_bytes("x", b"0123456789")
    real, short = store_s3.S3Store._files, [True]

    class Short(io.BytesIO):
        def size(self) -> int:
            return 10

    class Files:
        def open_input_file(self, path: str) -> Short:
            return Short(b"01234" if short.pop() else b"0123456789")

    monkeypatch.setattr(store_s3.S3Store, "_files", lambda self, single_put=True: Files() if short else real(self))
    assert run.read_bytes("x") == b"0123456789"
    short.append(True)
    with pytest.raises(StoreUnavailableError, match="5 of 10 bytes came"):
        hasty.read_bytes("x")


def test_a_file_that_is_replaced_while_it_is_read_is_not_called_damaged(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    short, long = [Reject("a", "match", "InputError", "x")], [Reject(str(i), "match", "InputError", str(i)) for i in range(500)]
    run.write_records(Reject, "long.parquet", long)
    run.write_records(Reject, "r.parquet", short)
    run.write_json("long.json", {"x": "y" * 100})
    run.write_json("r.json", {})
    real = store_s3.S3Store.read

    def read(self: store_s3.S3Store, path: str, max_bytes: int | None = None) -> bytes:
        # pyarrow asks for the size first, and then for so many bytes.
        size = len(real(self, path))
        monkeypatch.setattr(store_s3.S3Store, "read", real)
        run.write_bytes(path.rpartition("/")[2], real(self, path.replace("/r.", "/long.")))
        return real(self, path)[:size]

    monkeypatch.setattr(store_s3.S3Store, "read", read)
    assert len(run.read_records(Reject, "r.parquet")) == 500
    monkeypatch.setattr(store_s3.S3Store, "read", read)
    assert run.read_json("r.json")["x"] == "y" * 100


def test_patience_ends(run: RunFolder, faulty_s3: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty_s3.set("refuse")
    with pytest.raises(
        StoreUnavailableError, match=r"cannot write s3://.*runs/one/x.*Run the same command again.*SC3D_STORE_PATIENCE"
    ):
        RunFolder(run.uri, patience=0.5).write_bytes("x", b"1")
    monkeypatch.setenv("SC3D_STORE_PATIENCE", "0")
    with pytest.raises(StoreUnavailableError):
        run.names("a")
    faulty_s3.set("ok")
    for nonsense in ("soon", "-1", "nan", "inf"):
        monkeypatch.setenv("SC3D_STORE_PATIENCE", nonsense)
        with pytest.raises(ConfigError, match="a number of seconds"):
            run.exists("x")
    monkeypatch.delenv("SC3D_STORE_PATIENCE")
    assert store_retry.patience() == store_retry.PATIENCE_S


DENIALS = [
    (403, "AccessDenied", StoreDeniedError, r"the store denies \w+\. The credentials in use need s3:ListBucket"),
    (403, "InvalidAccessKeyId", StoreDeniedError, "does not accept the credentials"),
    (403, "SignatureDoesNotMatch", StoreDeniedError, "does not accept the credentials"),
    (400, "ExpiredToken", StoreDeniedError, r"does not accept the credentials \(ExpiredToken\). Renew"),
    (403, "RequestTimeTooSkewed", StoreDeniedError, "this machine's clock is off"),
    (301, "PermanentRedirect", BucketError, "lies in another region; name it with AWS_DEFAULT_REGION"),
    (400, "AuthorizationHeaderMalformed", BucketError, "lies in another region"),
]


@pytest.mark.parametrize(("status", "code", "kind", "message"), DENIALS)
def test_what_waiting_cannot_mend_is_an_error_at_once(
    run: RunFolder, faulty_s3: FaultyS3, status: int, code: str, kind: type[StoreError], message: str
) -> None:
    run.write_bytes("x", b"1")
    faulty_s3.set("error", status=status, code=code)
    for doing in (
        lambda: run.write_bytes("x", b"2"),
        lambda: run.write_bytes("x", b"2" * BIG),
        lambda: run.read_bytes("x"),
        lambda: run.exists("x"),
        lambda: run.names("a"),
        lambda: run.delete("x"),
    ):
        before = faulty_s3.requests
        with pytest.raises(kind, match=message):
            doing()
        assert faulty_s3.requests - before <= 2
    with pytest.raises(kind, match=message):
        run.create_bytes("y", b"1")
    faulty_s3.set("ok")
    assert run.read_bytes("x") == b"1"


def test_without_credentials_it_is_said_so(
    run: RunFolder, faulty_s3: FaultyS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    faulty_s3.set("deny")
    for doing in (lambda: run.write_bytes("x", b"1"), lambda: run.exists("x"), lambda: run.create_bytes("x", b"1")):
        with pytest.raises(StoreDeniedError, match=r"no credentials were found\. Set AWS_ACCESS_KEY_ID"):
            doing()


def test_a_denied_read_of_one_object_is_about_that_object(run: RunFolder, faulty_s3: FaultyS3) -> None:
    faulty_s3.set("deny", methods=["HEAD"])
    with pytest.raises(StoreDeniedError, match=r"cannot read .*runs/one/x: the store denies HeadObject"):
        run.read_bytes("x")


def test_a_missing_bucket_is_said_by_every_operation(faulty_s3: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder("s3://no-such-bucket-here/run")
    for doing in (
        lambda: run.write_bytes("x", b"1"),
        lambda: run.write_bytes("x", b"1" * BIG),
        lambda: run.read_bytes("x"),
        lambda: run.exists("x"),
        lambda: run.names("a"),
        lambda: run.create_bytes("x", b"1"),
        lambda: run.read_records(Reject, "x.parquet"),
    ):
        with pytest.raises(BucketError, match=r"there is no bucket 'no-such-bucket-here'.*create it, or correct"):
            doing()


def test_a_missing_file_is_not_waited_for(run: RunFolder, faulty_s3: FaultyS3) -> None:
    with pytest.raises(MissingFileError, match="is not there; has the stage"):
        run.read_bytes("x")
    assert faulty_s3.requests <= 2


@pytest.mark.parametrize("uri", ["s3://", "s3:///x", "s3://bucket/x?acces_key=1"])
def test_uris_that_name_no_bucket_or_unknown_options_are_refused(uri: str) -> None:
    with pytest.raises(StoreError, match=r"names no bucket|there is no option 'acces_key'"):
        RunFolder(uri)


def test_the_uri_can_name_the_endpoint(s3_server: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    RunFolder(f"{bucket}/run").write_bytes("x", b"1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    run = RunFolder(f"{bucket}/run?scheme=http&endpoint_override={s3_server.removeprefix('http://')}&region=us-east-1", patience=0)
    assert run.read_bytes("x") == b"1"
    assert run.create_bytes("y", b"1") is True
    with pytest.raises(MissingFileError, match=rf"{bucket}/run/z is not there"):
        run.read_bytes("z")


def test_creating_happens_once(run: RunFolder, faulty_s3: FaultyS3, tmp_path: Path) -> None:
    for folder in (run, RunFolder(tmp_path)):
        assert folder.create_bytes("a/claim", b"mine") is True
        assert folder.create_bytes("a/claim", b"theirs") is False
        assert folder.read_bytes("a/claim") == b"mine"
        assert folder.names("a") == ["a/claim"]


def test_an_object_whose_answer_was_lost_is_still_mine(run: RunFolder, faulty_s3: FaultyS3) -> None:
    # The first two requests find out whether the store heeds the condition; the third is the file's, whose second try is refused.
    faulty_s3.set("lose_answer", methods=["PUT"], every=3, times=1)
    assert run.create_bytes("claim", b"mine") is True
    assert run.read_bytes("claim") == b"mine"


def _create(uri: str, barrier: object, answers: object, index: int) -> None:
    run = RunFolder(uri)
    for round_ in range(10):
        barrier.wait()  # type: ignore[attr-defined]
        answers.put((round_, run.create_bytes(f"claims/{round_}", str(index).encode())))  # type: ignore[attr-defined]


def test_of_several_processes_one_creates(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(3), context.Queue()
    makers = [context.Process(target=_create, args=(str(tmp_path), barrier, answers, i)) for i in range(3)]
    for maker in makers:
        maker.start()
    got = [answers.get(timeout=120) for _ in range(30)]
    for maker in makers:
        maker.join()
    assert sorted(round_ for round_, made in got if made) == list(range(10))


def test_temporary_files_are_no_files_of_the_run_and_go_after_a_day(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_bytes("a/b/x", b"1")
    old, new = tmp_path / "a" / "b" / f"{TEMPORARY}old", tmp_path / "a" / f"{TEMPORARY}new"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    assert run.names("a") == ["a/b/x"]
    assert run.remove_leftovers() == 1
    assert not old.exists()
    assert new.exists()
    assert run.read_bytes("a/b/x") == b"1"


def test_there_is_nothing_to_tidy_where_nothing_is(tmp_path: Path, run: RunFolder) -> None:
    assert RunFolder(tmp_path / "nowhere").remove_leftovers() == 0
    assert not (tmp_path / "nowhere").exists()
    assert run.remove_leftovers() == 0


def test_a_network_disk_that_is_away_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    run, real, failures = RunFolder(tmp_path, patience=30), os.replace, [errno.ESTALE, errno.ETIMEDOUT]

    def replace(source: str, target: str) -> None:
        if failures:
            raise OSError(failures.pop(), "away")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    run.write_bytes("x", b"1")
    assert run.read_bytes("x") == b"1"
    failures[:] = [errno.ENOSPC, errno.ENOSPC]
    with pytest.raises(StoreError, match=r"No space|away"):
        run.write_bytes("y", b"1")
    assert failures == [errno.ENOSPC]
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_the_proxy_passes_everything_on(run: RunFolder, faulty_s3: FaultyS3, s3_server: str) -> None:
    data = os.urandom(BIG)
    run.write_bytes("x", data)
    bucket, _, key = run.path("x").partition("/")
    direct = boto3.client("s3", endpoint_url=s3_server).get_object(Bucket=bucket, Key=key)["Body"].read()
    assert direct == data
