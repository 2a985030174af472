"""What travels between processes: shards as strings, and the rows between two actor pools as one safetensors blob a shard.

No pickle, and the arrays are read without a copy.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from actors.base import Outcome
from sc3d.records import Reject
from sc3d.shards import Shard

SHARD_COLUMNS = ("category", "ids", "upstream")


def encode_shard(shard: Shard) -> dict[str, str]:
    """A shard as the strings of :data:`SHARD_COLUMNS`."""
    return {"category": shard.category, "ids": "\n".join(shard.ids), "upstream": shard.upstream or ""}


def decode_shard(values: Mapping[str, Any]) -> Shard:
    """Inverse of :func:`encode_shard`."""
    return Shard(str(values["category"]), tuple(str(values["ids"]).split("\n")), str(values["upstream"]) or None)


def pack_outcomes(outcomes: Sequence[Outcome]) -> bytes:
    """Encode outcomes. Row values may be arrays, dictionaries of arrays, bytes, and plain JSON values."""
    arrays: dict[str, np.ndarray] = {"_": np.zeros(1, np.uint8)}
    plain = []
    for index, outcome in enumerate(outcomes):
        values: dict[str, Any] = {}
        for key, value in outcome.row.items():
            name = f"{index}/{key}"
            if isinstance(value, np.ndarray):
                arrays[name] = np.ascontiguousarray(value)
            elif isinstance(value, bytes):
                arrays[f"{name}//bytes"] = np.frombuffer(value, np.uint8)
            elif isinstance(value, dict) and all(isinstance(v, np.ndarray) for v in value.values()):
                arrays |= {f"{name}//{inner}": np.ascontiguousarray(v) for inner, v in value.items()}
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
