"""A block of ids on its way through the stages of a graph, with what became of each id in each stage.

Blocks travel as one JSON text; the rows between two actor pools of a stage travel beside it as one safetensors blob. No pickle, and
arrays are read without a copy.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from actors.base import Outcome
from sc3d.artefacts import KEPT, MISSING
from sc3d.records import Reject
from sc3d.shards import Shard


@dataclass
class StageResult:
    """What one stage did with a block. ``cpu_seconds``, ``gpu_seconds``: of its processes, by what they were given of a CPU or GPU."""

    items: int = 0
    rejects: int = 0
    reasons: list[str] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0


@dataclass
class Block:
    """Ids of one category that go through a graph together.

    ``states``: for each stage of the graph a state for each id (:data:`~sc3d.artefacts.MISSING`, KEPT, REJECTED). ``files``: stage
    name -> the shard files that hold what is there of these ids; also of earlier graphs' stages. ``results``: for each stage what this
    run did. ``error``: why no stage can go on, which ends the run.
    """

    category: str
    ids: tuple[str, ...]
    states: list[list[int]]
    files: dict[str, list[str]]
    results: list[StageResult]
    error: str = ""

    @classmethod
    def of(cls, category: str, ids: Sequence[str], states: list[list[int]], files: dict[str, list[str]]) -> Block:
        """A block that no stage of this run has touched."""
        return cls(category, tuple(ids), states, files, [StageResult() for _ in states])

    def shard(self, position: int) -> Shard | None:
        """What the stage at a position of the graph has to do: the ids that it lacks and that the stage before it has kept."""
        before = self.states[position - 1] if position else [KEPT] * len(self.ids)
        ids = tuple(
            id_
            for id_, ready, state in zip(self.ids, before, self.states[position], strict=True)
            if ready == KEPT and state == MISSING
        )
        upstream = {name: tuple(files) for name, files in self.files.items()}
        return Shard(self.category, ids, upstream=upstream) if ids else None

    def settle(self, position: int, stage: str, file: str, states: Mapping[str, int]) -> None:
        """Note what became of the ids of a finished shard."""
        self.states[position] = [states.get(id_, state) for id_, state in zip(self.ids, self.states[position], strict=True)]
        self.files.setdefault(stage, []).append(file)


def encode_block(block: Block, rows: bytes = b"") -> dict[str, Any]:
    """A block as a row of a Ray data set."""
    return {"block": json.dumps(block, default=vars), "rows": rows}


def decode_block(row: Mapping[str, Any]) -> Block:
    """Inverse of :func:`encode_block`, without the rows."""
    values = json.loads(str(row["block"]))
    results = [StageResult(**result) for result in values.pop("results")]
    return Block(**{**values, "ids": tuple(values["ids"])}, results=results)


def pack_outcomes(outcomes: Sequence[Outcome]) -> bytes:
    """Encode outcomes. Row values may be arrays, dictionaries of arrays, bytes, and plain JSON values."""
    arrays: dict[str, np.ndarray] = {"_": np.zeros(1, np.uint8)}
    plain = []
    for index, outcome in enumerate(outcomes):
        values: dict[str, Any] = {}
        for key, value in outcome.row.items():
            name = f"{index}/{key}"
            if isinstance(value, np.ndarray):
                arrays[name] = np.asarray(value, order="C")
            elif isinstance(value, bytes):
                arrays[f"{name}//bytes"] = np.frombuffer(value, np.uint8)
            elif isinstance(value, dict) and value and all(isinstance(v, np.ndarray) for v in value.values()):
                arrays |= {f"{name}//{inner}": np.asarray(v, order="C") for inner, v in value.items()}
            else:
                values[key] = value
        reject = dataclasses.asdict(outcome.reject) if outcome.reject else None
        plain.append({"row": values, "reject": reject, "seconds": outcome.seconds})
    return save(arrays, {"outcomes": json.dumps(plain)})


def unpack_outcomes(blob: bytes) -> list[Outcome]:
    """Inverse of :func:`pack_outcomes`."""
    blob = bytes(blob)
    length = int.from_bytes(blob[:8], "little")
    plain = json.loads(json.loads(blob[8 : 8 + length])["__metadata__"]["outcomes"])
    outcomes = [Outcome(p["row"], Reject(**p["reject"]) if p["reject"] else None, p["seconds"]) for p in plain]
    for name, value in load(blob).items():
        index, _, path = name.partition("/")
        if not path:
            continue
        key, _, inner = path.partition("//")
        row = outcomes[int(index)].row
        if inner == "bytes":
            row[key] = value.tobytes()
        elif inner:
            row.setdefault(key, {})[inner] = value
        else:
            row[key] = value
    return outcomes
