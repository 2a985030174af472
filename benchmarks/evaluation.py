"""Scoring annotated pairs: pairs a second of the evaluation's own path, beside full similarity matrices, and the time of SPair-71k's test.

Run with ``python -m benchmarks evaluation``. Generated features of 60 x 60 cells and 768 channels lie on disk as a run's do; a category has
27 images, all ordered pairs of them and 8 keypoints a pair, which is what SPair-71k's test split has on average. Our path is the stage's:
tiles of pairs, files decoded into the cache, similarities of the keypoints' rows, both readouts, distances; in as many processes as the
machine has cores. The reference is the scheme of published evaluations: both files read and normalised for each pair, all 3,600 x 3,600
similarities, both readouts over the whole map; it has all cores for its products.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import numpy as np
import torch

from benchmarks import row
from pipelines.folder.manifest import IMAGES, PAIRS
from pipelines.jobs.evaluate import EvaluateStage, ScoreActor, evaluate_stages
from pipelines.stages.describe import DescribeStage
from sc3d.config import RunConfig
from sc3d.config_file import load_config
from sc3d.evaluation.scores import PairScore
from sc3d.features import Features, encode_features
from sc3d.grid import Letterbox
from sc3d.records import FeatureIndex, ImageRecord, Pair
from sc3d.shards import Shard, item_table
from sc3d.store import RunFolder

SPAIR_TEST_PAIRS = 12_234
IMAGES_PER_CATEGORY = 27
CHANNELS = 768
KEYPOINTS = 8
SIZE = (500, 375)
REFERENCE_PAIRS = 6


def make_run(config: RunConfig, images: int) -> list[Pair]:
    """Write the manifest and the features of one category; returns all its ordered pairs."""
    run, stage = RunFolder(config.run), DescribeStage(config)
    common = np.random.default_rng(0).standard_normal((CHANNELS, 60, 60), np.float32)
    records, index = [], []
    for i in range(images):
        rng = np.random.default_rng(i + 1)
        box = np.array([50, 40, 450, 340], np.float32)
        xy = rng.uniform(box[:2], box[2:], (KEYPOINTS, 2)).astype(np.float32)
        image = ImageRecord(f"bus-{i:02d}", "photo.jpg", "bus", "test", box, keypoint_ids=np.arange(KEYPOINTS), keypoint_xy=xy)
        values = (common + rng.standard_normal(common.shape, np.float32)).astype(np.float16)
        features = Features(image.image_id, Letterbox(*SIZE), np.ones((60, 60), bool), 400.0, {"dino": values})
        data = encode_features(features)
        run.write_bytes(stage.feature_file(image.image_id), data)
        records.append(image)
        index.append(FeatureIndex(image.image_id, "bus", 3600, 0, 0, len(data)))
    stage.artefacts.commit(Shard("bus", tuple(r.image_id for r in records)), index, [])
    pairs = [Pair.of(source, target) for source, target in itertools.permutations(records, 2)]
    run.write_records(ImageRecord, IMAGES, records)
    run.write_records(Pair, PAIRS, pairs)
    return pairs


def score(stage: EvaluateStage, actor: ScoreActor, shard: Shard) -> list[PairScore]:
    """The scores of a shard, as the stage's worker makes them."""
    return [stage.finish({**row, **actor.process(row)}, 0.0) for row in stage.load(shard)]


def work(config: RunConfig, shards: list[Shard], channel: Connection) -> None:
    """A process of the stage: says when it is ready, waits, scores its shards, and tells the time, its reads and its pairs."""
    torch.set_num_threads(1)
    stage = EvaluateStage(config)
    actor = ScoreActor(config)
    score(stage, actor, Shard(shards[0].category, shards[0].ids[:1]))
    channel.send("ready")
    channel.recv()
    stage = EvaluateStage(config)
    scored = 0
    for shard in shards:
        scores = score(stage, actor, shard)
        stage.artefacts.commit(shard, scores, [])
        scored += len(scores)
    channel.send((scored, next(iter(stage.counters().values()))))


def scored_per_second(config: RunConfig, pairs: list[Pair], processes: int) -> tuple[float, float]:
    """Pairs a second of all processes together, and reads of an image's features a pair."""
    shards = EvaluateStage(config).plan(item_table((pair.category, pair.pair_id) for pair in pairs))
    cuts = [round(len(shards) * i / processes) for i in range(processes + 1)]
    context = multiprocessing.get_context("spawn")
    running: list[tuple[SpawnProcess, Connection]] = []
    for first, last in itertools.pairwise(cuts):
        mine, theirs = context.Pipe()
        process = context.Process(target=work, args=(config, shards[first:last], theirs))
        process.start()
        running.append((process, mine))
    for _, channel in running:
        channel.recv()
    started = time.perf_counter()
    for _, channel in running:
        channel.send("go")
    done = [channel.recv() for _, channel in running]
    seconds = time.perf_counter() - started
    for process, _ in running:
        process.join()
    scored, reads = (sum(values) for values in zip(*done, strict=True))
    return scored / seconds, reads / scored


