"""A siege of run folders: ``python -m tests.siege --rounds 20 --seed 0 --store disk``.

In each round a small labelling is started on a new run folder, disturbed at one to three random moments, started again with another cut
into shards, disturbed again, and so on, until it has ended well. Then every row that counts is compared with an undisturbed run: how many
are lost, there twice, or different. The program is as it is, but for leases that beat every second, so that a takeover takes three.

Disturbances: SIGKILL of the driver, of one worker, of the raylet, of the GCS; the whole run frozen until another one has taken its folder
over, or is at it; other commands started beside it; and in a bucket, a server that is away, overloaded, loses answers, cuts bodies short,
is slow or refuses.

Prints a JSON line a round and one at the end; exits with 1 where a row was lost, doubled or different, or a run hung.
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
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from faulty_s3 import FaultyS3
from s3_server import serve_s3

from pipelines.stages.label import LabelStage
from pipelines.stages.registry import chain_to
from sc3d.config import RunConfig
from sc3d.config_file import load_config
from sc3d.datasets.toys import ToysConfig, generate_toys

STORES = ("disk", "s3", "unconditional")
"""Where run folders lie: on the disk, in a bucket with conditional writes, in one without."""

_MARK = "SC3D_SIEGE"
_BUCKET = "siege"
_ARGUMENTS = {"compare": ["2d-cycle"]}
_HANG_S = 400.0
_ATTEMPTS = 6
_DISTURBANCES = 3
_SAID_OF_TIME = {"seconds"}

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

Rows = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass
class Result:
    """What was found in one round."""

    disturbances: Counter[str] = field(default_factory=Counter)
    exits: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    doubled: int = 0
    different: int = 0
    hung: int = 0
    notes: list[str] = field(default_factory=list)


class Siege:
    """One run folder under siege. ``uri``: of the folder; ``data``: of the data set; ``faults``: of the store, if it is a bucket."""

    def __init__(self, uri: str, data: Path, store: str, chance: random.Random, seconds: float, faults: FaultyS3 | None) -> None:
        self._uri, self._data, self._store, self._chance, self._seconds = uri, data, store, chance, seconds
        self._faults, self._log = faults, open(os.memfd_create("log"), "w+b")  # noqa: SIM115
        self.result = Result()

    def hold(self) -> None:
        """Disturb the run until it ends well, and once more let it say that nothing is left to do."""
        for _ in range(_ATTEMPTS):
            driver, times = self._start("label"), self._chance.randint(1, _DISTURBANCES)
            for _ in range(times):
                time.sleep(self._chance.uniform(0.5, self._seconds / times))
                if driver.poll() is None:
                    self._disturb(driver)
            if self._end(driver) == 0:
                break
        if self._faults is not None:
            self._faults.reset()
        last = self._start("label")
        if self._end(last) != 0:
            self._log.seek(0)
            self.result.notes.append(self._log.read().decode(errors="replace")[-2000:])

    def _disturb(self, driver: subprocess.Popen[bytes]) -> None:
        ways = [self._kill_driver, self._kill_worker, self._kill_raylet, self._kill_gcs, self._freeze, self._beside]
        if self._faults is not None:
            ways += [self._fault] * 3
        self._chance.choice(ways)(driver)

    def _start(self, command: str) -> subprocess.Popen[bytes]:
        cut = [f"ray.pairs_per_shard={self._chance.randint(1, 6)}", f"ray.images_per_shard={self._chance.randint(1, 6)}"]
        options = overrides(self._uri, self._data) + (cut if command == "label" else [])
        arguments = _ARGUMENTS.get(command, []) + [text for option in options for text in ("--set", option)]
        if command == "clean":
            arguments = ["--delete", "--run", self._uri]
        mark = {_MARK: uuid.uuid4().hex, "SC3D_SIEGE_STORE": self._store}
        whole = [sys.executable, "-c", _COMMAND, command, *arguments]
        driver = subprocess.Popen(
            whole,
            env={"SC3D_STORE_PATIENCE": "30", **os.environ, **mark},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        _marks[driver.pid] = f"{_MARK}={mark[_MARK]}".encode()
        return driver

    def _end(self, driver: subprocess.Popen[bytes]) -> int:
        """Wait for the end of a run, and clear away what is left of it."""
        try:
            code = driver.wait(_HANG_S)
            self.result.exits[str(code)] += 1
        except subprocess.TimeoutExpired:
            self.result.hung += 1
            code = -1
        send(driver, signal.SIGKILL)
        driver.wait()
        return code

    def _kill(self, driver: subprocess.Popen[bytes], what: str) -> None:
        # Early in a run there is none yet; where it ends without one, nothing has disturbed it.
        while driver.poll() is None:
            if found := [pid for pid, command in processes(driver) if what in command]:
                self.result.disturbances[f"kill {what}"] += 1
                with suppress(ProcessLookupError):
                    os.kill(self._chance.choice(found), signal.SIGKILL)
                return
            time.sleep(0.1)

    def _kill_driver(self, driver: subprocess.Popen[bytes]) -> None:
        self.result.disturbances["kill driver"] += 1
        driver.kill()

    def _kill_worker(self, driver: subprocess.Popen[bytes]) -> None:
        self._kill(driver, "ray::")

    def _kill_raylet(self, driver: subprocess.Popen[bytes]) -> None:
        self._kill(driver, "raylet/raylet")

    def _kill_gcs(self, driver: subprocess.Popen[bytes]) -> None:
        self._kill(driver, "gcs/gcs_server")

    def _freeze(self, driver: subprocess.Popen[bytes]) -> None:
        self.result.disturbances["freeze"] += 1
        send(driver, signal.SIGSTOP)
        other = self._start("label")
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

    def compare(self, expected: Mapping[str, Rows]) -> None:
        """Compare every row that counts with those of an undisturbed run."""
        config = settings(self._uri, self._data)
        for stage, wanted in expected.items():
            found = rows_of(config, stage)
            self.result.doubled += sum(len(rows) - 1 for rows in found.values())
            self.result.lost += len(wanted.keys() - found.keys())
            self.result.different += sum(not same(rows[0], wanted[id_][0]) for id_, rows in found.items() if id_ in wanted)
            self.result.different += len(found.keys() - wanted.keys())


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


def overrides(uri: str, data: Path) -> list[str]:
    """The options of every run of a siege."""
    small = [
        "dataset.kind=toys",
        "pairs.targets=2",
        "max_reject_fraction=0.5",
        "train.steps=2",
        "train.channels=32",
        "ray.workers=2",
    ]
    return [f"run={json.dumps(uri)}", f"dataset.root={json.dumps(str(data))}", "evaluate.max_pairs_per_category=2", *small]


def settings(uri: str, data: Path) -> RunConfig:
    """The configuration of every run of a siege."""
    return load_config(None, overrides(uri, data))


def rows_of(config: RunConfig, stage: str) -> dict[str, list[dict[str, Any]]]:
    """Id -> all rows of it in files that count, whether they are counted once or not; without times."""
    kind = next(kind for kind in chain_to(config, LabelStage.name) if kind.name == stage)
    made = kind(config)
    found: dict[str, list[dict[str, Any]]] = {}
    for name in made.artefacts.files():
        for record in made.run.read_records(kind.record, name):
            row = {key: value for key, value in vars(record).items() if key not in _SAID_OF_TIME}
            found.setdefault(str(row[kind.key]), []).append(row)
    return found


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two rows are the same to the last bit."""
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def besiege(rounds: int, seed: int, store: str, work: Path, tell: Callable[[str], None]) -> Result:
    """Hold so many sieges one after the other; returns what was found in all."""
    data, total = work / "data set", Result()
    images = {"trn": 4, "val": 1, "test": 2}
    generate_toys(data, ToysConfig(categories=("car", "chair"), images=images, occlusion=0.0, truncation=0.0, workers=1))
    with ExitStack() as stack:
        faults = None
        if store != "disk":
            import boto3

            faults = FaultyS3(stack.enter_context(serve_s3()))
            stack.callback(faults.stop)
            boto3.client("s3").create_bucket(Bucket=_BUCKET)
            os.environ["AWS_ENDPOINT_URL"] = faults.endpoint
        base = str(work) if store == "disk" else f"s3://{_BUCKET}"
        undisturbed = Siege(f"{base}/undisturbed", data, store, random.Random(seed), 0.0, None)
        started = time.monotonic()
        if undisturbed._end(undisturbed._start("label")) != 0:
            undisturbed._log.seek(0)
            raise RuntimeError(undisturbed._log.read().decode(errors="replace"))
        seconds = time.monotonic() - started
        config = settings(f"{base}/undisturbed", data)
        expected = {kind.name: rows_of(config, kind.name) for kind in chain_to(config, LabelStage.name)}
        for number in range(rounds):
            chance = random.Random(f"{seed} {store} {number}")
            siege = Siege(f"{base}/{number}", data, store, chance, seconds, faults)
            siege.hold()
            siege.compare(expected)
            found = siege.result
            tell(json.dumps({"round": number, **_values(found)}))
            total.disturbances += found.disturbances
            total.exits += found.exits
            total.lost, total.doubled = total.lost + found.lost, total.doubled + found.doubled
            total.different, total.hung = total.different + found.different, total.hung + found.hung
            total.notes += found.notes
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
    parser.add_argument("--store", choices=STORES, default="disk", help="where the folders lie (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="siege-") as work:
        total = besiege(chosen.rounds, chosen.seed, chosen.store, Path(work), _tell)
    values = {"store": chosen.store, "seed": chosen.seed, "disturbed": sum(total.disturbances.values()), **_values(total)}
    _tell(json.dumps(values))
    return int(bool(total.lost or total.doubled or total.different or total.hung or total.notes))


if __name__ == "__main__":
    sys.exit(main())
