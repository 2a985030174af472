"""The rows of a run that people look through: its pairs, images and rejects, in a database in memory.

They are made of the manifest, of the small columns of what counts, and of the rejects that count. The evidence of matches is not among
them: of each pair's geodesic errors a median is worked out beside (:meth:`RunTables.read_errors`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.folder.images import IMAGES
from pipelines.folder.manifest import PAIRS
from pipelines.report.rejects import read_rejects
from pipelines.runner.stage import Stage
from pipelines.stages.azimuths import posed_azimuths
from pipelines.stages.label import LabelStage
from pipelines.stages.match import MatchStage
from pipelines.stages.orient import OrientStage
from pipelines.stages.reconstruct import ReconstructStage
from pipelines.stages.registry import STAGES
from sc3d.config import RunConfig
from sc3d.errors import ConfigError, Sc3dError
from sc3d.records import LABELLED_SPLIT, ImageRecord, Matches, Pair
from sc3d.schema import Record, arrow_schema
from sc3d.store import RunFolder

_READERS = 8
_FILES_AT_ONCE = 64
_COUNTS = ["pair_id", "n_candidates", "n_cycle"]

_REJECTS = """
CREATE TABLE rejects AS SELECT * FROM reject_rows ORDER BY number;
CREATE TABLE reasons AS
    SELECT id, arg_min(stage, number) AS stage, arg_min(error_type, number) AS error_type, arg_min(message, number) AS message
    FROM rejects WHERE kind != 'category' GROUP BY id;
"""

_IMAGES = """
CREATE TABLE images AS
    SELECT m.image_id AS id, m.category, m.split, r.iou_before, r.iou_after AS iou, (r.azimuth + coalesce(o.turn, 0)) % 360 AS azimuth,
        o.turn, list_concat(coalesce(r.flags, []), if(o.uncertain, ['front_unsure'], [])) AS flags,
        coalesce(n.pairs, 0) AS pairs, coalesce(n.kept, 0) AS kept, x.message AS reason,
        CASE WHEN x.id IS NOT NULL THEN 'rejected' WHEN r.image_id IS NULL THEN 'not reconstructed' ELSE 'reconstructed' END AS state
    FROM image_rows m
    LEFT JOIN reconstruction_rows r USING (image_id)
    LEFT JOIN orientation_rows o USING (image_id)
    LEFT JOIN (
        SELECT image_id, count(*) AS pairs, sum(n_kept) AS kept
        FROM (SELECT unnest([source_id, target_id]) AS image_id, n_kept FROM pair_rows LEFT JOIN label_rows USING (pair_id))
        GROUP BY image_id
    ) n USING (image_id)
    LEFT JOIN reasons x ON x.id = m.image_id
    ORDER BY m.image_id
"""

_UNEXPLAINED = """
SELECT count(*) FROM pair_rows p
JOIN images s ON s.id = p.source_id JOIN images t ON t.id = p.target_id
WHERE p.split = $labelled AND p.pair_id NOT IN (SELECT pair_id FROM label_rows) AND p.pair_id NOT IN (SELECT id FROM reasons)
    AND s.reason IS NULL AND t.reason IS NULL
"""

_PAIRS = """
CREATE TABLE pairs AS
    SELECT p.pair_id AS id, p.source_id AS source, p.target_id AS target, p.category, p.split, c.n_candidates AS candidates,
        c.n_cycle AS cycle, c.n_kept AS kept, NULL::DOUBLE AS error,
        abs((s.azimuth - t.azimuth + 540) % 360 - 180) AS apart, least(s.iou, t.iou) AS iou,
        coalesce(x.message, 'source: ' || s.reason, 'target: ' || t.reason) AS reason,
        CASE WHEN c.n_kept IS NOT NULL THEN 'labelled' WHEN c.n_candidates IS NOT NULL THEN 'matched'
            WHEN coalesce(x.id, s.reason, t.reason) IS NOT NULL THEN 'rejected'
            WHEN p.split != $labelled THEN 'annotated' ELSE 'not matched' END AS state
    FROM pair_rows p
    LEFT JOIN (
        SELECT pair_id, n_candidates, n_cycle, n_kept FROM label_rows
        UNION ALL SELECT pair_id, n_candidates, n_cycle, NULL FROM match_rows ANTI JOIN label_rows USING (pair_id)
    ) c USING (pair_id)
    LEFT JOIN images s ON s.id = p.source_id
    LEFT JOIN images t ON t.id = p.target_id
    LEFT JOIN reasons x ON x.id = p.pair_id
    ORDER BY p.pair_id
"""

# Of imported labels errors are not known: NaN.
_MEDIANS = """
INSERT INTO errors SELECT pair_id, if(isfinite(median), median, NULL)
FROM (SELECT pair_id, list_median(geodesic_error)::DOUBLE AS median FROM evidence)
"""

_WITH_ERRORS = """
CREATE OR REPLACE TABLE pairs AS
    SELECT pairs.* REPLACE (e.error AS error) FROM pairs LEFT JOIN errors e ON e.id = pairs.id ORDER BY pairs.id
