"""A stage with two actor pools and made-up failures, for the tests of the stage runner. Workers get it by value."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from actors.base import Actor, Resources, Row
from pipelines.runner.stage import Stage
from sc3d.config import RunConfig
from sc3d.errors import InputError, UpstreamError, WeightsError
from sc3d.records import Orientation, Record
from sc3d.shards import Shard


class First(Actor):
    """Fails on ids with 'bad', kills its process once on ids with 'kill' and always on ids with 'deadly'; does not start with seed 13."""

    requires = {"image_id": "id"}
    provides = {"numbers": "array", "nested": "dictionary of arrays", "blob": "bytes", "note": "plain value"}
    version = "first-1"
    options = ("seed",)

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        if config.seed == 13:
            raise WeightsError("the weights are gone; fetch them again")

    def process(self, row: Row) -> Row:
        image_id = row["image_id"]
        marker = Path(self.config.run) / f"killed-{image_id}"
        if "kill" in image_id and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if "deadly" in image_id:
            os.kill(os.getpid(), signal.SIGKILL)
        if "bad" in image_id:
            raise InputError(f"{image_id} cannot be read; replace the file")
        if "crash" in image_id:
            raise ZeroDivisionError("a bug in a model")
        if "exit" in image_id and "pooled" not in image_id:
            sys.exit(3)
        calls = Path(self.config.run) / "calls"
        with calls.open("a") as stream:
            stream.write(image_id + "\n")
        n = len(image_id)
        return {"numbers": np.arange(n), "nested": {"a/b": np.ones((2, n))}, "blob": image_id.encode(), "note": {"n": [n]}}


class Second(Actor):
    """Lives in a pool of its own, because it asks for a custom resource; checks what came over, and leaves on ids with 'pooled' in the way
    that they name."""

    requires = {
        "image_id": "id",
        "numbers": "array",
        "nested": "dictionary of arrays",
        "blob": "bytes",
        "note": "plain value",
    }
    provides = {"turn": "0"}
    version = "second-1"
    # Every head node has this resource, so no special cluster is needed.
    resources = Resources(num_cpus=0.5, custom={"node:__internal_head__": 0.001})

    def process(self, row: Row) -> Row:
        if "pooled" in row["image_id"]:
            self._leave(row)
        n = len(row["image_id"])
        assert row["numbers"].tolist() == list(range(n))
        assert row["nested"]["a/b"].shape == (2, n)
        assert row["blob"] == row["image_id"].encode()
        assert row["note"] == {"n": [n]}
        return {"turn": 0}

    def _leave(self, row: Row) -> None:
        for word, leave in LEAVE.items():
            if word in row["image_id"]:
                leave()
        if "deep" in row["image_id"]:
            self._leave(row)


def _raise(error: BaseException) -> None:
    raise error


LEAVE: dict[str, Callable[[], Any]] = {
    "exit": lambda: sys.exit(3),
    "vanish": lambda: os._exit(0),
    "fault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "interrupt": lambda: _raise(KeyboardInterrupt()),
    "generator": lambda: _raise(GeneratorExit()),
    "memory": lambda: _raise(MemoryError()),
}


class FakeStage(Stage):
    """Images in, orientations out."""

    name = "fake"
    folder = "fakes"
    record = Orientation
    by_category = True
    slots = (First, Second)
    given = {"image_id": "id", "category": "category"}

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self._loaded = 0

    @property
    def shard_size(self) -> int:
        return 3

    def cut(self, items: pa.Table) -> list[Shard]:
        return super().cut(items)[::-1]

    def counters(self) -> Mapping[str, int]:
        return {"loaded": self._loaded}

    def load(self, shard: Shard) -> list[Row]:
        self._loaded += len(shard.ids)
        rows: list[Row] = [{"image_id": i, "category": shard.category} for i in shard.ids]
        for row in rows:
            if "orphan" in row["image_id"]:
                row["error"] = UpstreamError("rejected earlier")
        return rows

    def finish(self, row: Row, seconds: float) -> Record:
        return Orientation(row["image_id"], row["category"], row["turn"], np.zeros(8), False, seconds=seconds)
