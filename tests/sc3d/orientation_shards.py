"""Shards of orientations, which are the smallest records that there are, for tests of what keeps any of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from sc3d.artefacts import Artefacts
from sc3d.lease import INTERVAL_S, RunLease
from sc3d.records import Orientation, Reject
from sc3d.seals import take_away
from sc3d.shards import COUNTED, Shard
from sc3d.store import RunFolder


def artefacts_in(run: RunFolder, recipe: str = "recipe", by_category: bool = True) -> Artefacts:
    return Artefacts(run, "orient", "orientations", recipe, Orientation, "image_id", by_category)


def wanted(*ids: str, inputs: str = "") -> pa.Table:
    """So many ids as a manifest names them, made from the same."""
    return pa.table([pa.array(ids, pa.string()), pa.array([inputs] * len(ids), pa.string())], schema=COUNTED)


def orientation(image_id: str, turn: int = 0, category: str = "car") -> Orientation:
    return Orientation(image_id, category, turn, np.zeros(8), False)


def reject(id_: str, attempts: int = 1) -> Reject:
    return Reject(id_, "orient", "InputError", "broken", attempts)


def commit(artefacts: Artefacts, *ids: str, rejected: tuple[str, ...] = (), category: str = "car", turn: int = 0) -> Shard:
    """Write a shard of some ids, of which some are rejected."""
    shard = Shard(category, (*ids, *rejected))
    artefacts.commit(shard, [orientation(id_, turn, category) for id_ in ids], [reject(id_) for id_ in rejected])
    return shard


def clean(artefacts: Artefacts, counted: pa.Table, interval_s: float = INTERVAL_S) -> None:
    """As ``sc3d clean --delete`` does, by a run of its own."""
    with RunLease(artefacts.run, interval_s):
        catalogue = artefacts.catalogue(counted)
        replaced, mixed = artefacts.left_over(catalogue)
        for name in mixed:
            replaced += artefacts.keep_counted(catalogue, name)
        take_away(artefacts.run, replaced)
