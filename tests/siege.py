"""A siege of run folders: ``python -m tests.siege --rounds 20 --seed 0 --store disk``.

In each round a small labelling is started on a new run folder, disturbed at one to three random moments, started again with another cut
into shards, disturbed again, and so on, until it has ended well. Then every row that counts is compared with an undisturbed run: how many
are lost, there twice, or different. With ``--command``, the same of another command on a copy of a labelled folder. The program is as it
is, but for leases that beat every second, so that a takeover takes three.

Disturbances: SIGKILL of the driver, of one worker, of the raylet, of the GCS; the whole run frozen until another one has taken its folder
over, or is at it; other commands started beside it; and in a bucket, a server that is away, overloaded, loses answers, cuts bodies short,
is slow or refuses.

Prints a JSON line a round and one at the end; exits with 1 where a row was lost, doubled or different, a run hung, or one that was not
killed itself ended without saying why in one ``error:`` line.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

sys.path.insert(0, str(Path(__file__).resolve().parent))
from faulty_s3 import FaultyS3
from s3_server import serve_s3
from siege_commands import COMMANDS, LABELLING, Rows, options_of, same

from pipelines.report.status import read_status
from sc3d.config_file import load_config
from sc3d.datasets.toys import ToysConfig, generate_toys
from sc3d.errors import InputError
from sc3d.store import RunFolder

STORES = ("disk", "s3", "unconditional")
"""Where run folders lie: on the disk, in a bucket with conditional writes, in one without."""

_MARK = "SC3D_SIEGE"
_BUCKET = "siege"
_ARGUMENTS = {"compare": ["compare", LABELLING], "tune": ["sweep", "--level", "adapter"]}
_HANG_S = 400.0
_STATUS_S = 60.0
_ATTEMPTS = 6
_DISTURBANCES = 3

# What runs a command: as ``sc3d`` does, with leases that beat every second, and on a store without conditional writes if so told.
_COMMAND = """
import os, sys
from sc3d.lease import RunLease
RunLease.__init__.__defaults__ = (1.0,)
if os.environ.get("SC3D_SIEGE_STORE") == "unconditional":
    from sc3d.store_s3 import S3Store
    S3Store.create = lambda self, path, data: None
