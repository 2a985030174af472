"""The formats that labels are written in: a step writes some files and counts the labels in them, so that an export can be gone on with."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

import numpy as np
import pyarrow as pa

from sc3d.artefacts import category_of
from sc3d.datasets.label_export import diy_sc, huggingface
from sc3d.datasets.label_export.card import LabelCard
from sc3d.datasets.label_export.counts import LabelCounts
from sc3d.datasets.label_export.folder import JOURNAL, README, ExportFolder, ExportState
from sc3d.datasets.label_export.labels import HELD_OUT_SPLIT, ExportedLabels, LabelPart
from sc3d.errors import InputError
from sc3d.records import LABELLED_SPLIT, SPLITS, Labels
from sc3d.schema import from_table

CardMaker = Callable[[ExportState, str, Mapping[str, str]], LabelCard]
"""The label card of an export that is through with all label files, given what is in the folder and how its splits are called there."""

_CHUNK_BYTES = 64 * 2**20
"""Arrow data that a data file is made of, and so about what an export holds in memory."""


def totals(state: ExportState) -> dict[str, LabelCounts]:
    """Split of the manifest -> counts over all categories, in the order of :data:`~sc3d.records.SPLITS`."""
    present = {split for parts in state.counts.values() for split in parts}
    return {
        split: LabelCounts.total(parts[split] for parts in state.counts.values() if split in parts)
        for split in SPLITS
        if split in present
    }


def _added(state: ExportState, parts: Iterable[LabelPart]) -> ExportState:
    """The state after some label files more."""
    counts = {category: dict(splits) for category, splits in state.counts.items()}
    seen, position, left_out = state.seen.copy(), state.position, state.left_out
    for part in parts:
        position, left_out = position + 1, left_out + part.left_out
        seen[part.rows] = True
        mine = counts.setdefault(part.category, {})
        for split, table in part.tables.items():
            mine[split] = mine.get(split, LabelCounts()) + LabelCounts.of(table)
    return dataclasses.replace(state, counts=counts, seen=seen, position=position, left_out=left_out, steps=state.steps + 1)


class LabelWriter(ABC):
    """One format. A step writes some files and counts the labels in them."""

    own_files: ClassVar[re.Pattern[str]]
    """Names of the data files of an export in this format."""

    def __init__(self, source: ExportedLabels, folder: ExportFolder, make_card: CardMaker) -> None:
        self.source, self.folder, self.make_card = source, folder, make_card

    @staticmethod
    def owns(name: str) -> bool:
        """Whether a file of that name may come from an export, in any format."""
        return name in (JOURNAL, README) or any(writer.own_files.fullmatch(name) for writer in WRITERS.values())

    @abstractmethod
    def step(self, state: ExportState) -> ExportState:
        """Export some of the label files from ``state.position`` on; returns the state after them."""

    @abstractmethod
    def finish(self, state: ExportState) -> None:
        """Write what comes after all labels, the card last."""


class HuggingFaceWriter(LabelWriter):
    """Data files of about 64 MB of Arrow data for each split, then the image table and the card with its header."""

    own_files = re.compile(r"data/(train|validation|test)-\d{5,}\.parquet|images/images\.parquet")

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

        after = _added(state, parts())
        for split, chunk in tables.items():
            table = huggingface.pair_table(pa.concat_tables(chunk))
            self.folder.files.write_table(huggingface.data_file(split, state.steps), table)
        return after

    def finish(self, state: ExportState) -> None:
        images = self._images(state)
        self.folder.files.write_table(huggingface.IMAGE_TABLE, images)
        card = self.make_card(state, huggingface.LAYOUT, huggingface.SPLIT_NAMES)
        splits = {split: (counts.pairs, counts.size) for split, counts in totals(state).items() if counts.pairs}
        header = huggingface.DatasetHeader(card.title, self.source.options.licence, splits, (len(images), images.nbytes))
        self.folder.files.write_bytes(README, (header.yaml() + "\n" + card.markdown()).encode())

    def _images(self, state: ExportState) -> pa.Table:
        images, rows = self.source.images, np.flatnonzero(state.seen).tolist()
        sizes = [images.size(row) for row in rows]
        columns = [
            [images.ids[row] for row in rows],
            [images.file_below_root(row) for row in rows],
            [images.categories[row] for row in rows],
            [images.splits[row] for row in rows],
            [width for width, _ in sizes],
            [height for _, height in sizes],
        ]
        return pa.table(columns, schema=huggingface.IMAGE_COLUMNS)


class DiyScWriter(LabelWriter):
    """A step is a category: one file of it for each split, written pair by pair."""

    own_files = re.compile(rf"({'|'.join(SPLITS)})/[^/]+{re.escape(diy_sc.SUFFIX)}")

    def step(self, state: ExportState) -> ExportState:
        files = self.source.files[state.position :]
        category = category_of(files[0])
        names = self._names(category)
        with contextlib.ExitStack() as stack:
            writers = {split: self._open(stack, split, category) for split in self._least_splits}

            def parts() -> Iterable[LabelPart]:
                for name in files:
                    if category_of(name) != category:
                        return
                    part = self.source.part(name)
                    for split, table in part.tables.items():
                        if split not in writers:
                            writers[split] = self._open(stack, split, category)
                        self._write(writers[split], table, names)
                    yield part

            return _added(state, parts())

    @property
    def _least_splits(self) -> tuple[str, ...]:
        # Its loader wants a file of each category, if only an empty one.
        return (LABELLED_SPLIT, HELD_OUT_SPLIT) if self.source.options.val_fraction else (LABELLED_SPLIT,)

    def finish(self, state: ExportState) -> None:
        for category in sorted(set(self.source.images.categories) - set(state.counts)):
            with contextlib.ExitStack() as stack:
                for split in self._least_splits:
                    self._open(stack, split, category)
        card = self.make_card(state, diy_sc.LAYOUT, {})
        self.folder.files.write_bytes(README, card.markdown().encode())

    def _open(self, stack: contextlib.ExitStack, split: str, category: str) -> diy_sc.AnnotationWriter:
        stream = stack.enter_context(self.folder.writing(f"{split}/{category}{diy_sc.SUFFIX}"))
        return stack.enter_context(diy_sc.AnnotationWriter(stream))

    def _write(self, writer: diy_sc.AnnotationWriter, table: pa.Table, names: Mapping[int, str]) -> None:
        images = self.source.images
        for labels in from_table(Labels, table):
            source, target = images.row_of(labels.source_id), images.row_of(labels.target_id)
            sizes = images.size(source), images.size(target)
            writer.add(diy_sc.annotation_of(labels, (names[source], names[target]), sizes))

    def _names(self, category: str) -> dict[int, str]:
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


WRITERS: dict[str, type[LabelWriter]] = {"huggingface": HuggingFaceWriter, "diy-sc": DiyScWriter}
