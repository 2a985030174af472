"""Write the toys benchmark to a folder, all of it or nothing."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sc3d.datasets.toys.catalogue import CATALOGUE
from sc3d.datasets.toys.config import ToysConfig
from sc3d.datasets.toys.toy import keypoint_table
from sc3d.errors import InputError
from sc3d.records import SPLITS

if TYPE_CHECKING:
    from sc3d.datasets.toys.drawing import Drawing

VERSION = 1
MANIFEST = "toys.json"
_FOLDERS = ("JPEGImages", "ImageAnnotation", "Segmentation", "truth")
# SPair-71k's small layout has a fifth of the pairs of its large one.
_SMALL = 5

Progress = Callable[[int, int], None]


def generate_toys(root: str | Path, config: ToysConfig | None = None, progress: Progress | None = None) -> None:
    """Draw the benchmark into ``root``, in the layout of SPair-71k, with ``truth/``, ``keypoints.json`` and ``toys.json`` beside it.

    The files appear under ``root`` in one step when all are written. Where ``root`` already holds the same benchmark, nothing is
    done. Processes are spawned, so a script that calls this needs the usual ``if __name__ == "__main__":``.

    Args:
        root: folder to make; it may exist if it is empty.
        config: what to draw; ``None``: the defaults.
        progress: called with (images done, images in all) after each image.

    Raises:
        InputError: ``root`` holds something else, or toys of another configuration or version.
    """
    config = config or ToysConfig()
    root = Path(root)
    if _is_there(root, config):
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        partial.chmod(0o755)
        _write_all(partial, config, progress)
        try:
            # Replaces an empty folder, and fails if another process was faster.
            os.rename(partial, root)
        except OSError:
            if not _is_there(root, config):
                raise InputError(f"{root}: cannot be replaced by the generated toys; choose a folder that does not exist") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_there(root: Path, config: ToysConfig) -> bool:
    if not root.exists():
        return False
    if not root.is_dir():
        raise InputError(f"{root}: is a file; name a folder for the toys")
    manifest = root / MANIFEST
    if not manifest.exists():
        if any(root.iterdir()):
            raise InputError(f"{root}: holds other files and no {MANIFEST}; choose another folder, or an empty one")
        return False
    try:
        found = json.loads(manifest.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{manifest}: cannot be read ({error}); remove the folder {root} to generate the toys again") from None
    if found == _manifest(config):
        return True
    raise InputError(
        f"{root}: holds toys of another configuration or version (see {manifest}); "
        "choose another folder, or remove this one to generate it again"
    )


def _manifest(config: ToysConfig) -> dict[str, Any]:
    return {"format": "sc3d toys", "version": VERSION, "config": config.identity()}


def _write_all(root: Path, config: ToysConfig, progress: Progress | None) -> None:
    for folder in _FOLDERS:
        for category in config.categories:
            (root / folder / category).mkdir(parents=True)
    annotations: dict[tuple[str, str], list[dict[str, Any]]] = {(s, c): [] for s in SPLITS for c in config.categories}
    jobs = [(s, c, i) for s in SPLITS for c in config.categories for i in range(config.images[s])]
    with _mapper(config.workers) as run:
        for done, ((split, category, _), annotation) in enumerate(zip(jobs, run(root, config, jobs), strict=True), start=1):
            annotations[split, category].append(annotation)
            if progress is not None:
                progress(done, len(jobs))
    for split in SPLITS:
        _write_pairs(root, config, split, annotations)
    tables = {category: keypoint_table(CATALOGUE[category].keypoints) for category in config.categories}
    (root / "keypoints.json").write_text(json.dumps(tables, indent=1))
    (root / MANIFEST).write_text(json.dumps(_manifest(config), indent=1))


def _drawings(root: Path, config: ToysConfig, jobs: Iterable[tuple[str, str, int]]) -> Iterator[Drawing]:
    # Imported here: the ray caster takes seconds to load, and a finished benchmark needs none of it.
    from sc3d.datasets.toys.drawing import Drawing

    return (Drawing(root, config, split, category, index) for split, category, index in jobs)


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Iterable[dict[str, Any]]]]:
    from sc3d.datasets.toys.drawing import draw

    workers = workers or os.cpu_count() or 1
    if workers == 1:
        yield lambda root, config, jobs: map(draw, _drawings(root, config, jobs))
        return
    # Spawned, not forked: the ray caster and OpenCV keep threads that do not survive a fork.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _one_thread)
    try:
        yield lambda root, config, jobs: pool.map(draw, _drawings(root, config, jobs), chunksize=2)
    finally:
        pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    """The processes fill the cores already; a linear algebra library that waits for work in spare threads doubles the time."""
    import cv2
    from threadpoolctl import threadpool_limits

    cv2.setNumThreads(1)
    threadpool_limits(1)


def _write_pairs(root: Path, config: ToysConfig, split: str, annotations: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
    folder = root / "PairAnnotation" / split
    folder.mkdir(parents=True)
    lines: dict[str, list[str]] = {"large": [], "small": []}
    for category in config.categories:
        rng = np.random.default_rng([config.seed, SPLITS.index(split), zlib.crc32(category.encode())])
        pairs = _choose_pairs(rng, annotations[split, category], config.max_pairs[split])
        for index, (source, target) in enumerate(pairs):
            annotation = _pair_annotation(len(lines["large"]) + 1, source, target)
            (folder / f"{annotation['filename']}.json").write_text(json.dumps(annotation))
            lines["large"].append(annotation["filename"])
            if index % _SMALL == 0:
                lines["small"].append(annotation["filename"])
    for size, names in lines.items():
        layout = root / "Layout" / size
        layout.mkdir(parents=True, exist_ok=True)
        (layout / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))


def _common(source: dict[str, Any], target: dict[str, Any]) -> list[str]:
    return [slot for slot, xy in source["kps"].items() if xy is not None and target["kps"][slot] is not None]


def _choose_pairs(
    rng: np.random.Generator, images: list[dict[str, Any]], at_most: int
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """At most so many ordered pairs with three common keypoints: a random choice of unordered ones, each in both directions."""
    fitting = [(a, b) for a, b in combinations(images, 2) if len(_common(a, b)) >= 3]
    chosen = sorted(rng.permutation(len(fitting))[: (at_most + 1) // 2])
    both = [pair for i in chosen for pair in (fitting[i], fitting[i][::-1])]
    return [(source, target) for source, target in both[:at_most]]


def _pair_annotation(number: int, source: dict[str, Any], target: dict[str, Any]) -> dict[str, Any]:
    """The fields of an SPair-71k pair annotation.

    Its grades 0 easy, 1 medium, 2 hard are set here by the circular distance of the azimuth bins (at most 1, 2, more) and by the
    ratio of the boxes' longer sides (below 1.5, below 2.5, more).
    """
    ids = _common(source, target)
    turn = abs(source["azimuth_id"] - target["azimuth_id"])
    turn = min(turn, 8 - turn)
    sides = [max(x2 - x1, y2 - y1) for x1, y1, x2, y2 in (source["bndbox"], target["bndbox"])]
    ratio = max(sides) / max(min(sides), 1)
    stems = [image["filename"].removesuffix(".jpg") for image in (source, target)]
    return {
        "pair_id": number,
        "filename": f"{number:06d}-{stems[0]}-{stems[1]}:{source['category']}",
        "src_imname": source["filename"],
        "trg_imname": target["filename"],
        "src_imsize": [source["image_width"], source["image_height"], source["image_depth"]],
        "trg_imsize": [target["image_width"], target["image_height"], target["image_depth"]],
        "src_bndbox": source["bndbox"],
        "trg_bndbox": target["bndbox"],
        "category": source["category"],
        "src_pose": source["pose"],
        "trg_pose": target["pose"],
        "src_kps": [source["kps"][i] for i in ids],
        "trg_kps": [target["kps"][i] for i in ids],
        "kps_ids": ids,
        "mirror": 0,
        "viewpoint_variation": max(turn - 1, 0) if turn < 3 else 2,
        "scale_variation": int(ratio >= 1.5) + int(ratio >= 2.5),
        "truncation": source["truncated"] + 2 * target["truncated"],
        "occlusion": source["occluded"] + 2 * target["occluded"],
    }