from pipelines.cli import main
sys.exit(main(sys.argv[1:]))
"""

_marks: dict[int, bytes] = {}
"""What is in the environment of all processes of a run, by the number of its driver."""


@dataclass
class Result:
    """What was found in one round."""

    disturbances: Counter[str] = field(default_factory=Counter)
    exits: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    doubled: int = 0
    different: int = 0
    hung: int = 0
    wordless: int = 0
    notes: list[str] = field(default_factory=list)


class Siege:
    """One run folder under siege. ``uri``: of the folder; ``options``: of all its runs; ``faults``: of the store, if it is a bucket."""

    def __init__(
        self, uri: str, options: Sequence[str], store: str, chance: random.Random, seconds: float, faults: FaultyS3 | None
    ) -> None:
        self._uri, self._options, self._store, self._chance, self._seconds = uri, options, store, chance, seconds
        self._faults = faults
        self._killed: set[int] = set()
        self._logs: dict[int, BinaryIO] = {}
        self.result = Result()

    def hold(self, command: str) -> None:
        """Disturb the command until it ends well, and once more let it say that nothing is left to do."""
        for _ in range(_ATTEMPTS):
            driver, times = self._start(command), self._chance.randint(1, _DISTURBANCES)
            for _ in range(times):
                time.sleep(self._chance.uniform(0.5, self._seconds / times))
                if driver.poll() is None:
                    self._disturb(driver, command)
            if self._end(driver) == 0:
                break
        if self._faults is not None:
            self._faults.reset()
        self.run(command)

    def kill_each(self, command: str) -> None:
        """Disturb the command by killing its driver and each part of its Ray, one after the other, and let it end."""
        for kill in (self._kill_raylet, self._kill_gcs, self._kill_driver, self._kill_worker):
            driver = self._start(command)
            # A share of the work is left for the next.
            self._wait_for(driver, "raylet/raylet")
            time.sleep(self._chance.uniform(0, self._seconds / 4))
            if driver.poll() is None:
                kill(driver)
            self._end(driver)
        self.run(command)

    def run(self, command: str) -> float:
        """Let the command end undisturbed; how many seconds it took."""
        for _ in range(_ATTEMPTS):
            started, driver = time.monotonic(), self._start(command)
            if self._end(driver) == 0:
                return time.monotonic() - started
            # On a machine with too much to do, a raylet that starts gives its own helpers up after 15 s, which nobody can set.
            if "RayDiedError" not in self._said(driver):
                break
        self.result.notes.append(self._said(driver)[-2000:])
        return 0.0

    def _disturb(self, driver: subprocess.Popen[bytes], command: str) -> None:
        freeze = partial(self._freeze, command=command)
        ways: list[Callable[[subprocess.Popen[bytes]], None]]
        ways = [self._kill_driver, self._kill_worker, self._kill_raylet, self._kill_gcs, freeze, self._beside]
        if self._faults is not None:
            ways += [self._fault] * 3
        self._chance.choice(ways)(driver)

    def _start(self, command: str) -> subprocess.Popen[bytes]:
        cut = [f"ray.pairs_per_shard={self._chance.randint(1, 6)}", f"ray.images_per_shard={self._chance.randint(1, 6)}"]
        options = [f"run={json.dumps(self._uri)}", *self._options, *(cut if command == "label" else [])]
        arguments = [*_ARGUMENTS.get(command, [command]), *(text for option in options for text in ("--set", option))]
        if command == "clean":
            arguments = ["clean", "--delete", "--run", self._uri]
        mark = {_MARK: uuid.uuid4().hex, "SC3D_SIEGE_STORE": self._store}
        log = open(os.memfd_create("log"), "w+b")  # noqa: SIM115
        driver = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *arguments],
            env={"SC3D_STORE_PATIENCE": "30", **os.environ, **mark},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        self._logs[driver.pid] = log
        _marks[driver.pid] = f"{_MARK}={mark[_MARK]}".encode()
        return driver

    def _end(self, driver: subprocess.Popen[bytes]) -> int:
        """Wait for the end of a run, and clear away what is left of it."""
        try:
            code = driver.wait(_HANG_S)
            self.result.exits[str(code)] += 1
        except subprocess.TimeoutExpired:
            self.result.hung += 1
            self.result.notes.append(f"hung: {self._said(driver)[-2000:]}")
            code = -1
        else:
            self._check_words(driver)
        send(driver, signal.SIGKILL)
        driver.wait()
        return code

    def _said(self, driver: subprocess.Popen[bytes]) -> str:
        self._logs[driver.pid].seek(0)
        return self._logs[driver.pid].read().decode(errors="replace")

    def _check_words(self, driver: subprocess.Popen[bytes]) -> None:
        """Whoever ends unwell says why in one line; and on a disk, where nothing hinders that, the folder says so too."""
        if driver.returncode == 0 or driver.pid in self._killed:
            return
        said = self._said(driver)
        errors = [line for line in said.splitlines() if line.startswith("error:")]
        if len(errors) != 1 or "Traceback" in said or (self._faults is None and self._seems_to_run(driver)):
            self.result.wordless += 1
            self.result.notes.append(said[-2000:])

    def _seems_to_run(self, driver: subprocess.Popen[bytes]) -> bool:
        """Whether the status of the folder still tells, a while after the end of a run, that it goes on."""
        deadline = time.monotonic() + _STATUS_S
        while time.monotonic() < deadline:
            try:
                status = read_status(RunFolder(self._uri))
            except InputError:
                return False
            if (status["pid"], status["state"]) != (driver.pid, "running"):
                return False
            time.sleep(0.2)
        return True

    def _wait_for(self, driver: subprocess.Popen[bytes], what: str) -> list[int]:
        """The processes of a run whose command has this in it, once there are some; none where it ends without."""
        while driver.poll() is None:
            if found := [pid for pid, command in processes(driver) if what in command]:
                return found
            time.sleep(0.1)
        return []

    def _kill(self, driver: subprocess.Popen[bytes], what: str) -> None:
        if found := self._wait_for(driver, what):
            self.result.disturbances[f"kill {what}"] += 1
            with suppress(ProcessLookupError):
                os.kill(self._chance.choice(found), signal.SIGKILL)

    def _kill_driver(self, driver: subprocess.Popen[bytes]) -> None:
        self.result.disturbances["kill driver"] += 1
        self._killed.add(driver.pid)
        driver.kill()

    def _kill_worker(self, driver: subprocess.Popen[bytes]) -> None:
        self._kill(driver, "ray::")

    def _kill_raylet(self, driver: subprocess.Popen[bytes]) -> None:
        self._kill(driver, "raylet/raylet")

    def _kill_gcs(self, driver: subprocess.Popen[bytes]) -> None:
        self._kill(driver, "gcs/gcs_server")

    def _freeze(self, driver: subprocess.Popen[bytes], command: str) -> None:
        self.result.disturbances["freeze"] += 1
        send(driver, signal.SIGSTOP)
        other = self._start(command)
        if self._chance.random() < 0.5:
            time.sleep(4 + self._chance.uniform(0, self._seconds))
            send(driver, signal.SIGCONT)
            self._end(other)
        else:
            self._end(other)
            send(driver, signal.SIGCONT)

    def _beside(self, driver: subprocess.Popen[bytes]) -> None:
        command = self._chance.choice(["label", "relabel", "train", "evaluate", "compare", "clean"])
        self.result.disturbances[f"{command} beside"] += 1
        self._end(self._start(command))

    def _fault(self, driver: subprocess.Popen[bytes]) -> None:
        assert self._faults is not None
        mode = self._chance.choice(["refuse", "slow_down", "error", "deny", "truncate", "lose_answer", "delay"])
        self.result.disturbances[f"store: {mode}"] += 1
        seconds = self._chance.uniform(1, 8)
        options = {"refuse": {"seconds": seconds}, "delay": {"seconds": 0.3}}.get(mode, {"probability": 0.3})
        self._faults.set(mode, **options)
        time.sleep(seconds)
        self._faults.reset()

    def compare(self, expected: Mapping[str, Rows], found: Mapping[str, Rows]) -> None:
        """Compare every row that counts with those of an undisturbed run."""
        for name, wanted in expected.items():
            there = found.get(name, {})
            self.result.doubled += sum(len(rows) - 1 for rows in there.values())
            self.result.lost += len(wanted.keys() - there.keys())
            self.result.different += sum(not same(rows[0], wanted[id_][0]) for id_, rows in there.items() if id_ in wanted)
            self.result.different += len(there.keys() - wanted.keys())


def processes(driver: subprocess.Popen[bytes]) -> list[tuple[int, str]]:
    """Number and command of all processes of a run but its driver, wherever they hang in the tree: they have inherited its mark."""
    found, mark = [], _marks[driver.pid]
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            pid = int(entry.name)
            if pid != driver.pid and mark in (entry / "environ").read_bytes():
                found.append((pid, (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")))
    return found


def send(driver: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to all processes of a run."""
    for pid in [driver.pid, *(pid for pid, _ in processes(driver))]:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def copied(source: str, target: str) -> None:
    """Copy a run folder."""
    there, here = RunFolder(source), RunFolder(target)
    for name in there.names(""):
        here.write_bytes(name, there.read_bytes(name))


