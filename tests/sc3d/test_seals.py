"""What a run that was replaced still writes does not count: on disk, in a bucket with conditional writes and in one without."""

from __future__ import annotations

import copy
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from orientation_shards import artefacts_in, commit, wanted

from sc3d.artefacts import KEPT, MISSING, Artefacts
from sc3d.errors import LeaseLostError
from sc3d.lease import RunLease
from sc3d.seals import counted_files, newest_seal, seal, take_away
from sc3d.store import RunFolder

# Arguments: URI, then "late" (what it writes was on its way before it was replaced), "unconditional" (a plain store).
WRITER = """
import sys
import numpy as np
from sc3d import lease, lease_records
from sc3d.artefacts import Artefacts
from sc3d.errors import LeaseLostError
from sc3d.lease import RunLease
from sc3d.records import Orientation
from sc3d.shards import Shard
from sc3d.store import RunFolder
from sc3d.store_s3 import S3Store
lease.this_machine = lease_records.this_machine = lambda: "another machine"
if "unconditional" in sys.argv:
    S3Store.create = lambda self, path, data: None
run = RunFolder(sys.argv[1])
own = Artefacts(run, "orient", "orientations", "recipe", Orientation, "image_id")
def commit(*ids):
    own.commit(Shard("car", ids), [Orientation(id_, "car", 0, np.zeros(8), False) for id_ in ids], [])
try:
    with RunLease(run, 0.5):
        commit("a", "b")
        print("held", flush=True)
        sys.stdin.readline()
        check = RunFolder.check_fence
        if "late" in sys.argv:
            RunFolder.check_fence = lambda self: None
        try:
            commit("c", "d")
            print("written", flush=True)
        finally:
            RunFolder.check_fence = check
except LeaseLostError as error:
    print("lost", error, flush=True)
"""


@pytest.fixture
def frozen(request: pytest.FixtureRequest, run: RunFolder) -> Iterator[subprocess.Popen[str]]:
    """A run that has written a and b, and was frozen before it wrote c and d."""
    traits = [*getattr(request, "param", []), *(["unconditional"] if "plain" in request.node.name else [])]
    command = [sys.executable, "-c", WRITER, run.uri, *traits]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGSTOP)
        yield process
        process.kill()


def wake(process: subprocess.Popen[str]) -> str:
    """What a frozen run says when it goes on."""
    process.send_signal(signal.SIGCONT)
    return process.communicate("go on\n", timeout=60)[0]


def artefacts(run: RunFolder) -> Artefacts:
    return artefacts_in(run, by_category=False)


def states(run: RunFolder) -> list[int]:
    found: list[int] = artefacts(run).standing(wanted(*"abcd")).state.tolist()
    return found


def rows_there(run: RunFolder) -> list[str]:
    """The ids of all rows in all files, whether they count or not."""
    own = artefacts(run)
    return sorted(id_ for name in run.names(own.prefix, ".parquet") for id_ in own._ids_and_inputs(name)["id"].to_pylist())


def test_a_replaced_run_is_refused_where_it_writes(run: RunFolder, frozen: subprocess.Popen[str]) -> None:
    with RunLease(run, 0.5):
        assert states(run) == [KEPT, KEPT, MISSING, MISSING]
        answer = wake(frozen)
        commit(artefacts(run), *"cd", turn=90)
    assert answer.startswith("lost")
    assert "was taken over by run 2 from this one, run 1" in answer
    assert rows_there(run) == list("abcd")
    assert states(run) == [KEPT] * 4


@pytest.mark.parametrize("frozen", [["late"]], indirect=True)
def test_what_it_was_writing_when_it_was_replaced_does_not_count(run: RunFolder, frozen: subprocess.Popen[str]) -> None:
    with RunLease(run, 0.5):
        assert states(run) == [KEPT, KEPT, MISSING, MISSING]
        answer = wake(frozen)
        # It is there by now, and nobody sees it.
        assert rows_there(run) == list("abcd")
        assert states(run) == [KEPT, KEPT, MISSING, MISSING]
        commit(artefacts(run), *"cd", turn=90)
    assert answer.startswith("written\nlost"), "it must not end well"
    catalogue = artefacts(run).catalogue(wanted(*"abcd"))
    assert len(catalogue.file_of_others) == 0
    assert {row.image_id: row.turn for row in catalogue.read_all()} == {"a": 0, "b": 0, "c": 90, "d": 90}
    with RunLease(run, 0.5):
        assert rows_there(run) == list("abcd"), "the next run removes it"


def test_files_of_a_folder_that_nobody_has_sealed_count(run: RunFolder) -> None:
    commit(artefacts(run), *"ab", turn=90)
    assert newest_seal(run) is None
    with RunLease(run):
        assert states(run) == [KEPT, KEPT, MISSING, MISSING]
        commit(artefacts(run), *"c", turn=90)
    assert states(run) == [KEPT, KEPT, KEPT, MISSING]


def test_what_is_taken_away_counts_for_nobody_before_it_is_deleted(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunLease(run):
        commit(artefacts(run), *"ab", turn=90)
    (name,) = artefacts(run).files()
    delete = RunFolder.delete

    def die(self: RunFolder, file: str) -> None:
        if file == name:
            raise KeyboardInterrupt
        delete(self, file)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "delete", die)
        with pytest.raises(KeyboardInterrupt), RunLease(run):
            take_away(run, [name])
    assert run.exists(name)
    assert counted_files(run, "orientations") == []
    with RunLease(run):
        assert not run.exists(name)


def test_files_that_are_no_shards_are_taken_away_too(run: RunFolder) -> None:
    with RunLease(run):
        run.write_bytes("features/recipe/a.safetensors", b"x")
        take_away(run, ["features/recipe/a.safetensors"])
        assert not run.exists("features/recipe/a.safetensors")


def test_a_reader_between_two_seals_looks_again(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunLease(run):
        commit(artefacts(run), *"ab", turn=90)
        read, once = RunFolder.read_table, iter([True])

        def overtaken(self: RunFolder, record: Any, name: str) -> Any:
            if next(once, False):
                monkeypatch.setattr(RunFolder, "read_table", read)
                seal(run)
            return read(self, record, name)

        monkeypatch.setattr(RunFolder, "read_table", overtaken)
        found = newest_seal(run)
    assert found is not None
    assert (found.number, found.version) == (1, 1)


def test_the_number_of_a_run_travels_with_its_folder(run: RunFolder) -> None:
    with RunLease(run):
        sent = copy.copy(RunFolder(run.uri))  # as it is sent to other processes
    assert (sent.number, RunFolder(run.uri).number) == (1, 0)
    with RunLease(run):
        with pytest.raises(LeaseLostError):
            sent.write_bytes("a", b"")
        with pytest.raises(LeaseLostError):
            sent.delete("a")
