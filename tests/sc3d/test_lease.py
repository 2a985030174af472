"""One run at a time writes a folder: on disk, in a bucket with conditional writes and in one without; whoever is killed, paused, skewed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sc3d import lease
from sc3d.errors import BucketError, ConfigError, LeaseLostError, RunBusyError, StoreError
from sc3d.lease import RunLease
from sc3d.lease_records import Claim
from sc3d.machine import is_running, process_start
from sc3d.store import RunFolder
from sc3d.store_disk import TEMPORARY, DiskStore

INTERVAL_S = 0.5

# Arguments: URI, interval, then "elsewhere" (another machine), "skewed" (its clock is two hours off), "unconditional" (a plain store).
PREAMBLE = """
import sys, time
from datetime import datetime, timedelta, timezone
from sc3d import lease, lease_records, machine
from sc3d.lease import RunLease
from sc3d.store import RunFolder
from sc3d.store_disk import DiskStore
from sc3d.store_s3 import S3Store
run, interval, traits = RunFolder(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
if "elsewhere" in traits:
    lease.this_machine = lease_records.this_machine = lambda: "another machine"
if "skewed" in traits:
    lease_records.wall_clock = lambda: (datetime.now(timezone.utc) - timedelta(hours=2)).isoformat()
    monotonic = time.monotonic
    lease_records.time = type("time", (), {"monotonic": staticmethod(lambda: monotonic() + 7200)})
if "unconditional" in traits:
    DiskStore.create = S3Store.create = lambda self, path, data: None
"""
HOLDER = (
    PREAMBLE
    + """
with RunLease(run, interval) as held:
    print("held", flush=True)
    sys.stdin.readline()
    try:
        held.check()
        print("still", flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
"""
)
CONTENDER = (
    PREAMBLE
    + """
from sc3d.errors import RunBusyError
print("ready", flush=True)
for line in sys.stdin:
    run = RunFolder(sys.argv[1] + "/" + line.strip())
    try:
        with RunLease(run, interval) as held:
            time.sleep(4 * interval)
            held.check()
            print("won", flush=True)
    except RunBusyError as error:
        print("busy", flush=True)
"""
)


@pytest.fixture
def disk(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Starts a script on a run folder, and kills at the end of the test what is left."""
    started = []

    def begin(script: str, run: RunFolder, *traits: str) -> subprocess.Popen[str]:
        plain = ["unconditional"] if "plain" in request.node.name else []
        command = [sys.executable, "-c", script, run.uri, str(INTERVAL_S), *traits, *plain]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(text + "\n")
    process.stdin.flush()


def holder(start: Start, run: RunFolder, *traits: str) -> subprocess.Popen[str]:
    process = start(HOLDER, run, *traits)
    assert line_of(process) == "held"
    return process


def test_it_is_taken_released_and_taken_again(run: RunFolder) -> None:
    for _ in range(3):
        with RunLease(run, INTERVAL_S) as held:
            held.check()
    assert len(run.names("lease")) == 3  # a claim, its beat and a seal: of former ones nothing is left


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_second_run_is_refused_while_the_first_is_alive(run: RunFolder, start: Start, where: str) -> None:
    process = holder(start, run, where)
    with pytest.raises(
        RunBusyError, match=rf"being written by another run: process {process.pid} on .* since .* Wait for it, stop it"
    ):
        RunLease(run, INTERVAL_S).__enter__()
    tell(process, "end")
    assert line_of(process) == "still"
    process.wait()
    with RunLease(run, INTERVAL_S) as held:
        held.check()


def test_a_run_that_was_killed_here_is_followed_at_once(run: RunFolder, start: Start, caplog: pytest.LogCaptureFixture) -> None:
    process = start(HOLDER.replace("interval)", "3600.0)"), run)
    assert line_of(process) == "held"
    began = process_start(process.pid)
    process.kill()  # not waited for: a process that has ended and was not collected is dead too
    deadline = time.monotonic() + 60
    while is_running(process.pid, began):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with RunLease(run, INTERVAL_S):
        pass
    assert f"takes over from process {process.pid} of this machine" in caplog.text


@pytest.mark.parametrize("skew", ["", "skewed"])
def test_a_run_that_was_killed_elsewhere_is_followed_after_three_beats(
    run: RunFolder, start: Start, skew: str, caplog: pytest.LogCaptureFixture
) -> None:
    process = holder(start, run, "elsewhere", skew)
    with pytest.raises(RunBusyError):
        RunLease(run, INTERVAL_S).__enter__()
    process.send_signal(signal.SIGKILL)
    process.wait()
    began = time.monotonic()
    with RunLease(run, INTERVAL_S):
        assert time.monotonic() - began >= 3 * INTERVAL_S
    assert f"watching for {3 * INTERVAL_S:.0f} s whether it is alive" in caplog.text
    assert "which gives no sign of life" in caplog.text


def test_a_clock_two_hours_off_makes_nobody_dead(disk: RunFolder, start: Start) -> None:
    for traits in (("skewed",), ("skewed", "elsewhere")):
        process = holder(start, disk, *traits)
        for _ in range(2):
            with pytest.raises(RunBusyError):
                RunLease(disk, INTERVAL_S).__enter__()
        tell(process, "end")
        assert line_of(process) == "still"
        process.wait()


def test_a_run_that_was_paused_and_replaced_stops(disk: RunFolder, start: Start) -> None:
    process = holder(start, disk, "elsewhere")
    process.send_signal(signal.SIGSTOP)
    with RunLease(disk, INTERVAL_S) as held:
        process.send_signal(signal.SIGCONT)
        time.sleep(4 * INTERVAL_S)
        tell(process, "go on")
        answer = line_of(process)
        held.check()
        process.wait()
    assert answer.startswith("LeaseLostError")
    assert f"was taken over by process {os.getpid()} on" in answer
    # It did not release what was not its own any more.
    with RunLease(disk, INTERVAL_S) as held:
        held.check()


@pytest.mark.slow
def test_of_two_that_start_at_once_exactly_one_wins(run: RunFolder, start: Start) -> None:
    pair = [start(CONTENDER, run, "elsewhere"), start(CONTENDER, run)]
    assert [line_of(p) for p in pair] == ["ready", "ready"]
    for round_ in range(10):
        for process in pair:
            tell(process, str(round_))
        assert sorted(line_of(p) for p in pair) == ["busy", "won"], round_


def test_of_many_threads_one_wins(run: RunFolder) -> None:
    outcomes: list[str] = []
    barrier, decided = threading.Barrier(4), threading.Event()

    def contend() -> None:
        barrier.wait()
        try:
            with RunLease(run, INTERVAL_S):
                outcomes.append("won")
                decided.wait()
        except RunBusyError:
            outcomes.append("busy")

    threads = [threading.Thread(target=contend) for _ in range(4)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while len(outcomes) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    decided.set()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["busy", "busy", "busy", "won"]


def test_a_stale_lease_is_taken_over_by_one_of_many(run: RunFolder, start: Start) -> None:
    process = holder(start, run, "elsewhere")
    process.kill()
    process.wait()
    test_of_many_threads_one_wins(run)


def test_a_condition_that_lets_two_through_is_noticed(run: RunFolder) -> None:
    def overwrite(held: RunLease) -> None:
        (name,) = run.names("lease", ".claim")
        run.write_bytes(name, run.read_bytes(name).replace(held._token.encode(), b"f" * 32))

    with pytest.raises(LeaseLostError, match="taken over by process"):
        hold_and_lose(run, overwrite)


def test_a_lease_that_somebody_deleted_is_lost(run: RunFolder) -> None:
    def delete(held: RunLease) -> None:
        for name in run.names("lease"):
            run.of_run(0).delete(name)

    with pytest.raises(LeaseLostError, match="somebody who deleted its lease"):
        hold_and_lose(run, delete)


def hold_and_lose(run: RunFolder, lose: Callable[[RunLease], None]) -> None:
    with RunLease(run, INTERVAL_S) as held:
        lose(held)
        wait_for_loss(held)


def test_a_run_that_was_replaced_does_not_end_well(run: RunFolder) -> None:
    with pytest.raises(LeaseLostError, match="taken over by run 2 from this one, run 1"), RunLease(run, 3600.0):
        run.of_run(0).write_bytes("lease/00000002.claim", b"of another run")


def test_numbers_end_somewhere(disk: RunFolder) -> None:
    disk.write_bytes("lease/99999999.claim", b"of nobody")
    with RunLease(disk, 0.05) as held:
        held.check()
        assert disk.number == 100_000_000
    disk.write_bytes("lease/999999999999.claim", b"of nobody")
    with pytest.raises(StoreError, match="delete lease/ in it"):
        RunLease(disk, 0.05).__enter__()


def wait_for_loss(held: RunLease) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        held.check()
        time.sleep(0.05)


def test_an_inner_run_joins_the_outer_one_of_its_thread(run: RunFolder) -> None:
    with RunLease(run, INTERVAL_S) as outer:
        with RunLease(RunFolder(run.uri), INTERVAL_S) as inner:
            inner.check()
            outer._lost = "a test"
            with pytest.raises(LeaseLostError):
                inner.check()
            outer._lost = None
        outer.check()
        assert len(run.names("lease", ".claim")) == 1
        refused: list[BaseException] = []

        def intrude() -> None:
            try:
                RunLease(run, INTERVAL_S).__enter__()
            except RunBusyError as error:
                refused.append(error)

        thread = threading.Thread(target=intrude)
        thread.start()
        thread.join()
        assert refused
    with RunLease(run, INTERVAL_S) as again:
        again.check()


def test_a_claim_that_cannot_be_read_is_watched_and_then_ignored(run: RunFolder) -> None:
    run.write_bytes("lease/00000007.claim", b'{"token": ')
    run.write_bytes("lease/00000007.beat", b"[]")
    with RunLease(run, 0.1) as held:
        held.check()
        assert run.names("lease", ".claim")[0].startswith("lease/00000008")


def test_an_error_releases_it_and_a_full_stop_is_survived(run: RunFolder) -> None:
    with suppress(ZeroDivisionError), RunLease(run, 3600.0):
        raise ZeroDivisionError
    with RunLease(run, INTERVAL_S) as held:
        held.check()


def test_taking_it_tidies_what_killed_writers_left(tmp_path: Path) -> None:
    old = tmp_path / "labels" / f"{TEMPORARY}x"
    old.parent.mkdir()
    old.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    with RunLease(RunFolder(tmp_path), INTERVAL_S):
        assert not old.exists()


def test_bad_intervals_and_buckets_are_refused(tmp_path: Path, s3_server: str) -> None:
    for interval in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="a lease beats"):
            RunLease(RunFolder(tmp_path), interval)
    with pytest.raises(BucketError):
        RunLease(RunFolder("s3://no-such-bucket-here/run")).__enter__()


def test_a_disk_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(source: str, target: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    store = DiskStore(str(tmp_path))
    assert store.create(str(tmp_path / "a" / "x"), b"1")
    assert not store.create(str(tmp_path / "a" / "x"), b"2")
    test_of_many_threads_one_wins(RunFolder(tmp_path / "run"))


def test_a_claim_of_another_process_with_the_same_id_is_a_dead_one(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = Claim.of_this_process("f" * 32, 3600.0)
    if not claim.process_start:
        pytest.skip("no /proc")
    run.write_bytes("lease/00000001.claim", lease.encode(Claim(**{**claim.__dict__, "process_start": "1"})))
    with RunLease(run, INTERVAL_S) as held:
        held.check()