def besiege(
    rounds: int,
    seed: int,
    store: str,
    work: Path,
    tell: Callable[[str], None],
    command: str = "label",
    each: bool = False,
    small: bool = False,
) -> Result:
    """Hold so many sieges one after the other; returns what was found in all. ``each``: see :meth:`Siege.kill_each`; ``small``: of one
    category, without networks."""
    data, total = work / "data set", Result()
    images = {"trn": 4, "val": 2, "test": 2}
    categories = ("chair",) if small else ("car", "chair")
    generate_toys(data, ToysConfig(categories=categories, images=images, occlusion=0.0, truncation=0.0, workers=1))
    with ExitStack() as stack:
        faults = None
        if store != "disk":
            import boto3

            faults = FaultyS3(stack.enter_context(serve_s3()))
            stack.callback(faults.stop)
            boto3.client("s3").create_bucket(Bucket=_BUCKET)
            os.environ["AWS_ENDPOINT_URL"] = faults.endpoint
        base, options = str(work) if store == "disk" else f"s3://{_BUCKET}", options_of(data, command)
        options += ["profile=offline"] if small else []
        undisturbed = Siege(f"{base}/undisturbed", options, store, random.Random(seed), 0.0, None)
        seconds = undisturbed.run("label")
        if command != "label":
            copied(f"{base}/undisturbed", f"{base}/labelled")
            seconds = undisturbed.run(command)
        if undisturbed.result.notes:
            raise RuntimeError(undisturbed.result.notes[0])

        def made(folder: str) -> dict[str, Rows]:
            return COMMANDS[command].made(load_config(None, [f"run={json.dumps(folder)}", *options]))

        expected = made(f"{base}/undisturbed")
        for number in range(rounds):
            chance = random.Random(f"{seed} {store} {number}")
            siege = Siege(f"{base}/{number}", options, store, chance, seconds, faults)
            if command != "label":
                copied(f"{base}/labelled", f"{base}/{number}")
            (siege.kill_each if each else siege.hold)(command)
            siege.compare(expected, made(f"{base}/{number}"))
            found = siege.result
            tell(json.dumps({"round": number, **_values(found)}))
            for name, value in vars(found).items():
                setattr(total, name, getattr(total, name) + value)
    return total


def _values(result: Result) -> dict[str, Any]:
    return {key: dict(value) if isinstance(value, Counter) else value for key, value in vars(result).items()}


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Hold sieges as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.siege", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10, help="run folders besieged one after the other (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="what is done when; the machine's pace is its own (default: %(default)s)"
    )
    parser.add_argument("--command", choices=tuple(COMMANDS), default="label", help="what is disturbed (default: %(default)s)")
    parser.add_argument("--store", choices=STORES, default="disk", help="where the folders lie (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="siege-") as work:
        total = besiege(chosen.rounds, chosen.seed, chosen.store, Path(work), _tell, chosen.command)
    values = {
        "command": chosen.command,
        "store": chosen.store,
        "seed": chosen.seed,
        "disturbed": sum(total.disturbances.values()),
        **_values(total),
    }
    _tell(json.dumps(values))
    return int(bool(total.lost or total.doubled or total.different or total.hung or total.wordless or total.notes))


if __name__ == "__main__":
    sys.exit(main())
