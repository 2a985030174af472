"""Rows that were written down and not computed, as a stage's workers would have written them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipelines.runner.stage import Stage
from sc3d.records import Reject
from sc3d.shards import Shard


def commit_rows(stage: Stage, category: str, rows: Sequence[Any], rejects: Sequence[Reject] = ()) -> Shard:
    """Write a shard of rows and rejects, made from what the manifest, which has to be there, says; returns it."""
    ids = [*(getattr(row, stage.key) for row in rows), *(reject.id for reject in rejects)]
    shard = Shard(category, tuple(ids), tuple(stage.inputs_of(pa.array(ids, pa.string())).to_pylist()))
    stage.artefacts.commit(shard, rows, rejects)
    return shard
