"""The labels that an export is about: file by file, with the splits of their pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sc3d.artefacts import Catalogue, category_of
from sc3d.config import LabelConfig
from sc3d.datasets.label_export.images import LabelledImages
from sc3d.datasets.label_export.options import ExportOptions
from sc3d.errors import ConfigError, InputError
from sc3d.matching.thresholds import apply_thresholds
from sc3d.records import LABELLED_SPLIT, Labels
from sc3d.schema import from_table, to_table

HELD_OUT_SPLIT = "val"


@dataclass(frozen=True, eq=False)
class LabelPart:
    """What is exported of a label file: its rows by split, of one ``category``; ``rows`` of their images, and how many ``left_out``."""

    category: str
    tables: Mapping[str, pa.Table]
    rows: np.ndarray
    left_out: int


class ExportedLabels:
    """The labels that an export is about.

    Args:
        catalogue: those that count.
        images: of the manifest.

    Raises:
        ConfigError: the options ask for wider thresholds than the labels have.
        InputError: there are none.
        DamagedFileError: some of them cannot be read.
    """

    def __init__(self, catalogue: Catalogue, images: LabelledImages, options: ExportOptions) -> None:
        catalogue.refuse_damaged()
        self.catalogue, self.images, self.options = catalogue, images, options
        self.artefacts = catalogue.artefacts
        self.files = catalogue.files_used
        if not self.files:
            what = f"no labels of the recipe {options.labels}" if options.labels else "no labels of its present configuration"
            raise InputError(f"{self.artefacts.run.uri} holds {what}; run sc3d label first")
        self._hashes = _hashes(self.images.ids) if options.val_fraction else None
        self._narrow = self._narrower()

    @cached_property
    def stored_thresholds(self) -> LabelConfig | None:
        """The thresholds of the labels; ``None`` for labels without evidence, or where there is no row at all."""
        for name in self.files:
            table = self.catalogue.table(name, ["tau_cc", "tau_geo"])
            if len(table):
                cycle, geodesic = table["tau_cc"][0].as_py(), table["tau_geo"][0].as_py()
                return LabelConfig(cycle, geodesic) if cycle > 0 and geodesic > 0 else None
        return None

    @property
    def thresholds(self) -> LabelConfig | None:
        """The thresholds of what is exported."""
        return self._narrow or self.stored_thresholds

    def part(self, name: str) -> LabelPart:
        """What is exported of a label file.

        Raises:
            SchemaError: the file is damaged, or no label file.
            InputError: it names an image that the manifest does not have.
        """
        table = self.catalogue.table(name)
        total = len(table)
        if self._narrow is not None:
            rows = from_table(Labels, table, f"{self.artefacts.run.uri}/{name}")
            table = to_table(Labels, [apply_thresholds(row, self._narrow) for row in rows])
        table = table.filter(pc.greater_equal(pc.list_value_length(table["cosine"]), self.options.min_labels))
        ends = [np.array([self.images.row_of(i) for i in table[key].to_pylist()], np.int64) for key in ("source_id", "target_id")]
        splits = self._splits(*ends)
        tables = {split: table.filter(pa.array(splits == split)) for split in dict.fromkeys(splits.tolist())}
        return LabelPart(category_of(name), tables, np.concatenate(ends), total - len(table))

    def _splits(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """The split of each pair: its source's, unless it is held out."""
        splits = np.array([self.images.splits[row] for row in source.tolist()], dtype="U16")
        if self._hashes is not None:
            # The sum is the same for a pair and its reverse; the product's upper bits depend on all bits of it.
            mixed = (self._hashes[source] + self._hashes[target]) * np.uint64(0x9E3779B97F4A7C15)
            held_out = (mixed >> np.uint64(11)).astype(np.float64) / 2**53 < self.options.val_fraction
            splits[held_out & (splits == LABELLED_SPLIT)] = HELD_OUT_SPLIT
        return splits

    def _narrower(self) -> LabelConfig | None:
        wanted = {name: getattr(self.options, name) for name in ("tau_cc", "tau_geo") if getattr(self.options, name) is not None}
        if not wanted:
            return None
        stored = self.stored_thresholds
        if stored is None:
            raise ConfigError("these labels have no evidence, so no other thresholds can be applied to them")
        for name, value in wanted.items():
            if value > getattr(stored, name):
                raise ConfigError(
                    f"{name} = {value:g} is wider than the labels' {getattr(stored, name):g}; widen them first: "
                    f"sc3d relabel --{name.replace('_', '-')} {value:g}"
                )
        return LabelConfig(**{"tau_cc": stored.tau_cc, "tau_geo": stored.tau_geo, **wanted})


def _hashes(ids: list[str]) -> np.ndarray:
    return np.frombuffer(b"".join(blake2b(i.encode(), digest_size=8).digest() for i in ids), np.uint64)
