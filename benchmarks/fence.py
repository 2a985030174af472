"""What it costs that a replaced run cannot write: sealing a folder at the start of each command, and the look before each write.

On a disk and on a local S3 server (moto), whose own work is most of what is measured there: its times say how cost grows, not how long
Amazon takes. The look is compared with the write that it guards, of a shard of 100 KB, without it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import row
from sc3d.lease import RunLease
from sc3d.seals import newest_seal, seal
from sc3d.store import RunFolder

ON_DISK, IN_BUCKET = (10, 1_000, 100_000), (10, 1_000, 10_000)
"""Shards. The server takes milliseconds for each that it is given, so 100,000 are for those who have the time."""

_SHARD = os.urandom(100_000)
_SEALS, _WRITES = 3, 15


def run(on_disk: Sequence[int] = ON_DISK, in_bucket: Sequence[int] = IN_BUCKET) -> Iterator[dict[str, Any]]:
    """Milliseconds and bytes of a seal for each number of shards, and of the look for the largest."""
    from tests.s3_server import serve_s3

    with tempfile.TemporaryDirectory() as folder:
        for count in on_disk:
            where = Path(folder) / str(count)
            yield from _figures(RunFolder(where), "disk", count, partial(_touch, where))
    with serve_s3() as endpoint:
        import boto3

        client = boto3.client("s3", endpoint_url=endpoint)
        for count in in_bucket:
            bucket = f"fence-{uuid.uuid4().hex[:12]}"
            client.create_bucket(Bucket=bucket)
            yield from _figures(RunFolder(f"s3://{bucket}/run"), "S3 server", count, partial(_put, client, bucket))


def _figures(run: RunFolder, kind: str, count: int, put: Callable[[str], object]) -> Iterator[dict[str, Any]]:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, (f"labels/r/{hashlib.sha256(str(i).encode()).hexdigest()[:16]}-00000001.parquet" for i in range(count))))
    with RunLease(run):
        seals = [_milliseconds(lambda: seal(run)) for _ in range(_SEALS)]
        holding = newest_seal(run)
        assert holding is not None
        assert len(holding.names) == count
        (name,) = run.names("lease", ".seal")
        where = f"of {count:,} shards, {kind}"
        yield row("fence", f"seal {where}", median(seals), "ms", "lower", n=_SEALS)
        yield row("fence", f"size of a seal {where}", len(run.read_bytes(name)) / 1e3, "KB", "lower")
        writes: list[float] = []
        fenced: list[float] = []
        looks: list[float] = []
        for i in range(_WRITES):
            # In turn, since the machine may be busy with something else for a while; the first of two may find it colder.
            for folder, times in ((run.of_run(0), writes), (run, fenced))[:: 1 if i % 2 else -1]:
                times.append(_milliseconds(partial(folder.write_bytes, "labels/r/probe.parquet", _SHARD)))
            looks.append(_milliseconds(run.check_fence))
        ratio = median(writes) / median(fenced)
        yield row("fence", f"look before a write {where}", median(looks), "ms", "lower", n=_WRITES)
        yield row("fence", f"write with its look {where}", median(fenced), "ms", "lower", "the write alone", ratio, _WRITES)


def _put(client: Any, bucket: str, name: str) -> None:
    client.put_object(Bucket=bucket, Key=f"run/{name}", Body=b"")


def _touch(root: Path, name: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def _milliseconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return 1e3 * (time.perf_counter() - start)