def reference_pair(stage: DescribeStage, source: ImageRecord, target: ImageRecord) -> np.ndarray:
    """Distances (2, K) of both readouts by full similarity matrices, in target boxes."""
    maps = []
    for image in (source, target):
        features = stage.read_features(image.image_id)
        flat = torch.from_numpy(features.sources["dino"].astype(np.float32)).reshape(CHANNELS, -1).T
        maps.append(flat / (flat.norm(dim=1, keepdim=True) + 1e-10))
    similarity = maps[0] @ maps[1].T
    best = similarity.argmax(dim=1)
    nearest = torch.stack([best % 60, best // 60], dim=1).float()
    axis = torch.arange(60)
    inside = (axis - (best // 60)[:, None]).abs().le(7)[:, :, None] & (axis - (best % 60)[:, None]).abs().le(7)[:, None, :]
    weights = torch.softmax(similarity * inside.reshape(len(best), -1) / 0.02, dim=1).reshape(-1, 60, 60)
    window = torch.stack([weights.sum(dim=1) @ axis.float(), weights.sum(dim=2) @ axis.float()], dim=1)
    box = Letterbox(*SIZE)
    assert source.keypoint_xy is not None
    assert target.keypoint_xy is not None
    assert target.bbox is not None
    cells = torch.from_numpy(box.cells_of(source.keypoint_xy))
    found = [readout[cells].numpy() * box.cell_size + box.cell_size / 2 for readout in (nearest, window)]
    size = float((target.bbox[2:] - target.bbox[:2]).max()) * box.scale
    return np.stack([np.linalg.norm(xy - box.to_square(target.keypoint_xy), axis=1) for xy in found]) / size


def run(images: int = IMAGES_PER_CATEGORY, reference_pairs: int = REFERENCE_PAIRS) -> Iterator[dict[str, Any]]:
    """Pairs a second, the projected minutes of SPair-71k's test pairs, and reads a pair."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        # By this folder SPair-71k's look-alikes are known: those of a bus are looked up for each pair.
        os.makedirs(f"{folder}/spair/ImageAnnotation")
        config = load_config(
            None, [f"run={folder}/run", "dataset.kind=spair", f"dataset.root={folder}/spair", "evaluate.methods=[dino]"]
        )
        pairs = make_run(config, images)
        stage = evaluate_stages(config)[0]
        rate, reads = scored_per_second(stage.config, pairs, cores)
        torch.set_num_threads(cores)
        described, records = (
            DescribeStage(config),
            {image.image_id: image for image in RunFolder(config.run).read_records(ImageRecord, IMAGES)},
        )
        started, errors = time.perf_counter(), []
        chosen = pairs[:: max(len(pairs) // reference_pairs, 1)][:reference_pairs]
        expected = [reference_pair(described, records[p.source_id], records[p.target_id]) for p in chosen]
        reference = len(chosen) / (time.perf_counter() - started)
        scores = stage.catalogue().read(p.pair_id for p in chosen)
        errors = [np.abs(scores[p.pair_id].distances.reshape(2, -1) - e).max() for p, e in zip(chosen, expected, strict=True)]
    minutes = SPAIR_TEST_PAIRS / rate / 60
    beside = f"full 3,600 x 3,600 matrices: {reference:.2f} pairs/s"
    yield row("evaluation", f"pairs a second, 768 channels, {cores} processes, {len(pairs)} pairs", rate, "pairs/s", "higher", beside,
              rate / reference, len(pairs))  # fmt: skip
    yield row("evaluation", f"projected time of {SPAIR_TEST_PAIRS:,} pairs", minutes, "min", "lower",
              f"full matrices: {SPAIR_TEST_PAIRS / reference / 60:.0f} min", rate / reference, len(pairs))  # fmt: skip
    yield row("evaluation", "reads of an image's features a pair", reads, "reads", "lower", "no cache: 2", 2 / reads, len(pairs))
    yield row(
        "evaluation", "largest difference of a distance from the reference", float(max(errors)), "boxes", "lower", n=len(chosen)
    )
