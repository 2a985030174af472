"""The formats that labels are written in."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sc3d.datasets.label_export import diy_sc, huggingface
from sc3d.datasets.label_export.coco import CocoWriter
from sc3d.datasets.label_export.colmap import ColmapWriter
from sc3d.datasets.label_export.folder import JOURNAL, README, ExportState
from sc3d.datasets.label_export.hloc import HlocWriter
from sc3d.datasets.label_export.label_writer import CategoryWriter, LabelWriter, added, totals
from sc3d.datasets.label_export.labels import HELD_OUT_SPLIT, LabelPart
from sc3d.errors import InputError
from sc3d.records import LABELLED_SPLIT, SPLITS, Labels

_CHUNK_BYTES = 64 * 2**20
"""Arrow data that a data file is made of, and so about what an export holds in memory."""

_CHUNK_PIXELS = 100_000_000
"""Of the images of a file: about as many bytes, as JPEG rather fewer, as PNG rather more."""


class HuggingFaceWriter(LabelWriter):
    """Data files of about 64 MB of Arrow data for each split, then the image tables and the card with its header."""

    own_files = re.compile(r"data/(train|validation|test)-\d{5,}\.parquet|images/images(-\d{5,})?\.parquet")

    def step(self, state: ExportState) -> ExportState:
        tables: dict[str, list[pa.Table]] = {}

        def parts() -> Iterable[LabelPart]:
            size = 0
            for name in self.source.files[state.position :]:
                part = self.source.part(name)
                for split, table in part.tables.items():
                    tables.setdefault(split, []).append(table)
                    size += table.nbytes
                yield part
                if size >= _CHUNK_BYTES:
                    return

        after = added(state, parts())
        for split, chunk in tables.items():
            table = huggingface.pair_table(pa.concat_tables(chunk))
            self.folder.files.write_table(huggingface.data_file(split, state.steps), table)
        return after

    def finish(self, state: ExportState) -> None:
        options, rows = self.source.options, np.flatnonzero(state.seen)
        schema = huggingface.image_schema(options.with_images)
        size = 0
        for number, some in enumerate(self._chunks(rows) if options.with_images else [rows.tolist()]):
            table = self._images(some, schema)
            size += table.nbytes
            self.folder.files.write_table(huggingface.image_file(number if options.with_images else None), table)
        card = self.make_card(state, huggingface.layout(options.with_images), huggingface.SPLIT_NAMES)
        splits = {split: (counts.pairs, counts.size) for split, counts in totals(state).items() if counts.pairs}
        header = huggingface.DatasetHeader(card.title, options.licence, splits, (len(rows), size), schema)
        self.folder.files.write_bytes(README, (header.yaml() + "\n" + card.markdown()).encode())

    def _chunks(self, rows: np.ndarray) -> Iterator[list[int]]:
        """Rows of images whose pixels take about as much room as a data file does."""
        pixels = np.array([np.prod(self.source.images.size(row)) for row in rows.tolist()], np.int64)
        part = np.cumsum(pixels) // _CHUNK_PIXELS
        for number in np.unique(part).tolist():
            yield rows[part == number].tolist()

    def _images(self, rows: Sequence[int], schema: pa.Schema) -> pa.Table:
        images = self.source.images
        sizes = [images.size(row) for row in rows]
        columns: list[Any] = [
            [images.ids[row] for row in rows],
            [images.file_below_root(row) for row in rows],
            [images.categories[row] for row in rows],
            [images.splits[row] for row in rows],
            [width for width, _ in sizes],
            [height for _, height in sizes],
        ]
        if self.source.options.with_images:
            copies = (images.copy(row) for row in rows)
            columns.append(
                [{"bytes": data, "path": f"{images.ids[row]}.{kind}"} for row, (data, kind) in zip(rows, copies, strict=True)]
            )
        return pa.table(columns, schema=schema)


class DiyScWriter(CategoryWriter):
    """Annotation files that DIY-SC's training reads."""

    own_files = re.compile(rf"({'|'.join(SPLITS)})/[^/]+{re.escape(diy_sc.SUFFIX)}")

    @property
    def least_splits(self) -> tuple[str, ...]:
        """Its loader wants a file of each category, if only an empty one."""
        return (LABELLED_SPLIT, HELD_OUT_SPLIT) if self.source.options.val_fraction else (LABELLED_SPLIT,)

    def finish(self, state: ExportState) -> None:
        for category in sorted(set(self.source.images.categories) - set(state.counts)):
            with contextlib.ExitStack() as stack:
                for split in self.least_splits:
                    self.open_split(stack, split, category)
        self.write_card(state, diy_sc.LAYOUT)

    def open_split(self, stack: contextlib.ExitStack, split: str, category: str) -> diy_sc.AnnotationWriter:
        stream = stack.enter_context(self.folder.writing(f"{split}/{category}{diy_sc.SUFFIX}"))
        return stack.enter_context(diy_sc.AnnotationWriter(stream))

    def write_pair(self, writer: diy_sc.AnnotationWriter, labels: Labels, names: Mapping[int, str]) -> None:
        images = self.source.images
        source, target = images.row_of(labels.source_id), images.row_of(labels.target_id)
        writer.add(diy_sc.annotation_of(labels, (names[source], names[target]), (images.size(source), images.size(target))))

    def image_names(self, category: str) -> dict[int, str]:
        images, by_name = self.source.images, dict[str, int]()
        for row in (row for row, one in enumerate(images.categories) if one == category):
            name = images.name_by_id(row) if self.source.options.names == "id" else images.file_name(row)
            if name in by_name:
                raise InputError(
                    f"{images.paths[row]} and {images.paths[by_name[name]]} have one name, and DIY-SC's files name images by it; "
                    "export with --names id"
                )
            by_name[name] = row
        return {row: name for name, row in by_name.items()}


WRITERS: dict[str, type[LabelWriter]] = {
    "huggingface": HuggingFaceWriter,
    "diy-sc": DiyScWriter,
    "coco": CocoWriter,
    "colmap": ColmapWriter,
    "hloc": HlocWriter,
}


def owns(name: str) -> bool:
    """Whether a file of that name may come from an export, in any format."""
    return name in (JOURNAL, README) or any(writer.own_files.fullmatch(name) for writer in WRITERS.values())
