"""What the writers of all formats share: a step writes some files and counts the labels in them, so that an export can be gone on with."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from sc3d.artefacts import category_of
from sc3d.datasets.label_export.card import LabelCard
from sc3d.datasets.label_export.counts import LabelCounts
from sc3d.datasets.label_export.folder import README, ExportFolder, ExportState
from sc3d.datasets.label_export.labels import ExportedLabels, LabelPart
from sc3d.records import SPLITS, Labels
from sc3d.schema import from_table

CardMaker = Callable[[ExportState, str, Mapping[str, str]], LabelCard]
"""The label card of an export that is through with all label files, given what is in the folder and how its splits are called there."""


def totals(state: ExportState) -> dict[str, LabelCounts]:
    """Split of the manifest -> counts over all categories, in the order of :data:`~sc3d.records.SPLITS`."""
    present = {split for parts in state.counts.values() for split in parts}
    return {
        split: LabelCounts.total(parts[split] for parts in state.counts.values() if split in parts)
        for split in SPLITS
        if split in present
    }


def added(state: ExportState, parts: Iterable[LabelPart]) -> ExportState:
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

    @abstractmethod
    def step(self, state: ExportState) -> ExportState:
        """Export some of the label files from ``state.position`` on; returns the state after them."""

    @abstractmethod
    def finish(self, state: ExportState) -> None:
        """Write what comes after all labels, the card last."""

    def write_card(self, state: ExportState, layout: str) -> None:
        """Write the label card of a folder that its reader does not ask for a header."""
        self.folder.files.write_bytes(README, self.make_card(state, layout, {}).markdown().encode())


class CategoryWriter(LabelWriter):
    """A step is a category: one file of it for each split, written pair by pair."""

    def step(self, state: ExportState) -> ExportState:
        files = self.source.files[state.position :]
        category = category_of(files[0])
        names = self.image_names(category)
        with contextlib.ExitStack() as stack:
            writers = {split: self.open_split(stack, split, category) for split in self.least_splits}

            def parts() -> Iterable[LabelPart]:
                for name in files:
                    if category_of(name) != category:
                        return
                    part = self.source.part(name)
                    for split, table in part.tables.items():
                        if split not in writers:
                            writers[split] = self.open_split(stack, split, category)
                        for labels in from_table(Labels, table):
                            self.write_pair(writers[split], labels, names)
                    yield part

            return added(state, parts())

    @property
    def least_splits(self) -> tuple[str, ...]:
        """Splits that have a file of each category, if only an empty one."""
        return ()

    @abstractmethod
    def image_names(self, category: str) -> dict[int, str]:
        """Row -> what each image of a category is called."""

    @abstractmethod
    def open_split(self, stack: contextlib.ExitStack, split: str, category: str) -> Any:
        """Begin a file, which the stack ends."""

    @abstractmethod
    def write_pair(self, writer: Any, labels: Labels, names: Mapping[int, str]) -> None:
        """Write the labels of a pair with what :meth:`open_split` made."""
