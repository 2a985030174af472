"""Keypoints in COCO's layout: two annotations a pair, of its source and its target, whose keypoints correspond in their order.

A file ``annotations/<split>/<category>.json`` has COCO's ``images``, ``categories`` and ``annotations``. An annotation names its pair in
``pair_id``, its side of it in ``side``, and the other annotation in ``partner_id``.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from sc3d.datasets.label_export.folder import ExportState
from sc3d.datasets.label_export.images import LabelledImages
from sc3d.datasets.label_export.label_writer import CategoryWriter
from sc3d.records import SPLITS, Labels

LAYOUT = """`annotations/<split>/<category>.json`: COCO's layout. Each ordered pair of images has two annotations with as many
keypoints, which correspond in their order: `pair_id` names the pair, `side` says source or target, `partner_id` names the other annotation.
Keypoints are x, y in pixels of the upright image, the centre of the first pixel at 0.5, and 2 for visible; `bbox` is the box around them.
The category has no named keypoints: those of one pair are not those of another."""

_VISIBLE = 2


class CocoWriter(CategoryWriter):
    """Files in COCO's layout."""

    own_files = re.compile(rf"annotations/({'|'.join(SPLITS)})/[^/]+\.json")

    def finish(self, state: ExportState) -> None:
        self.write_card(state, LAYOUT)

    def image_names(self, category: str) -> dict[int, str]:
        images, by_id = self.source.images, self.source.options.names == "id"
        rows = (row for row, one in enumerate(images.categories) if one == category)
        return {row: images.name_by_id(row) if by_id else images.file_below_root(row) for row in rows}

    def open_split(self, stack: contextlib.ExitStack, split: str, category: str) -> CocoFile:
        stream = stack.enter_context(self.folder.writing(f"annotations/{split}/{category}.json"))
        return stack.enter_context(CocoFile(stream, category, self.source.images))

    def write_pair(self, writer: CocoFile, labels: Labels, names: Mapping[int, str]) -> None:
        writer.add(labels, names)


class CocoFile:
    """Writes a file pair by pair; what it holds until the end is its images. Use as a context manager on an open binary file."""

    def __init__(self, stream: BinaryIO, category: str, images: LabelledImages) -> None:
        self._stream, self._images = stream, images
        self._names: dict[int, str] = {}
        self._count = 0
        kind = {"id": 1, "name": category, "supercategory": "", "keypoints": [], "skeleton": []}
        info = {"description": "Pairs of keypoints that show the same part of an object."}
        self._stream.write(f'{{"info": {json.dumps(info)}, "categories": {json.dumps([kind])}, "annotations": ['.encode())

    def __enter__(self) -> CocoFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            images = [self._image(row) for row in sorted(self._names)]
            self._stream.write(f'], "images": {json.dumps(images)}}}'.encode())

    def add(self, labels: Labels, names: Mapping[int, str]) -> None:
        """The two annotations of a pair; none for a pair without labels."""
        if not len(labels):
            return
        first = self._count + 1
        for side, image_id, xy in (("source", labels.source_id, labels.source_xy), ("target", labels.target_id, labels.target_xy)):
            row = self._images.row_of(image_id)
            self._names[row] = names[row]
            self._count += 1
            partner = first + 1 if side == "source" else first
            one = {**_annotation(self._count, row + 1, xy), "pair_id": labels.pair_id, "side": side, "partner_id": partner}
            self._stream.write((("," if self._count > 1 else "") + json.dumps(one)).encode())

    def _image(self, row: int) -> dict[str, Any]:
        width, height = self._images.size(row)
        return {"id": row + 1, "file_name": self._names[row], "width": width, "height": height}


def _annotation(number: int, image: int, xy: np.ndarray) -> dict[str, Any]:
    points = np.round(np.asarray(xy, np.float64).reshape(-1, 2), 3)
    low, high = points.min(axis=0), points.max(axis=0)
    size = np.round(high - low, 3)
    keypoints = np.column_stack([points, np.full(len(points), _VISIBLE)]).ravel().tolist()
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "keypoints": keypoints,
        "num_keypoints": len(points),
        "bbox": [*low.tolist(), *size.tolist()],
        "area": float(size.prod()),
        "iscrowd": 0,
    }
