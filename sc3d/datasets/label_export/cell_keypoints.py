"""Labels as matches between numbered keypoints, as structure from motion wants them: the keypoints of an image are the centres of those
cells of the working grid that any of its labels touches."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from sc3d.datasets.label_export.folder import ExportState
from sc3d.datasets.label_export.label_writer import LabelWriter, added
from sc3d.datasets.label_export.labels import LabelPart
from sc3d.errors import InputError
from sc3d.grid import SIDE, Letterbox
from sc3d.records import Labels
from sc3d.schema import from_table


class UsedCells:
    """Which cells of which images have a keypoint, in 450 bytes an image."""

    def __init__(self, images: int) -> None:
        self._bits = np.zeros((images, -(-SIDE * SIDE // 8)), np.uint8)

    def add(self, row: int, cells: np.ndarray) -> None:
        """Flat ``cells`` (N,) of the image of a ``row`` have keypoints."""
        used = np.unpackbits(self._bits[row], count=SIDE * SIDE)
        used[cells] = 1
        self._bits[row] = np.packbits(used)

    def of(self, row: int) -> np.ndarray:
        """The flat cells (K,) of an image's keypoints, ascending."""
        return np.flatnonzero(np.unpackbits(self._bits[row], count=SIDE * SIDE))

    def numbers(self, row: int, cells: np.ndarray) -> np.ndarray:
        """The numbers (N,) of the keypoints in ``cells`` (N,), from 0."""
        return np.searchsorted(self.of(row), cells)


@dataclass(frozen=True, eq=False)
class KeypointMatches:
    """The labels of an ordered pair: rows of the images, numbers of the keypoints (N, 2), each once, and cosines (N,)."""

    source: int
    target: int
    matches: np.ndarray
    cosine: np.ndarray


class KeypointWriter(LabelWriter):
    """A format whose files are about all labels at once, so that a step is the whole export."""

    def step(self, state: ExportState) -> ExportState:
        used = UsedCells(len(self.source.images))

        def marked() -> Iterator[LabelPart]:
            for part in self._parts():
                for labels in _rows(part):
                    for row, cells in self._cells(labels):
                        used.add(row, cells)
                yield part

        after = added(state, marked())
        rows = np.flatnonzero(after.seen).tolist()
        self.write(rows, self._names(rows), used)
        return after

    def finish(self, state: ExportState) -> None:
        self.write_card(state, self.layout)

    layout: str
    """What is in the folder, as Markdown."""

    @abstractmethod
    def write(self, rows: list[int], names: dict[int, str], used: UsedCells) -> None:
        """Write the images of ``rows``, by name, their keypoints, and what :meth:`pairs` gives."""

    def pairs(self, used: UsedCells) -> Iterator[KeypointMatches]:
        """All pairs with labels, one after the other."""
        for part in self._parts():
            for labels in _rows(part):
                (source, first), (target, second) = self._cells(labels)
                numbers = np.stack([used.numbers(source, first), used.numbers(target, second)], axis=1)
                matches, at = np.unique(numbers, axis=0, return_index=True)
                yield KeypointMatches(source, target, matches, labels.cosine[at])

    def centres(self, row: int, used: UsedCells) -> np.ndarray:
        """Pixels (K, 2) of an image's keypoints; the centre of the first pixel is at 0.5."""
        return Letterbox(*self.source.images.size(row)).centres(used.of(row))

    def _parts(self) -> Iterator[LabelPart]:
        return (self.source.part(name) for name in self.source.files)

    def _cells(self, labels: Labels) -> list[tuple[int, np.ndarray]]:
        images = self.source.images
        found = []
        for image_id, xy in ((labels.source_id, labels.source_xy), (labels.target_id, labels.target_xy)):
            row = images.row_of(image_id)
            found.append((row, Letterbox(*images.size(row)).cells_of(xy)))
        return found

    def _names(self, rows: Iterable[int]) -> dict[int, str]:
        images = self.source.images
        by_id = self.source.options.names == "id"
        names = {row: images.name_by_id(row) if by_id else images.file_below_root(row) for row in rows}
        owner: dict[str, int] = {}
        for row, name in names.items():
            called = self.called(name)
            if called in owner:
                raise InputError(
                    f"{images.paths[row]} and {images.paths[owner[called]]} have one name, '{called}', by which matches name images; "
                    "export with --names id"
                )
            owner[called] = row
        return names

    def called(self, name: str) -> str:
        """What stands for an image's name in a pair; raises :class:`~sc3d.errors.InputError` where it cannot."""
        return name


def _rows(part: LabelPart) -> Iterator[Labels]:
    for table in part.tables.values():
        yield from (labels for labels in from_table(Labels, table) if len(labels))
