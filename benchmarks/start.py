"""How long one waits at first: for ``import sc3d``, for ``sc3d --help``, and from ``sc3d view`` to the first page of a large run.

The run is one of 100,000 labelled pairs of 5,000 images in 20 categories, written as its stages write it, with meshes of 2,562 vertices and
about 69 labels a pair, as the demonstration has. What is in them means nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import trimesh

from benchmarks import row
from pipelines.folder.configuration import RUN
from pipelines.folder.images import ROWS_A_GROUP
from pipelines.folder.manifest import IMAGES, PAIRS
from pipelines.runner.stage import Stage
from pipelines.stages.label import LabelStage
from pipelines.stages.orient import OrientStage
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.config import RunConfig
from sc3d.config_file import load_config, to_values
from sc3d.images import encode_mask
from sc3d.records import ImageRecord, Labels, Orientation, Pair, Reconstruction
from sc3d.schema import to_table
from sc3d.shards import Shard
from sc3d.store import RunFolder

CATEGORIES, IMAGES_EACH, TARGETS = 20, 250, 20
_LABELS = 69
_REPEATS = 5
_FILTERED = "pairs?category=category07&kept_min=60&iou_min=0.6&apart_max=90&sort=error&order=descending"


def run(images: int = IMAGES_EACH) -> Iterator[dict[str, Any]]:
    """Seconds, and the memory of the server."""
    python = [sys.executable, "-c"]
    yield _figure("import sc3d", _fastest([*python, "import sc3d"]), "s", _REPEATS)
    yield _figure("sc3d --help", _fastest([*python, "from pipelines.cli import main; main()", "--help"]), "s", _REPEATS)
    with tempfile.TemporaryDirectory(prefix="sc3d-start-") as folder:
        config = write_run(Path(folder), images)
        count = CATEGORIES * images * min(TARGETS, images - 1)
        yield from _view(config, f"{count} pairs", count)
        small = write_run(Path(folder) / "small", max(2, images // 10))
        fewer = CATEGORIES * max(2, images // 10) * min(TARGETS, max(2, images // 10) - 1)
        yield from list(_view(small, f"{fewer} pairs", fewer))[-1:]


def _figure(figure: str, value: float, unit: str, n: int) -> dict[str, Any]:
    return row(bench="start", figure=figure, value=value, unit=unit, better="lower", n=n)


def _fastest(command: Sequence[str]) -> float:
    return min(_seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)) for _ in range(_REPEATS))


def _seconds(action: Any) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _view(config: RunConfig, of: str, count: int) -> Iterator[dict[str, Any]]:
    start = time.perf_counter()
    command = [sys.executable, "-m", "pipelines.cli", "view", config.run]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as server:
        assert server.stdout is not None
        address = server.stdout.readline().removeprefix("view: ").strip()
        _get(address)
        yield _figure(f"sc3d view to the first page, {of}", time.perf_counter() - start, "s", 1)
        while "still being read" in _get(address).decode():
            time.sleep(0.1)
        yield _figure(f"sc3d view until all errors are known, {of}", time.perf_counter() - start, "s", 1)
        for name, place in (("filtered and sorted page", _FILTERED), ("page 1,000 of all", "pairs?sort=kept&page=1000")):
            seconds = min(_seconds(lambda place=place: _get(address + place)) for _ in range(_REPEATS))
            yield _figure(f"{name}, {of}", 1e3 * seconds, "ms", _REPEATS)
        status = Path(f"/proc/{server.pid}/status")
        if status.exists():
            peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
            yield _figure(f"peak memory of the server, {of}", int(peak.split()[1]) / 2**10, "MiB", 1)
        server.terminate()


def _get(address: str) -> bytes:
    with urllib.request.urlopen(address) as answer:  # noqa: S310
        return bytes(answer.read())


def write_run(folder: Path, images: int = IMAGES_EACH, targets: int = TARGETS) -> RunConfig:
    """A run folder of so many images a category and targets an image, with everything but features and matches."""
    config = load_config(None, [f"run={folder / 'run'}", f"dataset.root={folder / 'photos'}"])
    run, rng = RunFolder(config.run), np.random.default_rng(0)
    known = {
        name: [ImageRecord(f"{name}-{i:05}", f"{i}.jpg", name, inputs=f"{name} {i}") for i in range(images)]
        for name in (f"category{number:02}" for number in range(CATEGORIES))
    }
    pairs = {
        name: [
            Pair.of(one, mine[(i + step) % images]) for i, one in enumerate(mine) for step in range(1, min(targets, images - 1) + 1)
        ]
        for name, mine in known.items()
    }
    everything = [one for mine in known.values() for one in mine]
    run.write_json(RUN, {"config": to_values(config), "counts": {}, "versions": {}})
    run.write_records(Pair, PAIRS, [pair for mine in pairs.values() for pair in mine])
    run.write_table(IMAGES, to_table(ImageRecord, everything), rows_a_group=ROWS_A_GROUP)
    for name, mine in known.items():
        _write(ReconstructStage(config), name, [_reconstruction(one, rng) for one in mine], config.ray.images_per_shard)
        _write(OrientStage(config), name, [_orientation(one) for one in mine], config.ray.images_per_shard)
        _write(LabelStage(config), name, [_labels(pair, rng) for pair in pairs[name]], config.ray.pairs_per_shard)
    return config


def _write(stage: Stage, category: str, rows: Sequence[Any], size: int) -> None:
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        ids = [getattr(one, stage.key) for one in some]
        inputs = stage.inputs_of(pa.array(ids, pa.string())).to_pylist()
        stage.artefacts.commit(Shard(category, tuple(ids), tuple(inputs)), some, [])


_SPHERE = trimesh.creation.icosphere(subdivisions=4)
_MASK = encode_mask(np.pad(np.ones((320, 320), bool), 80))


def _reconstruction(image: ImageRecord, rng: np.random.Generator) -> Reconstruction:
    before, after = np.sort(rng.uniform(0.3, 1.0, 2))
    azimuth = rng.uniform(0, 2 * np.pi)
    place = np.array([np.sin(azimuth), 0.2, np.cos(azimuth)]) * 3
    noise = rng.normal(0, 0.01, _SPHERE.vertices.shape)
    return Reconstruction(
        image_id=image.image_id,
        category=image.category,
        width=480,
        height=480,
        mask=_MASK,
        vertices=_SPHERE.vertices / 2 + noise,
        faces=_SPHERE.faces,
        intrinsics=np.array([[500.0, 0, 240], [0, 500, 240], [0, 0, 1]]),
        rotation=np.eye(3),
        scale_initial=1.0,
        translation_initial=place,
        scale=1.0,
        translation=place,
        iou_before=float(before),
        iou_after=float(after),
    )


def _orientation(image: ImageRecord) -> Orientation:
    return Orientation(image.image_id, image.category, 0, np.zeros(8, np.int32), False)


def _labels(pair: Pair, rng: np.random.Generator) -> Labels:
    n = int(rng.poisson(_LABELS))
    return Labels(
        pair_id=pair.pair_id,
        source_id=pair.source_id,
        target_id=pair.target_id,
        category=pair.category,
        source_xy=rng.uniform(0, 480, (n, 2)),
        target_xy=rng.uniform(0, 480, (n, 2)),
        cosine=rng.uniform(0.5, 1, n),
        cycle_error=rng.uniform(0, 20, n),
        geodesic_error=rng.uniform(0, 0.05, n),
        source_extent=320.0,
        source_cell=8.0,
        n_candidates=500,
        n_cycle=200,
        n_kept=n,
        tau_cc=0.05,
        tau_geo=0.05,
    )
