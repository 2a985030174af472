"""Exporting labels: rows a second and memory, at two sizes, beside writing DIY-SC's files from a list of everything.

Run with ``python -m benchmarks export``. The run folder is generated: 100,000 label rows of about 100 labels each in shards of 64, of 2,000
images in two categories, about a quarter of a gigabyte. Memory is the most that a process of its own held beyond what it held before the
export began; memory that does not grow with the number of rows is what lets a run of millions be exported.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import row
from benchmarks.pairs import peak_memory
from pipelines.folder.manifest import IMAGES, PAIRS
from pipelines.jobs.export import ExportOptions, export_labels, labelled_images
from pipelines.stages.label import LabelStage, label_catalogue
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.artefacts import INPUTS
from sc3d.config import RunConfig
from sc3d.config_file import load_config
from sc3d.datasets.label_export import diy_sc
from sc3d.datasets.label_export.labels import ExportedLabels
from sc3d.grid import SIDE, Letterbox
from sc3d.images import encode_mask
from sc3d.records import ImageRecord, Labels, Pair, Reconstruction
from sc3d.schema import from_table, to_table
from sc3d.shards import Shard

CATEGORIES = ("bus", "chair")
IMAGES_A_CATEGORY = 1000
ROWS_A_SHARD = 64
SIZE = (640, 480)
PLAIN_ROWS = 10_000
"""Rows that the plain way is measured at: it holds everything, about 2 GB at 100,000."""


def make_run(folder: Path, rows: int) -> RunConfig:
    """A run folder with so many label rows. Every shard has the same labels, of other pairs."""
    config = load_config(None, [f"run={json.dumps(str(folder))}"])
    labels = LabelStage(config)
    stage = labels.artefacts
    images = [ImageRecord(f"{c}-{i}", f"/photos/{c}/{i}.jpg", c) for c in CATEGORIES for i in range(IMAGES_A_CATEGORY)]
    stage.run.write_records(ImageRecord, IMAGES, images)
    mask = encode_mask(np.ones(SIZE[::-1], bool))
    corners, face, turn, origin = np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32), np.eye(3), np.zeros(3)
    sizes = [
        Reconstruction(i.image_id, i.category, *SIZE, mask, corners, face, turn, turn, 1.0, origin, 1.0, origin, 0.9, 0.9)
        for i in images
    ]
    ReconstructStage(config).artefacts.commit(Shard("all", tuple(image.image_id for image in images)), sizes, [])
    planned = []
    for category in CATEGORIES:
        template = to_table(Labels, [_labels(category, number) for number in range(ROWS_A_SHARD)])
        for start in range(0, rows // len(CATEGORIES), ROWS_A_SHARD):
            pairs = np.arange(start, min(start + ROWS_A_SHARD, rows // len(CATEGORIES)))
            source = [f"{category}-{i}" for i in pairs // IMAGES_A_CATEGORY % IMAGES_A_CATEGORY]
            target = [f"{category}-{i}" for i in pairs % IMAGES_A_CATEGORY]
            columns = [[f"{s}~{t}" for s, t in zip(source, target, strict=True)], source, target]
            table = template.slice(0, len(pairs))
            for index, column in enumerate(columns):
                table = table.set_column(index, template.schema.field(index), pa.array(column))
            table = table.append_column(INPUTS, labels.inputs_of(table["pair_id"].combine_chunks()))
            stage.run.write_table(
                stage.file(Shard(category, tuple(columns[0]))), table.replace_schema_metadata(template.schema.metadata)
            )
            planned += [Pair(*ids, category) for ids in zip(columns[0], source, target, strict=True)]
    stage.run.write_records(Pair, PAIRS, planned)
    return config


def _labels(category: str, number: int) -> Labels:
    rng = np.random.default_rng(number)
    count = int(rng.integers(1, 200))
    grid = Letterbox(*SIZE)
    xy, other = (grid.centres(rng.integers(0, SIDE * SIDE, count)) for _ in range(2))
    ids = f"{category}-0~{category}-1", f"{category}-0", f"{category}-1", category
    cosine, cycle, geodesic = rng.uniform(0, 0.05, (3, count))
    found = Labels(*ids, xy, other, cosine, cycle, geodesic, 300.0, grid.cell_pixels, 3 * count, 2 * count)
    return found.replace(n_kept=count, tau_cc=0.05, tau_geo=0.05)


def export(run: str, out: str, format_: str) -> None:
    """Export with this project."""
    options = ExportOptions(format_)  # type: ignore[arg-type]
    export_labels(load_config(None, [f"run={json.dumps(run)}"]), out, options)


def export_plainly(run: str, out: str, format_: str) -> None:
    """DIY-SC's files the usual way: everything in a list, and ``torch.save``."""
    import torch

    config = load_config(None, [f"run={json.dumps(run)}"])
    source = ExportedLabels(label_catalogue(config), labelled_images(config), ExportOptions("diy-sc"))
    items: dict[str, list[dict[str, Any]]] = {}
    grid = Letterbox(*SIZE)
    for name in source.files:
        for labels in from_table(Labels, source.artefacts.run.read_table(Labels, name)):
            item: dict[str, Any] = {"src_imname": labels.source_id, "trg_imname": labels.target_id, "num_kps": len(labels)}
            for key, xy in (("source_kps", labels.source_xy), ("target_kps", labels.target_xy)):
                cells = grid.cells_of(xy)
                item[key] = (np.stack([cells % SIDE, cells // SIDE], axis=1) * 14.0).tolist()
            items.setdefault(labels.category, []).append(item)
    Path(out).mkdir(parents=True)
    for category, everything in items.items():
        torch.save(everything, Path(out) / f"{category}{diy_sc.SUFFIX}")


def _measure(work: Callable[[str, str, str], None], warm_up: str, run: str, out: str, format_: str) -> tuple[float, float]:
    import torch  # noqa: F401 - so that loading it is not counted

    work(warm_up, f"{out}-warm-up", format_)
    before, start = peak_memory(), time.perf_counter()
    work(run, out, format_)
    return time.perf_counter() - start, peak_memory() - before


def _measured(*arguments: Any) -> tuple[float, float]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, *arguments).result()


def run(sizes: tuple[int, ...] = (PLAIN_ROWS, 100_000)) -> Iterator[dict[str, Any]]:
    """Rows a second and memory of each format and size; the plain way at the least size."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_run(folder / "warm-up", 2 * ROWS_A_SHARD)
        for rows in sizes:
            make_run(folder / f"run-{rows}", rows)
        least = min(sizes)
        where = str(folder / "warm-up"), str(folder / f"run-{least}"), str(folder / "plain")
        plain_seconds, plain_memory = _measured(export_plainly, *where, "diy-sc")
        for format_ in ("diy-sc", "huggingface"):
            for rows in sizes:
                where = str(folder / "warm-up"), str(folder / f"run-{rows}"), str(folder / f"{format_}-{rows}")
                seconds, memory = _measured(export, *where, format_)
                speed, reference = rows / seconds, None
                compared: dict[str, Any] = {"speed": {}, "memory": {}}
                if format_ == "diy-sc" and rows == least:
                    reference = f"everything in a list: {least / plain_seconds:.0f} rows/s, {plain_memory:.0f} MiB"
                    compared["speed"] = {"alternative": reference, "ratio": speed * plain_seconds / least}
                    compared["memory"] = {"alternative": reference, "ratio": plain_memory / max(memory, 1)}
                what = f"{format_}, {rows:,} rows"
                yield row("export", f"{what}, speed", speed, "rows/s", "higher", n=rows, **compared["speed"])
                yield row("export", f"{what}, memory", memory, "MiB", "lower", n=rows, **compared["memory"])
