"""Is a copy of a data set whole? Counts, missing files by name, photos that cannot be read, lists that do not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from sc3d.config import DatasetConfig
from sc3d.datasets.content import AnnotatedSet, named
from sc3d.datasets.copy_check import CopyCheck, Count, Problem
from sc3d.datasets.registry import dataset_of, read_dataset, subset_of
from sc3d.datasets.sources import SOURCES
from sc3d.errors import ConfigError, InputError
from sc3d.images import load_image
from sc3d.local_files import is_file
from sc3d.records import SPLITS, ImageRecord

_THREADS = 4

Progress = Callable[[int, int], None]
"""Called with the photos that have been looked at, and their number."""


def check_dataset(
    kind: str, root: str | Path, subset: str | None = None, decode: bool = True, progress: Progress | None = None
) -> CopyCheck:
    """Look a copy of a published data set through.

    Args:
        kind: as ``dataset.kind``, of a data set with a source: spair, spair-u, ap10k, pf-pascal, pf-willow, tss, or one of one's own.
        root: its folder.
        subset: as ``dataset.subset``; it decides which pairs are counted.
        decode: open every photo, which takes most of the time; else only see that it is there.
        progress: told about the photos.

    Raises:
        ConfigError: unknown kind or subset, or a data set without a source.
    """
    chosen, root = dataset_of(kind), Path(root)
    source = chosen.source
    if source is None:
        raise ConfigError(f"{kind} has no source that says what a whole copy holds; these have one: {', '.join(SOURCES)}")
    check = CopyCheck(source.name, root, source.get)
    if not root.is_dir():
        check.problems.append(Problem(f"{root}: no such folder"))
        return check
    dataset = DatasetConfig(kind=kind, root=str(root), subset=subset)
    part = subset_of(dataset)
    photos: set[Path] = set()
    try:
        if chosen.inspect is not None:
            photos = chosen.inspect(check, root, part)
        data = read_dataset(dataset)
    except InputError as error:
        check.problems.append(Problem(str(error)))
        data = AnnotatedSet([], [])
    else:
        _count(check, data, source.pairs.get(part, {}))
        _check_categories(check, data, source.categories)
    if source.images is not None:
        check.counts.append(Count("annotated images", len(photos or data.images), source.images))
    apart = [f"{c.what} {c.found:,} instead of {c.expected:,}" for c in check.counts if not c.fits]
    if apart:
        check.problems.append(Problem(f"the copy is not whole: {'; '.join(apart)}"))
    sizes = _check_photos(check, photos | {Path(image.path) for image in data.images}, decode, progress)
    _check_annotations(check, data, sizes)
    return check


def _count(check: CopyCheck, data: AnnotatedSet, expected: Mapping[str, int]) -> None:
    check.counts += [Count(f"pairs listed for {split}", data.listed.get(split, 0), expected.get(split)) for split in SPLITS]
    check.counts.append(Count("different pairs", len(data.pairs)))
    check.counts.append(Count("images that they name", len(data.images)))
    if data.left_out:
        reasons = Counter(note.message.rsplit(": ", 1)[-1] for note in data.left_out)
        most = "; ".join(f"{n:,}: {reason}" for reason, n in reasons.most_common(4))
        check.problems.append(
            Problem(f"{len(data.left_out):,} images or pairs are left out, as the protocol has it ({most})", False)
        )


def _check_categories(check: CopyCheck, data: AnnotatedSet, expected: Sequence[str]) -> None:
    found = {image.category for image in data.images}
    check.counts.append(Count("categories", len(found)))
    missing = [category for category in expected if category not in found]
    if missing:
        check.problems.append(Problem(f"no pairs of {len(missing)} of {len(expected)} categories: {', '.join(missing)}"))


def _check_photos(check: CopyCheck, photos: set[Path], decode: bool, progress: Progress | None) -> dict[str, tuple[int, int]]:
    """Path -> (width, height) of the photos that can be read; notes those that cannot."""
    there = sorted(path for path in photos if is_file(path))
    missing = sorted(photos.difference(there))
    if missing:
        check.problems.append(Problem(f"{len(missing):,} of {len(photos):,} photos are missing: {named(missing)}"))
    sizes: dict[str, tuple[int, int]] = {}
    damaged = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for i, (path, found) in enumerate(zip(there, pool.map(partial(_size, decode=decode), there), strict=True), start=1):
            if isinstance(found, str):
                damaged.append(found)
            elif found is not None:
                sizes[str(path)] = found
            if progress is not None:
                progress(i, len(there))
    if damaged:
        check.problems.append(Problem(f"{len(damaged):,} of {len(photos):,} photos cannot be read: {named(damaged)}"))
    return sizes


def _size(path: Path, decode: bool) -> tuple[int, int] | str | None:
    if not decode:
        return None if path.stat().st_size else f"{path}: the file is empty"
    try:
        height, width = load_image(str(path)).shape[:2]
    except InputError as error:
        return str(error)
    return width, height


def _check_annotations(check: CopyCheck, data: AnnotatedSet, sizes: dict[str, tuple[int, int]]) -> None:
    outside = [image.image_id for image in data.images if image.path in sizes and _reaches_out(image, sizes[image.path])]
    if outside:
        check.problems.append(
            Problem(
                f"{len(outside):,} images have a keypoint or a box that is partly outside of the photo: {named(outside)}", False
            )
        )
    visible = {image.image_id: image.keypoint_ids for image in data.images}
    apart = [pair.pair_id for pair in data.pairs if not _share(visible[pair.source_id], visible[pair.target_id])]
    if apart:
        check.problems.append(
            Problem(
                f"{len(apart):,} pairs have no keypoint in common, so no score; they are left out of averages: {named(apart)}",
                False,
            )
        )


def _reaches_out(image: ImageRecord, size: tuple[int, int]) -> bool:
    points = [] if image.keypoint_xy is None else [image.keypoint_xy]
    if image.bbox is not None:
        points.append(image.bbox.reshape(2, 2))
    return any(bool(((xy < 0) | (xy > np.array(size) + 1)).any()) for xy in points)


def _share(first: np.ndarray | None, second: np.ndarray | None) -> bool:
    return first is not None and second is not None and not set(first.tolist()).isdisjoint(second.tolist())