"""


class RunTables:
    """The tables ``pairs``, ``images`` and ``rejects`` of a run, as it was when they were made. Safe to share between threads.

    Attributes:
        since: when the run was read, by the clock of this machine.
        error_files: files of evidence of which the errors are known, and of how many.
        errors_missing: why the errors will not be known; empty as long as they may be.

    Raises:
        ConfigError: DuckDB is not installed.
        SchemaError, StoreError: a file of the run cannot be read.
    """

    def __init__(self, config: RunConfig) -> None:
        # What it can reach is what it is given: no files, no network, no extensions.
        self._database = _duckdb().connect(":memory:", config={"enable_external_access": "false"})
        self._labels = LabelStage(config)
        self._matches = MatchStage(config)
        self._stopped = threading.Event()
        self.since = f"{datetime.now():%Y-%m-%d %H:%M:%S}"
        self.error_files, self.errors_missing = (0, 0), ""
        with ThreadPoolExecutor(_READERS) as pool:
            tables = {name: pool.submit(read, config) for name, read in _ROWS.items()}
            tables["label_rows"] = pool.submit(_columns, self._labels, [*_COUNTS, "n_kept"])
            for name, rows in tables.items():
                self._database.register(name, rows.result())
        for statement in (_REJECTS, _IMAGES):
            self._database.execute(statement)
        labelled = {"labelled": LABELLED_SPLIT}
        # Files of matches are large, so they are looked into only where a pair has neither labels nor a reason why.
        [(unexplained,)] = self._database.execute(_UNEXPLAINED, labelled).fetchall()
        matched = _columns(self._matches, _COUNTS) if unexplained else arrow_schema(Matches).empty_table().select(_COUNTS)
        self._database.register("match_rows", matched)
        self._database.execute(_PAIRS, labelled)
        self._database.execute("CREATE TABLE errors (id VARCHAR, error DOUBLE)")
        for name in (*tables, "match_rows"):
            self._database.unregister(name)

    @property
    def errors_known(self) -> bool:
        """Whether the column ``error`` of the pairs is filled in."""
        return self.error_files[0] == self.error_files[1] > 0

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """What a statement finds; ``values`` stand for its question marks."""
        with self._database.cursor() as cursor:
            cursor.execute(statement, list(values))
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def read_errors(self) -> None:
        """Work out the median geodesic error of each pair, of its labels or else of its matches, and fill it in when all are known.

        It reads one column of all evidence, so it is for a thread of its own.
        """
        try:
            self._read_errors()
        except Sc3dError as error:
            self.errors_missing = str(error)

    def stop(self) -> None:
        """Let :meth:`read_errors` end before it is through."""
        self._stopped.set()

    def _read_errors(self) -> None:
        known = self._labels.known if len(self._labels.known) else self._matches.known
        total = len(known.files_used)
        tables = known.tables(["pair_id", "geodesic_error"])
        with self._database.cursor() as cursor:
            done = 0
            while not self._stopped.is_set() and (batch := list(islice(tables, _FILES_AT_ONCE))):
                cursor.register("evidence", pa.concat_tables([one.select(["pair_id", "geodesic_error"]) for one in batch]))
                cursor.execute(_MEDIANS)
                cursor.unregister("evidence")
                done += len(batch)
                self.error_files = (min(done, total - 1), total)
            if self._stopped.is_set():
                return
            cursor.execute(_WITH_ERRORS)
        self.error_files = (max(total, 1), max(total, 1))


def _manifest_rows(record: type[Record], file: str, names: list[str]) -> Callable[[RunConfig], pa.Table]:
    def read(config: RunConfig) -> pa.Table:
        run = RunFolder(config.run)
        return (run.read_table(record, file, names) if run.exists(file) else arrow_schema(record).empty_table()).select(names)

    return read


def _columns(stage: Stage, names: Sequence[str]) -> pa.Table:
    return stage.artefacts.columns(stage.counted, names)


def _reconstruction_rows(config: RunConfig) -> pa.Table:
    names = ["image_id", "iou_before", "iou_after", "flags", "rotation", "translation"]
    table = _columns(ReconstructStage(config), names)
    azimuths = posed_azimuths(table)
    known = pa.array(azimuths, pa.float64(), mask=~np.isfinite(azimuths))
    return table.drop_columns(["rotation", "translation"]).append_column("azimuth", known)


def _orientation_rows(config: RunConfig) -> pa.Table:
    return _columns(OrientStage(config), ["image_id", "turn", "uncertain"])


def _reject_rows(config: RunConfig) -> pa.Table:
    # To know the recipe of some stages takes all labels, so only those are asked that have rejects of some configuration.
    rejecting = {name.split("/")[1] for name in RunFolder(config.run).names("rejects", ".parquet")}
    stages = [stage for kind in STAGES if kind.name in rejecting for stage in kind.instances(config)]
    rows = [(_KINDS.get(stage.key, "category"), one) for stage in stages for one in read_rejects(stage)]
    text = pa.string()
    return pa.table(
        {
            "number": pa.array(range(len(rows)), pa.int64()),
            "kind": pa.array([kind for kind, _ in rows], text),
            **{name: pa.array([getattr(one, name) for _, one in rows], text) for name in ("id", "stage", "error_type", "message")},
            "attempts": pa.array([one.attempts for _, one in rows], pa.int64()),
        }
    )


_KINDS = {"image_id": "image", "pair_id": "pair"}

_ROWS: dict[str, Callable[[RunConfig], pa.Table]] = {
    "image_rows": _manifest_rows(ImageRecord, IMAGES, ["image_id", "category", "split"]),
    "pair_rows": _manifest_rows(Pair, PAIRS, ["pair_id", "source_id", "target_id", "category", "split"]),
    "reconstruction_rows": _reconstruction_rows,
    "orientation_rows": _orientation_rows,
    "reject_rows": _reject_rows,
}


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError:
        raise ConfigError("sc3d view needs DuckDB, which is not installed; install it with: pip install 'duckdb>=1'") from None
    return duckdb
