"""Whether two run folders hold the same rows: reconstructions, features, matches, labels, scores and adapters, to the last bit.

Run with ``python -m benchmarks.equal_runs RUN OTHER``. Recipes and shards are left aside, since another version of sc3d may cut and name
them otherwise; so are times, and what a row says of its inputs. Exits with 1 where a row differs or is missing on one side.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from safetensors.numpy import load_file

FOLDERS = ("reconstructions", "renders", "orientations", "matches", "labels", "scores", "filters")
_INPUTS = re.compile(r"\.[0-9a-f]{12}$")
_LEFT_ASIDE = {"seconds", "inputs", "n_bytes"}


def rows_of(run: Path, folder: str) -> dict[str, list[str]]:
    """Id -> what all rows of it hold, sorted: several where several recipes have one."""
    found: dict[str, list[str]] = {}
    for file in sorted((run / folder).rglob("*.parquet")):
        for row in pq.read_table(file, partitioning=None).to_pylist():
            key = row.get("pair_id") or row["image_id"]
            held = repr(sorted((name, value) for name, value in row.items() if name not in _LEFT_ASIDE))
            found.setdefault(key, []).append(hashlib.sha256(held.encode()).hexdigest())
    return {key: sorted(values) for key, values in found.items()}


def tensors_of(run: Path, pattern: str) -> dict[str, list[str]]:
    """Name -> hashes of the tensor files of that name, without the inputs in it: of a feature file what is left is its image's id."""
    found: dict[str, list[str]] = {}
    for file in sorted(run.glob(pattern)):
        state = hashlib.sha256()
        for name, values in sorted(load_file(file).items()):
            state.update(name.encode() + values.tobytes())
        found.setdefault(_INPUTS.sub("", file.stem), []).append(state.hexdigest())
    return found


def compare(run: Path, other: Path) -> Iterator[tuple[str, int, int]]:
    """What is compared, how much of it there is in the first run, and how much differs or is on one side alone."""
    for folder in FOLDERS:
        yield folder, *_differing(rows_of(run, folder), rows_of(other, folder))
    for name, pattern in (("features", "features/*/*.safetensors"), ("adapters", "adapters/*/adapter.safetensors")):
        yield name, *_differing(tensors_of(run, pattern), tensors_of(other, pattern))


def _differing(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[int, int]:
    return len(mine), sum(mine.get(key) != theirs.get(key) for key in mine.keys() | theirs.keys())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.equal_runs", description="Whether two run folders hold the same rows."
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("other", type=Path)
    options = parser.parse_args()
    differences = 0
    for what, count, different in compare(options.run, options.other):
        print(f"{what:16} {count:>6} compared, {different:>6} differ")
        differences += different
    sys.exit(bool(differences))
