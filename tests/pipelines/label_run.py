"""A run folder with photos, sizes and labels that were written down and not computed: what an export needs, in milliseconds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipelines.folder.configuration import RUN
from pipelines.folder.manifest import IMAGES, PAIRS
from pipelines.stages.label import LabelStage, label_artefacts
from pipelines.stages.orient import OrientStage
from pipelines.stages.reconstruct import ReconstructStage
from sc3d.config import RunConfig
from sc3d.config_file import load_config, to_values
from sc3d.geometry.camera import yaw_rotation
from sc3d.geometry.posed_mesh import PosedMesh
from sc3d.grid import SIDE, Letterbox
from sc3d.images import encode_mask
from sc3d.records import ImageRecord, Labels, Orientation, Pair, Reconstruction, Reject
from sc3d.store import RunFolder
from tests.pipelines.commit_rows import commit_rows

TURN = 90
SIZES = ((200, 120), (90, 160), (150, 150), (333, 221))


def make_labels(source: ImageRecord, target: ImageRecord, sizes: Sequence[tuple[int, int]], count: int, seed: int = 0) -> Labels:
    """Labels of a pair between cells that were drawn; ``sizes`` are those of source and target."""
    rng = np.random.default_rng([seed, count])
    one, other = (Letterbox(*size) for size in sizes)
    cells = rng.choice(SIDE * SIDE, count, replace=False), rng.integers(0, SIDE * SIDE, count)
    errors = rng.uniform(0, 0.05, count)
    xy = one.centres(cells[0]), other.centres(cells[1])
    pair_id = f"{source.image_id}~{target.image_id}"
    evidence = rng.random(count), rng.uniform(0, 2, count), errors
    ids = pair_id, source.image_id, target.image_id, source.category
    counts = 2 * count + 5, count + 2
    return Labels(*ids, *xy, *evidence, 100.0, one.cell_pixels, *counts, n_kept=count, tau_cc=0.05, tau_geo=0.05)


def make_run(
    uri: str,
    photos: Path,
    *options: str,
    images: int = 4,
    categories: Sequence[str] = ("bus", "dining table"),
    count: int = 7,
    posed: Mapping[str, PosedMesh] | None = None,
) -> RunConfig:
    """A labelled run of all ordered pairs of ``images`` photos a category, and a held-out photo each; pair i has i * ``count`` labels.

    ``posed``: image id -> its mesh, stored as a reconstruction that is turned by 90 degrees too many, and was found to be.
    """
    config = load_config(
        None, [f"run={json.dumps(uri)}", f"dataset.root={json.dumps(str(photos))}", "ray.pairs_per_shard=5", *options]
    )
    run, records, pairs, labels, photographed = RunFolder(uri), [], [], [], []
    for category in categories:
        mine = [_photo(photos, category, i, "trn") for i in range(images)]
        held_out = _photo(photos, category, images, "test")
        photographed.append((mine, held_out))
        records += [*mine, held_out]
        ordered = [(a, b) for a in range(images) for b in range(images) if a != b]
        pairs += [Pair.of(mine[a], mine[b]) for a, b in ordered]
        rows = [
            make_labels(mine[a], mine[b], (SIZES[a % 4], SIZES[b % 4]), count * i % (SIDE * SIDE))
            for i, (a, b) in enumerate(ordered)
        ]
        labels += [(category, rows[start : start + 5]) for start in range(0, len(rows), 5)]
    run.write_records(ImageRecord, IMAGES, sorted(records, key=lambda image: image.image_id))
    run.write_records(Pair, PAIRS, pairs)
    stage = LabelStage(config)
    for category, part in labels:
        commit_rows(stage, category, part)
    for mine, held_out in photographed:
        _reconstructions(config, mine, held_out, posed or {})
    run.write_json(RUN, {"config": to_values(config), "counts": {}, "versions": {}})
    return config


def _photo(folder: Path, category: str, number: int, split: str) -> ImageRecord:
    path = folder / category / f"photo {number}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZES[number % 4]).save(path)
    image_id = f"{category.replace(' ', '-')}-{number}"
    return ImageRecord(image_id, str(path), category, split, photo=f"photo of {image_id}", inputs=f"inputs of {image_id}")


def _reconstructions(
    config: RunConfig, images: Sequence[ImageRecord], rejected: ImageRecord, posed: Mapping[str, PosedMesh]
) -> None:
    corners, face, turn, origin = np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32), np.eye(3), np.zeros(3)
    rows = []
    for number, image in enumerate(images):
        if image.image_id in posed:
            rows.append(_turned_round(image, posed[image.image_id]))
            continue
        width, height = SIZES[number % 4]
        mask = encode_mask(np.ones((height, width), bool))
        ids = image.image_id, image.category, width, height
        rows.append(Reconstruction(*ids, mask, corners, face, turn, turn, 1.0, origin, 1.0, origin, 0.5, 0.9))
    reject = Reject(rejected.image_id, "reconstruct", "InputError", "the file is empty")
    commit_rows(ReconstructStage(config), rejected.category, rows, [reject])
    votes = np.zeros(8, np.int32)
    turned = [Orientation(one.image_id, one.category, TURN, votes, False) for one in images if one.image_id in posed]
    if turned:
        commit_rows(OrientStage(config), rejected.category, turned)


def _turned_round(image: ImageRecord, posed: PosedMesh) -> Reconstruction:
    """The reconstruction of an image that is ``posed`` after a quarter turn."""
    turn, pose, camera = yaw_rotation(-TURN), posed.pose.turned(-TURN), posed.camera
    mask, vertices = encode_mask(posed.object_mask), np.float32(posed.mesh.vertices @ turn.T)
    size = camera.width, camera.height
    placed = mask, vertices, posed.mesh.faces, camera.K, pose.R, pose.scale, pose.t, pose.scale, pose.t
    return Reconstruction(image.image_id, image.category, *size, *placed, 0.5, 0.9)


def stored(config: RunConfig, recipe: str | None = None) -> dict[str, Labels]:
    """The label rows of a recipe, by pair."""
    artefacts = label_artefacts(config, recipe)
    return {row.pair_id: row for name in artefacts.files() for row in artefacts.run.read_records(Labels, name)}


def cells(config: RunConfig, labels: Labels) -> set[tuple[int, int]]:
    """The matches of a row as pairs of flat cells."""
    source, target = (Letterbox(*SIZES[int(i.rpartition("-")[2]) % 4]) for i in (labels.source_id, labels.target_id))
    return set(zip(source.cells_of(labels.source_xy).tolist(), target.cells_of(labels.target_xy).tolist(), strict=True))


def annotation_files(folder: Path, split: str = "trn") -> dict[str, list[dict[str, Any]]]:
    """Category -> what is in its annotation file."""
    return {p.name.removesuffix("_anns.pt"): torch.load(p, weights_only=True) for p in sorted((folder / split).glob("*_anns.pt"))}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
